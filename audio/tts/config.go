package tts

import (
	"slices"
	"strings"
	"time"

	"lintod/agent/config"
)

// The engines there are.
const (
	EngineEspeak  = "espeak-ng"
	EngineCommand = "command"
)

// Config is the [tts] table.
type Config struct {
	// Engine is "espeak-ng", or "command" for a program of the owner's choice.
	Engine string `toml:"engine"`
	// Language is spoken where nobody asks for another: "en-US".
	Language string `toml:"language"`
	// Command is the program of engine "command" and its arguments, in which
	// {language} stands for the language. It gets the text on standard input and
	// prints sound on standard output.
	Command config.Strings `toml:"command"`
	// Rate tells that Command prints raw 16-bit little-endian mono samples, this
	// many a second; 0 that it prints a WAV.
	Rate int `toml:"rate"`
	// Timeout is how long the engine may print nothing before it is killed.
	Timeout config.Duration `toml:"timeout"`
}

// Defaults is the [tts] table of a file that has none.
func Defaults() Config {
	return Config{Engine: EngineEspeak, Language: "en-US", Timeout: config.Duration(10 * time.Second)}
}

// Validate reports values that cannot work.
func (c Config) Validate() config.Problems {
	var ps config.Problems
	ps.OneOf("engine", c.Engine, EngineEspeak, EngineCommand)
	if _, err := find(c.Language); err != nil {
		ps.Add("language", c.Language, "one of "+strings.Join(Languages(), ", "))
	}
	if c.Engine == EngineCommand && (len(c.Command) == 0 || c.Command[0] == "") {
		ps.Add("command", nil, `the program and its arguments, for example ["flite-say", "{language}"]`)
	}
	if c.Rate != 0 && (c.Rate < 4000 || c.Rate > 192000) {
		ps.Add("rate", c.Rate, "0 for WAV, or a rate from 4000 to 192000 for raw samples")
	}
	ps.Within("timeout", c.Timeout, 100*time.Millisecond, 2*time.Minute)
	return ps
}

type language struct{ tag, voice string } // BCP 47; what espeak-ng calls it

// languages are those that LinTO's platforms use.
func languages() []language {
	return []language{
		{"fr-FR", "fr-fr"},
		{"en-US", "en-us"},
		{"en-GB", "en-gb"},
		{"es-ES", "es"},
		{"de-DE", "de"},
		{"it-IT", "it"},
	}
}

// Languages lists what Speak takes.
func Languages() []string {
	var tags []string
	for _, l := range languages() {
		tags = append(tags, l.tag)
	}
	return tags
}

// find takes "fr-FR" in any case, with "_" for "-", and "fr" for the first of
// its kind.
func find(tag string) (language, error) {
	want := strings.ReplaceAll(tag, "_", "-")
	all := languages()
	i := slices.IndexFunc(all, func(l language) bool {
		family, _, _ := strings.Cut(l.tag, "-")
		return strings.EqualFold(want, l.tag) || strings.EqualFold(want, family)
	})
	if i < 0 {
		return language{}, &UnsupportedError{tag}
	}
	return all[i], nil
}
