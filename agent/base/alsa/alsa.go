// Package alsa reads the kernel's data about sound cards: which exist, where
// they are plugged in, and which programs have them open. It only reads /proc
// and /sys, so it also works for a card that is in use.
//
// What must not live here: sound, and the selection of a card.
package alsa

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Card is a sound card.
type Card struct {
	Index int    // may change: it depends on the other cards
	ID    string // "seeed2micvoicec"; of two identical USB cards one is "Device_1"
	Name  string // name by the driver, for people
	// Port is the port of a USB card, as in /sys/bus/usb/devices:
	// "1-1.2". Path is the same in the form of the driver:
	// "usb-0000:01:00.0-1.2". Both are empty for other cards.
	Port, Path string
	PCMs       []PCM
}

// PCM is one direction of a device of a card, which one program at a time can use.
type PCM struct {
	Card, Device int
	Capture      bool
	Name         string
}

// Cards lists the cards by index. root is "/", except in tests.
func Cards(root string) []Card {
	text, err := os.ReadFile(filepath.Join(root, "proc/asound/cards"))
	if err != nil {
		return nil // no sound in this kernel
	}
	cards := parseCards(string(text))
	for i := range cards {
		c := &cards[i]
		c.Port = port(root, c.Index)
		c.PCMs = pcms(root, c.Index)
	}
	return cards
}

// A card has two lines, for example
//
//	1 [Device         ]: USB-Audio - USB Audio Device
//	                     C-Media USB Audio Device at usb-0000:01:00.0-1.2, full speed
var (
	cardLines = regexp.MustCompile(`(?m)^ *(\d{1,4}) \[(\S+) *\]: *(?:.*? - )?(.*)(?:\n {10,}(.*))?$`)
	usbPath   = regexp.MustCompile(` at (usb-\S+?)(?:,|$)`)
	usbPort   = regexp.MustCompile(`^(\d+-[\d.]+):`)
)

func parseCards(text string) (cards []Card) {
	for _, m := range cardLines.FindAllStringSubmatch(text, -1) {
		index, _ := strconv.Atoi(m[1]) // always digits
		c := Card{Index: index, ID: m[2], Name: strings.TrimSpace(m[3])}
		if p := usbPath.FindStringSubmatch(m[4]); p != nil {
			c.Path = p[1]
		}
		cards = append(cards, c)
	}
	slices.SortStableFunc(cards, func(a, b Card) int { return cmp.Compare(a.Index, b.Index) })
	return cards
}

// port is the USB port of a card: its device in /sys is an interface of the
// USB device, such as "1-1.2:1.0".
func port(root string, card int) string {
	link, err := os.Readlink(filepath.Join(root, fmt.Sprintf("sys/class/sound/card%d/device", card)))
	if err != nil {
		return ""
	}
	if m := usbPort.FindStringSubmatch(filepath.Base(link)); m != nil {
		return m[1]
	}
	return ""
}

var pcmDir = regexp.MustCompile(`^pcm(\d{1,4})([pc])$`)

func pcms(root string, card int) (list []PCM) {
	dir := filepath.Join(root, fmt.Sprintf("proc/asound/card%d", card))
	entries, _ := os.ReadDir(dir) // a card that was just unplugged has none
	for _, e := range entries {
		m := pcmDir.FindStringSubmatch(e.Name())
		if m == nil {
			continue
		}
		device, _ := strconv.Atoi(m[1])
		info, _ := os.ReadFile(filepath.Join(dir, e.Name(), "info"))
		list = append(list, PCM{Card: card, Device: device, Capture: m[2] == "c", Name: field(string(info), "name")})
	}
	slices.SortStableFunc(list, func(a, b PCM) int { return cmp.Compare(a.Device, b.Device) })
	return list
}

// field is the value of a "name: value" line of /proc.
func field(text, name string) string {
	for line := range strings.Lines(text) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
