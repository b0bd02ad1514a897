//go:build cgo

package main

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/gordonklaus/portaudio"

	"lintod/agent/base/alsa"
	"lintod/audio"
	"lintod/audio/native/wire"
)

func pcm(card, dev int, capture bool) alsa.PCM {
	return alsa.PCM{Card: card, Device: dev, Capture: capture, Name: "x"}
}

// usb is a headset at that port, with that id.
func usb(index int, id, port string) alsa.Card {
	return alsa.Card{Index: index, ID: id, Name: "USB Audio Device", Port: port, PCMs: []alsa.PCM{pcm(index, 0, true), pcm(index, 0, false)}}
}

var (
	hat      = alsa.Card{Index: 1, ID: "seeed2micvoicec", Name: "seeed-2mic-voicecard", PCMs: []alsa.PCM{pcm(1, 0, false), pcm(1, 0, true)}}
	hdmi     = alsa.Card{Index: 0, ID: "vc4hdmi0", Name: "vc4-hdmi-0", PCMs: []alsa.PCM{pcm(0, 0, false)}}
	loopback = alsa.Card{Index: 4, ID: "Loopback", Name: "Loopback", PCMs: []alsa.PCM{pcm(4, 0, true), pcm(4, 1, false)}}
)

func info(name string, in, out int) *portaudio.DeviceInfo {
	return &portaudio.DeviceInfo{Name: name, MaxInputChannels: in, MaxOutputChannels: out, DefaultSampleRate: 44100}
}

var pulse = info("default", 32, 32)

// use is the kernel's information about which process has opened which device.
type use map[alsa.PCM]alsa.Owner

func (u use) owner(p alsa.PCM) (o alsa.Owner, ok bool) { o, ok = u[p]; return o, ok }

// The listed names select the devices, whatever their numbers are.
func TestNamesOfDevices(t *testing.T) {
	arecord := alsa.Owner{PID: 815, Name: "arecord"}
	for name, tt := range map[string]struct {
		infos     []*portaudio.DeviceInfo
		then, now []alsa.Card
		use       use
		want      string // name, channels, and the process that uses it
	}{
		"cards and a server": {
			[]*portaudio.DeviceInfo{info("vc4-hdmi-0: MAI (hw:0,0)", 0, 2), info("seeed-2mic-voicecard: wm8960 (hw:1,0)", 2, 2), pulse},
			[]alsa.Card{hdmi, hat},
			[]alsa.Card{hdmi, hat},
			nil,
			"vc4hdmi0 0 2; seeed2micvoicec 2 2; default 32 32",
		},
		"twins": {
			[]*portaudio.DeviceInfo{info("USB Audio Device: x (hw:2,0)", 1, 2), info("USB Audio Device: x (hw:3,0)", 1, 2)},
			[]alsa.Card{usb(2, "Device", "1-1.2"), usb(3, "Device_1", "1-1.3")},
			[]alsa.Card{usb(2, "Device", "1-1.2"), usb(3, "Device_1", "1-1.3")},
			nil,
			"usb:1-1.2 1 2; usb:1-1.3 1 2",
		},
		"two devices on a card": {
			[]*portaudio.DeviceInfo{info("Loopback: PCM (hw:4,0)", 2, 0), info("Loopback: PCM (hw:4,1)", 0, 2)},
			[]alsa.Card{loopback},
			[]alsa.Card{loopback},
			nil,
			"Loopback 2 0; hw:CARD=Loopback,DEV=1 0 2",
		},
		"in use, so PortAudio does not list it": {
			[]*portaudio.DeviceInfo{pulse},
			[]alsa.Card{hat},
			[]alsa.Card{hat},
			use{pcm(1, 0, true): arecord},
			"default 32 32; seeed2micvoicec 1 0 recorded by arecord (pid 815)",
		},
		"half in use, so PortAudio lists the other half": {
			[]*portaudio.DeviceInfo{info("seeed-2mic-voicecard: wm8960 (hw:1,0)", 0, 2)},
			[]alsa.Card{hat},
			[]alsa.Card{hat},
			use{pcm(1, 0, true): arecord},
			"seeed2micvoicec 1 2 recorded by arecord (pid 815)",
		},
		"in use since": {
			[]*portaudio.DeviceInfo{info("seeed-2mic-voicecard: wm8960 (hw:1,0)", 2, 2)},
			[]alsa.Card{hat},
			[]alsa.Card{hat},
			use{pcm(1, 0, false): arecord},
			"seeed2micvoicec 2 2 played by arecord (pid 815)",
		},
		"PortAudio has tried it and cannot use it": {
			[]*portaudio.DeviceInfo{pulse}, []alsa.Card{hdmi}, []alsa.Card{hdmi}, nil, "default 32 32",
		},
		"plugged in since": {
			[]*portaudio.DeviceInfo{pulse},
			[]alsa.Card{hdmi},
			[]alsa.Card{hdmi, usb(2, "Device", "1-1.2")},
			nil,
			"default 32 32; Device 1 1",
		},
		"another card has its number now": {
			[]*portaudio.DeviceInfo{info("seeed-2mic-voicecard: wm8960 (hw:1,0)", 2, 2)},
			[]alsa.Card{hat},
			[]alsa.Card{usb(1, "Device", "1-1.2")},
			nil,
			"Device 1 1",
		},
		"pulled since": {
			[]*portaudio.DeviceInfo{info("seeed-2mic-voicecard: wm8960 (hw:1,0)", 2, 2), pulse},
			[]alsa.Card{hat},
			nil, nil,
			"default 32 32",
		},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			list := merge(tt.infos, tt.then, tt.now, tt.use.owner)
			for i, d := range list {
				line := strings.Join([]string{d.Name, string(rune('0' + d.Inputs%32)), string(rune('0' + d.Outputs%32))}, " ")
				if d.Name == "default" {
					line = "default 32 32"
				}
				if d.RecordedBy != "" {
					line += " recorded by " + d.RecordedBy
				}
				if d.PlayedBy != "" {
					line += " played by " + d.PlayedBy
				}
				got = append(got, line)
				for _, way := range []audio.Direction{audio.Capture, audio.Playback} {
					if found := audio.Choose(plain(list), d.Name, way); d.Channels(way) > 0 && (len(found) == 0 || found[0] != i) {
						t.Errorf("%q selects %v, not %d", d.Name, found, i)
					}
				}
			}
			if s := strings.Join(got, "; "); s != tt.want {
				t.Errorf("got  %s\nwant %s", s, tt.want)
			}
		})
	}
}

