package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"lintod/agent/base/journal/journaltest"
	"lintod/agent/broker/brokertest"
)

// lintoctl runs the program to its end.
func lintoctl(ctx context.Context, args ...string) (status int, stdout, stderr string) {
	var out, errs journaltest.Buffer
	status = run(ctx, args, &out, &errs)
	return status, out.String(), errs.String()
}

// on puts the flags for a broker before the rest.
func on(m *brokertest.Mosquitto, rest ...string) []string {
	return append([]string{"-broker", m.URL(), "-scope", "home"}, rest...)
}

// playDevice answers as a device does; mosquitto_sub and mosquitto_pub are its
// MQTT. What it is told can be read from the Watch.
func playDevice(t *testing.T, m *brokertest.Mosquitto, serial string) *brokertest.Watch {
	t.Helper()
	answers := map[string]string{"ping": "pong", "mute": "muteack", "unmute": "unmuteack", "tts_lang": "tts_lang"}
	commands := m.Watch("home/tolinto/" + serial + "/#")
	stop := make(chan struct{})
	var loop sync.WaitGroup
	loop.Go(func() {
		for answered := 0; ; {
			for _, told := range commands.All()[answered:] {
				answered++
				said := "{}"
				if strings.Contains(string(told.Payload), "tlh") {
					said = `{"status":"language \"tlh\" is not spoken here"}`
				}
				if answer := answers[filepath.Base(told.Topic)]; answer != "" && !strings.Contains(string(told.Payload), "older") {
					m.Publish("home/fromlinto/"+serial+"/"+answer, said)
				}
			}
			select {
			case <-stop:
				return
			case <-time.After(2 * time.Millisecond):
			}
		}
	})
	t.Cleanup(func() { close(stop); loop.Wait() })
	return commands
}

const statusText = `{"connexion":"online","on":"2026-11-22T10:00:00.000Z","sn":"kitchen","config":{` +
	`"network":[{"name":"eth0","type":"eth","ip_address":"10.0.0.5","mac_address":"b8:27:eb:00:00:01","gateway_ip":"10.0.0.1"}],` +
	`"firmware":"2.0.0","sound":{"volume":60,"tts_lang":"fr-FR"}}}`

// Help is there for the program and for each command, by every name that it has.
func TestHelp(t *testing.T) {
	root := (&call{}).commands()
	for _, args := range []string{"-help", "--help", "-h", "help"} {
		status, out, errs := lintoctl(t.Context(), args)
		if status != 0 || errs != "" {
			t.Errorf("%s: status %d, %s", args, status, errs)
		}
		for _, cmd := range root.Commands() {
			if !strings.Contains(out, "\n  "+cmd.Use+" ") {
				t.Errorf("%s: nothing about %s", args, cmd.Name())
			}
		}
	}
	for _, cmd := range root.Commands() {
		if status, out, errs := lintoctl(t.Context(), cmd.Name(), "-help"); status != 0 || errs != "" || cmd.Example == "" || !strings.Contains(out, cmd.Example) {
			t.Errorf("%s -help: status %d\n%s%s", cmd.Name(), status, out, errs)
		}
	}
}

func TestWrongUse(t *testing.T) {
	broker := []string{"-broker", "mqtt://127.0.0.1:1", "-scope", "home"}
	for _, test := range []struct {
		args string // after the broker
		says string
	}{
		{"", "command"},
		{"reboot kitchen", `there is no command "reboot"`},
		{"ping", "ping SERIAL"},
		{"ping a b", "ping SERIAL"},
		{"ping a/b", "no serial number"},
		{"ping +", "no serial number"},
		{"list a #", "no serial number"},
		{"watch +", "no serial number"},
		{"volume kitchen loud", "want a whole number from 0 to 100"},
		{"volume kitchen 101", "want a whole number from 0 to 100"},
		{"-nope ping kitchen", "-nope"},
		{"-scope a/b ping kitchen", "-scope is missing or no single level"},
		{"-wait 0s ping kitchen", "-wait is 0s"},
		{"--wait soon ping kitchen", "-wait"},
		{"ping kitchen -wait", "-wait"},
		{"-broker nonsense ping kitchen", `-broker = "nonsense"`},
		{"-password-file /x ping kitchen", "-username is missing"},
	} {
		t.Run(test.args, func(t *testing.T) {
			status, out, errs := lintoctl(t.Context(), append(broker, strings.Fields(test.args)...)...)
			if status != statusUsage || out != "" || !strings.Contains(errs, test.says) {
				t.Errorf("status %d\n%s%s", status, out, errs)
			}
		})
	}
}

