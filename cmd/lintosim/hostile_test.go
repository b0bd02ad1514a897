package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"
	"unicode"

	"lintod/cmd/lintosim/gateway"
	"lintod/cmd/lintosim/platform"
	"lintod/cmd/lintosim/speech"
)

// Untrusted text of devices is printed safely: in the log, as JSON, and at the
// prompt.
func TestUntrustedTextIsPrintedSafely(t *testing.T) {
	const hostile = "\x1b[2J\a\u009b31m\u202eevil\x7f\x9b\r\nFORGED\u2028FORGED"
	payload, _ := json.Marshal(map[string]string{hostile: hostile, "text": hostile, "result": `{"text":"` + "\u202e" + `"}`})
	var story, lines, prompted bytes.Buffer
	screens := []interface {
		event(platform.Event)
		flush()
	}{&tale{out: &story, begun: time.Now()}, &jsonLines{out: &lines, begun: time.Now()}}
	for _, screen := range screens {
		for _, kind := range []platform.Kind{
			platform.Exchanged, platform.Connected, platform.Disconnected, platform.Refused, platform.LoggedIn,
			platform.Refreshed, platform.LoggedOut, platform.Understood, platform.Noted,
		} {
			for _, body := range [][]byte{payload, []byte(hostile)} {
				screen.event(platform.Event{
					Kind: kind, Client: hostile, Text: hostile,
					Message: platform.Message{Topic: hostile, Serial: hostile, Command: hostile, Client: hostile, Payload: body},
					Heard:   speech.Heard{Text: hostile},
				})
			}
		}
		screen.flush()
	}
	xiaozhiScreens := []printer[gateway.Event]{
		&xiaozhiTale{tale: tale{out: &story, begun: time.Now()}}, &xiaozhiLines{jsonLines{out: &lines, begun: time.Now()}},
	}
	for _, screen := range xiaozhiScreens {
		for _, kind := range []gateway.Kind{
			gateway.Exchanged, gateway.Sounded, gateway.Provisioned, gateway.Connected, gateway.Disconnected, gateway.Refused,
			gateway.Broken, gateway.Listed, gateway.Opened, gateway.Listening, gateway.Understood, gateway.Answered, gateway.Closed, gateway.Noted,
		} {
			for _, body := range [][]byte{payload, []byte(hostile), nil} {
				screen.event(gateway.Event{
					Kind: kind, Device: hostile, Wire: gateway.MQTT, Name: hostile, Payload: body, Tools: []string{hostile},
					Heard: speech.Heard{Text: hostile}, Rule: hostile, Text: hostile,
				})
			}
		}
		screen.flush()
	}
	p := &prompt{out: &prompted}
	p.printf("%v %s", errors.New(hostile), hostile)
	for what, out := range map[string]string{"story": story.String(), "JSON": lines.String(), "prompt": prompted.String()} {
		if !strings.Contains(out, "evil") {
			t.Errorf("%s: the text is missing: %q", what, out)
		}
		for _, r := range out {
			if r != '\n' && !unicode.IsPrint(r) {
				t.Errorf("%s: %q", what, r)
			}
		}
		for line := range strings.Lines(out) {
			if strings.HasPrefix(strings.TrimSpace(line), "FORGED") {
				t.Errorf("%s: a forged line: %q", what, line)
			}
			if what == "JSON" && !json.Valid([]byte(line)) {
				t.Errorf("not JSON: %q", line)
			}
		}
	}
}
