package meeting

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
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

// on runs a test on a device, in a synctest bubble.
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

func (q *quiet) Read(ctx context.Context, f []audio.Frame) (int, error) {
	select {
	case <-time.After(time.Until(q.at.Add(audio.FrameTime))):
		f[0] = audio.Frame{At: q.at}
		f[0].PCM[0] = 1
		q.at = q.at.Add(audio.FrameTime)
		return 1, nil
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}

func (q *quiet) Close() error { return nil }

// ask sends a request like a link, and returns the result.
func (d *device) ask(action, session string) (behaviors.Answer, Result) {
	d.t.Helper()
	values := map[string]json.RawMessage{}
	for name, text := range map[string]string{"action": action, "session": session} {
		raw, err := json.Marshal(text)
		if err != nil {
			d.t.Fatal(err)
		}
		values[name] = raw
	}
	return d.askFor(values)
}

func (d *device) askFor(values map[string]json.RawMessage) (behaviors.Answer, Result) {
	d.t.Helper()
	refusal, accepted := d.executor.Submit(behaviors.Request{Link: "linto", Verb: Verb, Args: behaviors.Arguments{Values: values}})
	if !accepted {
		return refusal, Result{}
	}
	synctest.Wait()
	var answer behaviors.Answer
	var r Result
	heard := 0
	err := d.executor.Deliver("linto", func(a behaviors.Answer) error {
		heard++
		answer = a
		return json.Unmarshal(a.Result, &r)
	})
	if err != nil || heard != 1 {
		d.t.Fatalf("%d answers, %v", heard, err)
	}
	return answer, r
}

func TestAMeetingIsRecorded(t *testing.T) {
	on(t, func(*Config) {}, func(d *device) {
		const name = "../équipe;\n"
		for _, step := range []struct {
			action, session string
			code            behaviors.Code
		}{
			{Start, name, behaviors.OK},
			{Start, "other", behaviors.Failed}, // a recording is active
			{Stop, name, behaviors.OK},
			{Stop, name, behaviors.NotFound},
		} {
			a, r := d.ask(step.action, step.session)
			if a.Code != step.code || r != (Result{step.action, step.session}) {
				t.Errorf("%s %q: %+v", step.action, step.session, a)
			}
			time.Sleep(10 * time.Second)
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

func TestStopWithoutAName(t *testing.T) {
	on(t, func(*Config) {}, func(d *device) {
		d.ask(Start, "weekly")
		if a, _ := d.askFor(map[string]json.RawMessage{"action": json.RawMessage(`"stop"`)}); a.Code != behaviors.OK {
			t.Errorf("answer: %+v", a)
		}
	})
}

func TestOffByDefault(t *testing.T) {
	on(t, func(c *Config) { c.Enabled = false }, func(d *device) {
		if a, _ := d.ask(Start, "weekly"); a.Code != behaviors.Disabled || !strings.Contains(a.Error, "enabled = true in [behaviors.managemeeting]") {
			t.Errorf("answer: %+v", a)
		}
		if files, _ := filepath.Glob(filepath.Join(d.cfg.Directory, "*", "*")); len(files) != 0 {
			t.Errorf("files: %v", files)
		}
	})
}

func TestWrongArgumentsNameTheField(t *testing.T) {
	on(t, func(*Config) {}, func(d *device) {
		const start = `"start"`
		for _, tt := range []struct{ action, session, field string }{
			{"", "", "action"},
			{`7`, `"a"`, "action"},
			{`["x"]`, "", "action"},
			{`"delete"`, `"a"`, "action"},
			{`"` + strings.Repeat("x", 1<<20) + `"`, "", "action"},
			{start, "", "session"},
			{start, `null`, "session"},
			{start, `""`, "session"},
			{start, `{"a":1}`, "session"},
			{start, `5`, "session"},
			{start, `"a\u0000b"`, "session"},
			{start, `"` + strings.Repeat("x", 1<<20) + `"`, "session"},
		} {
			values := map[string]json.RawMessage{}
			for name, text := range map[string]string{"action": tt.action, "session": tt.session} {
				if text != "" {
					values[name] = json.RawMessage(text)
				}
			}
			a, _ := d.askFor(values)
			if a.Code != behaviors.BadRequest || !strings.HasPrefix(a.Error, tt.field+" is ") || len(a.Error) > 300 {
				t.Errorf("%.60s, %.60s: %+v, want an error about %q", tt.action, tt.session, a, tt.field)
			}
		}
	})
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
	for text, want := range map[string]config.Problem{
		"enabled = true\nmin_free = \"lots\"": {Line: 2, Key: "min_free"},
		"enabled = true\n\nformat = \"mp3\"":  {Line: 3, Key: "format"},
		"enabled = true\nmin_free = \"1MB\"":  {Line: 2, Key: "min_free"},
	} {
		c := Defaults()
		c.Directory = "/data"
		var ps config.Problems
		if err := config.Parse("x.toml", []byte(text), &c); !errors.As(err, &ps) || len(ps) != 1 || ps[0].Line != want.Line || ps[0].Key != want.Key {
			t.Errorf("%q: %v, want one of line %d, %s", text, err, want.Line, want.Key)
		}
	}
}