func TestCommandsReachTheDevice(t *testing.T) {
	m := brokertest.Start(t)
	told := playDevice(t, m, "kitchen")
	for _, test := range []struct {
		args []string
		want []string // "command payload", in order
	}{
		{[]string{"say", "kitchen", "it's", `"ready"`}, []string{`say {"value":"it's \"ready\""}`, "ping {}"}},
		{[]string{"say", "kitchen", "--", "-5", "-wait"}, []string{`say {"value":"-5 -wait"}`, "ping {}"}},
		{[]string{"volume", "kitchen", "0"}, []string{`volume {"value":0}`, "ping {}"}},
		{[]string{"volume", "kitchen", "40", "-keep"}, []string{`volume {"value":40}`, `endvolume {"value":40}`, "ping {}"}},
		{[]string{"lang", "kitchen", "fr-FR"}, []string{`tts_lang {"value":"fr-FR"}`, "ping {}"}},
		{[]string{"-keep", "volume", "kitchen", "--", "41"}, []string{`volume {"value":41}`, `endvolume {"value":41}`, "ping {}"}},
		{[]string{"-json", "mute", "--wait=20s", "kitchen", "-keep"}, []string{"mute {}"}},
		{[]string{"-wait", "20s", "unmute", "kitchen"}, []string{"unmute {}"}},
	} {
		status, out, errs := lintoctl(t.Context(), on(m, test.args...)...)
		if status != 0 || out != "" || errs != "" {
			t.Errorf("%v: status %d\n%s%s", test.args, status, out, errs)
		}
		for _, want := range test.want {
			got := told.Next("the next command", isCommand)
			if s := filepath.Base(got.Topic) + " " + string(got.Payload); s != want || got.Retain {
				t.Errorf("%v: the device was told %s (retained %v), not %s", test.args, s, got.Retain, want)
			}
		}
	}
	if n := len(slices.DeleteFunc(told.All(), func(m brokertest.Message) bool { return !isCommand(m) })); n != 16 {
		t.Errorf("the device was told %d things", n)
	}
}

