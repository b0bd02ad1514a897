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

// Identity is what servers know the device by. It is made once and kept: a device with another
// one has to be bound anew.
type Identity struct {
	MAC  string // lower case with colons; of a network interface where there is one
	UUID string // version 4
}

// kept is an identity in its file.
type kept struct {
	MAC   string `json:"mac"`
	UUID  string `json:"uuid"`
	Board string `json:"board,omitempty"` // serial number of the board that it was made on
}

// ErrCopied is wrapped by the error of LoadIdentity when the file was made on another board.
var ErrCopied = errors.New("the identity is that of another board")

// LoadIdentity returns the identity kept in file; where there is none it makes one and keeps it.
// root is where sys, proc and etc are: "/". Beside an error the identity can be used, until the
// next start at least: it could not be read or kept, or, with ErrCopied, a new one was made
// because the memory card was copied or moved: two devices with one identity would keep ending
// each other's connections.
func LoadIdentity(file, root string) (Identity, error) {
	system := os.DirFS(root)
	board := boardSerial(system)
	old, err := readIdentity(file)
	switch {
	case err == nil && (board == "" || old.Board == "" || old.Board == board):
		return Identity{old.MAC, old.UUID}, nil
	case err == nil:
		err = fmt.Errorf("%w: %s was made on board %s, and this is board %s; this device gets a new one and has to be bound anew", ErrCopied, file, old.Board, board)
	case errors.Is(err, fs.ErrNotExist):
		err = nil
	default:
		err = fmt.Errorf("the identity cannot be read; this device gets a new one and has to be bound anew: %w", err)
	}
	made := kept{MAC: macOf(system), UUID: uuid.NewString(), Board: board}
	raw, failed := json.Marshal(made)
	if failed == nil {
		failed = state.ReplaceFile(file, append(raw, '\n'))
	}
	if failed != nil {
		err = errors.Join(err, fmt.Errorf("the identity cannot be kept; the next start makes another: %w", failed))
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
		return k, fmt.Errorf("%s: mac and uuid are not such", file)
	}
	return k, nil
}

// boardSerial is the serial number that the firmware of a board gives it, "" where it has none
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

// macOf is the address of a network interface that is hardware: one that the maker gave, before
// one that software has set; by cable before by air, which is by name. Where there is none, it
// is made of the machine's own id, which is as stable, and at last by chance.
func macOf(system fs.FS) string {
	type candidate struct {
		mac  string
		rank int
	}
	var found []candidate
	entries, _ := fs.ReadDir(system, "sys/class/net") // none where there is no such folder
	for _, e := range entries {
		dir := "sys/class/net/" + e.Name() + "/"
		if _, err := fs.Stat(system, dir+"device"); err != nil {
			continue // a bridge, a tunnel, a container's
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
	// The id itself must not be shown to others (machine-id(5)).
	sum := sha256.Sum256([]byte("lintod xiaozhi " + seed))
	sum[0] = sum[0]&^1 | 2 // of one device, and not given by a maker
	return net.HardwareAddr(sum[:6]).String()
}

// local tells whether software has made up an address.
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
