package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

type button struct {
	Pin    int      `toml:"pin"`
	Hold   Duration `toml:"hold"`
	Colour struct {
		Red uint8 `toml:"red"`
	} `toml:"colour"`
}

type device struct {
	Name   string            `toml:"name"`
	Broker Strings           `toml:"broker"`
	Muted  bool              `toml:"muted"`
	Gain   float64           `toml:"gain"`
	Port   uint16            `toml:"port"`
	Small  int8              `toml:"small"`
	Allow  []string          `toml:"allow"`
	Voices map[string]string `toml:"voices"`
	Waits  []Duration        `toml:"waits"`
}

type whole struct {
	Device  device   `toml:"device"`
	Buttons []button `toml:"button"`
}

func (w *whole) Validate() Problems {
	var ps, sub Problems
	if w.Device.Name == "" {
		sub.Add("name", nil, "a name")
	}
	ps.In("device", sub)
	for i, b := range w.Buttons {
		var sub Problems
		sub.Within("hold", b.Hold, 0, time.Minute)
		if b.Pin < 0 {
			sub.Add("pin", b.Pin, "0 or more")
		}
		if b.Colour.Red > 200 {
			sub.Add("colour.red", b.Colour.Red, "at most 200")
		}
		ps.In(fmt.Sprintf("button[%d]", i+1), sub)
	}
	return ps
}

func TestParseKeepsDefaults(t *testing.T) {
	w := whole{Device: device{Name: "default", Gain: 2, Broker: Strings{"mqtt://default"}}}
	err := Parse("f", []byte("[device]\nmuted = true\n[[button]]\npin = 4\nhold = \"1m\"\n"), &w)
	if err != nil {
		t.Fatal(err)
	}
	if w.Device.Name != "default" || w.Device.Gain != 2 || !w.Device.Muted || !slices.Equal(w.Device.Broker, Strings{"mqtt://default"}) {
		t.Errorf("device is %+v", w.Device)
	}
	if len(w.Buttons) != 1 || w.Buttons[0].Pin != 4 || w.Buttons[0].Hold.Std() != time.Minute {
		t.Errorf("buttons are %+v", w.Buttons)
	}
}

func TestByteOrderMarkIsNoMistake(t *testing.T) {
	var w whole
	if err := Parse("f", []byte("\xef\xbb\xbf[device]\nname = 'kitchen'"), &w); err != nil || w.Device.Name != "kitchen" {
		t.Errorf("%+v, %v", w, err)
	}
}

func TestStrings(t *testing.T) {
	for text, want := range map[string]Strings{
		`"mqtt://a"`:                       {"mqtt://a"},
		`["mqtt://a", "mqtt://b"]`:         {"mqtt://a", "mqtt://b"},
		"[\n \"a\", # the first\n 'b',\n]": {"a", "b"},
		`[]`:                               {},
	} {
		w := whole{Device: device{Name: "x", Broker: Strings{"default"}}}
		if err := Parse("f", []byte("[device]\nbroker = "+text), &w); err != nil {
			t.Errorf("%s: %v", text, err)
		} else if !slices.Equal(w.Device.Broker, want) {
			t.Errorf("%s is %q", text, w.Device.Broker)
		}
	}
}

func TestDurationPrintsAsItIsWritten(t *testing.T) {
	for _, text := range []string{"0s", "500ms", "1m30s", "8h0m0s"} {
		var d Duration
		if err := d.UnmarshalText([]byte(text)); err != nil {
			t.Fatal(err)
		}
		if back, err := d.MarshalText(); err != nil || string(back) != text || d.String() != text {
			t.Errorf("%s is printed %s, %v", text, back, err)
		}
	}
}

