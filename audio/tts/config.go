package tts

import (
	"maps"
	"slices"
	"strings"
	"time"

	"lintod/agent/base/config"
	"lintod/audio/wyoming"
)

// The engines.
const (
	EngineEspeak  = "espeak-ng"
	EnginePiper   = "piper"
	EnginePico    = "pico2wave"
	EngineWyoming = "wyoming"
	EngineCommand = "command"
)

// Config is the [tts] table.
type Config struct {
	// Engine is one of the above; "command" is the owner's own program.
	Engine string `toml:"engine"`
	// Language is the default language: "en-US".
	Language string `toml:"language"`
	// Voices are the engine's names of its voices, by language: for piper the model's file, for
	// Wyoming the service's name. They override and extend the engine's own table.
	Voices map[string]string `toml:"voices"`
	// Command is the program of engine "command" and its arguments, in which {language} and {voice}
	// are replaced. It gets the text on standard input and writes sound to standard output. For the
	// other engines it is the path of their program, and additional arguments.
	Command config.Strings `toml:"command"`
	// Rate is the sample rate of Command's raw 16-bit little-endian output, for each of Channels; 0
	// means that it writes a WAV.
	Rate     int `toml:"rate"`
	Channels int `toml:"channels"`
	// Address is the host and port of the Wyoming service.
	Address string `toml:"address"`
	// Markdown means that texts may contain Markdown, as language models write it: its markup is
	// not spoken.
	Markdown bool `toml:"markdown"`
	// Timeout is how long to wait for output of the engine.
	Timeout config.Duration `toml:"timeout"`
	// Cache is how much sound is kept in memory for repeated texts.
	Cache config.Size `toml:"cache"`
}

// Defaults returns the default [tts] table.
func Defaults() Config {
	return Config{
		Engine:   EngineEspeak,
		Language: "en-US",
		Channels: 1,
		Markdown: true,
		Timeout:  config.Duration(10 * time.Second),
		Cache:    2 * config.MB,
	}
}

// Validate reports invalid values.
func (c Config) Validate() config.Problems {
	var ps config.Problems
	ps.OneOf("engine", c.Engine, EngineEspeak, EnginePiper, EnginePico, EngineWyoming, EngineCommand)
	ps = append(ps, c.validateVoices()...)
	if c.Engine == EngineCommand && (len(c.Command) == 0 || c.Command[0] == "") {
		ps.Add("command", nil, `the program and its arguments, for example ["flite-say", "{language}"]`)
	}
	if _, err := wyoming.HostPort(c.Address); c.Engine == EngineWyoming {
		ps.Address("address", c.Address, err)
	}
	if c.Rate != 0 && (c.Rate < 4000 || c.Rate > 192000) {
		ps.Add("rate", c.Rate, "0 for WAV, or a rate from 4000 to 192000 for raw samples")
	}
	if c.Channels < 1 || c.Channels > 8 {
		ps.Add("channels", c.Channels, "from 1 to 8")
	}
	ps.Within("timeout", c.Timeout, 100*time.Millisecond, 2*time.Minute)
	if c.Cache > 100*config.MB {
		ps.Add("cache", c.Cache, "at most 100MB")
	}
	return ps
}

func (c Config) validateVoices() config.Problems {
	var ps config.Problems
	for _, tag := range slices.Sorted(maps.Keys(c.Voices)) {
		switch name := c.Voices[tag]; {
		case !wellFormed(tag):
			ps.Add("voices."+tag, name, "a language such as fr-FR as the key")
		case name == "" || strings.HasPrefix(name, "-") || len(name) > 1024:
			ps.Add("voices."+tag, name, "the engine's name of the voice")
		}
	}
	switch known := c.Languages(); {
	case len(known) == 0 && c.Engine == EnginePiper:
		ps.Add("voices", nil, `the model of each language, for example { `+c.Language+` = "/opt/voices/voice.onnx" }`)
	case len(known) > 0:
		if _, err := c.Find(c.Language); err != nil {
			ps.Add("language", c.Language, "one of "+strings.Join(known, ", ")+"; or a voice for it in voices")
		}
	case c.Engine == EngineWyoming:
		ps.Add("language", c.Language, "a language such as fr-FR")
	}
	return ps
}
