package meeting

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"lintod/agent/base/config"
	"lintod/agent/base/state"
	"lintod/audio"
	"lintod/audio/recorder"
	"lintod/behaviors"
)

// device is a box with a microphone, a recorder and this behaviour.
type device struct {
	t        *testing.T
	cfg      Config
	executor *behaviors.Executor
	audit    string
}

// on runs test on a device, in a bubble of time.
func on(t *testing.T, change func(*Config), test func(*device)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		d := &device{t: t, cfg: Defaults(), audit: filepath.Join(dir, "audit")}
		d.cfg.Enabled, d.cfg.MinFree, d.cfg.Directory = true, 0, filepath.Join(dir, "meetings")
		change(&d.cfg)
		log := slog.New(slog.DiscardHandler)
		hub := &audio.Hub{Open: func(context.Context) (audio.Input, error) { return &quiet{at: time.Now()}, nil }, Log: log}
		rec := &recorder.Recorder{
			Config: d.cfg.Config, Listen: func() recorder.Stream { return hub.Listen(false) }, Log: log,
		}
		var registry behaviors.Registry
		registry.Add(New(d.cfg, rec))
		ledger, err := state.OpenLedger(dir, log)
		if err != nil {
			t.Fatal(err)
		}
		d.executor = &behaviors.Executor{Registry: &registry, Ledger: ledger, Audit: &behaviors.Audit{Path: d.audit, Log: log}, Log: log}
		ctx, cancel := context.WithCancel(t.Context())
		var parts sync.WaitGroup
		for _, run := range []func(context.Context) error{hub.Run, rec.Run, d.executor.Run} {
			parts.Go(func() { _ = run(ctx) })
		}
		synctest.Wait()
		test(d)
		cancel()
		parts.Wait()
	})
}

// quiet is a microphone in a quiet room.
type quiet struct{ at time.Time }