// Each complaint names the file, the line and the key, in words that need no
// knowledge of Go.
func TestParseComplains(t *testing.T) {
	const noDuration = `is no duration; write a number with its unit, for example "500ms", "20s" or "1h"`
	for text, want := range map[string]string{
		// types, several of them reported by the library at a wrong line or none
		"\n[device]\nname = 5":                 `f:3: device.name = 5; want a string in quotes`,
		"\n[device]\nname = [1]":               `f:3: device.name = a list; want a string in quotes`,
		"\n[device]\nname = {a=1}":             `f:3: device.name = a table; want a string in quotes`,
		"\n[device]\nname = 2026-11-22":        `f:3: device.name = 2026-11-22; want a string in quotes`,
		"\n[device]\nmuted = \"yes\"":          `f:3: device.muted = "yes"; want true or false`,
		"\n[device]\nmuted = 1":                `f:3: device.muted = 1; want true or false`,
		"\n[device]\ngain = true":              `f:3: device.gain = true; want a number`,
		"\n[device]\nport = -1":                `f:3: device.port = -1; want a whole number from 0 to 65535`,
		"\n[device]\nsmall = 300\nmuted=true":  `f:3: device.small = 300; want a whole number from -128 to 127`,
		"\n[device]\nallow = \"ls\"":           `f:3: device.allow = "ls"; want a list, each element a string in quotes`,
		"\n[device]\nallow = [\n1]":            `f:3: device.allow = a list; want a list, each element a string in quotes`,
		"\n[device]\nvoices = {fr = 1}":        `f:3: device.voices = a table; want a table, each value a string in quotes`,
		"\n[device]\nbroker = 5":               `f:3: device.broker: want one string or a list of strings`,
		"\n[device]\nbroker = [\"a\", 5]":      `f:3: device.broker: want one string or a list of strings`,
		"\n[device]\nwaits = [\"5\"]":          `f:3: device.waits: "5" ` + noDuration,
		"device = 5":                           `f:1: device = 5; want a table`,
		"button = 5":                           `f:1: button = 5; want a list of tables`,
		"[button]\npin = 1":                    `f:1: button = a table; want a list of tables`,
		"[[button]]\n\n[[button]]\npin=''":     `f:4: button[2].pin = ""; want a whole number`,
		"[[button]]\nhold = 5":                 `f:2: button[1].hold: "5" ` + noDuration,
		"[[button]]\npin=1\nhold = true":       `f:3: button[1].hold: "true" ` + noDuration,
		"[[button]]\nhold = \"5\"":             `f:2: button[1].hold: "5" ` + noDuration,
		"[[button]]\n[button.colour]\nred=256": `f:3: button[1].colour.red = 256; want a whole number from 0 to 255`,

		// keys
		"\nnope = 1\n[device]\nbrocker = 2": "f:2: nope is no key that lintod knows; see lintod.toml(5) for those it does\n" +
			"f:4: device.brocker is no key that lintod knows; see lintod.toml(5) for those it does",
		"[device]\nname = 'a'\nname = 'b'": `f:3: device.name: key name is already defined`,
		"[device]\n[device]":               `f:2: device: table device already exists`,
		"[device]\nmuted = true":           `f:1: device.name is missing; want a name`,
		"device.muted = true":              `f: device.name is missing; want a name`,
		"":                                 `f: device.name is missing; want a name`,

		// values
		"device.name='a'\n[[button]]\n[[button]]\npin = -1\nhold = \"2m\"": "f:4: button[2].pin = -1; want 0 or more\n" +
			"f:5: button[2].hold = \"2m0s\"; want a duration from 0s to 1m0s",
		"device.name='a'\n[[button]]\n[button.colour]\nred = 201": `f:4: button[1].colour.red = 201; want at most 200`,
		"button = [{pin=1},\n{pin=-1}]\ndevice.name = 'a'":        `f:1: button[2].pin = -1; want 0 or more`,

		// all at once, in the order of the file
		"nope = 1\n[device]\nname = 'a'\nmuted = 1\ngain = 'x'\n[[button]]\npin = -1": "f:1: nope is no key that lintod knows; see lintod.toml(5) for those it does\n" +
			"f:4: device.muted = 1; want true or false\nf:5: device.gain = \"x\"; want a number\nf:7: button[1].pin = -1; want 0 or more",
		"[device]\nname = 'a'\nName = 'b'": `f:3: device.Name stands in line 2 already, as device.name`,

		// syntax
		"[device]\nname =":        `f:2: expected value, not eof`,
		"[device\nname = 'a'":     `f:1: expected character ]`,
		"[device]\nname = \"a":    `f:2: basic string not terminated by "`,
		"[device]\nname = '\xff'": `f:2: invalid character`,
	} {
		t.Run(text, func(t *testing.T) {
			var w whole
			err := Parse("f", []byte(text), &w)
			if err == nil {
				t.Fatal("no complaint")
			}
			got := slices.DeleteFunc(strings.Split(err.Error(), "\n"), func(line string) bool { // of most
				return !strings.Contains(want, "missing") && strings.Contains(line, "device.name is missing")
			})
			if strings.Join(got, "\n") != want {
				t.Errorf("\ngot  %v\nwant %s", err, want)
			}
		})
	}
}

func TestProblems(t *testing.T) {
	var ps Problems
	ps.OneOf("mode", "fiel", "file", "stream")
	ps.OneOf("mode", "file", "file", "stream")
	ps.Within("preroll", Duration(time.Second), 0, 5*time.Second)
	ps.Within("preroll", Duration(-time.Second), 0, 5*time.Second)
	var outer Problems
	outer.In("audio", ps)
	const want = `audio.mode = "fiel"; want one of "file", "stream"` + "\n" +
		`audio.preroll = "-1s"; want a duration from 0s to 5s`
	if outer.Error() != want {
		t.Errorf("\ngot  %s\nwant %s", outer.Error(), want)
	}
}

func TestLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lintod.toml")
	var w whole
	if err := Load(path, &w); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), path) {
		t.Errorf("error is %v", err)
	}
	if err := os.WriteFile(path, []byte("[device]\nname = 'kitchen'"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Load(path, &w); err != nil || w.Device.Name != "kitchen" {
		t.Errorf("%+v, %v", w, err)
	}
}

// Whatever the text, Parse neither panics nor complains without naming the file.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"", "[device]\nname = 'a'\nbroker = ['a', 'b']", "[[button]]\nhold = \"1s\"\n[button.colour]\nred = 1",
		"button = [{pin=1},\n{pin=-1}]", "[device]\nname = 2026-11-22T01:02:03Z", "a.b.c = {d.e = [1.5, true]}", "[device]\nvoices.fr = \"\\u00e9\"",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		var w whole
		if err := Parse("the-file", src, &w); err != nil && !strings.HasPrefix(err.Error(), "the-file:") {
			t.Errorf("%q: %v", src, err)
		}
	})
}
