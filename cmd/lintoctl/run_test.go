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

	"lintod/agent/base/journal/journaltest"
	"lintod/agent/broker"
	"lintod/agent/broker/brokertest"
)

// crowd is many devices that support ids, on one connection.
type crowd struct {
	conn *broker.Conn

	// answers are the fields of answers other than pongs, by serial.
	answers map[string]string

	mu   sync.Mutex
	away map[string]bool           // devices that receive nothing
	mum  map[string]bool           // devices that carry out each request once, and do not answer
	did  map[string]map[string]int // number of requests, by serial and "topic id"
}

// startCrowd connects devices until the end of the test.
func startCrowd(t *testing.T, m *brokertest.Mosquitto, serials []string, answers ...map[string]string) *crowd {
	t.Helper()
	f := &crowd{away: map[string]bool{}, mum: map[string]bool{}, did: map[string]map[string]int{}}
	if len(answers) > 0 {
		f.answers = answers[0]
	}
	config := broker.Defaults()
	config.Broker, config.ClientID = []string{m.URL()}, "crowd"
	f.conn = &broker.Conn{Config: config, Subscribe: []string{"home/tolinto/#"}, Backlog: 10_000, Log: slog.New(slog.DiscardHandler)}
	f.conn.Handle = f.handle
	online := make(chan struct{}, 1)
	f.conn.Online = func(ctx context.Context) {
		for _, serial := range serials {
			f.say(ctx, serial, "status", fmt.Sprintf(`{"connexion":"online","sn":%q,"config":{"firmware":"1.%d"}}`, serial, len(serial)))
		}
		select {
		case online <- struct{}{}:
		default:
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = f.conn.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	<-online
	return f
}

func (f *crowd) say(ctx context.Context, serial, name, payload string) {
	m := broker.Message{Topic: "home/fromlinto/" + serial + "/" + name, Payload: []byte(payload), Retain: name == "status"}
	_ = f.conn.Publish(ctx, m) // without a connection it is lost, like a device's answer
}

var answerTopics = map[string]string{"ping": "pong", "mute": "muteack", "unmute": "unmuteack"}

func (f *crowd) handle(ctx context.Context, m broker.Message) {
	serial, verb, _ := strings.Cut(strings.TrimPrefix(m.Topic, "home/tolinto/"), "/")
	id := readAnswer(m.Payload).ID
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.away[serial] {
		return
	}
	topic, ok := answerTopics[verb]
	if !ok {
		topic = verb
	}
	if verb != "ping" {
		if f.did[serial] == nil {
			f.did[serial] = map[string]int{}
		}
		key := verb + " " + id
		f.did[serial][key]++
		if f.mum[serial] {
			return
		}
	}
	answer := fmt.Sprintf(`{"id":%q}`, id)
	if a := f.answers[serial]; a != "" && verb != "ping" {
		answer = fmt.Sprintf(`{"id":%q,%s}`, id, a)
	}
	f.say(ctx, serial, topic, answer)
}

func (f *crowd) set(which map[string]bool, yes bool, serials ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, serial := range serials {
		which[serial] = yes
	}
}

// asked returns how many devices got a request other than a ping.
func (f *crowd) asked() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.did)
}

func names(n int) (list []string) {
	for i := range n {
		list = append(list, fmt.Sprintf("device-%04d", i))
	}
	return list
}

// lines reads JSON Lines, all of version 1.
func lines(t *testing.T, text string) (list []map[string]any) {
	t.Helper()
	for line := range strings.Lines(text) {
		var object map[string]any
		if err := json.Unmarshal([]byte(line), &object); err != nil || object["v"] != 1.0 {
			t.Fatalf("%q: %v", line, err)
		}
		list = append(list, object)
	}
	return list
}

