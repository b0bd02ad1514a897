//go:build cgo

package main

import (
	"errors"
	"fmt"
	"strings"
	"syscall"

	"github.com/gordonklaus/portaudio"

	"lintod/agent/base/alsa"
	"lintod/audio"
)

// side is the kernel's half of the device, nil where it has none.
func (d *device) side(way audio.Direction) *alsa.PCM {
	if way == audio.Capture {
		return d.capture
	}
	return d.playback
}

// inUse tells busy from absent: PortAudio makes paDeviceUnavailable of ALSA's
// EBUSY, and of nothing else (OpenPcm's callers in pa_linux_alsa.c).
func inUse(err error) bool { return errors.Is(err, portaudio.DeviceUnavailable) }

// fault continues the sentence that begins with the name of a device that did
// not open.
func fault(d *device, way audio.Direction, err error) string {
	switch {
	case inUse(err) && d.User(way) != "":
		return "is in use by " + d.User(way)
	case inUse(err):
		return "is in use by another program"
	}
	return fmt.Sprint(explain(err))
}

// absent says that no device has that name.
func absent(list []audio.Device, name string, d direction) string {
	var names []string
	for _, dev := range list {
		if dev.Channels(d.way) > 0 {
			names = append(names, fmt.Sprintf("%q", dev.Name))
		}
	}
	if len(names) == 0 {
		return fmt.Sprintf("device %q not found, and no %s at all; is a card plugged in, or the sound server running?", name, d.noun)
	}
	return fmt.Sprintf("device %q not found; available: %s", name, strings.Join(names, ", "))
}

func failure(d direction, names, faults []string) error {
	if len(names) == 1 && len(faults) == 1 {
		return fmt.Errorf("cannot open the %s %q: %s", d.noun, names[0], faults[0])
	}
	return fmt.Errorf("cannot open any %s: %s", d.noun, strings.Join(faults, ", "))
}

// broken says of an open device that it failed; nil and errChanged are no
// failure of it, and the failure to open speaks for itself.
func (o opened) broken(err error) error {
	if err == nil || errors.Is(err, errChanged) || o.stream == nil {
		return err
	}
	return fmt.Errorf("the sound card %q failed: %w", o.choice.Device, explain(err))
}

// notStarted is the error of PortAudio's start. It gives no reason where ALSA
// cannot read its configuration, which is the usual one.
func notStarted(err error) error {
	var host portaudio.UnanticipatedHostError
	if errors.As(err, &host) && host.Text == "" && host.Code == 0 {
		return fmt.Errorf("start PortAudio: %w; are /etc/asound.conf and ~/.asoundrc valid? lintod-audio -list -v shows the messages of ALSA", errNoReason)
	}
	return fmt.Errorf("start PortAudio: %w", explain(err))
}

var (
	errNoReason = errors.New("PortAudio gives no reason")
	errAbsent   = errors.New("cannot be opened; was it unplugged, or has this user no access?")
)

// explain makes a sentence of an error of PortAudio's, which may be empty, or
// PortAudio's own word for something else.
func explain(err error) error {
	var host portaudio.UnanticipatedHostError
	switch {
	case errors.As(err, &host) && host.Text != "":
		return err
	case errors.As(err, &host) && host.Code < 0: // ALSA's codes are negative errnos
		return fmt.Errorf("the card or the sound server is unavailable (%w)", syscall.Errno(-host.Code))
	case errors.As(err, &host):
		return fmt.Errorf("the card or the sound server is unavailable (host error %d)", host.Code)
	case errors.Is(err, portaudio.BadIODeviceCombination):
		return errAbsent
	case err != nil && err.Error() == "":
		return errNoReason
	}
	return err
}
