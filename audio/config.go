package audio

import (
	"strings"
	"time"

	"lintod/agent/config"
)

// Config is the [audio] table: which microphone and loudspeaker there are, and
// when a user has finished speaking.
type Config struct {
	// Input and Output are "default", a name that `lintod devices` lists,
	// "file:PATH" or "null".
	Input  string `toml:"input"`
	Output string `toml:"output"`
	// OutputRate is what the loudspeaker is opened with, in samples a second.
	OutputRate int `toml:"output_rate"`
	// Preroll is how much sound from before the trigger a turn begins with.
	Preroll config.Duration `toml:"preroll"`
	// EndpointSilence after speech ends an utterance.
	EndpointSilence config.Duration `toml:"endpoint_silence"`
	// MaxUtterance ends an utterance however much there is still to say.
	MaxUtterance config.Duration `toml:"max_utterance"`
	// NoSpeech is how long a turn waits for the first word.
	NoSpeech config.Duration `toml:"no_speech"`
	// Privacy keeps the microphone closed between turns, at the price of the
	// pre-roll and of the time that the card takes to open.
	Privacy bool `toml:"privacy"`
}

// Defaults is the [audio] table of a file that has none.
func Defaults() Config {
	return Config{
		Input:           "default",
		Output:          "default",
		OutputRate:      48000,
		Preroll:         config.Duration(500 * time.Millisecond),
		EndpointSilence: config.Duration(800 * time.Millisecond),
		MaxUtterance:    config.Duration(20 * time.Second),
		NoSpeech:        config.Duration(6 * time.Second),
	}
}

// Validate reports values that cannot work.
func (c Config) Validate() config.Problems {
	var ps config.Problems
	checkDevice(&ps, "input", c.Input)
	checkDevice(&ps, "output", c.Output)
	if strings.HasPrefix(c.Output, "file:") && c.Output == c.Input {
		ps.Add("output", c.Output, "another file than that of input, which would be overwritten")
	}
	if c.OutputRate < 8000 || c.OutputRate > 192000 {
		ps.Add("output_rate", c.OutputRate, "a rate from 8000 to 192000")
	}
	ps.Within("preroll", c.Preroll, 0, 5*time.Second)
	ps.Within("endpoint_silence", c.EndpointSilence, 100*time.Millisecond, 10*time.Second)
	ps.Within("max_utterance", c.MaxUtterance, time.Second, 5*time.Minute)
	ps.Within("no_speech", c.NoSpeech, time.Second, time.Minute)
	return ps
}

func checkDevice(ps *config.Problems, key, name string) {
	path, isFile := strings.CutPrefix(name, "file:")
	if name == "" || isFile && path == "" || strings.ContainsRune(name, 0) {
		ps.Add(key, name, `"default", "null", "file:PATH", or a name that "lintod devices" lists`)
	}
}
