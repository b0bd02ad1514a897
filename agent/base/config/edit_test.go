package config

import (
	"reflect"
	"strings"
	"testing"
)

func TestMerge(t *testing.T) {
	const src = "# mine\n[device]\nname = \"a\" # the hall\nport = 1\nallow = [\n  \"x\",\n]\n\n[[button]]\npin = 7\n"
	for _, tt := range []struct{ change, from, to string }{
		{"[device]\nport = 2\n", "port = 1\n", "port = 2\n"},
		{"device.port = 2 # why", "port = 1\n", "port = 2 # why\n"},
		{"device.Port = 2", "port = 1\n", "Port = 2\n"},
		{"[device]\nallow = [\"y\",\n\"z\"]\nport = 3", "port = 1\nallow = [\n  \"x\",\n]\n", "port = 3\nallow = [\"y\",\n\"z\"]\n"},
		{"device.muted = true", "[device]\n", "[device]\nmuted = true\n"},
		{"[device.voices]\nfr = \"v\"", "pin = 7\n", "pin = 7\n\n[device.voices]\nfr = \"v\"\n"},
		{"# nothing", "", ""},
	} {
		got, err := Merge([]byte(src), []byte(tt.change), &whole{})
		if want := strings.Replace(src, tt.from, tt.to, 1); err != nil || string(got) != want {
			t.Errorf("%s: %v\n%s\nwant\n%s", tt.change, err, got, want)
		}
		if tt.to != "" {
			if err := Parse("f", got, &whole{}); err != nil {
				t.Errorf("%s: %v", tt.change, err)
			}
		}
	}
	for _, change := range []string{"[[button]]\npin = 1", "device.\"a b\" = 1", "no toml", "[device]\nport ="} {
		if got, err := Merge([]byte(src), []byte(change), &whole{}); err == nil {
			t.Errorf("%q makes %s", change, got)
		}
	}
	if got, err := Merge([]byte("[device]\nport = 1"), []byte("device.gain = 2"), &whole{}); err != nil || Parse("f", append(got, "\nname = 'x'"...), &whole{}) != nil {
		t.Errorf("without a last newline: %s, %v", got, err)
	}
}

func TestSeal(t *testing.T) {
	const src = `[device]
name = "a"
broker = "mqtt://u:planted@h" # mqtt://u:planted@h
allow = ["https://h/x?token=planted", "https://h/y"]
[tts]
command = ["say",
  "planted"]
[shell]
commands = { a = "curl planted" }
[shell.commands]
"b=c" = "planted"
d = "planted"
`
	got, err := Seal([]byte(src), &whole{})
	if err != nil || strings.Contains(string(got), "planted") {
		t.Errorf("%v:\n%s", err, got)
	}
	for _, kept := range []string{"name = \"a\"\n", "@h", "https://h/y", "https://h/x?"} {
		if !strings.Contains(string(got), kept) {
			t.Errorf("%s is gone:\n%s", kept, got)
		}
	}
	if _, err := Seal([]byte("planted ="), &whole{}); err == nil || strings.Contains(err.Error(), "planted") {
		t.Errorf("not TOML: %v", err)
	}
}

// After merging into a valid file, unchanged keys have their old values, and
// changed ones the new values.
func FuzzMerge(f *testing.F) {
	f.Add("[device]\nname = \"a\"\nport = 1\n", "[device]\nport = 2\ngain = 1.5\n")
	f.Add("device.name = 'a'\n[[button]]\npin = 1", "device.broker = 'x'")
	f.Add("[device]\r\nname = 'a'\r\n", "[device.voices]\nfr = ''")
	f.Fuzz(func(t *testing.T, src, change string) {
		var before, after, alone whole
		if _, err := Seal([]byte(src), &before); err == nil {
			_, _ = Seal([]byte(change), &before)
		}
		if Parse("src", []byte(src), &before) != nil {
			return
		}
		got, err := Merge([]byte(src), []byte(change), &after)
		if err != nil || Parse("merged", got, &after) != nil {
			return
		}
		if decode([]byte(change), &alone, true) != nil {
			return
		}
		if len(after.Buttons) != len(before.Buttons) || len(after.Buttons) > 0 && !reflect.DeepEqual(after.Buttons, before.Buttons) {
			t.Errorf("%q and %q make %q", src, change, got)
		}
		if alone.Device.Port != 0 && after.Device.Port != alone.Device.Port {
			t.Errorf("%q and %q make %q", src, change, got)
		}
	})
}
