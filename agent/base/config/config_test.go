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
	Wait   Duration          `toml:"wait"`
	Room   Size              `toml:"room"`
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

func TestByteOrderMarkIsAccepted(t *testing.T) {
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

// complaint is the expected Problem, with a part of the cure.
type complaint struct {
	line int
	key  string
	cure string // within Want
}

// complaints compares the problems of a text. Each has a cure.
func complaints(t *testing.T, text string, want ...complaint) {
	t.Helper()
	var w whole
	err := Parse("lintod.toml", []byte(text), &w)
	var got Problems
	if err != nil && !errors.As(err, &got) {
		t.Fatalf("%q: the error is a %T", text, err)
	}
	t.Log(err)
	got = slices.DeleteFunc(slices.Clone(got), func(p Problem) bool { return p.Key == "device.name" && p.Got == nil && p.Fault == "" }) // missing in most texts
	if len(got) != len(want) {
		t.Fatalf("%q: %d problems, want %d:\n%v", text, len(got), len(want), err)
	}
	for i, p := range got {
		if p.File != "lintod.toml" || p.Line != want[i].line || p.Key != want[i].key || p.Want == "" || !strings.Contains(p.Want, want[i].cure) {
			t.Errorf("%q:\ngot  %v\nwant line %d, key %s, cure %s", text, p, want[i].line, want[i].key, want[i].cure)
		}
	}
}

// Common mistakes of people who do not know TOML.
func TestCommonMistakesAreReportedWithTheCure(t *testing.T) {
	for text, want := range map[string]complaint{
		"name = kitchen":                      {2, "device.name", `"kitchen"`},
		"name = kitchen # the room":           {2, "device.name", `"kitchen"`},
		"name = “kitchen”":                    {2, "device.name", `"kitchen"`},
		"name = „Küche“":                      {2, "device.name", `"Küche"`},
		"name = \u00a0\"kitchen\"":            {2, "device.name", `"kitchen"`},
		"name = \"kitchen":                    {2, "device.name", `"kitchen"`},
		"name = kitchen\"":                    {2, "device.name", `"kitchen"`},
		"name = 'kitchen\"":                   {2, "device.name", `"kitchen"`},
		"name: kitchen":                       {2, "device.name", `name = "kitchen"`},
		"name : \"kitchen\"":                  {2, "device.name", `name = "kitchen"`},
		"name == \"kitchen\"":                 {2, "device.name", `"kitchen"`},
		"name = \"C:\\path\"":                 {2, "device.name", `'C:\path'`},
		"name = C:\\path":                     {2, "device.name", `'C:\path'`},
		"name =":                              {2, "device.name", "a string in quotes"},
		"name = mqtt://lea:hunter2@host":      {2, "device.name", "in quotes"},
		"muted = True":                        {2, "device.muted", "true"},
		"muted = FALSE":                       {2, "device.muted", "false"},
		"muted = yes":                         {2, "device.muted", "true"},
		"muted = off":                         {2, "device.muted", "false"},
		"muted = maybe":                       {2, "device.muted", "true or false"},
		"muted: yes":                          {2, "device.muted", "muted = true"},
		"port = 50%":                          {2, "device.port", "50"},
		"port = 080":                          {2, "device.port", "80"},
		"port = 10s":                          {2, "device.port", "10"},
		"port = many":                         {2, "device.port", "a whole number from 0 to 65535"},
		"gain = 0,3":                          {2, "device.gain", "0.3"},
		"gain = .5":                           {2, "device.gain", "0.5"},
		"gain = 1 000":                        {2, "device.gain", "a number"},
		"wait = 10s":                          {2, "device.wait", `"10s"`},
		"wait = ten":                          {2, "device.wait", "a duration"},
		"allow = ls":                          {2, "device.allow", `["ls"]`},
		"allow = [ls, \"df -h\"]":             {2, "device.allow", `["ls", "df -h"]`},
		"allow = ls, df":                      {2, "device.allow", `["ls", "df"]`},
		"allow = [\"ls\", \"df\"":             {2, "device.allow", `["ls", "df"]`},
		"allow = [\"ls\", \"df\"\nname = 'a'": {2, "device.allow", "] at the end"},
		"allow = [\n\"ls\",\n":                {2, "device.allow", "] at the end"},
		"name = \"kitchen\",":                 {2, "device.name", `"kitchen"`},
		"name = \"kitchen\";":                 {2, "device.name", `"kitchen"`},
		"muted = true,":                       {2, "device.muted", "true, "},
		"port = 80,":                          {2, "device.port", "80"},
		"allow = [\"ls\" \"df\"]":             {2, "device.allow", `["ls", "df"]`},
		"allow = ['ls'; 'df']":                {2, "device.allow", `["ls", "df"]`},
		"broker = mqtt://host":                {2, "device.broker", `"mqtt://host"`},
		"broker = \"a\", \"b\"":               {2, "device.broker", `["a", "b"]`},
		"voices = {fr = \"a\"":                {2, "device.voices", "} at the end"},
		"nothing = kitchen":                   {2, "device.nothing", "lintod.toml(5)"},
		"kitchen":                             {2, "", "key = value"},
		"// a comment":                        {2, "", "#"},
		"; a comment":                         {2, "", "#"},
		"name = 'a\x00b'":                     {2, "device.name", "UTF-8"},
		"name = '\xff'":                       {2, "device.name", "UTF-8"},
		"name = 'a'\nname = 'b'":              {3, "device.name", "one of the two"},
		"name = 'a'\nName = 'b'":              {3, "device.Name", "one of the two"},
		"name = 'a'\n\n[device]":              {4, "device", "one [device]"},
		"[[button]\npin = 1":                  {2, "button", "[[button]]"},
		"[[button]]\n[button.colour\nred = 1": {3, "button.colour", "[button.colour]"},
	} {
		for ending, text := range map[string]string{"LF": text, "CR LF": strings.ReplaceAll(text, "\n", "\r\n"), "tabs": "\t" + strings.ReplaceAll(text, " = ", "\t=\t")} {
			t.Run(ending+" "+text, func(t *testing.T) { complaints(t, "[device]\n"+text, want) })
		}
	}
	complaints(t, "[device\nname = 'a'\nmuted = True\nport = 50%", complaint{1, "device", "[device]"},
		complaint{3, "device.muted", "true"}, complaint{4, "device.port", "50"}) // all at once
	for name, text := range map[string]string{
		"UTF-16":              "\xff\xfe[\x00d\x00]\x00\n\x00",
		"UTF-16 without mark": "[\x00d\x00]\x00\n\x00",
		"zeros only":          strings.Repeat("\x00", 4096),
		"CR alone":            "[device]\rname = 'a'\r",
	} {
		t.Run(name, func(t *testing.T) { complaints(t, text, complaint{1, "", ""}) })
	}
}

func TestPasswordsInAddressesAreNotRepeated(t *testing.T) {
	for _, text := range []string{"name = mqtt://lea:hunter2@host", "broker = [mqtt://lea:hunter2@host]", "muted = \"mqtt://lea:hunter2@host\"", "name: mqtt://lea:hunter2@host"} {
		var w whole
		if err := Parse("f", []byte("[device]\n"+text), &w); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// Values of a wrong type, unknown keys, and values out of range.
func TestParseReportsProblems(t *testing.T) {
	for text, want := range map[string][]complaint{
		"\n[device]\nname = 5":                      {{3, "device.name", "a string"}},
		"\n[device]\nname = [1]":                    {{3, "device.name", "a string"}},
		"\n[device]\nname = {a=1}":                  {{3, "device.name", "a string"}},
		"\n[device]\nname = 2026-11-22":             {{3, "device.name", "a string"}},
		"\n[device]\nmuted = \"yes\"":               {{3, "device.muted", "true or false"}},
		"\n[device]\nmuted = 1":                     {{3, "device.muted", "true or false"}},
		"\n[device]\ngain = true":                   {{3, "device.gain", "a number"}},
		"\n[device]\nport = -1":                     {{3, "device.port", "from 0 to 65535"}},
		"\n[device]\nport = \"80\"":                 {{3, "device.port", "from 0 to 65535"}},
		"\n[device]\nport = 0x1ffff":                {{3, "device.port", "from 0 to 65535"}},
		"\n[device]\nport = 9999999999999999999999": {{3, "device.port", "from 0 to 65535"}},
		"\n[device]\nsmall = 300\nmuted=true":       {{3, "device.small", "from -128 to 127"}},
		"\n[device]\nallow = \"ls\"":                {{3, "device.allow", "a list"}},
		"\n[device]\nallow = [\n1]":                 {{3, "device.allow", "a list"}},
		"\n[device]\nvoices = {fr = 1}":             {{3, "device.voices.fr", "a string"}},
		"\n[device.voices]\nfr = 1":                 {{3, "device.voices.fr", "a string"}},
		"\n[device]\nbroker = 5":                    {{3, "device.broker", "a list of strings"}},
		"\n[device]\nbroker = [\"a\", 5]":           {{3, "device.broker", "a list of strings"}},
		"\n[device]\nbroker = {a = 1}":              {{3, "device.broker", "a list of strings"}},
		"\n[device.broker]\na = 1":                  {{2, "device.broker", "a list of strings"}},
		"\n[device]\nwait = 5":                      {{3, "device.wait", "duration"}},
		"\n[device]\nwait = 5.0":                    {{3, "device.wait", "duration"}},
		"\n[device]\nwait = [5]":                    {{3, "device.wait", "duration"}},
		"\n[device.wait]\na = 1":                    {{2, "device.wait", "duration"}},
		"\n[device]\nwaits = [5]":                   {{3, "device.waits", "duration"}},
		"\n[device]\nwaits = [\"5\"]":               {{3, "device.waits", "duration"}},
		"\n[device]\nroom = 5":                      {{3, "device.room", "size"}},
		"device = 5":                                {{1, "device", "a table"}},
		"[[device]]":                                {{1, "device", "a table"}},
		"device = [{name = 'a'}]":                   {{1, "device", "a table"}},
		"button = 5":                                {{1, "button", "a list of tables"}},
		"button = {pin = 5}":                        {{1, "button", "a list of tables"}},
		"button = [5]":                              {{1, "button[1]", "a table"}},
		"[button]\npin = 1":                         {{1, "button", "a list of tables"}},
		"[button.colour]\nred = 1":                  {{1, "button", "a list of tables"}},
		"button.pin = 1":                            {{1, "button", "a list of tables"}},
		"[[button]]\n\n[[button]]\npin=''":          {{4, "button[2].pin", "a whole number"}},
		"[[button]]\nhold = 5":                      {{2, "button[1].hold", "duration"}},
		"[[button]]\npin=1\nhold = true":            {{3, "button[1].hold", "duration"}},
		"[[button]]\nhold = \"5\"":                  {{2, "button[1].hold", "duration"}},
		"[[button]]\n[button.colour]\nred=256":      {{3, "button[1].colour.red", "from 0 to 255"}},
		"[[button]]\n[button.colour]\nred='a'":      {{3, "button[1].colour.red", "from 0 to 255"}},
		"button = [{pin=1},\n{pin='1'}]":            {{1, "button[2].pin", "a whole number"}},

		"\nnope = 1\n[device]\nbrocker = 2": {{2, "nope", "lintod.toml(5)"}, {4, "device.brocker", "lintod.toml(5)"}},
		"[nope]\na = 1":                     {{1, "nope", "lintod.toml(5)"}},

		"device.name='a'\n[[button]]\n[[button]]\npin = -1\nhold = \"2m\"": {{4, "button[2].pin", "0 or more"}, {5, "button[2].hold", "from 0s to 1m0s"}},
		"device.name='a'\n[[button]]\n[button.colour]\nred = 201":          {{4, "button[1].colour.red", "at most 200"}},
		"button = [{pin=1},\n{pin=-1}]\ndevice.name = 'a'":                 {{1, "button[2].pin", "0 or more"}},

		// all at once, in the order of the file
		"nope = 1\n[device]\nname = 'a'\nmuted = 1\ngain = x\nport = -1\n[[button]]\npin = -1": {
			{1, "nope", ""}, {4, "device.muted", ""}, {5, "device.gain", ""}, {6, "device.port", ""}, {8, "button[1].pin", ""},
		},
	} {
		t.Run(text, func(t *testing.T) { complaints(t, text, want...) })
	}
}

func TestMissingKeyIsReportedWithItsTable(t *testing.T) {
	for text, line := range map[string]int{"[device]\nmuted = true": 1, "device.muted = true": 0, "": 0} {
		var w whole
		var got Problems
		if !errors.As(Parse("f", []byte(text), &w), &got) || len(got) != 1 || got[0].Key != "device.name" || got[0].Line != line {
			t.Errorf("%q: %v", text, got)
		}
	}
}

// A file that is valid today must be accepted by later versions of the library.
func TestZeroNeedsNoUnit(t *testing.T) {
	w := whole{Device: device{Name: "a", Wait: 5, Room: 5}}
	if err := Parse("f", []byte("[device]\nwait = 0\nroom = 0"), &w); err != nil || w.Device.Wait != 0 || w.Device.Room != 0 {
		t.Errorf("%+v, %v", w.Device, err)
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

// For any text, Parse neither panics nor returns a problem without the file and
// a cure.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"", "[device]\nname = 'a'\nbroker = ['a', 'b']", "[[button]]\nhold = \"1s\"\n[button.colour]\nred = 1",
		"button = [{pin=1},\n{pin=-1}]", "[device]\nname = 2026-11-22T01:02:03Z", "a.b.c = {d.e = [1.5, true]}", "[device]\nvoices.fr = \"\\u00e9\"",
		"[device]\nname = kitchen\nmuted: yes\nallow = [\n", "[device\nname = \"C:\\path\"", "[device]\nbroker = [[", "\xff\xfe[\x00",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		var w whole
		err := Parse("the-file", src, &w)
		var found Problems
		if err != nil && !errors.As(err, &found) {
			t.Fatalf("%q: the error is a %T", src, err)
		}
		for _, p := range found {
			if p.File != "the-file" || p.Want == "" || p.Key == "" && p.Fault == "" || p.Line > strings.Count(string(src), "\n")+1 {
				t.Errorf("%q: %+v", src, p)
			}
		}
	})
}
