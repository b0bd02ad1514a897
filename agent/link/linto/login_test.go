package linto

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"lintod/agent/base/config"
	"lintod/agent/base/journal/journaltest"
	"lintod/agent/base/state"
	"lintod/agent/broker"
	"lintod/agent/broker/brokertest"
	"lintod/agent/link"
	"lintod/agent/link/linto/login"
	"lintod/agent/network"
	"lintod/behaviors"
)

func TestTokenIsInEveryJSONMessage(t *testing.T) {
	for _, tt := range []struct{ topic, payload, want string }{
		{"blk/fromlinto/sn/pong", `{}`, `{"auth_token":"Android \"x\""}`},
		{"blk/fromlinto/sn/status", `{"connexion":"online"}`, `{"connexion":"online"}`}, // brokers retain it
		{"blk/fromlinto/sn/streaming/start", `{"config":{}}`, `{"auth_token":"Android \"x\"","config":{}}`},
		{"blk/fromlinto/sn/streaming/chunk", `{}`, `{}`}, // samples that look like JSON
		{"blk/fromlinto/sn/x", ``, ``},
	} {
		c := connection{token: func() string { return `Android "x"` }}
		before := []byte(tt.payload)
		if got := string(c.sign(broker.Message{Topic: tt.topic, Payload: before}).Payload); got != tt.want {
			t.Errorf("%s %s becomes %s; want %s", tt.topic, tt.payload, got, tt.want)
		}
		if string(before) != tt.payload {
			t.Errorf("the caller's payload was changed: %s", before)
		}
	}
	if got := string((&connection{}).sign(broker.Message{Payload: []byte("{}")}).Payload); got != "{}" {
		t.Errorf("static credentials added a token: %s", got)
	}
}

// The platform of these tests: Mosquitto with the access rules of the official
// stack, and a login server with configurable answers.
const (
	account  = "DEV_5f3d38aa"
	mqttPass = "mqtt-pass-77"
)

type stack struct {
	*brokertest.Mosquitto
	login    *httptest.Server
	password atomic.Value // of the broker, as the login returns it
	logins   atomic.Int64
}

