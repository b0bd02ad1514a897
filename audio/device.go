package audio

import (
	"cmp"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Device is a microphone or speaker, or both.
type Device struct {
	Name    string `json:"name"`            // name for the configuration
	Label   string `json:"label,omitempty"` // display name
	Inputs  int    `json:"inputs"`          // channels it can record
	Outputs int    `json:"outputs"`         // channels it can play
	Rate    int    `json:"rate,omitempty"`  // its native rate in Hz; 0: unknown, because it is in use
	// DefaultInput and DefaultOutput mark the devices for "default".
	DefaultInput  bool `json:"default_input,omitempty"`
	DefaultOutput bool `json:"default_output,omitempty"`
	LatencyMS     int  `json:"latency_ms,omitempty"` // minimum latency

	// Card is the ID of the ALSA card, and Sub the number of the device on it. A device without a
	// card belongs to a sound server, or combines several.
	Card string `json:"card,omitempty"`
	Sub  int    `json:"device,omitempty"`
	// Ports are the kernel's names of the port of a USB card.
	Ports []string `json:"ports,omitempty"`
	// RecordedBy and PlayedBy are the programs that have it open.
	RecordedBy string `json:"recorded_by,omitempty"`
	PlayedBy   string `json:"played_by,omitempty"`
}

// Direction is capture or playback.
type Direction bool

const (
	// Capture is from the microphone.
	Capture Direction = true
	// Playback is to the speaker.
	Playback Direction = false
)

// Channels returns the number of channels of the device in this direction.
func (d Device) Channels(way Direction) int {
	if way == Capture {
		return d.Inputs
	}
	return d.Outputs
}

// User returns the program that has the device open in this direction.
func (d Device) User(way Direction) string {
	if way == Capture {
		return d.RecordedBy
	}
	return d.PlayedBy
}

// Choose returns the indexes of the devices that match name, in the order in which to try them,
// which does not depend on the order of devices. name is
//
//   - "default";
//   - a Device.Name or Device.Label;
//   - a card's ID, "hw:CARD=id" or "hw:CARD=id,DEV=n";
//   - the port of a USB card, "usb:1-1.2" or "usb-0000:01:00.0-1.2";
//   - a pattern for any of these, with * and ?, or a part of a name or label, ignoring case.
//
// The first of these kinds that matches any device is used.
func Choose(devices []Device, name string, way Direction) []int {
	if name == "" {
		return nil
	}
	lower := strings.ToLower(name)
	card, sub := cardName(name)
	for _, fits := range []func(d *Device) bool{
		func(d *Device) bool { return name == "default" && d.Name == name },
		func(d *Device) bool {
			return name == "default" && (way == Capture && d.DefaultInput || way == Playback && d.DefaultOutput)
		},
		func(d *Device) bool { return name == d.Name },
		func(d *Device) bool { return card != "" && card == d.Card && (sub == "" || sub == strconv.Itoa(d.Sub)) },
		func(d *Device) bool { return slices.Contains(d.Ports, name) },
		func(d *Device) bool { return name == d.Label },
		func(d *Device) bool { return d.matches(lower) },
		func(d *Device) bool {
			return strings.Contains(strings.ToLower(d.Name), lower) || strings.Contains(strings.ToLower(d.Label), lower)
		},
	} {
		var found []int
		for i := range devices {
			if devices[i].Channels(way) > 0 && fits(&devices[i]) {
				found = append(found, i)
			}
		}
		if found != nil {
			slices.SortStableFunc(found, func(a, b int) int {
				return cmp.Or(cmp.Compare(devices[a].Sub, devices[b].Sub), cmp.Compare(devices[a].Name, devices[b].Name))
			})
			return found
		}
	}
	return nil
}

func (d *Device) matches(pattern string) bool {
	if !strings.ContainsAny(pattern, "*?") {
		return false
	}
	for _, s := range append([]string{d.Name, d.Label, d.Card}, d.Ports...) {
		// Treat a slash like any other character.
		ok, _ := path.Match(strings.ReplaceAll(pattern, "/", "\x00"), strings.ReplaceAll(strings.ToLower(s), "/", "\x00"))
		if ok {
			return true
		}
	}
	return false
}

var byCard = regexp.MustCompile(`^(?:plug)?hw:(?:CARD=)?([A-Za-z_]\w*)(?:,(?:DEV=)?(\d+))?$`)

// cardName parses ALSA's name of a device; a plain word may be a card's ID.
func cardName(name string) (id, sub string) {
	if m := byCard.FindStringSubmatch(name); m != nil {
		return m[1], m[2]
	}
	return name, ""
}
