package wake

import (
	"fmt"
	"math"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"lintod/agent/base/config"
	"lintod/audio/wake/models"
	"lintod/audio/wyoming"
)

// The engines there are.
const (
	EngineMicroWakeWord = "microwakeword"
	EnginePocketsphinx  = "pocketsphinx"
	EngineWyoming       = "wyoming"
)

// What a word does; without an action it is ActionTalk.
const (
	ActionTalk = "talk" // opens a turn
	ActionStop = "stop" // silences the device while it speaks
)

// maxWords bounds the words that are listened for.
const maxWords = 16

// Config is the [wake] table.
type Config struct {
	// Engine is "microwakeword", "pocketsphinx", "wyoming", or empty: no wake word.
	Engine string `toml:"engine"`
	// Address is that of a Wyoming service, "wyoming://host:port".
	Address string `toml:"address"`
	// Refractory is how long after a wake word the next one counts.
	Refractory config.Duration `toml:"refractory"`
	// BargeIn lets a wake word interrupt the device's own voice. Without a
	// microphone that does not hear the loudspeaker, the device interrupts itself.
	BargeIn bool `toml:"barge_in"`
	// Words are what is listened for.
	Words []Word `toml:"word"`
	// Models are the folders in which microwakeword looks for the models of words.
	Models []string `toml:"-"`
}

// Word is a [[wake.word]] table.
type Word struct {
	// Name goes up with the turn. A Wyoming service knows the word by it, and
	// microwakeword its model, NAME.json and NAME.tflite.
	Name string `toml:"name"`
	// Phrase is what is said, for pocketsphinx: English words. Empty: the name.
	Phrase string `toml:"phrase"`
	// Model is the manifest of a model elsewhere, for microwakeword.
	Model string `toml:"model"`
	// Sensitivity is from 0, rarely by mistake, to 1, rarely missed; nil is 0.5.
	// A Wyoming service has a setting of its own.
	Sensitivity *float64 `toml:"sensitivity"`
	// Link is who is talked to; empty: the first link that is enabled.
	Link string `toml:"link"`
	// Action is "talk", "stop", or empty for "talk".
	Action string `toml:"action"`
}

// Stops tells whether the word silences the device.
func (w Word) Stops() bool { return w.Action == ActionStop }

// Stops tells whether a word of all silences the device.
func (c Config) Stops() bool { return slices.ContainsFunc(c.Words, Word.Stops) }

// Defaults is the [wake] table of a file that has none.
func Defaults() Config {
	return Config{Refractory: config.Duration(2 * time.Second), Models: []string{"/var/lib/lintod/wake", models.Packaged}}
}

// Enabled tells whether there is a word to listen for.
func (c Config) Enabled() bool { return c.Engine != "" }

// Validate reports values that cannot work. links are the names of those that
// a word may be for.
func (c Config) Validate(links []string) config.Problems {
	var ps config.Problems
	ps.OneOf("engine", c.Engine, "", EngineMicroWakeWord, EnginePocketsphinx, EngineWyoming)
	ps.Within("refractory", c.Refractory, 500*time.Millisecond, time.Minute)
	if _, err := wyoming.HostPort(c.Address); c.Engine == EngineWyoming || c.Address != "" {
		ps.Address("address", c.Address, err)
	}
	if c.Enabled() && (len(c.Words) == 0 || len(c.Words) > maxWords) {
		ps.Add("word", nil, fmt.Sprintf("one to %d [[wake.word]] tables, each with a name", maxWords))
	}
	names := map[string]bool{}
	for i, w := range c.Words {
		sub := w.validate(c.Engine, links)
		if key := plain(w.Name); names[key] {
			sub.Add("name", w.Name, "a unique name")
		} else {
			names[key] = true
		}
		ps.In(fmt.Sprintf("word[%d]", i+1), sub)
	}
	return ps
}

func (w Word) validate(engine string, links []string) config.Problems {
	var ps config.Problems
	switch {
	case w.Name == "":
		ps.Add("name", nil, `what the word is called, for example "hey_jarvis"`)
	case len(w.Name) > 64 || strings.ContainsFunc(w.Name, control):
		ps.Add("name", w.Name, "at most 64 bytes on one line")
	}
	if engine == EnginePocketsphinx && w.Name != "" && len(w.spoken()) == 0 {
		ps.Add("phrase", w.Phrase, "English words, letters only")
	}
	if engine == EngineMicroWakeWord && w.Model == "" && strings.ContainsRune(w.Name, '/') {
		ps.Add("name", w.Name, "the name of a model without a directory, or its file in model")
	}
	if w.Model != "" && (!filepath.IsAbs(w.Model) || filepath.Ext(w.Model) != ".json") {
		ps.Add("model", w.Model, `the path of a manifest, for example "/opt/words/hey_linto.json"`)
	}
	ps.OneOf("action", w.Action, "", ActionTalk, ActionStop)
	if s := w.Sensitivity; s != nil && (*s < 0 || *s > 1 || math.IsNaN(*s)) {
		ps.Add("sensitivity", *s, "a number from 0 to 1")
	}
	if w.Link != "" {
		ps.OneOf("link", w.Link, links...)
	}
	return ps
}

func control(r rune) bool { return r < ' ' || r == 0x7f }

// spoken are the words of the phrase as a dictionary has them; none when there
// is a character that no dictionary has.
func (w Word) spoken() []string {
	phrase := w.Phrase
	if phrase == "" {
		phrase = strings.ReplaceAll(w.Name, "_", " ")
	}
	phrase = strings.ToLower(phrase)
	if len(phrase) > 100 || strings.ContainsFunc(phrase, func(r rune) bool {
		return (r < 'a' || r > 'z') && r != '\'' && r != ' '
	}) {
		return nil
	}
	return strings.Fields(phrase)
}

func (w Word) sensitivity() float64 {
	if w.Sensitivity == nil {
		return 0.5
	}
	return *w.Sensitivity
}

// plain makes names comparable: services say "hey_jarvis_v0.1" where people say
// "Hey Jarvis".
func plain(name string) string {
	name = strings.ToLower(strings.ReplaceAll(name, "_", " "))
	if i := strings.LastIndex(name, " v"); i > 0 && strings.Trim(name[i+2:], "0123456789.") == "" {
		name = name[:i]
	}
	return strings.TrimSpace(name)
}

// Local tells whether the service runs on this device.
func (c Config) Local() bool {
	address, err := wyoming.HostPort(c.Address)
	if err != nil {
		return false
	}
	host, _, _ := net.SplitHostPort(address)
	return config.Loopback(host)
}
