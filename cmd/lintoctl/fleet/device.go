// Package fleet is what lintoctl knows of devices, and how commands select some of
// them: by serial, by pattern, by what their statuses say.
//
// What must not live here: how statuses arrive, and what is asked of devices.
package fleet

import (
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"lintod/agent/base/printable"
	"lintod/agent/base/textfile"
)

const (
	// MaxDevices bounds what a broker can make us remember.
	MaxDevices = 100_000
	maxFile    = 64 << 20 // bytes
	maxText    = 100      // characters of a text in a status
)

// A Device is what one has said of itself.
type Device struct {
	Serial string `json:"serial"`
	// Online is what the last status says. Brokers may keep an old one, so it decides
	// nothing: a ping does.
	Online bool `json:"online"`
	// Since is when lintoctl first saw Online as it is.
	Since time.Time `json:"since"`
	// Said is the time in the status, by the device's own clock.
	Said     time.Time `json:"said,omitzero"`
	Firmware string    `json:"firmware,omitempty"`
	Address  string    `json:"address,omitempty"`
	Volume   *int      `json:"volume,omitempty"` // percent
	Language string    `json:"language,omitempty"`
	// Turn is when the last turn began that the device has said of, by its own clock.
	Turn time.Time `json:"last_turn,omitzero"`
}

// wireStatus is a status of LinTO (protocol 1.3), as far as it is of use here. Older
// clients send numbers as strings.
type wireStatus struct {
	Connexion string    `json:"connexion"`
	On        time.Time `json:"on"`
	Config    struct {
		Network []struct {
			Name string `json:"name"`
			IP   string `json:"ip_address"`
		} `json:"network"`
		Firmware string `json:"firmware"`
		Sound    struct {
			Volume   json.RawMessage `json:"volume"`
			Language string          `json:"tts_lang"`
		} `json:"sound"`
	} `json:"config"`
}

// ParseStatus reads a status; ok is false for what is none.
func ParseStatus(serial string, payload []byte) (d Device, ok bool) {
	var w wireStatus
	err := json.Unmarshal(payload, &w)
	var wrongTime *time.ParseError
	if err != nil && !errors.As(err, &wrongTime) || w.Connexion == "" {
		return d, false
	}
	text := func(s string) string { return printable.Short(s, maxText) }
	d = Device{Serial: serial, Online: w.Connexion == "online", Said: w.On, Firmware: text(w.Config.Firmware), Language: text(w.Config.Sound.Language)}
	var addresses []string
	for _, n := range w.Config.Network {
		if n.IP != "" {
			addresses = append(addresses, n.IP)
		}
	}
	d.Address = text(strings.Join(addresses, " "))
	if percent, err := strconv.Atoi(strings.Trim(string(w.Config.Sound.Volume), `"`)); err == nil {
		d.Volume = &percent
	}
	return d, true
}

// Line is what the device has said, in one line and without times.
func (d Device) Line() string {
	parts := []string{"offline"}
	if d.Online {
		parts[0] = "online"
	}
	volume := ""
	if d.Volume != nil {
		volume = strconv.Itoa(*d.Volume)
	}
	for _, p := range []struct{ label, text string }{
		{"", d.Address}, {"firmware ", d.Firmware}, {"volume ", volume}, {"", d.Language},
	} {
		if p.text != "" {
			parts = append(parts, p.label+p.text)
		}
	}
	return strings.Join(parts, ", ")
}

// Known are the devices that were seen at one platform, kept in a file from one command
// to the next. Its methods may be called from any goroutine.
type Known struct {
	path string

	mu      sync.Mutex
	devices map[string]Device
	heard   map[string]bool // said their status since Open
}

type file struct {
	Version int      `json:"v"`
	Devices []Device `json:"devices"`
}

// Open reads the file at path, if there is one. A file that cannot be read counts as
// empty: statuses fill it again.
func Open(path string) *Known {
	k := &Known{path: path, devices: map[string]Device{}, heard: map[string]bool{}}
	var f file
	raw, err := textfile.Read(path, maxFile)
	if err == nil && json.Unmarshal(raw, &f) == nil && f.Version == 1 {
		for _, d := range f.Devices {
			if IsSerial(d.Serial) {
				k.devices[d.Serial] = d
			}
		}
	}
	return k
}

// Learn notes what a device says of itself, and reports whether it was a status.
func (k *Known) Learn(serial string, payload []byte, now time.Time) bool {
	d, ok := ParseStatus(serial, payload)
	if !ok || !IsSerial(serial) {
		return false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	old, was := k.devices[serial]
	if !was && len(k.devices) >= MaxDevices {
		return false
	}
	d.Since, d.Turn = now, old.Turn
	if was && old.Online == d.Online {
		d.Since = old.Since
	}
	k.devices[serial] = d
	k.heard[serial] = true
	return true
}

// LearnTurn notes when the last turn of a device began, where its status is known.
func (k *Known) LearnTurn(serial string, at time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if d, known := k.devices[serial]; known && at.After(d.Turn) {
		d.Turn = at
		k.devices[serial] = d
	}
}

// Get returns what is known of a device.
func (k *Known) Get(serial string) (Device, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	d, ok := k.devices[serial]
	return d, ok
}

// All returns the devices, sorted by serial.
func (k *Known) All() []Device {
	k.mu.Lock()
	defer k.mu.Unlock()
	list := slices.Collect(maps.Values(k.devices))
	slices.SortFunc(list, func(a, b Device) int { return strings.Compare(a.Serial, b.Serial) })
	return list
}

// Heard is how many have said their status since Open.
func (k *Known) Heard() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.heard)
}

// Forget removes a device until it says its status again.
func (k *Known) Forget(serial string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.devices, serial)
}

// Save writes the file, readable by its owner only.
func (k *Known) Save() error {
	raw, err := json.Marshal(file{1, k.All()})
	if err != nil {
		return err
	}
	if old, err := os.ReadFile(k.path); err == nil && string(old) == string(raw) {
		return nil
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(k.path), 0o700); err != nil {
		return err
	}
	temp, err := os.CreateTemp(filepath.Dir(k.path), filepath.Base(k.path)+".*") // commands may run side by side
	if err != nil {
		return err
	}
	_, err = temp.Write(raw)
	if err = errors.Join(err, temp.Close()); err == nil {
		err = os.Rename(temp.Name(), k.path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temp.Name()))
	}
	return nil
}

// IsSerial reports whether s can be a serial: one level of a topic without wildcards
// [MQTT-4.7.1].
func IsSerial(s string) bool { return s != "" && len(s) <= 256 && !strings.ContainsAny(s, "/+#\x00") }