// A thousand devices, half of them offline: the others get the request in stages,
// the rest when they connect, or through retry.
func TestAThousandDevices(t *testing.T) {
	fresh(t)
	m := brokertest.Start(t)
	all := names(1000)
	f := startCrowd(t, m, all)
	status, out, errs := lintoctl(t.Context(), on(m, "ping", "-all", "-timeout", "20s", "-json")...)
	last := lines(t, out)
	if status != 0 || len(last) != 1001 || last[1000]["answered"] != 1000.0 {
		t.Fatalf("status %d, %d lines\n%s", status, len(last), errs)
	}

	f.set(f.away, true, all[500:]...)
	status, out, errs = lintoctl(t.Context(), on(m, "volume", "-all", "40", "-timeout", "15s", "-json", "-canary", "1", "-then", "10%", "-then", "100%", "-max-failed", "2")...)
	got := lines(t, out)
	if status != statusFailed || len(got) != 1001 || got[1000]["done"] != 500.0 || f.asked() != 500 {
		t.Fatalf("status %d, %d lines, the last %v, %d asked\n%s", status, len(got), got[len(got)-1], f.asked(), errs)
	}

	f.set(f.away, false, all[500:900]...)
	status, out, _ = lintoctl(t.Context(), on(m, "run", "retry", "-json", "-timeout", "15s")...)
	got = lines(t, out)
	if status != statusFailed || len(got) != 501 || got[500]["done"] != 900.0 || f.asked() != 900 {
		t.Fatalf("status %d, %d lines, %d asked", status, len(got), f.asked())
	}

	// The last hundred connect during the wait.
	var later journaltest.Buffer
	done := make(chan int, 1)
	go func() {
		done <- run(t.Context(), on(m, "mute", "-failed-of", "last", "-wait-online", "1h", "-timeout", "500ms"), &later, &later)
	}()
	time.AfterFunc(time.Second, func() {
		f.set(f.away, false, all[900:]...)
		for _, serial := range all[900:] {
			f.say(context.Background(), serial, "status", `{"connexion":"online"}`)
		}
	})
	if status := <-done; status != 0 || !strings.Contains(later.String(), "100 of 100 done") {
		t.Errorf("status %d\n%s", status, later.String())
	}
}

