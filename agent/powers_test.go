package agent

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"lintod/agent/base/config"
	"lintod/agent/broker/brokertest"
	"lintod/behaviors"
)

// A verb is always present: without a disk each returns the reason, enabled or
// not, and works when the disk is back, without a restart.
func TestPowersWithoutADisk(t *testing.T) {
	cfg := quiet(t)
	cfg.Device.StateDir = filepath.Join(t.TempDir(), "state")
	cfg.Behaviors.Shellexec.Enabled = true
	cfg.Behaviors.Shellexec.Allow = []string{"true"}
	if err := os.WriteFile(cfg.Device.StateDir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	a := New(cfg, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	all.Go(func() { _ = a.powers.executor.Run(ctx) })
	defer all.Wait()
	defer cancel()
	ask := func(verb, args string) (behaviors.Answer, bool) {
		q := behaviors.Request{Link: "linto", Verb: verb}
		if err := json.Unmarshal([]byte(args), &q.Args.Values); err != nil {
			t.Fatal(err)
		}
		return a.powers.executor.Submit(q)
	}
	for verb, want := range map[string]behaviors.Code{
		"shellexec": behaviors.Refused, "startreversessh": behaviors.Disabled, "stopreversessh": behaviors.Disabled, "managemeeting": behaviors.Disabled,
	} {
		if answer, _ := ask(verb, `{"cmd":"true"}`); answer.Code != want {
			t.Errorf("%s: %+v, want %s", verb, answer, want)
		} else if want == behaviors.Refused && !strings.Contains(answer.Error, cfg.Device.StateDir) {
			t.Errorf("%s does not give the reason: %s", verb, answer.Error)
		}
	}
	d := a.box()
	if d.KeepVolume(11) == nil || d.SetLanguage("fr") == nil || a.store.Get().Volume != 11 {
		t.Error("an unsaved setting is not reported, or not applied")
	}
	if err := os.Remove(cfg.Device.StateDir); err != nil {
		t.Fatal(err)
	}
	brokertest.Eventually(t, "shellexec is accepted", func() bool {
		answer, accepted := ask("shellexec", `{"cmd":"true"}`)
		if !accepted && answer.Code != behaviors.Busy { // the executor may still be starting
			t.Fatalf("%+v", answer)
		}
		return accepted
	})
	brokertest.Eventually(t, "shellexec has run", func() bool {
		done := false
		err := a.powers.executor.Deliver("linto", func(answer behaviors.Answer) error {
			done = answer.Code == behaviors.OK
			return nil
		})
		return err == nil && done
	})
	if err := d.KeepVolume(12); err != nil {
		t.Error(err)
	}
}

// The configuration is validated against the verbs that the device has.
func TestVerbsOfTheConfiguration(t *testing.T) {
	cfg := quiet(t)
	names := func(r *behaviors.Registry) (list []string) {
		for _, v := range r.Verbs() {
			list = append(list, v.Name)
		}
		return list
	}
	if has, says := names(New(cfg, slog.New(slog.DiscardHandler)).registry), names(cfg.verbs()); !slices.Equal(has, says) {
		t.Errorf("the device has %q, the configuration says %q", has, says)
	}
}

// Tools that cannot be offered are reported with their key, not left out silently.
func TestToolsThatCannotBeOffered(t *testing.T) {
	for _, tt := range []struct {
		tools []string
		key   string
	}{
		{[]string{"say", "play"}, ""},
		{[]string{"say", "fly"}, "xiaozhi.tools[2]"},
		{[]string{"say", "say"}, "xiaozhi.tools"},
		{slices.Repeat([]string{"say"}, 33), "xiaozhi.tools"},
	} {
		cfg := quiet(t)
		cfg.Xiaozhi.Enabled, cfg.Xiaozhi.URL, cfg.Xiaozhi.Tools = true, "https://h/", tt.tools
		ps := slices.DeleteFunc(cfg.Validate(), func(p config.Problem) bool { return !strings.HasPrefix(p.Key, "xiaozhi.") })
		if tt.key == "" && len(ps) > 0 || tt.key != "" && (len(ps) != 1 || ps[0].Key != tt.key) {
			t.Errorf("%q: %v, want %q", tt.tools, ps, tt.key)
		}
	}
}