func TestFaults(t *testing.T) {
	busy := device{Device: audio.Device{Name: "hat", Inputs: 2, RecordedBy: "arecord (pid 815)"}, info: info("hat (hw:1,0)", 2, 2)}
	unseen := device{Device: audio.Device{Name: "hat", Inputs: 1, RecordedBy: "pid 815"}}
	fresh := device{Device: audio.Device{Name: "usb", Inputs: 1}}
	for name, tt := range map[string]struct {
		dev  device
		err  error // of PortAudio; nil: it is not called
		want string
	}{
		"busy":                 {busy, portaudio.DeviceUnavailable, "arecord (pid 815)"},
		"busy, without a user": {device{Device: audio.Device{Inputs: 2}}, portaudio.DeviceUnavailable, ""},
		"busy from start":      {unseen, nil, "pid 815"},
		"just plugged in":      {fresh, nil, errNew.Error()},
		"broken":               {busy, portaudio.InternalError, portaudio.InternalError.Error()},
		"absent":               {busy, portaudio.BadIODeviceCombination, errAbsent.Error()},
		"no text":              {busy, portaudio.UnanticipatedHostError{Code: -19}, syscall.ENODEV.Error()},
		"nothing at all":       {busy, portaudio.UnanticipatedHostError{}, "error 0"},
		"an empty error":       {busy, errors.New(""), errNoReason.Error()},
		"with text":            {busy, portaudio.UnanticipatedHostError{Code: -1, Text: "Broken pipe"}, "Broken pipe"},
	} {
		t.Run(name, func(t *testing.T) {
			err := tt.err
			if err == nil {
				_, _, err = input.openDevice(&tt.dev, wire.Open{Rate: 16000}, new([]int16))
			}
			if got := fault(&tt.dev, audio.Capture, err); !strings.Contains(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
	if err := notStarted(portaudio.UnanticipatedHostError{}); !errors.Is(err, errNoReason) {
		t.Errorf("PortAudio does not start: %v", err)
	}
	if err := notStarted(portaudio.UnanticipatedHostError{Code: -13}); !errors.Is(err, syscall.EACCES) {
		t.Errorf("PortAudio does not start: %v", err)
	}
	_, _, err := input.openDevice(&busy, wire.Open{Rate: 16000, Channel: 3}, new([]int16))
	if err == nil || !strings.Contains(err.Error(), "input_channel") {
		t.Errorf("the third of two channels: %v", err)
	}
}

// kernel returns a fake /proc with cards.
func kernel(t *testing.T, root, cards string) {
	t.Helper()
	dir := filepath.Join(root, "proc/asound/card1/pcm0c/sub0")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "proc/asound/cards"), []byte(cards), 0o600); err != nil {
		t.Fatal(err)
	}
}

const (
	oneCard  = " 1 [hat            ]: x - HAT\n                      HAT\n"
	twoCards = oneCard + " 2 [usb            ]: USB-Audio - USB\n                      USB at usb-1, full speed\n"
)

func TestLookout(t *testing.T) {
	root := t.TempDir()
	kernel(t, root, oneCard)
	c := &cards{root: root, then: alsa.Cards(root), streams: 1}
	status := func(text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(root, "proc/asound/card1/pcm0c/sub0/status"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	look := lookout{cards: c}
	expect := func(when string, want ...bool) {
		t.Helper()
		var got []bool
		for range want {
			got = append(got, look.changed())
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", when, got, want)
		}
	}
	expect("as it was", false, false)
	kernel(t, root, twoCards)
	expect("a card is plugged in", false, true, true)
	c.streams = 2
	expect("while something plays", false)
	c.streams = 1
	c.mu.Lock()
	expect("while something is being opened", false)
	c.mu.Unlock()
	kernel(t, root, oneCard)
	expect("it is unplugged again", false, false)

	look.better = []alsa.PCM{{Card: 1, Capture: true}}
	status("owner_pid : 815\n")
	expect("the better one is in use", false, false)
	status("closed\n")
	expect("the better one is free", true)
}
