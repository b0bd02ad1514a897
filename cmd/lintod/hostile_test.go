package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode"

	"lintod/agent"
	"lintod/agent/base/journal/journaltest"
	"lintod/agent/broker/brokertest"
	"lintod/agent/control"
	"lintod/agent/turn"
	"lintod/audio"
)

// hostile is text that a platform, a voice service, a broker or a sound card may
// send or use as a name: it moves the cursor, rings the bell, sets the window title,
// changes the writing direction, and starts a new line.
const hostile = "\x1b[2J\x1b]0;t\a\u009b31m\u202eevil\u2066\x7f\x9b\r\nFORGED line\u2028FORGED\u0085FORGED\v"

// fill puts hostile text into every text field of v.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(hostile)
	case reflect.Int, reflect.Int64:
		v.SetInt(1)
	case reflect.Uint64:
		v.SetUint(1)
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0))
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(key)
		fill(value)
		v.SetMapIndex(key, value)
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Field(i).CanSet() {
				fill(v.Field(i))
			}
		}
	}
}

// harmless fails if text would control a terminal, or contains lines that the
// program did not print.
func harmless(t *testing.T, what, text string) {
	t.Helper()
	for _, r := range text {
		if r != '\n' && !unicode.IsPrint(r) {
			t.Errorf("%s prints %q", what, r)
		}
	}
	for line := range strings.Lines(text) {
		if strings.HasPrefix(strings.TrimSpace(line), "FORGED") {
			t.Errorf("%s prints a forged line: %q", what, line)
		}
	}
}

// The commands print untrusted text in safe form, and exactly as JSON.
func TestUntrustedTextIsPrintedSafely(t *testing.T) {
	dir, err := os.MkdirTemp("", "box")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	config := filepath.Join(dir, "lintod.toml")
	socket := filepath.Join(dir, "sock")
	text := fmt.Sprintf("[device]\nserial = %q\nstate_dir = %q\nsocket = %q\n[linto]\nenabled = true\nscope = \"blk\"\nbroker = \"mqtt://127.0.0.1:1\"\n[audio]\ninput = \"null\"\noutput = \"null\"\n", serial, dir, socket)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var status agent.Status
	fill(reflect.ValueOf(&status).Elem())
	refuse := func(context.Context, json.RawMessage) (any, error) { return nil, errors.New(hostile) }
	server := &control.Server{
		Path: socket, Log: slog.New(slog.DiscardHandler),
		Handlers: map[string]control.Handler{
			"status": func(context.Context, json.RawMessage) (any, error) { return status, nil },
			"ask":    func(context.Context, json.RawMessage) (any, error) { return agent.AskReply{Text: hostile}, nil },
			"talk":   refuse, "say": refuse, "play": refuse, "stream": refuse,
		},
		Streams: map[string]control.StreamHandler{
			"follow": func(_ context.Context, _ json.RawMessage, send func(any) error) error {
				for _, what := range []turn.What{
					turn.SpeechBegan, turn.GotAnswer, turn.GotTranscript, turn.GotPartial, turn.GotAction,
					turn.GotDisplay, turn.Transcribing, turn.Announcing, turn.Announced, turn.Problem, hostile, turn.Refused,
				} {
					if err := send(turn.Notice{What: what, Text: hostile}); err != nil {
						return err
					}
				}
				return errors.New(hostile)
			},
		},
	}
	ctx, cancel := context.WithCancel(t.Context())
	stopped := make(chan error, 1)
	go func() { stopped <- server.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-stopped })
	brokertest.Eventually(t, "the socket exists", func() bool {
		return control.Call(t.Context(), socket, "status", nil, nil) == nil
	})
	for _, line := range []string{
		"status", "status -json", "talk", "talk -wait", "say x", "play http://x/", "ask x", "stream", "doctor", "doctor -json",
		"check", "devices", "devices -json", hostile,
	} {
		words := strings.SplitN(line, " ", 2)
		args := append([]string{words[0], "-config", config}, words[1:]...)
		limited, stop := context.WithTimeout(t.Context(), time.Minute)
		var out, errs journaltest.Buffer
		run(limited, args, &out, &errs)
		stop()
		harmless(t, "lintod "+line, out.String())
		harmless(t, "lintod "+line, errs.String())
		if asksTheDaemon := !strings.HasPrefix(line, "check") && !strings.HasPrefix(line, "devices"); asksTheDaemon && !strings.Contains(out.String()+errs.String(), "evil") {
			t.Errorf("lintod %s omits the text:\n%s%s", line, out.String(), errs.String())
		}
		if !strings.HasSuffix(line, "-json") || out.String() == "" { // without lintod-audio there are no devices
			continue
		}
		if !json.Valid([]byte(out.String())) {
			t.Errorf("lintod %s does not print JSON", line)
		}
		if line == "status -json" {
			var got agent.Status
			want := strings.ToValidUTF8(hostile, "\ufffd") // JSON is always UTF-8
			if err := json.Unmarshal([]byte(out.String()), &got); err != nil || got.Line != want {
				t.Errorf("lintod %s prints %q, %v", line, got.Line, err)
			}
		}
	}
	var list journaltest.Buffer
	if err := printDevices(&list, []agent.DeviceReport{{Device: audio.Device{Name: hostile, Label: hostile, Inputs: 1, Rate: 1}}}); err != nil {
		t.Fatal(err)
	}
	harmless(t, "lintod devices", list.String())
}
