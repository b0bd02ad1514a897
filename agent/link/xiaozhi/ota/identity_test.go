package ota

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/uuid"
)

// box writes the files of a machine.
func box(t *testing.T, files map[string]string) (root string) {
	root = t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// card adds the files of a hardware network interface.
func card(files map[string]string, name, mac, assigned string) map[string]string {
	dir := "sys/class/net/" + name + "/"
	files[dir+"address"], files[dir+"addr_assign_type"], files[dir+"device/vendor"] = mac+"\n", assigned+"\n", "x"
	return files
}

func none() map[string]string { return map[string]string{"etc/machine-id": "5e1d\n"} }

func TestAddressOfTheHardware(t *testing.T) {
	bridge := card(none(), "wlan0", "DC:A6:32:01:02:03", "0")
	bridge["sys/class/net/docker0/address"] = "02:42:00:00:00:01\n"
	for name, test := range map[string]struct {
		files map[string]string
		want  string // "" for a generated, stable one
	}{
		"no bridge":                              {bridge, "dc:a6:32:01:02:03"},
		"wired before wireless":                  {card(card(none(), "wlan0", "dc:a6:32:01:02:03", "0"), "eth0", "dc:a6:32:01:02:02", "0"), "dc:a6:32:01:02:02"},
		"the manufacturer's before a random one": {card(card(none(), "wlan0", "dc:a6:32:01:02:03", "0"), "eth0", "dc:a6:32:01:02:02", "1"), "dc:a6:32:01:02:03"},
		"a software-assigned one last":           {card(none(), "wlan0", "d6:a6:32:01:02:03", "0"), "d6:a6:32:01:02:03"},
		"no zeros":                               {card(none(), "eth0", "00:00:00:00:00:00", "0"), ""},
		"no InfiniBand":                          {card(none(), "ib0", "80:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:01", "0"), ""},
		"nothing":                                {none(), ""},
	} {
		t.Run(name, func(t *testing.T) {
			root := box(t, test.files)
			got, err := LoadIdentity(filepath.Join(t.TempDir(), "id"), root)
			if err != nil {
				t.Fatal(err)
			}
			if id, err := uuid.Parse(got.UUID); err != nil || id.Version() != 4 {
				t.Errorf("UUID %s", got.UUID)
			}
			if test.want != "" {
				if got.MAC != test.want {
					t.Errorf("MAC %s, want %s", got.MAC, test.want)
				}
				return
			}
			again, err := LoadIdentity(filepath.Join(t.TempDir(), "id"), root)
			if err != nil || again.MAC != got.MAC || !macForm.MatchString(got.MAC) || !local(got.MAC) || got.MAC[1] == '1' {
				t.Errorf("MAC %s, then %s, %v", got.MAC, again.MAC, err)
			}
		})
	}
}

// Once created, an identity does not depend on the hardware: a removed USB adapter,
// or an update that renames interfaces.
func TestIdentityIsKept(t *testing.T) {
	file := filepath.Join(t.TempDir(), "state", "id")
	first, err := LoadIdentity(file, box(t, card(none(), "wlan0", "dc:a6:32:01:02:03", "0")))
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if again, err := LoadIdentity(file, box(t, none())); err != nil || again != first {
		t.Errorf("%+v, %v; want %+v", again, err, first)
	}
}

// Two machines with copies of one memory card are two devices.
func TestCopiedCardGetsItsOwnIdentity(t *testing.T) {
	file := filepath.Join(t.TempDir(), "id")
	machine := func(serial, mac string) string {
		files := card(none(), "eth0", mac, "0")
		files["proc/device-tree/serial-number"] = serial + "\x00"
		return box(t, files)
	}
	first, err := LoadIdentity(file, machine("10000000aaaa", "dc:a6:32:00:00:01"))
	if err != nil {
		t.Fatal(err)
	}
	second, err := LoadIdentity(file, machine("10000000bbbb", "dc:a6:32:00:00:02"))
	if !errors.Is(err, ErrCopied) || second.MAC == first.MAC || second.UUID == first.UUID {
		t.Errorf("%+v, %v", second, err)
	}
	if again, err := LoadIdentity(file, machine("10000000bbbb", "dc:a6:32:00:00:02")); err != nil || again != second {
		t.Errorf("%+v, %v", again, err)
	}
	for _, unknown := range []string{"", "0000000000000000", "\x01"} { // a board without a serial number
		if again, err := LoadIdentity(file, machine(unknown, "dc:a6:32:00:00:02")); err != nil || again != second {
			t.Errorf("board %q: %+v, %v", unknown, again, err)
		}
	}
}

func TestIdentityThatCannotBeReadOrKept(t *testing.T) {
	root := box(t, none())
	for _, bad := range []string{"", "{", `{"mac":"AA:BB","uuid":"x"}`, `{"mac":"aa:bb:cc:dd:ee:ff","uuid":"{36c98363-3656-43cb-a00f-8bced2391a90}"}`} {
		file := filepath.Join(t.TempDir(), "id")
		if err := os.WriteFile(file, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := LoadIdentity(file, root)
		if err == nil || !macForm.MatchString(got.MAC) || got.UUID == "" {
			t.Errorf("%q: %+v, %v", bad, got, err)
		}
		if again, err := LoadIdentity(file, root); err != nil || again != got {
			t.Errorf("%q: then %+v, %v", bad, again, err)
		}
	}
	folder := t.TempDir() // a directory instead of the file
	if got, err := LoadIdentity(folder, root); err == nil || got.UUID == "" {
		t.Errorf("%+v, %v", got, err)
	}
}
