// Package chime provides the device's own short sounds, each generated or from a file of the owner.
//
// When they are played (agent/turn, agent), and playback (player), do not belong here.
package chime

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"time"

	"lintod/audio/codec"
	"lintod/audio/resample"
)

// Config is the [sounds] table. Each is "default", "" for none, or the path of a
// file that codec.Open knows.
type Config struct {
	// Listening: the device is listening. For turns that were not started by hand.
	Listening string `toml:"listening"`
	// Thinking: the platform is taking long to answer.
	Thinking string `toml:"thinking"`
	// Error: something failed.
	Error string `toml:"error"`
	// Nothing: nothing was heard, and nothing was sent.
	Nothing string `toml:"nothing"`
	// Muted and Unmuted: the microphone is closed, or open again.
	Muted   string `toml:"muted"`
	Unmuted string `toml:"unmuted"`
}

// Defaults has all sounds, generated.
func Defaults() Config {
	return Config{standard, standard, standard, standard, standard, standard}
}

const standard = "default"

// maxLength keeps chimes short, because nothing else is played meanwhile.
const maxLength = 3 * time.Second

// generated are the default sounds, by the name of their key: sines of 60 ms each. A rising sound
// means yes, a falling one no, a low one off.
var generated = map[string][]float64{
	"listening": {660, 880},
	"thinking":  {523},
	"error":     {440, 330},
	"nothing":   {330},
	"muted":     {294, 196},
	"unmuted":   {196, 294},
}

// files are the values of a configuration, by the name of their key.
func (c Config) files() map[string]string {
	return map[string]string{
		"listening": c.Listening, "thinking": c.Thinking, "error": c.Error,
		"nothing": c.Nothing, "muted": c.Muted, "unmuted": c.Unmuted,
	}
}

// Load returns the samples of each sound, mono at rate, by the name of its key, without disabled
// ones. A file that cannot be used is replaced by the default, and reported in an error with the
// key.
func (c Config) Load(rate int) (map[string][]int16, []error) {
	sounds, faults := map[string][]int16{}, []error(nil)
	for name, file := range c.files() {
		if file == "" {
			continue
		}
		sounds[name] = notes(rate, generated[name]...)
		if file == standard {
			continue
		}
		pcm, err := load(file, rate)
		if err != nil {
			faults = append(faults, fmt.Errorf("sounds.%s: %w", name, err))
			continue
		}
		sounds[name] = pcm
	}
	return sounds, faults
}

func load(path string, rate int) ([]int16, error) {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a file", path) // opening a pipe would block
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	sound, err := codec.Open(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	defer sound.Close()
	r := resample.New(sound.Rate(), rate)
	var pcm []int16
	buf := make([]int16, 1024)
	for longest := int(maxLength.Seconds() * float64(rate)); ; {
		n, err := sound.Read(context.Background(), buf)
		pcm = r.Process(pcm, buf[:n])
		switch {
		case errors.Is(err, io.EOF):
			return r.Flush(pcm), nil
		case err != nil:
			return nil, fmt.Errorf("%s: %w", path, err)
		case len(pcm) > longest:
			return nil, fmt.Errorf("%s: longer than %v", path, maxLength)
		}
	}
}

// notes are sines of 60 ms each at −12 dBFS, faded in and out to avoid clicks.
func notes(rate int, hertz ...float64) []int16 {
	const seconds, amplitude = 0.060, 0.25 * math.MaxInt16
	n := int(seconds * float64(rate))
	pcm := make([]int16, 0, n*len(hertz))
	for _, f := range hertz {
		for i := range n {
			fade := math.Sin(math.Pi * float64(i) / float64(n))
			pcm = append(pcm, int16(amplitude*fade*fade*math.Sin(2*math.Pi*f*float64(i)/float64(rate))))
		}
	}
	return pcm
}
