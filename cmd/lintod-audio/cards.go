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
	"sync"
	"time"

	"github.com/gordonklaus/portaudio"
	"golang.org/x/sys/unix"

	"lintod/audio"
)

// How much a card buffers. What it holds of playback is heard late, and is lost
// time when somebody interrupts; what it can hold of capture only helps.
// PortAudio gives a stream one period more than the latency asked for.
const (
	period         = 10 * time.Millisecond
	inputPeriods   = 16
	outputPeriods  = 8
	inputLatency   = (inputPeriods - 1) * period
	outputLatency  = (outputPeriods - 1) * period
	maxMixChannels = 8 // a card with more is a mixing desk; its first eight will do
)

// cards is PortAudio, whose calls are not safe beside each other, except those
// that move sound. Its list of devices is frozen from refresh to refresh, which
// needs all streams closed.
type cards struct {
	quiet bool

	mu      sync.Mutex // held during every call but reading, writing, starting and stopping a stream
	started bool
	streams int // that are open
}

// refresh (re)starts PortAudio, so that it sees the devices there are now,
// unless a stream is in the way.
func (c *cards) refresh() error {
	if c.streams > 0 {
		return nil
	}
	if c.started {
		c.started = false
		if err := portaudio.Terminate(); err != nil {
			return fmt.Errorf("stop PortAudio: %w", err)
		}
	}
	if c.quiet {
		defer muteStderr()()
	}
	if err := portaudio.Initialize(); err != nil {
		return fmt.Errorf("start PortAudio: %w", err)
	}
	c.started = true
	return nil
}

// muteStderr keeps ALSA and JACK from printing what they could not open while
// PortAudio tries every device that the configuration might mean.
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

// list returns the devices that are there now, or were at the last refresh.
func (c *cards) list() ([]audio.Device, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.refresh(); err != nil {
		return nil, err
	}
	infos, err := portaudio.Devices()
	if err != nil {
		return nil, fmt.Errorf("list the devices: %w", err)
	}
	in, _ := portaudio.DefaultInputDevice()
	out, _ := portaudio.DefaultOutputDevice()
	devices := make([]audio.Device, len(infos))
	for i, d := range infos {
		latency := d.DefaultLowOutputLatency
		if d.MaxOutputChannels == 0 {
			latency = d.DefaultLowInputLatency
		}
		devices[i] = audio.Device{
			Name:      stableName(d.Name),
			Label:     d.Name,
			Inputs:    d.MaxInputChannels,
			Outputs:   d.MaxOutputChannels,
			Rate:      int(d.DefaultSampleRate),
			Default:   d == in || d == out,
			LatencyMS: int(latency.Milliseconds()),
		}
	}
	return devices, nil
}

// direction is which way the sound goes through a device.
type direction struct {
	noun       string
	periods    int
	byDefault  func() (*portaudio.DeviceInfo, error)
	channels   func(*portaudio.DeviceInfo) int
	parameters func(portaudio.StreamDeviceParameters) portaudio.StreamParameters
	latency    time.Duration
}

var (
	input = direction{
		noun:      "microphone",
		periods:   inputPeriods,
		latency:   inputLatency,
		byDefault: portaudio.DefaultInputDevice,
		channels:  func(d *portaudio.DeviceInfo) int { return d.MaxInputChannels },
		parameters: func(p portaudio.StreamDeviceParameters) portaudio.StreamParameters {
			return portaudio.StreamParameters{Input: p}
		},
	}
	output = direction{
		noun:      "loudspeaker",
		periods:   outputPeriods,
		latency:   outputLatency,
		byDefault: portaudio.DefaultOutputDevice,
		channels:  func(d *portaudio.DeviceInfo) int { return d.MaxOutputChannels },
		parameters: func(p portaudio.StreamDeviceParameters) portaudio.StreamParameters {
			return portaudio.StreamParameters{Output: p}
		},
	}
)

// find returns the device that name stands for.
func (d direction) find(name string) (*portaudio.DeviceInfo, error) {
	all, err := portaudio.Devices()
	if err != nil {
		return nil, err
	}
	var fit []*portaudio.DeviceInfo
	var names []string
	for _, dev := range all {
		if d.channels(dev) > 0 {
			fit, names = append(fit, dev), append(names, dev.Name)
		}
	}
	if len(fit) == 0 {
		return nil, errors.New("there is none; is a card plugged in, or the sound server running?")
	}
	if name == "default" {
		return d.byDefault()
	}
	i, err := match(names, name)
	if err != nil {
		return nil, err
	}
	return fit[i], nil
}

// layout is a way in which a device may be opened.
type layout struct{ rate, channels int }

// layouts are the ways to try, best first: as wanted, so that no sample needs
// to be touched; then what the device is likely to do by itself.
func layouts(rate, ownRate, ownChannels int) []layout {
	var ways []layout
	for _, r := range []int{rate, ownRate, 48000, 44100} {
		for _, ch := range []int{1, 2, ownChannels} {
			ways = append(ways, layout{r, min(ch, ownChannels, maxMixChannels)})
		}
	}
	return unique(ways)
}

func unique(ways []layout) (kept []layout) {
	seen := map[layout]bool{}
	for _, w := range ways {
		if !seen[w] {
			kept = append(kept, w)
		}
		seen[w] = true
	}
	return kept
}

// open opens the named device and returns how it did; buf becomes its buffer.
// It looks for it twice: the card may have been plugged in, or the sound server
// started, since the list was made.
func (c *cards) open(d direction, name string, rate int, buf *[]int16) (*portaudio.Stream, layout, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s, way, err := d.open(name, rate, buf)
	if err != nil {
		if err := c.refresh(); err != nil {
			return nil, layout{}, err
		}
		s, way, err = d.open(name, rate, buf)
	}
	if err != nil {
		return nil, layout{}, fmt.Errorf("the %s %q does not open: %w", d.noun, name, explain(err))
	}
	c.streams++
	return s, way, nil
}

// close frees a device. It has no error: a card that was pulled cannot be
// closed without one.
func (c *cards) close(s *portaudio.Stream) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = s.Close()
	c.streams--
}

func (d direction) open(name string, rate int, buf *[]int16) (*portaudio.Stream, layout, error) {
	dev, err := d.find(name)
	if err != nil {
		return nil, layout{}, err
	}
	var failed error
	for _, way := range layouts(rate, int(dev.DefaultSampleRate), d.channels(dev)) {
		s, err := d.openAs(dev, way, buf)
		if err == nil {
			return s, way, nil
		}
		if failed == nil {
			failed = err
		}
	}
	return nil, layout{}, failed
}

func (d direction) openAs(dev *portaudio.DeviceInfo, way layout, buf *[]int16) (*portaudio.Stream, error) {
	C.PaAlsa_SetNumPeriods(C.int(d.periods))
	p := d.parameters(portaudio.StreamDeviceParameters{Device: dev, Channels: way.channels, Latency: d.latency})
	p.SampleRate = float64(way.rate)
	p.FramesPerBuffer = samples(way.rate, period)
	*buf = make([]int16, 0, samples(way.rate, audio.FrameTime)*way.channels)
	s, err := portaudio.OpenStream(p, buf)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// explain makes a sentence of an error of PortAudio's, which may be empty.
func explain(err error) error {
	var host portaudio.UnanticipatedHostError
	if errors.As(err, &host) && host.Text == "" {
		return fmt.Errorf("the card or the sound server is gone (host error %d)", host.Code)
	}
	return err
}

// samples is how many samples of one channel last for d.
func samples(rate int, d time.Duration) int { return int(time.Duration(rate) * d / time.Second) }
