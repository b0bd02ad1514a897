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

// side returns the kernel's PCM device, or nil if there is none.
func (d *device) side(way audio.Direction) *alsa.PCM {
	if way == audio.Capture {
		return d.capture
	}
	return d.playback
}

// inUse distinguishes busy from absent: PortAudio maps only ALSA's EBUSY to paDeviceUnavailable
// (OpenPcm's callers in pa_linux_alsa.c).
func inUse(err error) bool { return errors.Is(err, portaudio.DeviceUnavailable) }

// fault returns the predicate of an error message whose subject is a device that did not open.
func fault(d *device, way audio.Direction, err error) string {
	switch {
	case inUse(err) && d.User(way) != "":
		return "is in use by " + d.User(way)
	case inUse(err):
		return "is in use by another program"
	}
	return fmt.Sprint(explain(err))
}

// absent returns the error that no device has this name.
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

// broken returns the error that an open device failed. nil and errChanged are not failures, and a
// failure to open is returned unchanged.
func (o opened) broken(err error) error {
	if err == nil || errors.Is(err, errChanged) || o.stream == nil {
		return err
	}
	return fmt.Errorf("the sound card %q failed: %w", o.choice.Device, explain(err))
}

// notStarted returns the error of PortAudio's start. PortAudio gives no reason if ALSA cannot read
// its configuration, which is the usual cause.
func notStarted(err error) error {
	var host portaudio.UnanticipatedHostError
	if errors.As(err, &host) && host.Text == "" && host.Code == 0 {
		return fmt.Errorf("start PortAudio: %w; are /etc/asound.conf and ~/.asoundrc valid? lintod-audio -list -v shows the messages of ALSA", errNoReason)
	}
	return fmt.Errorf("start PortAudio: %w", explain(err))
}

var (
	errNoReason = errors.New("PortAudio reports no reason")
	errAbsent   = errors.New("cannot be opened; was it unplugged, or does this user have no access?")
)

// explain returns a clearer text for an error of PortAudio, whose own may be empty or misleading.
func explain(err error) error {
	var host portaudio.UnanticipatedHostError
	switch {
	case errors.As(err, &host) && host.Text != "":
		return err
	case errors.As(err, &host) && host.Code < 0: // ALSA's codes are negative errno values
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