func (q *quiet) Read(ctx context.Context, f *audio.Frame) error {
	select {
	case <-time.After(time.Until(q.at.Add(audio.FrameTime))):
		*f = audio.Frame{At: q.at}
		f.PCM[0] = 1
		q.at = q.at.Add(audio.FrameTime)
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (q *quiet) Close() error { return nil }

// ask sends a request as a link does, and returns what the platform hears.
func (d *device) ask(payload string) Message {
	d.t.Helper()
	refusal, accepted := d.executor.Submit(behaviors.Request{Link: "linto", Topic: Verb, Verb: Verb, Payload: []byte(payload)})
	if !accepted {
		return Refused([]byte(payload), refusal.Error)
	}
	synctest.Wait()
	var m Message
	heard := 0
	err := d.executor.Deliver("linto", func(a behaviors.Answer) error {
		heard++
		return json.Unmarshal(a.Result, &m)
	})
	if err != nil || heard != 1 {
		d.t.Fatalf("%d answers, %v", heard, err)
	}
	return m
}

func request(command, session string) string {
	raw, err := json.Marshal(map[string]string{"command": command, "sessionname": session, "on": "2026-01-01"})
	if err != nil {
		panic(err)
	}
	return string(raw)
}

func TestAMeetingIsRecorded(t *testing.T) {
	on(t, func(*Config) {}, func(d *device) {
		const name = "../équipe;\n"
		if m := d.ask(request(Start, name)); m != (Message{Start, name, "ok"}) {
			t.Errorf("start: %+v", m)
		}
		time.Sleep(10 * time.Second)
		if m := d.ask(request(Start, "other")); m.Status == ok || m.Command != Start || m.Session != "other" || !strings.Contains(m.Status, "is being recorded") {
			t.Errorf("a second start: %+v", m)
		}
		if m := d.ask(request(Stop, name)); m != (Message{Stop, name, "ok"}) {
			t.Errorf("stop: %+v", m)
		}
		if m := d.ask(request(Stop, name)); m.Status == ok || !strings.HasPrefix(m.Status, "not_found: ") {
			t.Errorf("a second stop: %+v", m)
		}
		files, _ := filepath.Glob(filepath.Join(d.cfg.Directory, "*", "*.flac"))
		if len(files) != 1 {
			t.Fatalf("files: %v", files)
		}
		if info, err := os.Stat(files[0]); err != nil || info.Size() < 1000 {
			t.Errorf("%v, %v", info, err)
		}
		audit, err := os.ReadFile(d.audit)
		if lines := strings.Count(string(audit), "\n"); err != nil || lines != 8 {
			t.Errorf("%d lines of audit for 4 calls, %v", lines, err)
		}
	})
}

func TestOffUntilTheOwnerTurnsItOn(t *testing.T) {
	on(t, func(c *Config) { c.Enabled = false }, func(d *device) {
		m := d.ask(request(Start, "weekly"))
		if m.Status == ok || m.Command != Start || m.Session != "weekly" || !strings.Contains(m.Status, "enabled = true in [behaviors.managemeeting]") {
			t.Errorf("answer: %+v", m)
		}
		if files, _ := filepath.Glob(filepath.Join(d.cfg.Directory, "*", "*")); len(files) != 0 {
			t.Errorf("files: %v", files)
		}
	})
}

func TestWrongArgumentsNameTheField(t *testing.T) {
	on(t, func(*Config) {}, func(d *device) {
		tests := []struct{ payload, field string }{
			{`{}`, "command"},
			{`{"command":7,"sessionname":"a"}`, "command"},
			{`{"command":["x"]}`, "command"},
			{`{"command":"startlocalrecording"}`, "sessionname"},
			{`{"command":"startlocalrecording","sessionname":null}`, "sessionname"},
			{`{"command":"startlocalrecording","sessionname":""}`, "sessionname"},
			{`{"command":"startlocalrecording","sessionname":{"a":1}}`, "sessionname"},
			{`{"command":"startlocalrecording","sessionname":5}`, "sessionname"},
			{`{"command":"startlocalrecording","sessionname":"a\u0000b"}`, "sessionname"},
			{`{"command":"startlocalrecording","sessionname":"` + strings.Repeat("x", 1<<20) + `"}`, "sessionname"},
			{`{"command":"deletelocalrecording","sessionname":"a"}`, "command"},
			{`{"command":"` + strings.Repeat("x", 1<<20) + `"}`, "command"},
			{`[]`, "payload"},
			{`{"command":`, "payload"},
		}
		for i, tt := range tests {
			if i%30 == 0 {
				time.Sleep(time.Minute)
			}
			m := d.ask(tt.payload)
			if m.Status == ok || !strings.HasPrefix(m.Status, tt.field+" is ") || len(m.Status) > maxStatus+3 {
				t.Errorf("%.60s: %+v, want a complaint about %q", tt.payload, m, tt.field)
			}
			if len(m.Command)+len(m.Session) > maxCommand+maxSession {
				t.Errorf("%.60s is repeated in %d bytes", tt.payload, len(m.Command)+len(m.Session))
			}
		}
	})
}

func TestEnded(t *testing.T) {
	full := fmt.Errorf("write the recording:\n%w", syscall.ENOSPC)
	tests := []struct {
		event recorder.Event
		want  Message
		tell  bool
	}{
		{recorder.Event{Session: "a", Recording: true}, Message{}, false},
		{recorder.Event{Session: "a"}, Message{}, false},
		{recorder.Event{Session: "a", Err: full}, Message{Stop, "a", "write the recording: no space left on device"}, true},
		{recorder.Event{Session: "a", Err: errors.New(strings.Repeat("é", 999))}, Message{Stop, "a", strings.Repeat("é", maxStatus/2) + "…"}, true},
	}
	for _, tt := range tests {
		if got, tell := Ended(tt.event); got != tt.want || tell != tt.tell {
			t.Errorf("%+v: %+v, %v", tt.event, got, tell)
		}
	}
}

func TestConfig(t *testing.T) {
	c := Defaults()
	if c.Enabled || c.Validate() != nil {
		t.Errorf("defaults: %+v, %v", c, c.Validate())
	}
	text := `enabled = true
format = "wav"
directory = "/data"
min_free = "1GB"
max_total = "20GB"
resume_within = "10m"
upload_url = "https://example.org/in"
upload_token_file = "/run/token"`
	if err := config.Parse("x.toml", []byte(text), &c); err != nil {
		t.Fatal(err)
	}
	if c.MinFree != config.GB || c.MaxTotal != 20*config.GB || c.Format != recorder.WAV || c.ResumeWithin.Std() != 10*time.Minute {
		t.Errorf("read: %+v", c)
	}
	for text, want := range map[string]string{
		"enabled = true\nmin_free = \"lots\"": "x.toml:2: min_free",
		"enabled = true\n\nformat = \"mp3\"":  "x.toml:3: format",
		"enabled = true\nmin_free = \"1MB\"":  "x.toml:2: min_free",
	} {
		c := Defaults()
		c.Directory = "/data"
		if err := config.Parse("x.toml", []byte(text), &c); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func FuzzRefused(f *testing.F) {
	f.Add([]byte(request(Start, "a")))
	f.Add([]byte(`{"command":"\ud800","sessionname":[]}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		m := Refused(payload, string(payload))
		if len(m.Command) > maxCommand || len(m.Session) > maxSession || len(m.Status) > maxStatus+3 {
			t.Errorf("%d, %d, %d bytes", len(m.Command), len(m.Session), len(m.Status))
		}
	})
}
