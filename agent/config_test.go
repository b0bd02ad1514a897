package agent

import (
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	toml "github.com/pelletier/go-toml/v2"

	"lintod/agent/base/config"
	"lintod/audio/wake"
	"lintod/gpio"
	"lintod/packaging"
)

var (
	// Keys that are commented out with their default, and the examples of lists of tables.
	hiddenKey = regexp.MustCompile(`(?m)^#([a-z_.]+ = )`)
	example   = regexp.MustCompile(`(?m)^# ?\[\[.*\n(#.*\n)*`)
	exampled  = regexp.MustCompile(`(?m)^# ?(\[\[|[a-z_.]+ = )`)
)

func parse(text string) (Config, error) {
	c := Defaults()
	err := config.Parse("lintod.toml", []byte(text), &c)
	return c, err
}

// uncovered returns the sample configuration with every commented-out key enabled.
func uncovered() string {
	return hiddenKey.ReplaceAllString(example.ReplaceAllString(packaging.Sample(), ""), "$1")
}

// A new installation reports only the values that the owner must fill in.
func TestSampleLacksOnlyWhatTheOwnerMustFillIn(t *testing.T) {
	_, err := parse(packaging.Sample())
	if err == nil || strings.Count(err.Error(), "\n") != 1 ||
		!strings.Contains(err.Error(), "device.serial") || !strings.Contains(err.Error(), "linto.broker") {
		t.Errorf("the sample is refused because of %v", err)
	}
}

func TestSampleShowsTheDefaults(t *testing.T) {
	fill := func(text string) string { // only the first match: other tables have the same keys
		text = strings.Replace(text, `serial = ""`, `serial = "s"`, 1)
		return strings.Replace(text, `broker = ""`, `broker = "mqtt://b"`, 1)
	}
	want := Defaults()
	want.Device.Serial, want.Linto.Enabled, want.Linto.Broker = "s", true, config.Strings{"mqtt://b"}
	for name, text := range map[string]string{"as it is": packaging.Sample(), "all uncovered": uncovered()} {
		got, err := parse(fill(text))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		// Compared as text, because an empty list equals a nil one.
		if got, want := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", want); got != want {
			t.Errorf("%s:\n got %s\nwant %s", name, got, want)
		}
	}
}

func TestSampleShowsEveryKey(t *testing.T) {
	var shown map[string]any
	if err := toml.Unmarshal([]byte(uncovered()), &shown); err != nil {
		t.Fatal(err)
	}
	for _, key := range keys(reflect.TypeFor[Config](), "") {
		at := any(shown)
		for part := range strings.SplitSeq(key, ".") {
			table, _ := at.(map[string]any)
			at = table[part]
		}
		if at == nil {
			t.Errorf("packaging/lintod.toml does not show %s", key)
		}
	}
}

// keys returns the keys of all tables in t; lists of tables have their own test.
func keys(t reflect.Type, prefix string) []string {
	var list []string
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("toml"), ",")
		switch {
		case name == "-", f.Type.Kind() == reflect.Slice && f.Type.Elem().Kind() == reflect.Struct:
		case f.Anonymous && name == "":
			list = append(list, keys(f.Type, prefix)...)
		case name == "":
			list = append(list, prefix+f.Name+" (a field without a toml tag)")
		case f.Type.Kind() == reflect.Struct && slices.ContainsFunc(reflect.VisibleFields(f.Type), tagged):
			list = append(list, keys(f.Type, prefix+name+".")...)
		default:
			list = append(list, prefix+name)
		}
	}
	return list
}

func tagged(f reflect.StructField) bool { return f.Tag.Get("toml") != "" }

func TestExamplesOfTheSampleAreKnown(t *testing.T) {
	text := exampled.ReplaceAllString(strings.Join(example.FindAllString(packaging.Sample(), -1), ""), "$1")
	var c Config
	if err := toml.NewDecoder(strings.NewReader(text)).EnableUnmarshalerInterface().DisallowUnknownFields().Decode(&c); err != nil {
		t.Errorf("%v in\n%s", err, text)
	}
	if len(c.Buttons) == 0 || len(c.LEDs) == 0 {
		t.Error("the sample has no example of a button or of an LED")
	}
}

