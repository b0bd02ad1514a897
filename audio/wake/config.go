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

// The engines.
const (
	EngineMicroWakeWord = "microwakeword"
	EnginePocketsphinx  = "pocketsphinx"
	EngineWyoming       = "wyoming"
)

// Actions of a word; the default is ActionTalk.
const (
	ActionTalk = "talk" // starts a turn
	ActionStop = "stop" // silences the device while it speaks
)

// maxWords is the maximum number of words.
const maxWords = 16

// Config is the [wake] table.
type Config struct {
	// Engine is "microwakeword", "pocketsphinx", "wyoming", or empty: no wake word.
	Engine string `toml:"engine"`
	// Address is that of a Wyoming service, "wyoming://host:port".
	Address string `toml:"address"`
	// Refractory is how long after a wake word the next one is ignored.
	Refractory config.Duration `toml:"refractory"`
	// BargeIn allows a wake word to interrupt the device's own speech. If the microphone hears the
	// speaker, the device interrupts itself.
	BargeIn bool `toml:"barge_in"`
	// Words are the wake words.
	Words []Word `toml:"word"`
	// Models are the directories in which microwakeword looks for models.
	Models []string `toml:"-"`
}

// Word is a [[wake.word]] table.
type Word struct {
	// Name is sent with the turn. It is also the name of the word for a Wyoming service, and of the
	// microwakeword model, NAME.json and NAME.tflite.
	Name string `toml:"name"`
	// Phrase is the spoken phrase, for pocketsphinx: English words. Default: the name.
	Phrase string `toml:"phrase"`
	// Model is the manifest of a model elsewhere, for microwakeword.
	Model string `toml:"model"`
	// Sensitivity is from 0, few false activations, to 1, rarely missed; nil means 0.5. A Wyoming
	// service has its own setting.
	Sensitivity *float64 `toml:"sensitivity"`
	// Link is the link to talk to; empty: the first enabled one.
	Link string `toml:"link"`
	// Action is "talk", "stop", or empty for "talk".
	Action string `toml:"action"`
}

// Stops reports whether the word silences the device.
func (w Word) Stops() bool { return w.Action == ActionStop }

// Stops reports whether any word silences the device.
func (c Config) Stops() bool { return slices.ContainsFunc(c.Words, Word.Stops) }

// Defaults returns the default [wake] table.
func Defaults() Config {
	return Config{Refractory: config.Duration(2 * time.Second), Models: []string{"/var/lib/lintod/wake", models.Packaged}}
}

// Enabled reports whether wake words are enabled.
func (c Config) Enabled() bool { return c.Engine != "" }

// Validate reports invalid values. links are the names of the links that a word may call.
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
		ps.Add("name", nil, `the name of the word, for example "hey_jarvis"`)
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

// spoken returns the words of the phrase in the form of a dictionary, or none if it contains a
// character that no dictionary has.
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

// plain normalises names for comparison: services use "hey_jarvis_v0.1" for "Hey Jarvis".
func plain(name string) string {
	name = strings.ToLower(strings.ReplaceAll(name, "_", " "))
	if i := strings.LastIndex(name, " v"); i > 0 && strings.Trim(name[i+2:], "0123456789.") == "" {
		name = name[:i]
	}
	return strings.TrimSpace(name)
}

// Local reports whether the service runs on this device.
func (c Config) Local() bool {
	address, err := wyoming.HostPort(c.Address)
	if err != nil {
		return false
	}
	host, _, _ := net.SplitHostPort(address)
	return config.Loopback(host)
}
