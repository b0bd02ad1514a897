package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"lintod/audio/wake"
)

// Warnings describes valid settings that are probably mistakes.
func (c Config) Warnings() []string {
	list := slices.Concat(c.Behaviors.Shellexec.Warnings(), c.Behaviors.Startreversessh.Warnings(),
		c.exposures(), c.linkWarnings(), c.soundWarnings(), c.signedWarnings())
	if len(c.linkNames()) == 0 {
		list = append(list, "no link is enabled, so the device cannot reach any platform")
	}
	slices.Sort(list)
	return list
}

// signedWarnings describes problems of the key files.
func (c Config) signedWarnings() (list []string) {
	_, faults := c.Signed.Examine(time.Now())
	for _, f := range faults {
		if !errors.Is(f, fs.ErrPermission) { // the user who runs the check may differ from the one who reads it later
			list = append(list, f.Error())
		}
	}
	return list
}

// exposures describes what is sent over the network unprotected.
func (c Config) exposures() (list []string) {
	if c.Wake.Engine == wake.EngineWyoming && !c.Wake.Local() {
		list = append(list, "wake.address: the sound of the microphone is sent to "+c.Wake.Address+" unencrypted; run the service on this device, or use a trusted network")
	}
	return list
}

// soundWarnings describes sound files that cannot be used.
func (c Config) soundWarnings() (list []string) {
	for _, name := range c.Audio.Input {
		if path, ok := strings.CutPrefix(name, "file:"); ok {
			if _, err := os.Stat(path); err != nil {
				list = append(list, fmt.Sprintf("audio.input: %v", err))
			}
		}
	}
	_, faults := c.Sounds.Load(c.Audio.OutputRate)
	for _, err := range faults {
		list = append(list, err.Error())
	}
	return list
}