func TestCredentialOfAServiceThatDoesNotRun(t *testing.T) {
	for path, want := range map[string]string{
		"/run/credentials/lintod.service/no-such": "/etc/lintod/no-such",
		"/run/credentials/other.service/no-such":  "/run/credentials/other.service/no-such",
		"/home/me/password":                       "/home/me/password",
		"":                                        "",
	} {
		if got := Credential(path); got != want {
			t.Errorf("%s is read from %s", path, got)
		}
	}
}

// TestLoginTakesNoUserFromTheSerial has one mistake, and only that one is
// reported.
func TestLoginTakesNoUserFromTheSerial(t *testing.T) {
	c := Defaults()
	c.Device.Serial, c.Linto.Enabled, c.Linto.PasswordFile, c.Linto.Login.URL = "kitchen", true, "p", "https://h"
	if l := c.Linto.For("kitchen"); l.Username != "" {
		t.Errorf("the user of a device that logs in is %q", l.Username)
	}
	if c.Linto.Login.URL = ""; c.Linto.For("kitchen").Username != "kitchen" {
		t.Error("the user does not default to the serial")
	}
}

func TestNamesThatNoTopicCanHold(t *testing.T) {
	for _, name := range []string{"", "a/b", "a+", "#", "a\tb", "a\x00", "a\u0085", "\xff", "$SYS", strings.Repeat("a", 65)} {
		c := Defaults()
		c.Device.Serial, c.Linto.Enabled, c.Linto.Broker, c.Linto.Scope = name, true, config.Strings{"mqtt://b"}, name
		got := c.Validate().Error()
		for _, key := range []string{"device.serial", "linto.scope"} {
			if !strings.Contains(got, key) {
				t.Errorf("%q: %s is not refused: %s", name, key, got)
			}
		}
	}
}

func TestWarningsOfMissingFiles(t *testing.T) {
	c := Defaults()
	c.Audio.Input = config.Strings{"file:/nowhere/voice.wav"}
	c.Behaviors.Shellexec.Enabled, c.Behaviors.Shellexec.User = true, "nobody-of-that-name"
	got := strings.Join(c.Warnings(), "\n")
	for _, want := range []string{"audio.input: stat /nowhere/voice.wav", "behaviors.shellexec.user"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is missing from\n%s", want, got)
		}
	}
}

// A card reader shares no port and no pin with buttons or LEDs.
func TestReadersShareNothing(t *testing.T) {
	for text, want := range map[string]string{
		"[cards.reader]\nspi = \"SPI0.1\"\nreset = 25": "",
		"[cards.reader]\nspi = \"SPI0.0\"":             "cards.reader.spi",
		"[cards.reader]\nspi = \"SPI0.1\"\nreset = 17": "cards.reader.reset",
	} {
		_, err := parse("[device]\nserial = \"s\"\n" + text + "\n[[button]]\npin = 17\naction = \"talk\"\n[[led]]\nkind = \"apa102\"\nport = \"SPI0.0\"\ncount = 3\n")
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want a problem of %q", text, err, want)
		}
	}
}

// The link of a button or a wake word must be enabled.
func TestLinksThatAreNamed(t *testing.T) {
	for _, tt := range []struct {
		link    string
		refused bool
	}{{"", false}, {"linto", false}, {"xiaozhi", true}} {
		c := Defaults()
		c.Device.Serial, c.Linto.Enabled, c.Linto.Broker = "kitchen", true, config.Strings{"mqtt://b"}
		c.Buttons = []gpio.ButtonConfig{{Pin: "GPIO17", Action: "talk", Link: tt.link}}
		c.Wake.Engine, c.Wake.Words = "pocketsphinx", []wake.Word{{Name: "computer", Link: tt.link}}
		var keys []string
		for _, p := range c.Validate() {
			keys = append(keys, p.Key)
		}
		var want []string
		if tt.refused {
			want = []string{"wake.word[1].link", "button[1].link"}
		}
		if !slices.Equal(keys, want) {
			t.Errorf("link %q: %q are refused, want %q", tt.link, keys, want)
		}
	}
}