// A refusal is a failure, whoever tells it; a device that does not answer
// tts_lang, as older ones do not, tells by its status.
func TestLanguageThatIsRefused(t *testing.T) {
	m := brokertest.Start(t)
	playDevice(t, m, "kitchen")
	status, _, errs := lintoctl(t.Context(), on(m, "lang", "kitchen", "tlh")...)
	if status != statusFailed || !strings.Contains(errs, `kitchen refuses: language "tlh" is not spoken here`) {
		t.Errorf("status %d\n%s", status, errs)
	}
	status, _, errs = lintoctl(t.Context(), on(m, "-wait", "300ms", "lang", "kitchen", "older")...)
	if status != statusFailed || !strings.Contains(errs, "within 300ms") {
		t.Errorf("status %d\n%s", status, errs)
	}
	stop := make(chan struct{})
	var telling sync.WaitGroup
	telling.Go(func() {
		for {
			m.Publish("home/fromlinto/kitchen/status", strings.Replace(statusText, "fr-FR", "older", 1))
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	})
	defer telling.Wait()
	defer close(stop)
	if status, _, errs := lintoctl(t.Context(), on(m, "-wait", "20s", "lang", "kitchen", "older")...); status != 0 {
		t.Errorf("status %d\n%s", status, errs)
	}
}

// isCommand is false for the probes of a Watch.
func isCommand(m brokertest.Message) bool { return strings.HasPrefix(m.Topic, "home/tolinto/") }

func TestPing(t *testing.T) {
	m := brokertest.Start(t)
	playDevice(t, m, "kitchen")
	status, out, errs := lintoctl(t.Context(), on(m, "ping", "kitchen")...)
	if status != 0 || !regexp.MustCompile(`^kitchen: answer after \d+\.\d ms\n$`).MatchString(out) || errs != "" {
		t.Errorf("status %d\n%s%s", status, out, errs)
	}
	// An old answer is none.
	m.Publish("home/fromlinto/cellar/pong", "{}", "-r")
	status, out, errs = lintoctl(t.Context(), on(m, "-wait", "300ms", "ping", "cellar")...)
	if status != statusFailed || out != "" || !strings.Contains(errs, "cellar has not answered within 300ms") {
		t.Errorf("status %d\n%s%s", status, out, errs)
	}
}

func TestList(t *testing.T) {
	m := brokertest.Start(t)
	m.Publish("home/fromlinto/kitchen/status", statusText, "-r")
	m.Publish("home/fromlinto/old/status", `{"connexion":"offline"}`, "-r")
	m.Publish("home/fromlinto/rpi/status", `{"connexion":"online","config":{"sound":{"volume":"80"}}}`, "-r")
	m.Publish("home/fromlinto/evil/status", "{\"connexion\":\"\\u001b[31monline\\n\"}", "-r")
	m.Publish("home/fromlinto/wrong/status", `[1]`, "-r")
	m.Publish("elsewhere/fromlinto/other/status", statusText, "-r")
	status, out, errs := lintoctl(t.Context(), on(m, "-wait", "2s", "list")...)
	want := []string{
		"SERIAL      STATE          PING  ADDRESS          FIRMWARE  VOLUME  LANGUAGE",
		"evil        ·[31monline   -     -                -         -       -",
		"kitchen     online         -     10.0.0.5 (eth0)  2.0.0     60      fr-FR",
		"old         offline        -     -                -         -       -",
		"rpi         online         -     -                -         80      -",
	}
	if status != 0 || errs != "" || !equalTables(out, want) {
		t.Errorf("status %d\n%s%s", status, out, errs)
	}

	playDevice(t, m, "kitchen")
	status, out, errs = lintoctl(t.Context(), on(m, "-wait", "20s", "list", "kitchen")...)
	want = []string{want[0], "kitchen online answers 10.0.0.5 (eth0) 2.0.0 60 fr-FR"}
	if status != 0 || errs != "" || !equalTables(out, want) {
		t.Errorf("status %d\n%s%s", status, out, errs)
	}

	status, out, errs = lintoctl(t.Context(), on(m, "-wait", "2s", "list", "kitchen", "cellar")...)
	want = []string{want[0], "cellar - silent - - - -", want[1]}
	if status != statusFailed || !strings.Contains(errs, "not all have answered") || !equalTables(out, want) {
		t.Errorf("status %d\n%s%s", status, out, errs)
	}
}

// equalTables compares words, not columns.
func equalTables(got string, want []string) bool {
	return strings.Join(strings.Fields(got), " ") == strings.Join(strings.Fields(strings.Join(want, " ")), " ")
}

func TestListOfNobody(t *testing.T) {
	m := brokertest.Start(t)
	status, out, errs := lintoctl(t.Context(), on(m, "-wait", "100ms", "list")...)
	if status != 0 || out != "" || !strings.Contains(errs, "no device has told its status") {
		t.Errorf("status %d\n%s%s", status, out, errs)
	}
}

// errSignal is the cause that signal.NotifyContext gives.
var errSignal = errors.New("interrupt signal received")

// watching runs watch until the test has seen enough.
func watching(t *testing.T, m *brokertest.Mosquitto, args ...string) (out, errs *journaltest.Buffer, stop func() int) {
	t.Helper()
	out, errs = &journaltest.Buffer{}, &journaltest.Buffer{}
	ctx, cancel := context.WithCancelCause(t.Context())
	done := make(chan int, 1)
	go func() { done <- run(ctx, on(m, append([]string{"watch"}, args...)...), out, errs) }()
	// Its subscription stands when it shows what was published.
	brokertest.Eventually(t, "watch watches", func() bool {
		m.Publish("home/fromlinto/kitchen/probe", "{}")
		return strings.Contains(out.String(), "probe")
	})
	return out, errs, func() int { cancel(errSignal); return <-done }
}

func sees(t *testing.T, out *journaltest.Buffer, text string) {
	t.Helper()
	brokertest.Eventually(t, text, func() bool { return strings.Contains(out.String(), text) })
}

func TestWatch(t *testing.T) {
	m := brokertest.Start(t)
	m.Publish("home/fromlinto/cellar/status", `{"connexion":"offline","on":"x"}`, "-r")
	out, errs, stop := watching(t, m)
	sees(t, out, "  cellar  offline (retained)\n")
	m.Publish("home/fromlinto/kitchen/status", statusText)
	sees(t, out, "  kitchen  online, 10.0.0.5 (eth0), firmware 2.0.0, volume 60, fr-FR\n")
	m.Publish("home/fromlinto/kitchen/status", strings.Replace(statusText, "10:00:00", "11:00:00", 1))
	m.Publish("home/fromlinto/kitchen/status", strings.Replace(statusText, "60", "40", 1))
	sees(t, out, "volume 40, fr-FR\n")
	m.Publish("home/fromlinto/kitchen/nlp/file/7", `{"audio":"`+strings.Repeat("A", 5000)+`","conversationData":{}}`)
	sees(t, out, `  kitchen  nlp/file/7 {"audio":"(5000 characters)","conversationData":{}}`+"\n")
	m.Publish("home/fromlinto/kitchen/streaming/start", `{"config":{}}`)
	for range 3 {
		m.Publish("home/fromlinto/kitchen/streaming/chunk", strings.Repeat("x", 640))
	}
	m.Publish("home/fromlinto/kitchen/streaming/stop", `{}`)
	sees(t, out, "  kitchen  streaming/stop after 3 chunks, 1920 bytes\n")
	m.Publish("home/fromlinto/kitchen/odd", "\x1b[2J\xff")
	sees(t, out, "  kitchen  odd (5 bytes)\n")
	m.Publish("home/fromlinto/kitchen/text", "\x1b[2Jnasty\r\n")
	sees(t, out, "  kitchen  text ·[2Jnasty  \n")
	if n := strings.Count(out.String(), "volume 60"); n != 1 {
		t.Errorf("the unchanged status is told %d times", n)
	}
	if strings.ContainsAny(out.String(), "\x1b\r") || strings.Contains(out.String(), "streaming/chunk") {
		t.Errorf("told:\n%s", out)
	}
	m.Restart()
	brokertest.Eventually(t, "watch is back", func() bool {
		m.Publish("home/fromlinto/kitchen/back", "{}")
		return strings.Contains(out.String(), "kitchen  back")
	})
	if status := stop(); status != 0 || !strings.Contains(errs.String(), "trying again") {
		t.Errorf("status %d\n%s", status, errs)
	}
}

func TestWatchOneInJSON(t *testing.T) {
	m := brokertest.Start(t)
	out, _, stop := watching(t, m, "kitchen", "-json")
	m.Publish("home/fromlinto/cellar/status", statusText)
	m.Publish("home/fromlinto/kitchen/status", statusText)
	m.Publish("home/fromlinto/kitchen/streaming/chunk", "\xff\x00")
	sees(t, out, "streaming/chunk")
	if status := stop(); status != 0 {
		t.Errorf("status %d", status)
	}
	seen := map[string]bool{}
	for line := range strings.Lines(out.String()) {
		var told struct {
			Time         time.Time
			Serial, Name string
			Payload      json.RawMessage
			Base64       []byte
		}
		if err := json.Unmarshal([]byte(line), &told); err != nil || told.Time.IsZero() || told.Serial != "kitchen" {
			t.Errorf("line %s: %v", line, err)
		}
		switch told.Name {
		case "status":
			seen["status"] = string(told.Payload) == statusText
		case "streaming/chunk":
			seen["chunk"] = string(told.Base64) == "\xff\x00"
		}
	}
	if !seen["status"] || !seen["chunk"] {
		t.Errorf("told:\n%s", out)
	}
}

func TestLoginIsNeeded(t *testing.T) {
	dir := t.TempDir()
	passwords := filepath.Join(dir, "passwords")
	if out, err := exec.Command("mosquitto_passwd", "-b", "-c", passwords, "admin", "secret").CombinedOutput(); err != nil {
		t.Skipf("SKIPPED: mosquitto_passwd: %v %s", err, out)
	}
	m := brokertest.Start(t, "allow_anonymous false", "password_file "+passwords)
	m.As("admin", "secret")
	playDevice(t, m, "kitchen")
	for content, want := range map[string]int{"secret\n": 0, "wrong-secret\n": statusFailed} {
		file := filepath.Join(dir, "password")
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		status, out, errs := lintoctl(t.Context(), on(m, "-username", "admin", "-password-file", file, "ping", "kitchen")...)
		if status != want || (want != 0) != (errs != "") || strings.Contains(out+errs, "secret") {
			t.Errorf("with %q: status %d\n%s%s", content, status, out, errs)
		}
	}
}

func TestNoBroker(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	status, out, errs := lintoctl(t.Context(), "-broker", "mqtt://"+address, "-scope", "home", "ping", "kitchen")
	if status != statusFailed || out != "" || !strings.Contains(errs, address) || strings.Count(errs, "\n") != 1 {
		t.Errorf("status %d\n%s%s", status, out, errs)
	}
}

func TestInterrupted(t *testing.T) {
	m := brokertest.Start(t)
	told := m.Watch("home/tolinto/#")
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() {
		defer cancel(errSignal)
		told.Next("the ping", brokertest.Topic("/ping"))
	}()
	status, _, errs := lintoctl(ctx, on(m, "-wait", "1h", "ping", "kitchen")...)
	if status != statusFailed || errs != "lintoctl: interrupted: interrupt signal received\n" {
		t.Errorf("status %d\n%s", status, errs)
	}
}

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errors.New("no space left") }

