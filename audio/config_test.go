package audio

import (
	"strings"
	"testing"

	"lintod/agent/config"
)

func TestDefaultsAreValid(t *testing.T) {
	if ps := Defaults().Validate(); len(ps) != 0 {
		t.Error(ps)
	}
}

func TestConfigIsReadAndChecked(t *testing.T) {
	cases := map[string]string{ // text → what the complaint names; "" for none
		``: "",
		"input = \"file:/tmp/a.wav\"\noutput = \"null\"\npreroll = \"0s\"\nprivacy = true": "",
		`input = "hw:CARD=seeed,DEV=0"`:   "",
		`input = ""`:                      "input",
		`output = "file:"`:                "output",
		`output_rate = 44`:                "output_rate",
		`preroll = "-1s"`:                 "preroll",
		`preroll = "1m"`:                  "preroll",
		`endpoint_silence = "10ms"`:       "endpoint_silence",
		`max_utterance = "1h"`:            "max_utterance",
		`no_speech = "0s"`:                "no_speech",
		`output_rate = 99999999999999999`: "output_rate",
	}
	for text, want := range cases {
		c := Defaults()
		err := config.Parse("test", []byte(text), &c)
		if (want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want a complaint about %q", text, err, want)
		}
	}
}
