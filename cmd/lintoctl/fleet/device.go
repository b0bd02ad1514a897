// Package fleet stores what lintoctl knows about devices, and selects devices for commands: by
// serial, by pattern, and by their status.
//
// Receiving statuses and sending requests does not belong here.
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
	// MaxDevices is the maximum number of known devices.
	MaxDevices = 100_000
	maxFile    = 64 << 20 // bytes
	maxText    = 100      // characters of a text in a status
)

// A Device is what a device has reported about itself.
type Device struct {
	Serial string `json:"serial"`
	// Online is from the last status. Brokers may retain an outdated one, so only a ping shows
	// whether the device is online.
	Online bool `json:"online"`
	// Since is when lintoctl first saw the current value of Online.
	Since time.Time `json:"since"`
	// Said is the time in the status, according to the device's clock.
	Said     time.Time `json:"said,omitzero"`
	Firmware string    `json:"firmware,omitempty"`
	Address  string    `json:"address,omitempty"`
	Volume   *int      `json:"volume,omitempty"` // percent
	Language string    `json:"language,omitempty"`
	// Turn is the start of the last reported turn, according to the device's clock.
	Turn time.Time `json:"last_turn,omitzero"`
}

// wireStatus contains the used members of a LinTO status (protocol 1.3). Older clients send numbers
// as strings.
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

// Known contains the devices seen on one platform, stored in a file between commands. Its methods
// may be called from any goroutine.
type Known struct {
	path string

	mu      sync.Mutex
	devices map[string]Device
	heard   map[string]bool // have sent their status since Open
}

type file struct {
	Version int      `json:"v"`
	Devices []Device `json:"devices"`
}

// Open reads the file at path, if it exists. An unreadable file counts as empty, because statuses
// fill it again.
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

// Learn stores a device's status, and reports whether the payload was one.
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

// LearnAnswer stores that a device whose status is not known has answered.
func (k *Known) LearnAnswer(serial string, now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, known := k.devices[serial]; !known && IsSerial(serial) && len(k.devices) < MaxDevices {
		k.devices[serial] = Device{Serial: serial, Online: true, Since: now}
	}
}

// LearnTurn stores when the last turn of a device started, if its status is known.
func (k *Known) LearnTurn(serial string, at time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if d, known := k.devices[serial]; known && at.After(d.Turn) {
		d.Turn = at
		k.devices[serial] = d
	}
}

// Get returns what is known about a device.
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

// Heard returns the number of devices that have sent their status since Open.
func (k *Known) Heard() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.heard)
}

// Forget removes a device until it sends its status again.
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
	temp, err := os.CreateTemp(filepath.Dir(k.path), filepath.Base(k.path)+".*") // commands may run concurrently
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

// IsSerial reports whether s is a valid serial: one topic level without wildcards [MQTT-4.7.1].
func IsSerial(s string) bool { return s != "" && len(s) <= 256 && !strings.ContainsAny(s, "/+#\x00") }
