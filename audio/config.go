package audio

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
	"time"

	"lintod/agent/base/config"
)

// Config is the [audio] table: microphone and speaker, and the end of utterances.
type Config struct {
	// Input and Output name the microphone and the speaker: a name for Choose, or several, of which
	// the first that can be opened is used; or a single "file:PATH" or "null".
	Input  config.Strings `toml:"input"`
	Output config.Strings `toml:"output"`
	// InputChannel is the channel of a multi-channel microphone, from 1; 0 mixes all.
	InputChannel int `toml:"input_channel"`
	// InputGain amplifies the microphone, in decibels.
	InputGain float64 `toml:"input_gain_db"`
	// OutputRate is the sample rate of the speaker, in Hz.
	OutputRate int `toml:"output_rate"`
	// OutputLead is the silence before a sound if the speaker may have powered down.
	OutputLead config.Duration `toml:"output_lead"`
	// Mixer is the control of the sound card that sets the volume, as named by amixer; empty for
	// volume in software. MixerDevice is its card.
	Mixer       string `toml:"mixer"`
	MixerDevice string `toml:"mixer_device"`
	// Preroll is how much sound from before the trigger is part of a turn.
	Preroll config.Duration `toml:"preroll"`
	// EndpointSilence is the silence that ends an utterance.
	EndpointSilence config.Duration `toml:"endpoint_silence"`
	// MaxUtterance is the maximum length of an utterance.
	MaxUtterance config.Duration `toml:"max_utterance"`
	// NoSpeech is how long a turn waits for the first word.
	NoSpeech config.Duration `toml:"no_speech"`
	// MinSpeech is the minimum length of speech; less counts as noise.
	MinSpeech config.Duration `toml:"min_speech"`
	// Privacy keeps the microphone closed between turns. There is then no pre-roll, and each turn
	// waits until the card is open.
	Privacy bool `toml:"privacy"`
	Processing
}

// Defaults returns the default [audio] table.
func Defaults() Config {
	return Config{
		Input:           config.Strings{"default"},
		Output:          config.Strings{"default"},
		OutputRate:      48000,
		MixerDevice:     "default",
		Preroll:         config.Duration(500 * time.Millisecond),
		EndpointSilence: config.Duration(800 * time.Millisecond),
		MaxUtterance:    config.Duration(20 * time.Second),
		NoSpeech:        config.Duration(6 * time.Second),
		MinSpeech:       config.Duration(160 * time.Millisecond),
		Processing:      Processing{VoiceDetection: NeuralDetection},
	}
}

// UnmarshalTOML implements the decoder's interface.
func (d *Detection) UnmarshalTOML(text []byte) error {
	switch config.Literal(text) {
	case true:
		*d = NeuralDetection
	case false:
		*d = NoDetection
	case string(SimpleDetection):
		*d = SimpleDetection
	default:
		return config.Want(`true, false, or "simple"`)
	}
	return nil
}

// Validate reports invalid values.
func (c Config) Validate() config.Problems {
	var ps config.Problems
	checkDevices(&ps, "input", c.Input)
	checkDevices(&ps, "output", c.Output)
	if len(c.Output) == 1 && strings.HasPrefix(c.Output[0], "file:") && slices.Contains(c.Input, c.Output[0]) {
		ps.Add("output", c.Output[0], "a different file than input, which would be overwritten")
	}
	if c.InputChannel < 0 || c.InputChannel > MaxChannels {
		ps.Add("input_channel", c.InputChannel, fmt.Sprintf("0 for all channels, or one from 1 to %d", MaxChannels))
	}
	if !(math.Abs(c.InputGain) <= MaxGain) { // false for NaN
		ps.Add("input_gain_db", c.InputGain, fmt.Sprintf("a gain from %v to %v dB", -MaxGain, MaxGain))
	}
	if c.OutputRate < 8000 || c.OutputRate > 192000 {
		ps.Add("output_rate", c.OutputRate, "a rate from 8000 to 192000")
	}
	ps.Within("output_lead", c.OutputLead, 0, 2*time.Second)
	checkALSA(&ps, "mixer", c.Mixer, "a control such as \"PCM\"; amixer scontrols lists them")
	checkALSA(&ps, "mixer_device", c.MixerDevice, "a card such as \"default\" or \"hw:CARD=Headphones\"")
	if c.MixerDevice == "" {
		ps.Add("mixer_device", nil, "a card such as \"default\"")
	}
	ps.Within("preroll", c.Preroll, 0, 5*time.Second)
	ps.Within("endpoint_silence", c.EndpointSilence, 100*time.Millisecond, 10*time.Second)
	ps.Within("max_utterance", c.MaxUtterance, time.Second, 5*time.Minute)
	ps.Within("no_speech", c.NoSpeech, time.Second, time.Minute)
	ps.Within("min_speech", c.MinSpeech, 60*time.Millisecond, time.Second)
	return ps
}

const (
	// MaxChannels is how many channels of a microphone are used. A card with more is a mixing desk,
	// of which the first ones are used.
	MaxChannels = 8
	// MaxGain is the limit of the microphone gain, positive or negative, in decibels.
	MaxGain = 40.0
	// MaxDevices is the maximum number of devices per list, which limits how long opening takes.
	MaxDevices = 8
	maxName    = 256
)

// checkALSA rejects values that amixer could interpret as an option.
func checkALSA(ps *config.Problems, key, name, want string) {
	if len(name) > maxName || strings.HasPrefix(name, "-") || strings.ContainsRune(name, 0) {
		ps.Add(key, name, want)
	}
}

// byNumber matches names that depend on which other cards are plugged in.
var byNumber = regexp.MustCompile(`^(?:(?:plug)?hw:(?:CARD=)?)?\d+(?:,(?:DEV=)?\d+)*$|\(hw:\d`)

func checkDevices(ps *config.Problems, key string, names config.Strings) {
	if len(names) == 0 || len(names) > MaxDevices {
		ps.Add(key, []string(names), fmt.Sprintf("a name that \"lintod devices\" lists, or up to %d of them", MaxDevices))
	}
	for _, name := range names {
		path, isFile := strings.CutPrefix(name, "file:")
		switch {
		case name == "" || len(name) > maxName || isFile && path == "" || strings.ContainsRune(name, 0):
			ps.Add(key, name, `"default", "null", "file:PATH", or a name that "lintod devices" lists`)
		case (isFile || name == "null") && len(names) > 1:
			ps.Add(key, name, "only that, because it can always be opened, or only names of real devices")
		case !isFile && byNumber.MatchString(name):
			ps.Add(key, name, `a stable name: card numbers change when other cards are plugged in; "lintod devices" lists the names`)
		}
	}
}
