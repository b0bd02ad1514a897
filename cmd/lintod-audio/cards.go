//go:build cgo

package main

/*
#cgo pkg-config: portaudio-2.0
#include <portaudio.h>
#include <pa_linux_alsa.h>
*/
import "C"

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/gordonklaus/portaudio"
	"golang.org/x/sys/unix"

	"lintod/agent/base/alsa"
	"lintod/audio"
	"lintod/audio/native/wire"
)

// Buffer sizes of a card. Buffered playback adds latency and delays interruptions; a large capture
// buffer has no disadvantage. PortAudio gives a stream one period more than the requested latency.
const (
	period        = 10 * time.Millisecond
	inputPeriods  = 160 // more than twice audio.IdleDelay
	outputPeriods = 8
	inputLatency  = (inputPeriods - 1) * period
	outputLatency = (outputPeriods - 1) * period

	// relist is the maximum age of the device list if only a fallback device opens.
	relist = 10 * time.Second
)

// cards wraps PortAudio, whose functions are not safe for concurrent use, except those that
// transfer sound. Its list of devices changes only in refresh, which requires all streams to be
// closed.
type cards struct {
	quiet bool
	root  string // "/", except in tests

	mu      sync.Mutex // held during all calls except reading, writing, starting, and stopping a stream
	started bool
	then    []alsa.Card // the kernel's cards at the last refresh
	at      time.Time   // time of the last refresh
	streams int         // number of open streams
}

// refresh (re)starts PortAudio, so that it sees the current devices, unless a stream is open.
func (c *cards) refresh() error {
	if c.streams > 0 {
		return nil
	}
	if c.started {
		c.started = false
		if err := portaudio.Terminate(); err != nil {
			return fmt.Errorf("stop PortAudio: %w", explain(err))
		}
	}
	if c.quiet {
		defer muteStderr()()
	}
	c.then, c.at = alsa.Cards(c.root), time.Now()
	if err := portaudio.Initialize(); err != nil {
		return notStarted(err)
	}
	c.started = true
	return nil
}

// stale reports whether the cards have changed since the list was made.
func (c *cards) stale() bool {
	return !c.started || !reflect.DeepEqual(c.then, alsa.Cards(c.root))
}

// known returns the kernel's cards at the time of the list. It does not block; ok is false while
// more than the caller's stream is open or being opened.
func (c *cards) known() (then []alsa.Card, ok bool) {
	if !c.mu.TryLock() {
		return nil, false
	}
	defer c.mu.Unlock()
	return c.then, c.streams <= 1
}

// muteStderr suppresses the messages of ALSA and JACK while PortAudio tries to open devices.
func muteStderr() (restore func()) {
	const stderr = 2
	saved, err := unix.FcntlInt(stderr, unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return func() {}
	}
	if null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0); err == nil {
		_ = unix.Dup3(int(null.Fd()), stderr, 0)
		null.Close()
	}
	return func() {
		_ = unix.Dup3(saved, stderr, 0)
		_ = unix.Close(saved)
	}
}

// list returns the current devices, or those of the last refresh.
func (c *cards) list() ([]audio.Device, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.refresh(); err != nil {
		return nil, err
	}
	devices, err := c.devices()
	return plain(devices), err
}

func (c *cards) devices() ([]device, error) {
	infos, err := portaudio.Devices()
	if err != nil {
		return nil, fmt.Errorf("list the devices: %w", explain(err))
	}
	owner := func(p alsa.PCM) (alsa.Owner, bool) { return p.Owner(c.root) }
	devices := merge(infos, c.then, alsa.Cards(c.root), owner)
	in, _ := portaudio.DefaultInputDevice()
	out, _ := portaudio.DefaultOutputDevice()
	for i := range devices {
		d := &devices[i]
		d.DefaultInput = d.info != nil && d.info == in
		d.DefaultOutput = d.info != nil && d.info == out
	}
	return devices, nil
}

func plain(devices []device) []audio.Device {
	list := make([]audio.Device, len(devices))
	for i := range devices {
		list[i] = devices[i].Device
	}
	return list
}

// direction is capture or playback.
type direction struct {
	noun       string
	way        audio.Direction
	frames     int // maximum per transfer
	periods    int
	latency    time.Duration
	parameters func(portaudio.StreamDeviceParameters) portaudio.StreamParameters
}

var (
	input = direction{
		noun:    "microphone",
		way:     audio.Capture,
		frames:  wire.MaxBatch,
		periods: inputPeriods,
		latency: inputLatency,
		parameters: func(p portaudio.StreamDeviceParameters) portaudio.StreamParameters {
			return portaudio.StreamParameters{Input: p}
		},
	}
	output = direction{
		noun:    "speaker",
		way:     audio.Playback,
		frames:  1,
		periods: outputPeriods,
		latency: outputLatency,
		parameters: func(p portaudio.StreamDeviceParameters) portaudio.StreamParameters {
			return portaudio.StreamParameters{Output: p}
		},
	}
)

// layout is a format in which a device may be opened.
type layout struct{ rate, channels int }

