package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"lintod/agent/base/journal/journaltest"
	"lintod/agent/broker/brokertest"
)

// lintoctl runs the program to its end.
func lintoctl(ctx context.Context, args ...string) (status int, stdout, stderr string) {
	var out, errs journaltest.Buffer
	status = run(ctx, args, &out, &errs)
	return status, out.String(), errs.String()
}

// fresh gives a test its own directory for the files of lintoctl.
func fresh(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("XDG_STATE_HOME", dir)
	t.Setenv("XDG_CONFIG_HOME", filepath.Join(dir, "config"))
	return dir
}

// on puts the flags for a broker before the others.
func on(m *brokertest.Mosquitto, rest ...string) []string {
	return append([]string{"-broker", m.URL(), "-scope", "home"}, rest...)
}

// playDevice answers like a device, with mosquitto_sub and mosquitto_pub as its MQTT
// client. The Watch shows the messages it gets.
func playDevice(t *testing.T, m *brokertest.Mosquitto, serial string) *brokertest.Watch {
	t.Helper()
	answers := map[string]string{"ping": "pong", "mute": "muteack", "unmute": "unmuteack", "tts_lang": "tts_lang", "shellexec": "shellexec", "managemeeting": "managemeeting"}
	commands := m.Watch("home/tolinto/" + serial + "/#")
	stop := make(chan struct{})
	var loop sync.WaitGroup
	loop.Go(func() {
		for answered := 0; ; {
			for _, command := range commands.All()[answered:] {
				answered++
				said := "{}"
				if strings.Contains(string(command.Payload), "tlh") {
					said = `{"status":"language \"tlh\" is not spoken here"}`
				}
				if answer := answers[filepath.Base(command.Topic)]; answer != "" && !strings.Contains(string(command.Payload), "older") {
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

// The program and each command have help, under each of their names.
func TestHelp(t *testing.T) {
	root := (&call{}).commands()
	for _, args := range []string{"-help", "--help", "-h", "help"} {
		status, out, errs := lintoctl(t.Context(), args)
		if status != 0 || errs != "" {
			t.Errorf("%s: status %d, %s", args, status, errs)
		}
		for _, cmd := range root.Commands() {
			if !strings.Contains(out, "\n  "+cmd.Use+" ") {
				t.Errorf("%s: %s is missing", args, cmd.Name())
			}
		}
	}
	var describes func(cmd *cobra.Command)
	describes = func(cmd *cobra.Command) {
		if cmd.Hidden || cmd.Name() == "help" || cmd.Name() == "completion" {
			return
		}
		words := strings.Fields(cmd.CommandPath())[1:]
		for _, args := range [][]string{append(words, "-help"), append([]string{"help"}, words...)} {
			if status, out, errs := lintoctl(t.Context(), args...); status != 0 || errs != "" || cmd.Example == "" || !strings.Contains(out, cmd.Example) {
				t.Errorf("%v: status %d\n%s%s", args, status, out, errs)
			}
		}
		for _, sub := range cmd.Commands() {
			describes(sub)
		}
	}
	for _, cmd := range root.Commands() {
		describes(cmd)
	}
}

func TestUsageErrors(t *testing.T) {
	fresh(t)
	broker := []string{"-broker", "mqtt://127.0.0.1:1", "-scope", "home"}
	for _, args := range []string{
		"", "reboots kitchen", "ping", "mute", "ping a/b", "ping +", "ls a #", "watch +", "volume kitchen loud", "volume kitchen 101", "volume", "volume 40",
		"say kitchen", "say", "-nope ping kitchen", "-scope a/b ping kitchen", "-timeout 0s ping kitchen", "--timeout soon ping kitchen", "ping kitchen -timeout",
		"-broker nonsense ping kitchen", "-password-file /x ping kitchen", "ping -where red=1", "ping kitchen -limit -1", "mute -from /dev/null", "mute -from /nonexistent",
		"mute -failed-of nothing", "mute kitchen -canary -1", "mute kitchen -then 0%", "ping kitchen -c 0", "run forget last", "-scope a/b run retry",
	} {
		t.Run(args, func(t *testing.T) {
			status, out, errs := lintoctl(t.Context(), append(broker, strings.Fields(args)...)...)
			if args == "-scope a/b run retry" {
				status++ // an unknown run is not a usage error
			}
			if status != statusUsage || out != "" || errs == "" {
				t.Errorf("status %d\n%s%s", status, out, errs)
			}
		})
	}
}

// Older LinTO clients do not use ids: commands that must not be repeated are sent
// once, and a ping shows that the device is online.
func TestCommandsReachOldClients(t *testing.T) {
	fresh(t)
	m := brokertest.Start(t)
	watch := playDevice(t, m, "kitchen")
	for _, test := range []struct {
		args []string
		want string // topic and payload, without the id
	}{
		{[]string{"say", "kitchen", "it's", `"ready"`}, `say {"value":"it's \"ready\""}`},
		{[]string{"say", "kitchen", "--", "-5", "-wait"}, `say {"value":"-5 -wait"}`},
		{[]string{"volume", "kitchen", "0"}, `volume {"value":0}`},
		{[]string{"volume", "kitchen", "40", "-keep"}, `endvolume {"value":40}`},
		{[]string{"lang", "kitchen", "fr-FR"}, `tts_lang {"value":"fr-FR"}`},
		{[]string{"-keep", "volume", "kitchen", "--", "41"}, `endvolume {"value":41}`},
		{[]string{"mute", "--timeout=20s", "kitchen"}, "mute {}"},
		{[]string{"-timeout", "20s", "unmute", "--", "kitchen"}, "unmute {}"},
	} {
		status, out, errs := lintoctl(t.Context(), on(m, test.args...)...)
		if status != 0 || out != "" || errs != "" {
			t.Errorf("%v: status %d\n%s%s", test.args, status, out, errs)
		}
		topic, want, _ := strings.Cut(test.want, " ")
		got := watch.Next(test.want, brokertest.Topic("/"+topic)).JSON(t)
		delete(got, "id")
		text, _ := json.Marshal(got)
		if string(text) != want {
			t.Errorf("%v: the device got %s, not %s", test.args, text, want)
		}
	}
	said := 0
	for _, m := range watch.All() {
		if filepath.Base(m.Topic) == "say" {
			said++
		}
	}
	if said != 2 {
		t.Errorf("2 texts were sent %d times", said)
	}
	if status, _, _ := lintoctl(t.Context(), on(m, "lang", "kitchen", "tlh")...); status != statusFailed {
		t.Errorf("a rejected command gives status %d", status)
	}
}

// errSignal is the cause that signal.NotifyContext sets.
var errSignal = errors.New("interrupt signal received")

// watching runs watch until the test has seen enough.
func watching(t *testing.T, m *brokertest.Mosquitto, args ...string) (out, errs *journaltest.Buffer, stop func() int) {
	t.Helper()
	out, errs = &journaltest.Buffer{}, &journaltest.Buffer{}
	ctx, cancel := context.WithCancelCause(t.Context())
	done := make(chan int, 1)
	go func() { done <- run(ctx, on(m, append([]string{"watch"}, args...)...), out, errs) }()
	// Its subscription is active once it shows what was published.
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
	sees(t, out, "  kitchen  online, 10.0.0.5, firmware 2.0.0, volume 60, fr-FR\n")
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
		t.Errorf("the unchanged status is printed %d times", n)
	}
	if strings.ContainsAny(out.String(), "\x1b\r") || strings.Contains(out.String(), "streaming/chunk") {
		t.Errorf("printed:\n%s", out)
	}
	m.Restart()
	brokertest.Eventually(t, "watch is back", func() bool {
		m.Publish("home/fromlinto/kitchen/back", "{}")
		return strings.Contains(out.String(), "kitchen  back")
	})
	if status := stop(); status != 0 || !strings.Contains(errs.String(), "retrying") {
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
		var entry struct {
			Time         time.Time
			Serial, Name string
			Payload      json.RawMessage
			Base64       []byte
		}
		if err := json.Unmarshal([]byte(line), &entry); err != nil || entry.Time.IsZero() || entry.Serial != "kitchen" {
			t.Errorf("line %s: %v", line, err)
		}
		switch entry.Name {
		case "status":
			seen["status"] = string(entry.Payload) == statusText
		case "streaming/chunk":
			seen["chunk"] = string(entry.Base64) == "\xff\x00"
		}
	}
	if !seen["status"] || !seen["chunk"] {
		t.Errorf("printed:\n%s", out)
	}
}

func TestLoginIsRequired(t *testing.T) {
	dir := fresh(t)
	m := brokertest.Start(t, "allow_anonymous false", "password_file "+brokertest.Passwords(t, "secret", "admin"))
	m.As("admin", "secret")
	playDevice(t, m, "kitchen")
	for content, want := range map[string]int{"secret\n": 0, "wrong-secret\n": statusUnreached} {
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

// A profile contains no password, is rejected if others can change it, and is not
// used for another broker.
func TestProfiles(t *testing.T) {
	dir := fresh(t)
	secret := filepath.Join(dir, "secret")
	m := brokertest.Start(t, "allow_anonymous false", "password_file "+brokertest.Passwords(t, "hush-hush", "admin"))
	m.As("admin", "hush-hush")
	playDevice(t, m, "kitchen")
	if err := os.WriteFile(secret, []byte("hush-hush\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if status, _, _ := lintoctl(t.Context(), on(m, "-username", "admin", "-password-command", "echo wrong", "login")...); status != statusUnreached {
		t.Errorf("a wrong password gives status %d", status)
	}
	if status, _, _ := lintoctl(t.Context(), "ping", "kitchen"); status != statusUsage {
		t.Errorf("an invalid profile was saved: status %d", status)
	}
	for name, password := range map[string][]string{"default": {"-password-command", "cat " + secret}, "work": {"-password-file", secret}} {
		if status, out, errs := lintoctl(t.Context(), append(on(m, "-username", "admin", "login", name), password...)...); status != 0 || out != "" || !strings.Contains(errs, name) {
			t.Fatalf("status %d\n%s%s", status, out, errs)
		}
		if status, _, errs := lintoctl(t.Context(), "-profile", name, "ping", "kitchen"); status != 0 {
			t.Errorf("%s: status %d\n%s", name, status, errs)
		}
	}
	if status, _, errs := lintoctl(t.Context(), "ping", "kitchen"); status != 0 {
		t.Errorf("status %d\n%s", status, errs)
	}
	if status, _, _ := lintoctl(t.Context(), on(m, "ping", "kitchen")...); status != statusUnreached {
		t.Errorf("the password of a profile was sent to a broker given by flag: status %d", status)
	}
	path := filepath.Join(dir, "config", "lintoctl", "work.toml")
	text, err := os.ReadFile(path)
	if err != nil || strings.Contains(string(text), "hush") {
		t.Errorf("the profile is %s, %v", text, err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"work", "none", "../work"} {
		if status, _, _ := lintoctl(t.Context(), "-profile", name, "ping", "kitchen"); status == 0 {
			t.Errorf("the profile %s is used", name)
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
	fresh(t)
	status, out, errs := lintoctl(t.Context(), "-broker", "mqtt://"+address, "-scope", "home", "ping", "kitchen")
	if status != statusUnreached || out != "" || !strings.Contains(errs, address) || strings.Count(errs, "\n") != 1 {
		t.Errorf("status %d\n%s%s", status, out, errs)
	}
}

func TestInterrupted(t *testing.T) {
	fresh(t)
	m := brokertest.Start(t)
	watch := m.Watch("home/tolinto/#")
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() {
		defer cancel(errSignal)
		watch.Next("the ping", brokertest.Topic("/ping"))
	}()
	status, _, errs := lintoctl(ctx, on(m, "-timeout", "1h", "ping", "kitchen")...)
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

// FuzzPrint prints anything a device may send, on one line and without control
// characters.
func FuzzPrint(f *testing.F) {
	f.Add("kitchen", "status", []byte(statusText))
	f.Add("kitchen", "nlp/file/7", []byte(`{"audio":"AAAA","a":[1,null,{"b":"\u001b"}]}`))
	f.Add("\x1b[2J", "streaming/stop", []byte("\xff\r\n"))
	f.Fuzz(func(t *testing.T, serial, name string, payload []byte) {
		var out bytes.Buffer
		printer := &textPrinter{w: &out, last: map[string]string{}, chunks: map[string]chunks{}}
		if err := printer.tell(message{serial: serial, name: name, payload: payload}); err != nil {
			t.Fatal(err)
		}
		text := out.String()
		if strings.ContainsAny(text, "\x1b\r\x07\u009b") || strings.Count(text, "\n") > 1 || len(text) > 20*summaryLength {
			t.Errorf("printed %q", text)
		}
	})
}
