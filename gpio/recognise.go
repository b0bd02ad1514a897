package gpio

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"lintod/agent/base/alsa"
)

// Found is a board that was recognised.
type Found struct {
	Preset Preset
	Why    string // the signs
	// Card is the ID of its sound card, or "" if there is none: then the board's driver is missing.
	Card string
}

// TOML returns the lines of lintod.toml for the board.
func (f Found) TOML() string {
	return fmt.Sprintf("# %s\n[gpio]\npreset = %q\n", f.Preset.Title, f.Preset.Name)
}

// Recognise returns the boards on the header. It reads only information of the kernel (root is "/"
// outside tests): the EEPROM of a HAT, the IDs of sound cards, the I²C chips that a driver has
// claimed. It does not access the bus, because reading an unknown chip can change its state. Boards
// that cannot be distinguished are all returned.
func Recognise(root string) []Found {
	s := readSigns(root)
	var found []Found
	for _, p := range Presets() {
		if f, ok := s.of(p); ok {
			found = append(found, f)
		}
	}
	return found
}

// Model returns the kernel's name of the computer, or "" if it has none; root is "/" outside tests.
func Model(root string) string { return deviceTree(root, "model") }

// signs is the kernel's information about boards.
type signs struct {
	product   string // of the HAT's EEPROM, "" without one
	productID uint16
	cards     []string
	i2c       []uint16
}

func readSigns(root string) signs {
	s := signs{
		product: deviceTree(root, "hat/product"),
		i2c:     claimedI2C(root),
	}
	for _, card := range alsa.Cards(root) {
		s.cards = append(s.cards, card.ID)
	}
	id, err := strconv.ParseUint(strings.TrimPrefix(deviceTree(root, "hat/product_id"), "0x"), 16, 16)
	if err == nil {
		s.productID = uint16(id)
	}
	return s
}

// of compares the signs with those of a preset.
func (s signs) of(p Preset) (Found, bool) {
	f := Found{Preset: p}
	for _, id := range p.Cards {
		if slices.Contains(s.cards, id) {
			f.Card = id
		}
	}
	switch {
	case p.HAT != "" && strings.Contains(s.product, p.HAT) && s.productID == p.HATProduct:
		f.Why = fmt.Sprintf("EEPROM %q, product %#x", s.product, s.productID)
	case f.Card != "":
		f.Why = "sound card " + f.Card
	case len(p.I2C) > 0 && slices.Equal(p.I2C, among(s.i2c, 0x1a, 0x3b, 0x35)):
		f.Why = fmt.Sprintf("a driver uses the I²C address %#x, but there is no sound card: its sound driver is missing, or too old for this kernel", p.I2C[0])
	default:
		return f, false
	}
	return f, true
}

// among returns the known addresses that were found, in their order.
func among(found []uint16, known ...uint16) []uint16 {
	return slices.DeleteFunc(known, func(a uint16) bool { return !slices.Contains(found, a) })
}

// deviceTree reads a zero-terminated string of the device tree.
func deviceTree(root, name string) string {
	for _, dir := range []string{"proc/device-tree", "sys/firmware/devicetree/base"} {
		if b, err := os.ReadFile(filepath.Join(root, dir, name)); err == nil {
			return strings.TrimSpace(strings.TrimRight(string(b), "\x00"))
		}
	}
	return ""
}

// claimedI2C lists the addresses of chips on bus 1, the header's, that the
// device tree names or a driver has claimed: directories such as "1-001a".
func claimedI2C(root string) []uint16 {
	dirs, err := filepath.Glob(filepath.Join(root, "sys/bus/i2c/devices/1-*"))
	if err != nil {
		return nil
	}
	var addresses []uint16
	for _, d := range dirs {
		a, err := strconv.ParseUint(strings.TrimPrefix(filepath.Base(d), "1-"), 16, 16)
		if err == nil {
			addresses = append(addresses, uint16(a))
		}
	}
	return addresses
}
