package xiaozhi

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// status is the result of self.get_device_status. Cheeko's volume up and down
// reads audio_speaker.volume.
type status struct {
	Speaker struct {
		Volume int `json:"volume"`
	} `json:"audio_speaker"`
	Network *networkStatus `json:"network,omitempty"`
	Battery *batteryStatus `json:"battery,omitempty"`
	Chip    *chipStatus    `json:"chip,omitempty"`
}

type networkStatus struct {
	Type   string `json:"type"`             // "wifi" or "ethernet"
	Signal string `json:"signal,omitempty"` // strong, medium or weak
}

type batteryStatus struct {
	Level    int  `json:"level"`
	Charging bool `json:"charging"`
}

type chipStatus struct {
	Temperature float64 `json:"temperature"` // °C
}

// deviceStatus reads the kernel's data about the device; unavailable values are
// omitted.
func deviceStatus(volume int, root string) (s status) {
	s.Speaker.Volume = volume
	s.Network = readNetwork(root)
	if milli, ok := readNumber(filepath.Join(root, "sys/class/thermal/thermal_zone0/temp")); ok {
		s.Chip = &chipStatus{float64(milli) / 1000}
	}
	supplies, _ := filepath.Glob(filepath.Join(root, "sys/class/power_supply/*/capacity"))
	for _, path := range supplies {
		if level, ok := readNumber(path); ok {
			state, _ := os.ReadFile(filepath.Join(filepath.Dir(path), "status"))
			s.Battery = &batteryStatus{level, strings.TrimSpace(string(state)) == "Charging"}
			break
		}
	}
	return s
}

// readNetwork reads the signal strength of Wi-Fi, if there is any.
// proc/net/wireless has two header lines, then the link quality, up to 70, in the
// third column.
func readNetwork(root string) *networkStatus {
	text, err := os.ReadFile(filepath.Join(root, "proc/net/wireless"))
	if err != nil {
		return nil
	}
	for i, line := range strings.Split(string(text), "\n") {
		fields := strings.Fields(line)
		if i < 2 || len(fields) < 3 {
			continue
		}
		quality, err := strconv.ParseFloat(fields[2], 64)
		switch {
		case err != nil:
		case quality >= 50:
			return &networkStatus{"wifi", "strong"}
		case quality >= 30:
			return &networkStatus{"wifi", "medium"}
		default:
			return &networkStatus{"wifi", "weak"}
		}
	}
	return &networkStatus{Type: "ethernet"}
}

func readNumber(path string) (int, bool) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, false
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	return n, err == nil
}
