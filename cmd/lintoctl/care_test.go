package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"lintod/agent"
	"lintod/agent/base/config"
	"lintod/agent/broker/brokertest"
	"lintod/cmd/lintoctl/runs"
)

// startDevice runs a real device, without sound, until the end of the test, and
// returns its configuration file, which contains the given tables.
func startDevice(t *testing.T, m *brokertest.Mosquitto, serial string, tables ...string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "dev") // short: a socket's path has a limit
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "lintod.toml")
	text := fmt.Sprintf("[device]\nserial = %q\nstate_dir = %q\nsocket = %q\n[linto]\nenabled = true\nscope = \"home\"\nbroker = %q\nstatus_retain = true\n"+
		"[audio]\ninput = \"null\"\noutput = \"null\"\n[behaviors.config]\nenabled = true\nprobation = \"5s\"\n[behaviors.counters]\nenabled = true\n",
		serial, dir, filepath.Join(dir, "sock"), m.URL()) + strings.Join(tables, "\n")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := agent.LoadConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	s := agent.Service{Path: path, Config: cfg, Log: slog.New(slog.DiscardHandler)}
	done.Go(func() { _ = s.Run(ctx) })
	t.Cleanup(func() { cancel(); done.Wait(); os.RemoveAll(dir) })
	return path
}

// An administrator manages two real devices.
func TestDevicesAreManaged(t *testing.T) {
	fresh(t)
	m := brokertest.Start(t)
	watch := m.Watch("home/fromlinto/#")
	one, two := startDevice(t, m, "one"), startDevice(t, m, "two")
	brokertest.Eventually(t, "both are online", func() bool {
		online := map[string]bool{}
		for _, msg := range watch.All() {
			if brokertest.Topic("/status")(msg) {
				online[msg.Topic] = msg.JSON(t)["connexion"] == "online"
			}
		}
		return online["home/fromlinto/one/status"] && online["home/fromlinto/two/status"]
	})
	do := func(want int, args ...string) string {
		t.Helper()
		status, out, errs := lintoctl(t.Context(), append([]string{"-broker", m.URL(), "-scope", "home"}, args...)...)
		if status != want {
			t.Errorf("%q: status %d\n%s%s", args, status, out, errs)
		}
		return out + errs
	}
	file := func(path string) string {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	first := file(one)
	if out := do(0, "config", "get", "one"); out != first {
		t.Errorf("got %q", out)
	}
	if out := do(0, "config", "diff", "one", "device.volume=40"); !strings.Contains(out, "+volume = 40\n") || file(one) != first {
		t.Errorf("diff %q", out)
	}
	do(1, "config", "set", "one", "device.volume=400")
	do(1, "config", "set", "one", "linto.broker=mqtt://127.0.0.1:1")
	if file(one) != first {
		t.Errorf("the file has %s", file(one))
	}
	do(0, "config", "set", "-all", "device.volume=40")
	for _, path := range []string{one, two} {
		if !strings.Contains(file(path), "volume = 40\n") {
			t.Errorf("the file has %s", file(path))
		}
	}
	do(0, "config", "undo", "one")
	if file(one) != first {
		t.Errorf("reverted, the file has %s", file(one))
	}
	if out := do(0, "counters", "one", "two"); !strings.Contains(out, "one  ") || !strings.Contains(out, "two  ") {
		t.Errorf("counters %q", out)
	}
	for _, verb := range []string{"log one", "doctor one", "reboot one", "upgrade one 0.2.0 " + strings.Repeat("0", 64)} {
		if out := do(1, append(strings.Fields(verb), "-json")...); !strings.Contains(out, `"state":"refused"`) {
			t.Errorf("%s: %s", verb, out)
		}
	}
	for _, args := range []string{"config", "config set one", "config set one volume", "config set one @/nonexistent", "log one -lines 0", "upgrade one 0.2.0"} {
		do(statusUsage, strings.Fields(args)...)
	}
}

func TestChangesAreTOML(t *testing.T) {
	a, err := parseChange("set", []string{"a.b=1", "a.on=true", "a.t=10s", `a.s="x"`, `a.l=["x", 'y']`, `a.q=say "hi"`, "a.e="})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []any{int64(1), true, "10s", "x", []any{"x", "y"}, `say "hi"`, ""} {
		_, value, _ := strings.Cut(strings.Split(a.Change, "\n")[i], " = ")
		if got := config.Literal([]byte(value)); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s is %v, want %v", value, got, want)
		}
	}
}

// Following a log repeats requests, each from the end of the last answer.
func TestFollow(t *testing.T) {
	v := deviceLog()
	answer := json.RawMessage(`{"lines":[],"cursor":"c"}`)
	if o := v.next(runs.Result{State: runs.Done, Answer: answer}); o != nil {
		t.Errorf("without -f, it continues with %v", o)
	}
	cmd := (&call{}).run(v)
	if err := cmd.Flags().Set("follow", "true"); err != nil {
		t.Fatal(err)
	}
	o := v.next(runs.Result{State: runs.Done, Answer: answer})
	var args logArgs
	if len(o) != 1 || json.Unmarshal(o[0].Args, &args) != nil || args.After != "c" || args.Wait == 0 || o[0].Takes < time.Duration(args.Wait)*time.Second {
		t.Errorf("%+v", o)
	}
	if o := v.next(runs.Result{Answer: json.RawMessage(`"no object"`)}); o != nil {
		t.Errorf("%v", o)
	}
}
