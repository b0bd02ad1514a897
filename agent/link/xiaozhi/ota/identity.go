package ota

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/google/uuid"

	"lintod/agent/base/state"
)

// Identity is how servers identify the device. It is created once and saved: a
// device with a new identity must be bound again.
type Identity struct {
	MAC  string // lower case with colons; of a network interface if there is one
	UUID string // version 4
}

// kept is the contents of the identity file.
type kept struct {
	MAC   string `json:"mac"`
	UUID  string `json:"uuid"`
	Board string `json:"board,omitempty"` // serial number of the board on which it was created
}

// ErrCopied is wrapped by the error of LoadIdentity if the file was created on
// another board.
var ErrCopied = errors.New("the identity is that of another board")

// LoadIdentity returns the identity in file, or creates and saves a new one. root
// is the directory that contains sys, proc and etc: "/". The identity is usable
// even with an error, at least until the next start: it could not be read or saved,
// or, with ErrCopied, a new one was created because the memory card was copied or
// moved: two devices with the same identity would disconnect each other.
func LoadIdentity(file, root string) (Identity, error) {
	system := os.DirFS(root)
	board := boardSerial(system)
	old, err := readIdentity(file)
	switch {
	case err == nil && (board == "" || old.Board == "" || old.Board == board):
		return Identity{old.MAC, old.UUID}, nil
	case err == nil:
		err = fmt.Errorf("%w: %s was created on board %s, and this is board %s; the device gets a new identity and must be bound again", ErrCopied, file, old.Board, board)
	case errors.Is(err, fs.ErrNotExist):
		err = nil
	default:
		err = fmt.Errorf("the identity cannot be read; the device gets a new one and must be bound again: %w", err)
	}
	made := kept{MAC: macOf(system), UUID: uuid.NewString(), Board: board}
	raw, failed := json.Marshal(made)
	if failed == nil {
		failed = state.ReplaceFile(file, append(raw, '\n'))
	}
	if failed != nil {
		err = errors.Join(err, fmt.Errorf("the identity cannot be saved; the next start creates another one: %w", failed))
	}
	return Identity{made.MAC, made.UUID}, err
}

var macForm = regexp.MustCompile(`^[0-9a-f]{2}(:[0-9a-f]{2}){5}$`)

func readIdentity(file string) (k kept, err error) {
	raw, err := state.ReadFile(file, 4<<10)
	if err != nil {
		return k, err
	}
	if err := json.Unmarshal(raw, &k); err != nil {
		return k, fmt.Errorf("%s: %w", file, err)
	}
	if _, err := uuid.Parse(k.UUID); err != nil || len(k.UUID) != 36 || !macForm.MatchString(k.MAC) {
		return k, fmt.Errorf("%s: invalid mac or uuid", file)
	}
	return k, nil
}

// boardSerial is the serial number from the board's firmware, "" if there is none
// that a service may read.
func boardSerial(system fs.FS) string {
	raw, err := fs.ReadFile(system, "proc/device-tree/serial-number")
	if err != nil || len(raw) > 100 {
		return ""
	}
	serial := strings.Trim(string(raw), "\x00 \n")
	if strings.Trim(serial, "0") == "" || !visible(serial) {
		return ""
	}
	return serial
}

// macOf is the address of a hardware network interface: assigned by the
// manufacturer rather than by software, wired rather than wireless, which is
// determined by the name. Without one, it is derived from the machine id, which is
// as stable, and otherwise random.
func macOf(system fs.FS) string {
	type candidate struct {
		mac  string
		rank int
	}
	var found []candidate
	entries, _ := fs.ReadDir(system, "sys/class/net") // empty if the directory does not exist
	for _, e := range entries {
		dir := "sys/class/net/" + e.Name() + "/"
		if _, err := fs.Stat(system, dir+"device"); err != nil {
			continue // a bridge, a tunnel, or an interface of a container
		}
		mac := strings.ToLower(line(system, dir+"address"))
		if !macForm.MatchString(mac) || mac == "00:00:00:00:00:00" || mac == "ff:ff:ff:ff:ff:ff" {
			continue
		}
		rank := 0
		if line(system, dir+"addr_assign_type") != "0" || local(mac) {
			rank = 1
		}
		found = append(found, candidate{mac, rank})
	}
	if len(found) > 0 {
		return slices.MinFunc(found, func(a, b candidate) int { return a.rank - b.rank }).mac
	}
	seed := line(system, "etc/machine-id")
	if seed == "" {
		seed = uuid.NewString()
	}
	// The id itself must not be disclosed (machine-id(5)).
	sum := sha256.Sum256([]byte("lintod xiaozhi " + seed))
	sum[0] = sum[0]&^1 | 2 // unicast, locally administered
	return net.HardwareAddr(sum[:6]).String()
}

// local reports whether an address was assigned by software.
func local(mac string) bool {
	first, err := net.ParseMAC(mac)
	return err != nil || first[0]&2 != 0
}

func line(system fs.FS, name string) string {
	raw, err := fs.ReadFile(system, name)
	if err != nil {
		return ""
	}
	text, _, _ := strings.Cut(string(raw), "\n")
	return strings.TrimSpace(text)
}
