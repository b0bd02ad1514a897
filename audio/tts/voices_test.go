package tts

import (
	"errors"
	"slices"
	"testing"

	"lintod/agent/base/config"
)

func TestLanguages(t *testing.T) {
	six := []string{"fr-FR", "en-US", "en-GB", "es-ES", "de-DE", "it-IT"}
	for name, c := range map[string]struct {
		toml string
		want []string
	}{
		"the default":               {``, six},
		"one more, one changed":     {"voices = { nl-NL = \"nl\", fr-FR = \"fr-be\" }", append(slices.Clone(six), "nl-NL")},
		"pico":                      {`engine = "pico2wave"`, six},
		"models":                    {"engine = \"piper\"\nlanguage = \"de\"\nvoices = { en-GB = \"/b\", de-DE = \"/a\" }", []string{"de-DE", "en-GB"}},
		"a service without voices":  {"engine = \"wyoming\"\naddress = \"tcp://h:1\"\nlanguage = \"pt_BR\"", []string{"pt-BR"}},
		"a service with voices":     {"engine = \"wyoming\"\naddress = \"tcp://h:1\"\nvoices = { fr-FR = \"siwis\" }", []string{"en-US", "fr-FR"}},
		"a program":                 {"engine = \"command\"\ncommand = \"x\"", six},
		"a program for two of them": {"engine = \"command\"\ncommand = \"x\"\nlanguage = \"eu-ES\"\nvoices = { eu-ES = \"a\", ca-ES = \"b\" }", []string{"ca-ES", "eu-ES"}},
	} {
		conf := Defaults()
		if err := config.Parse("test", []byte(c.toml), &conf); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got := conf.Languages(); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

func TestFind(t *testing.T) {
	c := Defaults()
	c.Voices = map[string]string{"fr_FR": "fr-be", "nl-NL": "nl"}
	for in, want := range map[string]voice{
		"fr-fr": {"fr-FR", "fr-be"}, "EN_gb": {"en-GB", "en-gb"}, "en": {"en-US", "en-us"}, "de": {"de-DE", "de"}, "nl": {"nl-NL", "nl"},
		"de-AT": {"de-DE", "de"}, "de_CH.UTF-8": {"de-DE", "de"}, "en_US.UTF-8": {"en-US", "en-us"}, "en-AU": {"en-GB", "en-gb"},
		"en-Latn-US": {"en-US", "en-us"}, "fr-CA": {"fr-FR", "fr-be"}, "es-419": {"es-ES", "es"}, "it_IT@euro": {"it-IT", "it"}, "nl-BE": {"nl-NL", "nl"},
	} {
		if v, err := c.find(in); err != nil || v != want {
			t.Errorf("%s: %v, %v", in, v, err)
		}
	}
	for _, in := range []string{"fi-FI", "", "nb-NO", "C.UTF-8", "e", "-", "en-*", "de-"} {
		_, err := c.Find(in)
		var unsupported *UnsupportedError
		if !errors.As(err, &unsupported) || unsupported.Language != in || !slices.Equal(unsupported.Known, c.Languages()) {
			t.Errorf("%q: %v", in, err)
		}
	}
}

func TestConfig(t *testing.T) {
	cases := map[string]string{ // text → part of the error; "" for none
		``: "",
		"engine = \"command\"\ncommand = \"say\"":                                               "",
		"engine = \"command\"\ncommand = [\"say\", \"{language}\"]\nrate = 16000\nchannels = 2": "",
		`engine = "festival"`: "engine",
		`engine = "command"`:  "command",
		`language = "tlh"`:    "language",
		`language = ""`:       "language",
		`rate = 7`:            "rate",
		`channels = 0`:        "channels",
		`timeout = "0s"`:      "timeout",
		`cache = "1GB"`:       "cache",
		`cache = "0"`:         "",
		`engine = "piper"`:    "voices",
		"engine = \"piper\"\nvoices = { fr-FR = \"/m\" }":                    "language",
		"engine = \"piper\"\nlanguage = \"fr\"\nvoices = { fr-FR = \"/m\" }": "",
		`engine = "wyoming"`:                                                      "address",
		"engine = \"wyoming\"\naddress = \"h:1\"":                                 "address",
		"engine = \"wyoming\"\naddress = \"wyoming://h:1\"\nlanguage = \"?\"":     "language",
		"engine = \"wyoming\"\naddress = \"wyoming://h:1\"\nlanguage = \"eu-ES\"": "",
		`voices = { "f/r" = "x" }`:                                                "voices.f/r",
		`voices = { fr-FR = "-w" }`:                                               "voices.fr-FR",
		"[voices]\nnl-NL = \"nl\"":                                                "",
	}
	for text, want := range cases {
		c := Defaults()
		err := config.Parse("test", []byte(text), &c)
		var ps config.Problems
		if (want == "") != (err == nil) || err != nil && (!errors.As(err, &ps) || ps[0].Key != want) {
			t.Errorf("%s: %v, want an error about %q", text, err, want)
		}
	}
}