func TestWatchEndsWhenItCannotPrint(t *testing.T) {
	m := brokertest.Start(t)
	m.Publish("home/fromlinto/kitchen/status", statusText, "-r")
	var errs journaltest.Buffer
	if status := run(t.Context(), on(m, "watch"), fullDisk{}, &errs); status != statusFailed || errs.String() != "lintoctl: print: no space left\n" {
		t.Errorf("status %d\n%s", status, &errs)
	}
}

// FuzzTell prints whatever a device may say, on one line and with nothing in it
// that a terminal would obey.
func FuzzTell(f *testing.F) {
	f.Add("kitchen", "status", []byte(statusText))
	f.Add("kitchen", "nlp/file/7", []byte(`{"audio":"AAAA","a":[1,null,{"b":"\u001b"}]}`))
	f.Add("\x1b[2J", "streaming/stop", []byte("\xff\r\n"))
	f.Fuzz(func(t *testing.T, serial, name string, payload []byte) {
		var out bytes.Buffer
		told := &teller{w: &out, last: map[string]string{}, chunks: map[string]chunks{}}
		if err := told.tell(message{serial: serial, name: name, payload: payload}); err != nil {
			t.Fatal(err)
		}
		text := out.String()
		if strings.ContainsAny(text, "\x1b\r\x07\u009b") || strings.Count(text, "\n") > 1 || len(text) > 20*summaryLength {
			t.Errorf("told %q", text)
		}
		devices := map[string]*device{}
		learn(devices, message{serial: serial, name: "status", payload: payload}, false)
	})
}