// officialBroker has the access rules of the official stack: a user may use the
// topics of the serial that equals its name, and admin may use all.
func officialBroker(t *testing.T, user string) *brokertest.Mosquitto {
	t.Helper()
	users, acl := brokertest.Passwords(t, mqttPass, "admin", user), filepath.Join(t.TempDir(), "acl")
	rules := "user admin\ntopic readwrite #\npattern readwrite +/tolinto/%u/#\npattern readwrite +/fromlinto/%u/#\n"
	if err := os.WriteFile(acl, []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	m := brokertest.Start(t, "allow_anonymous false", "password_file "+users, "acl_file "+acl)
	m.As("admin", mqttPass)
	return m
}

func startStack(t *testing.T) *stack {
	t.Helper()
	s := &stack{Mosquitto: officialBroker(t, account)}
	s.password.Store(mqttPass)
	s.login = httptest.NewServer(s)
	t.Cleanup(s.login.Close)
	return s
}

// ServeHTTP is the login server. The next login invalidates its tokens.
func (s *stack) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	u, _ := url.Parse(s.URL())
	n := s.logins.Load()
	switch r.URL.Path {
	case "/overwatch/auths":
		fmt.Fprint(w, `[{"type":"local","basePath":"/local"}]`)
	case "/overwatch/local/android/login":
		n = s.logins.Add(1)
		w.WriteHeader(http.StatusAccepted)
		fmt.Fprintf(w, `{"user":{"auth_token":"tok%d","refresh_token":"ref%d","expiration_date":%d,"session_id":%q},
			"mqtt":{"mqtt_host":%q,"mqtt_port":%q,"mqtt_use_login":"true","mqtt_login":%q,"mqtt_password":%q}}`,
			n, n, time.Now().Add(time.Hour).Unix(), account, u.Hostname(), u.Port(), account, s.password.Load())
	case "/overwatch/local/scopes":
		if r.Header.Get("Authorization") != fmt.Sprintf("Android tok%d", n) {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		fmt.Fprint(w, `[{"name":"Home","topic":"blk"},{"name":"Work","topic":"wrk"}]`)
	default:
		w.WriteHeader(http.StatusUnauthorized)
	}
}

// device starts a link that logs in; serial distinguishes the devices of one
// account.
func (s *stack) device(t *testing.T, serial, dir string) (*stage, func()) {
	t.Helper()
	file := filepath.Join(dir, "password")
	if err := os.WriteFile(file, []byte("account-pass-12\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	d := &stage{t: t, broker: s.Mosquitto, watch: s.Watch("+/fromlinto/#"), log: &journaltest.Buffer{}}
	d.device = &device{sound: state.Saved{Volume: 80, Language: "en-US"}}
	cfg := Defaults()
	cfg.Enabled = true
	cfg.Login = login.Config{URL: s.login.URL, User: "ann", PasswordFile: file, Scope: "Home"}
	cfg.Keepalive = keepalive
	if problems := cfg.Validate(); len(problems) > 0 {
		t.Fatal(problems)
	}
	reg := &behaviors.Registry{}
	reg.Add(behaviors.Everyday(d.device)...)
	d.link = New(cfg, link.Device{
		Serial: serial, Registry: reg, Settings: d.settings, StateDir: dir,
		Log:       slog.New(slog.NewTextHandler(d.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Network:   func() ([]network.Interface, error) { return nil, nil },
		Connected: func(bool) {},
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.link.Run(ctx) }()
	stop := func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run returned %v", err)
		}
		done <- nil
		for _, secret := range []string{mqttPass, "account-pass-12", "tok1", "ref1", "tok2"} {
			if strings.Contains(d.log.String(), secret) {
				t.Errorf("%q is in the log:\n%s", secret, d.log)
			}
		}
	}
	t.Cleanup(stop)
	return d, stop
}

func (s *stage) nextOf(topic, text string) brokertest.Message {
	s.t.Helper()
	return s.watch.Next(topic+" with "+text, func(m brokertest.Message) bool {
		return m.Topic == "blk/fromlinto/"+account+"/"+topic && strings.Contains(string(m.Payload), text)
	})
}

func TestLoginLeadsToTheBroker(t *testing.T) {
	s := startStack(t)
	dir := t.TempDir()
	d, stop := s.device(t, "box-1", dir)
	status := d.nextOf("status", `"online"`)
	if got := status.JSON(t); got["auth_token"] != nil || got["sn"] != account {
		t.Errorf("status %s", status.Payload)
	}
	s.Publish("blk/tolinto/"+account+"/ping", "{}")
	if m := d.nextOf("pong", ""); string(m.Payload) != `{"auth_token":"Android tok1"}` {
		t.Errorf("pong %s", m.Payload)
	}
	if stats := d.link.Stats(); !stats.Connected || stats.Broker != s.URL() {
		t.Errorf("the status is %+v", stats)
	}
	stop()
	if m := d.nextOf("status", `"offline"`); m.JSON(t)["auth_token"] != nil {
		t.Errorf("farewell %s", m.Payload)
	}
	for _, m := range d.watch.All() {
		if strings.HasSuffix(m.Topic, "/status") && bytes.Contains(m.Payload, []byte("tok1")) {
			t.Errorf("the token is in %s %s", m.Topic, m.Payload)
		}
		if bytes.Contains(m.Payload, []byte("pass")) || bytes.Contains(m.Payload, []byte("ref1")) {
			t.Errorf("a secret is in %s %s", m.Topic, m.Payload)
		}
	}

	// The next start continues the same session.
	again, _ := s.device(t, "box-1", dir)
	again.nextOf("status", `"online"`)
	if n := s.logins.Load(); n != 1 {
		t.Errorf("%d logins; want 1", n)
	}
}

// TestTwoDevicesOfOneAccount is advised against in the documentation. It
// works as far as possible: they do not disconnect each other.
func TestTwoDevicesOfOneAccount(t *testing.T) {
	s := startStack(t)
	one, _ := s.device(t, "box-1", t.TempDir())
	one.nextOf("status", "online")
	two, _ := s.device(t, "box-2", t.TempDir())
	two.nextOf("status", "online")
	s.Publish("blk/tolinto/"+account+"/ping", "{}")
	brokertest.Eventually(t, "both answer", func() bool {
		var tokens []string
		for _, m := range two.watch.All() {
			if brokertest.Topic("/pong")(m) {
				tokens = append(tokens, fmt.Sprint(m.JSON(t)["auth_token"]))
			}
		}
		slices.Sort(tokens)
		return slices.Equal(tokens, []string{"Android tok1", "Android tok2"})
	})
	for _, d := range []*stage{one, two} {
		if n := d.link.Stats().Connects; n != 1 {
			t.Errorf("%d connections; want 1", n)
		}
	}
}

func TestBrokerRefusesTheSession(t *testing.T) {
	s := startStack(t)
	dir := t.TempDir()
	s.password.Store("an-old-one")
	first, stop := s.device(t, "box-1", dir)
	brokertest.Eventually(t, "the broker refuses", func() bool {
		return first.link.Status().Refused && strings.Contains(first.link.Stats().Line(), "[linto.login]")
	})
	stop()

	s.password.Store(mqttPass)
	d, _ := s.device(t, "box-1", dir) // with the saved session
	d.nextOf("status", `"online"`)
	if n := s.logins.Load(); n != 2 {
		t.Errorf("%d logins; want 2", n)
	}
}

func TestNotLoggedIn(t *testing.T) {
	s := startStack(t)
	s.login.Close()
	d, _ := s.device(t, "box-1", t.TempDir())
	brokertest.Eventually(t, "the status says why", func() bool {
		said := d.link.Stats().Login
		return strings.Contains(said, s.login.URL) && strings.Contains(said, syscall.ECONNREFUSED.Error())
	})
	if err := d.link.publishStatus(t.Context()); !errors.Is(err, broker.ErrOffline) {
		t.Errorf("publishing without a login returned %v", err)
	}
}

// file is a configuration file of which only [linto] is read.
type file struct {
	Linto Config `toml:"linto"`
}

func (f *file) Validate() (ps config.Problems) {
	ps.In("linto", f.Linto.Validate())
	return ps
}

func TestLoginConfig(t *testing.T) {
	const whole = "[linto.login]\nurl = \"https://h\"\nuser = \"x\"\npassword_file = \"p\"\n"
	for text, want := range map[string]string{ // the line and the key
		whole:                              "",
		"broker = \"mqtts://b\"\n" + whole: "",
		"[linto.login]\nuser = \"x\"\npassword_file = \"p\"": "conf:2: linto.login.url",
		"[linto.login]\nurl = \"https://h\"\nuser = \"x\"":   "conf:2: linto.login.password_file",
		"[linto.login]\nurl = \"ftp://h\"":                   "conf:3: linto.login.url",
		"username = \"u\"\n" + whole:                         "conf:2: linto.username",
		"password_file = \"p\"\n" + whole:                    "conf:2: linto.password_file",
	} {
		f := &file{Defaults()}
		f.Linto.Enabled = true
		err := config.Parse("conf", []byte("[linto]\n"+text), f)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want %q", text, err, want)
		}
	}
}
