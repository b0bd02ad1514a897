package audio

import (
	"cmp"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Device is one microphone or loudspeaker, or both.
type Device struct {
	Name    string `json:"name"`            // what goes into the configuration
	Label   string `json:"label,omitempty"` // what people call it
	Inputs  int    `json:"inputs"`          // channels it can record
	Outputs int    `json:"outputs"`         // channels it can play
	Rate    int    `json:"rate,omitempty"`  // its own rate in samples a second; 0: unknown, it is in use
	// DefaultInput and DefaultOutput mark what "default" stands for.
	DefaultInput  bool `json:"default_input,omitempty"`
	DefaultOutput bool `json:"default_output,omitempty"`
	LatencyMS     int  `json:"latency_ms,omitempty"` // shortest latency it promises

	// Card is the id of ALSA's card, and Sub the number of the device on it. A
	// device without a card belongs to a sound server, or is several in one.
	Card string `json:"card,omitempty"`
	Sub  int    `json:"device,omitempty"`
	// Ports tell where a USB card is plugged in, in the kernel's words.
	Ports []string `json:"ports,omitempty"`
	// RecordedBy and PlayedBy tell which program has it open.
	RecordedBy string `json:"recorded_by,omitempty"`
	PlayedBy   string `json:"played_by,omitempty"`
}

// Direction is which way sound goes through a device.
type Direction bool

const (
	// Capture is from the microphone to us.
	Capture Direction = true
	// Playback is from us to the loudspeaker.
	Playback Direction = false
)

// Channels is how many channels the device has in that direction.
func (d Device) Channels(way Direction) int {
	if way == Capture {
		return d.Inputs
	}
	return d.Outputs
}

// User is the program that has the device open in that direction.
func (d Device) User(way Direction) string {
	if way == Capture {
		return d.RecordedBy
	}
	return d.PlayedBy
}

// Choose returns the indexes of the devices that name stands for, in the order
// in which to try them, which does not depend on the order of devices. name is
//
//   - "default";
//   - what Device.Name or Device.Label says;
//   - a card's id, "hw:CARD=id" or "hw:CARD=id,DEV=n";
//   - the place of a USB card, "usb:1-1.2" or "usb-0000:01:00.0-1.2";
//   - a pattern for any of these, with * and ?, or a part of a name or label, in
//     whatever case.
//
// The first of these kinds that fits any device counts.
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
		// A slash shall be as any other letter.
		ok, _ := path.Match(strings.ReplaceAll(pattern, "/", "\x00"), strings.ReplaceAll(strings.ToLower(s), "/", "\x00"))
		if ok {
			return true
		}
	}
	return false
}

var byCard = regexp.MustCompile(`^(?:plug)?hw:(?:CARD=)?([A-Za-z_]\w*)(?:,(?:DEV=)?(\d+))?$`)

// cardName takes ALSA's name of a device apart; a plain word may be a card's id.
func cardName(name string) (id, sub string) {
	if m := byCard.FindStringSubmatch(name); m != nil {
		return m[1], m[2]
	}
	return name, ""
}
