package audio

import (
	"errors"
	"testing"

	"lintod/agent/base/config"
)

func TestDefaultsAreValid(t *testing.T) {
	if ps := Defaults().Validate(); len(ps) != 0 {
		t.Error(ps)
	}
}

func TestConfigIsReadAndChecked(t *testing.T) {
	cases := map[string]string{ // text → part of the error; "" for none
		``: "",
		"input = \"file:/tmp/a.wav\"\noutput = \"null\"\npreroll = \"0s\"\nprivacy = true": "",
		`input = "hw:CARD=seeed,DEV=0"`:                 "",
		`input = ["*USB*", "default"]`:                  "",
		`input = ["usb:1-1.2", "usb-0000:01:00.0-1.2"]`: "",
		`output = "file:/tmp/7"`:                        "",
		`output = "plughw:CARD=S3,DEV=1"`:               "",
		`input = ""`:                                    "input",
		`input = []`:                                    "input",
		`input = ["a","a","a","a","a","a","a","a","a"]`: "input",
		`input = ["USB", ""]`:                           "input",
		`input = 1`:                                     "input",
		`input = "1"`:                                   "input",
		`input = "1,0"`:                                 "input",
		`output = "hw:1,0"`:                             "output",
		`output = ["USB", "plughw:1"]`:                  "output",
		`output = "hw:CARD=1,DEV=0"`:                    "output",
		`output = "USB Audio: - (hw:1,0)"`:              "output",
		`output = ["USB", "null"]`:                      "output",
		`input = ["file:/tmp/x", "USB"]`:                "input",
		"input = \"file:/a\"\noutput = \"file:/a\"":     "output",
		"input_channel = 8\ninput_gain_db = -40.0":      "",
		"input_channel = 0\ninput_gain_db = 12":         "",
		`voice_detection = "neural"`:                    "voice_detection",
		`voice_detection = 1`:                           "voice_detection",
		`input_channel = 9`:                             "input_channel",
		`input_channel = -1`:                            "input_channel",
		`input_gain_db = 40.5`:                          "input_gain_db",
		`input_gain_db = nan`:                           "input_gain_db",
		`output = "file:"`:                              "output",
		`output_rate = 44`:                              "output_rate",
		`preroll = "-1s"`:                               "preroll",
		`preroll = "1m"`:                                "preroll",
		`endpoint_silence = "10ms"`:                     "endpoint_silence",
		`max_utterance = "1h"`:                          "max_utterance",
		`no_speech = "0s"`:                              "no_speech",
		`output_rate = 99999999999999999`:               "output_rate",
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

func TestVoiceDetection(t *testing.T) {
	for text, want := range map[string]Detection{
		``:                           NeuralDetection,
		`voice_detection = true`:     NeuralDetection,
		`voice_detection = "simple"`: SimpleDetection,
		`voice_detection = false`:    NoDetection,
	} {
		c := Defaults()
		if err := config.Parse("test", []byte(text), &c); err != nil || c.VoiceDetection != want {
			t.Errorf("%s: %q, %v; want %q", text, c.VoiceDetection, err, want)
		}
	}
}