// layouts returns the formats to try, best first: the requested one, which requires no conversion;
// then the likely native formats of the device. channel selects one of several input channels, or
// 0. For a hardware card, all channels are tried first: with fewer, PortAudio would leave the
// others silent, or ignore them. A sound server mixes them properly.
func layouts(rate, channel int, d audio.Device, ownChannels int) []layout {
	channels := []int{1, 2, channel, ownChannels}
	if d.Card != "" {
		channels = []int{ownChannels, 2, 1}
	}
	var ways []layout
	for _, r := range []int{rate, d.Rate, 48000, 44100} {
		for _, ch := range channels {
			// A device opened with one channel may mix all of them.
			if channel == 0 || ch > 1 && ch >= channel {
				ways = append(ways, layout{r, min(ch, ownChannels, audio.MaxChannels)})
			}
		}
	}
	return unique(ways)
}

func unique(ways []layout) (kept []layout) {
	seen := map[layout]bool{}
	for _, w := range ways {
		if !seen[w] && w.rate > 0 && w.channels > 0 {
			kept = append(kept, w)
		}
		seen[w] = true
	}
	return kept
}

// opened is a device, and the format in which it was opened.
type opened struct {
	stream *portaudio.Stream
	layout layout
	choice wire.Choice
	// better are the PCM devices of preferred cards that were in use.
	better []alsa.PCM
}

// open opens the first of the named devices that can be opened; buf becomes its buffer. It searches
// twice: a card may have been plugged in, or the sound server started, since the list was made.
func (c *cards) open(d direction, want wire.Open, buf *[]int16) (opened, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stale() {
		if err := c.refresh(); err != nil {
			return opened{}, err
		}
	}
	o, err := c.try(d, want, buf)
	if err != nil || o.choice.Rank > 0 && c.streams == 0 && time.Since(c.at) > relist {
		if err == nil {
			_ = o.stream.Close()
		}
		if err := c.refresh(); err != nil {
			return opened{}, err
		}
		o, err = c.try(d, want, buf)
	}
	if err == nil {
		c.streams++
	}
	return o, err
}

// try tries the names in order and, for each, the devices that it matches.
func (c *cards) try(d direction, want wire.Open, buf *[]int16) (opened, error) {
	devices, err := c.devices()
	if err != nil {
		return opened{}, err
	}
	list := plain(devices)
	var o opened
	var faults []string
	for rank, name := range want.Devices {
		fits := audio.Choose(list, name, d.way)
		if len(fits) == 0 {
			faults = append(faults, absent(list, name, d))
		}
		for _, i := range fits {
			s, way, err := d.openDevice(&devices[i], want, buf)
			if err == nil {
				o.stream, o.layout = s, way
				o.choice = wire.Choice{Device: devices[i].Name, Rank: rank, Why: strings.Join(faults, ", ")}
				return o, nil
			}
			if side := devices[i].side(d.way); side != nil && inUse(err) && devices[i].User(d.way) != "" {
				o.better = append(o.better, *side)
			}
			faults = append(faults, fmt.Sprintf("%q %v", devices[i].Name, fault(&devices[i], d.way, err)))
		}
	}
	return opened{}, failure(d, want.Devices, faults)
}

// close frees a device. Errors are ignored: closing an unplugged card always fails.
func (c *cards) close(s *portaudio.Stream) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = s.Close()
	c.streams--
}

// errNew is the error for a card that PortAudio can find only when no stream is open.
var errNew = errors.New("was plugged in while another sound device was in use; available in a few seconds")

// openDevice tries the formats in which dev may open.
func (d direction) openDevice(dev *device, want wire.Open, buf *[]int16) (*portaudio.Stream, layout, error) {
	switch channels := dev.Channels(d.way); {
	case dev.User(d.way) != "" && (dev.info == nil || !canOpen(dev.info, d.way)):
		return nil, layout{}, portaudio.DeviceUnavailable
	case dev.info == nil:
		return nil, layout{}, errNew
	case want.Channel > channels:
		return nil, layout{}, fmt.Errorf("has %d channels, so input_channel cannot be %d", channels, want.Channel)
	}
	var failed error
	for _, way := range layouts(want.Rate, want.Channel, dev.Device, dev.Channels(d.way)) {
		s, err := d.openAs(dev.info, way, buf)
		if err == nil {
			return s, way, nil
		}
		if failed == nil {
			failed = err
		}
	}
	return nil, layout{}, failed
}

// canOpen reports whether PortAudio could query this side of the device when it made its list.
func canOpen(info *portaudio.DeviceInfo, way audio.Direction) bool {
	if way == audio.Capture {
		return info.MaxInputChannels > 0
	}
	return info.MaxOutputChannels > 0
}

func (d direction) openAs(dev *portaudio.DeviceInfo, way layout, buf *[]int16) (*portaudio.Stream, error) {
	C.PaAlsa_SetNumPeriods(C.int(d.periods))
	p := d.parameters(portaudio.StreamDeviceParameters{Device: dev, Channels: way.channels, Latency: d.latency})
	p.SampleRate = float64(way.rate)
	p.FramesPerBuffer = samples(way.rate, period)
	*buf = make([]int16, 0, d.frames*samples(way.rate, audio.FrameTime)*way.channels)
	s, err := portaudio.OpenStream(p, buf)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// samples returns the number of samples per channel in d.
func samples(rate int, d time.Duration) int { return int(time.Duration(rate) * d / time.Second) }