// A broker that dies in the middle of a run, and run retry: nothing is carried out
// twice, because the id is the same.
func TestBrokerDiesDuringARun(t *testing.T) {
	dir := fresh(t)
	m := brokertest.Start(t)
	all := names(20)
	f := startCrowd(t, m, all)
	f.set(f.mum, true, all[10:]...)
	var out journaltest.Buffer
	done := make(chan int, 1)
	go func() { done <- run(t.Context(), on(m, "say", "-all", "-timeout", "2s", "Hello"), &out, &out) }()
	brokertest.Eventually(t, "all are asked", func() bool { return f.asked() == 20 })
	m.Kill()
	if status := <-done; status != statusFailed {
		t.Fatalf("status %d\n%s", status, out.String())
	}
	m.Restart()
	brokertest.Eventually(t, "the devices are online again", f.conn.Connected)
	f.set(f.mum, false, all...)
	status, text, errs := lintoctl(t.Context(), on(m, "run", "retry", "last")...)
	if status != 0 || !strings.Contains(text, "20 of 20") {
		t.Errorf("status %d\n%s%s", status, text, errs)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for serial, did := range f.did {
		if len(did) != 1 {
			t.Errorf("%s was asked with different ids: %v", serial, did)
		}
	}
	// The file is the user's own.
	files, _ := filepath.Glob(filepath.Join(dir, "lintoctl", "runs", "*"))
	if len(files) != 1 {
		t.Fatalf("kept %v", files)
	}
	if info, err := os.Stat(files[0]); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
}

// A device that is offline for a second loses messages, and gets them again.
func TestDeviceIsOfflineForASecond(t *testing.T) {
	fresh(t)
	m := brokertest.Start(t)
	f := startCrowd(t, m, names(2))
	f.set(f.away, true, "device-0001")
	time.AfterFunc(time.Second, func() { f.set(f.away, false, "device-0001") })
	if status, out, errs := lintoctl(t.Context(), on(m, "mute", "-timeout", "30s", "device-*")...); status != 0 || !strings.Contains(out, "2 of 2") {
		t.Errorf("status %d\n%s%s", status, out, errs)
	}
}

// With two devices and a forgotten --, the first device must not speak the name of
// the second.
func TestTwoDevicesWithoutDashes(t *testing.T) {
	fresh(t)
	m := brokertest.Start(t)
	f := startCrowd(t, m, names(2))
	if status, out, errs := lintoctl(t.Context(), on(m, "ls")...); status != 0 {
		t.Fatalf("status %d\n%s%s", status, out, errs)
	}
	for args, want := range map[string]int{
		"say device-0000 device-0001 hello": statusUsage, "say -all device-0001 hello": statusUsage,
		"say device-0000 -- device-0001 hello": 0, "say device-0000 device-0001 -- hello": 0,
	} {
		if status, _, errs := lintoctl(t.Context(), on(m, strings.Fields(args)...)...); status != want {
			t.Errorf("%s: status %d\n%s", args, status, errs)
		}
	}
	if n := len(f.did["device-0000"]); n != 2 {
		t.Errorf("the first got %d requests", n)
	}
}

func TestDryRunSendsNothing(t *testing.T) {
	fresh(t)
	m := brokertest.Start(t)
	f := startCrowd(t, m, append(names(3), "old"))
	watch := m.Watch("home/tolinto/#")
	status, out, errs := lintoctl(t.Context(), on(m, "say", "-where", "firmware>1.5", "-limit", "2", "-dry-run", "-json", "Hello")...)
	got := lines(t, out)
	selected := 0
	for _, line := range got {
		if line["selected"] == true {
			selected++
		} else if line["why"] == "" {
			t.Errorf("no reason in %v", line)
		}
	}
	if status != 0 || len(got) != 4 || selected != 2 || errs != "" {
		t.Errorf("status %d\n%s%s", status, out, errs)
	}
	if n := len(watch.All()); n != 0 || f.asked() != 0 {
		t.Errorf("%d messages were sent", n)
	}
}

// Retained messages of an offline device are not trusted, and do not count as a sign
// that it is online.
func TestLs(t *testing.T) {
	fresh(t)
	m := brokertest.Start(t)
	f := startCrowd(t, m, names(3))
	ctx := t.Context()
	f.say(ctx, "device-0001", "status", `{"connexion":"offline"}`)
	f.set(f.away, true, "device-0002")
	f.say(ctx, "gone", "status", `{"connexion":"offline","config":{"firmware":"\u001b[2J"}}`)
	f.set(f.away, true, "gone", "attic")
	m.Publish("home/fromlinto/attic/pong", "{}", "-r") // an old answer does not count
	// Messages of one connection stay in order.
	brokertest.Eventually(t, "the broker has the statuses", func() bool {
		status, out, _ := lintoctl(ctx, on(m, "ls", "-no-ping")...)
		return status == 0 && strings.Contains(out, "gone")
	})
	status, out, errs := lintoctl(ctx, on(m, "ls", "-json", "-timeout", "5s", "-from", serialsFile(t, append(names(3), "attic", "gone")))...)
	states := map[string]any{}
	for _, line := range lines(t, out) {
		states[fmt.Sprint(line["serial"])] = line["state"]
	}
	want := map[string]any{"device-0000": "online", "device-0001": "online", "device-0002": "silent", "attic": "silent", "gone": "away"}
	if status != statusFailed || errs != "" || fmt.Sprint(states) != fmt.Sprint(want) {
		t.Errorf("status %d, %v\n%s", status, states, errs)
	}
	if strings.Contains(out, "\x1b") {
		t.Errorf("%q would control a terminal", out)
	}
}

func serialsFile(t *testing.T, serials []string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "serials")
	if err := os.WriteFile(path, []byte("\ufeff# all\r\n"+strings.Join(serials, "\r\n")+"\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestExec(t *testing.T) {
	fresh(t)
	m := brokertest.Start(t)
	f := startCrowd(t, m, names(4), map[string]string{
		"device-0000": `"stdout":"a\n\u001b[2Jb","stderr":"warn\n","exit_code":0`,
		"device-0001": `"stdout":"","stderr":"no\n","exit_code":1,"status":"failed: exit status 1"`,
		"device-0002": `"status":"disabled","message":"not enabled"`,
	})
	for serial, want := range map[string]struct {
		status    int
		out, errs string // "*" for any text
	}{
		"device-0000": {0, "a\n\x1b[2Jb", "warn\n"}, // a pipe gets it unchanged
		"device-0001": {1, "", "no\n"},
		"device-0002": {statusNotRun, "", "*"},
	} {
		status, out, errs := lintoctl(t.Context(), on(m, "exec", serial, "--", "ls", "-l")...)
		if status != want.status || out != want.out || errs != want.errs && (want.errs != "*" || errs == "") {
			t.Errorf("%s: status %d, %q, %q", serial, status, out, errs)
		}
	}
	f.set(f.away, true, "device-0003")
	status, out, errs := lintoctl(t.Context(), on(m, "exec", "-all", "-timeout", "2s", "ls")...)
	if status != statusFailed || !strings.Contains(out, "device-0000: a\n") || strings.Contains(out, "\x1b") || !strings.Contains(errs, "device-0001: no\n") || !strings.Contains(out, "1 of 4 done") {
		t.Errorf("status %d\n%s%s", status, out, errs)
	}
	if status, _, _ := lintoctl(t.Context(), on(m, "exec", "device-0003", "-timeout", "1s", "--", "ls")...); status != statusUnreached {
		t.Errorf("an offline device gives status %d", status)
	}
	if status, _, _ := lintoctl(t.Context(), on(m, "meeting", "pause", "device-0003", "x")...); status != statusUsage {
		t.Errorf("status %d", status)
	}
}
