package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"lintod/agent/broker/brokertest"
	"lintod/cmd/lintosim/platform"
)

const (
	loginUser     = "ann@example.org"
	loginPassword = "planted-8c41d0"
)

// account is a platform with one account, and a lintod that logs in to it.
type account struct {
	*box
	sim    *platform.Platform
	away   func() // stops the platform
	serial string // of the session

	mu     sync.Mutex
	events []platform.Event
}

func startAccount(t *testing.T, o platform.Options) *account {
	t.Helper()
	a := &account{serial: platform.SessionID(loginUser)}
	o.HTTP, o.Users, o.Scope = "127.0.0.1:0", map[string]string{loginUser: loginPassword}, "home"
	o.Observe = func(e platform.Event) {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.events = append(a.events, e)
	}
	a.sim = platform.New(o)
	if err := a.sim.Start(); err != nil {
		t.Fatal(err)
	}
	a.away = sync.OnceFunc(func() { _ = a.sim.Close() })
	t.Cleanup(a.away)
	dir, err := os.MkdirTemp("", "box") // short: a socket's path has a limit
	if err != nil {
		t.Fatal(err)
	}
	a.box = &box{t: t, dir: dir}
	t.Cleanup(func() {
		a.kill()
		os.RemoveAll(dir)
		if t.Failed() {
			t.Log(a.log.String())
		}
	})
	a.write("password", loginPassword+"\n")
	a.write("lintod.toml", fmt.Sprintf(`
[device]
serial = %q
state_dir = %q
socket = %q
[linto]
enabled = true
keepalive = "1m"
[linto.login]
url = %q
user = %q
password_file = %q
logout_on_stop = true
[audio]
input = "null"
output = "null"
`, serial, a.path("state"), a.path("sock"), a.sim.LoginURL(), loginUser, a.path("password")))
	return a
}

func (a *account) write(name, text string) {
	a.t.Helper()
	if err := os.WriteFile(a.path(name), []byte(text), 0o600); err != nil {
		a.t.Fatal(err)
	}
}

func (a *account) run() {
	a.t.Helper()
	dir, err := programs()
	if err != nil {
		a.t.Fatal(err)
	}
	a.launch(filepath.Join(dir, "lintod"), &a.log)
}

func (a *account) waitFor(match func(platform.Message) bool) platform.Message {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(a.t.Context(), brokertest.Limit)
	defer cancel()
	m, err := a.sim.WaitFor(ctx, match)
	if err != nil {
		a.t.Fatal(err)
	}
	return m
}

// ping returns the token of the pong.
func (a *account) ping() string {
	a.t.Helper()
	sent, err := a.sim.Send(a.serial, "ping", nil)
	if err != nil {
		a.t.Fatal(err)
	}
	pong := a.waitFor(platform.After(sent, platform.Published(a.serial, "pong")))
	var body struct {
		Token string `json:"auth_token"`
	}
	if err := json.Unmarshal(pong.Payload, &body); err != nil {
		a.t.Fatalf("pong %s: %v", pong.Payload, err)
	}
	return body.Token
}

func (a *account) count(kind platform.Kind) (n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, e := range a.events {
		if e.Kind == kind {
			n++
		}
	}
	return n
}

func TestLoginFromHTTPToMQTT(t *testing.T) {
	t.Parallel()
	a := startAccount(t, platform.Options{Server: platform.Server2021, TokenLife: 3 * time.Second})
	a.run()
	a.waitFor(platform.Online(a.serial))
	first := a.ping()
	if !strings.HasPrefix(first, "Android eyJ") {
		t.Fatalf("the pong's token is %q", first)
	}

	// Another device logs in to the same account, which invalidates our tokens: the
	// refresh fails, and we log in again. The connection to the broker stays open.
	body := fmt.Sprintf(`{"email":%q,"password":%q}`, loginUser, loginPassword)
	response, err := http.Post(a.sim.LoginURL()+"/local/android/login", "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	brokertest.Eventually(t, "another login", func() bool { return a.count(platform.LoggedIn) >= 3 })
	brokertest.Eventually(t, "another token", func() bool { return a.ping() != first })
	second := a.ping()
	brokertest.Eventually(t, "a refresh", func() bool { return a.count(platform.Refreshed) >= 1 })
	if n := a.count(platform.Connected); n != 1 {
		t.Errorf("%d connections to the broker; want 1", n)
	}

	info, err := os.Stat(a.path("state/linto-login.json"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the tokens are stored in %v, %v", info, err)
	}
	var published bytes.Buffer
	for _, args := range [][]string{{"status"}, {"status", "-json"}, {"check"}} {
		if code, out := a.box.run(args...); code != 0 {
			t.Errorf("%v: %d %s", args, code, out)
		} else {
			published.WriteString(out)
		}
	}
	raw, err := os.ReadFile(a.path("state/linto-login.json"))
	if err != nil {
		t.Fatal(err)
	}
	var kept struct{ Auth, Refresh string }
	if err := json.Unmarshal(raw, &kept); err != nil || kept.Refresh == "" {
		t.Errorf("kept: %v", err)
	}
	a.stop()
	a.waitFor(platform.Offline(a.serial))
	if n := a.count(platform.LoggedOut); n != 1 {
		t.Errorf("%d logouts; want 1", n)
	}
	published.WriteString(a.log.String())
	for _, secret := range []string{loginPassword, strings.TrimPrefix(first, "Android "), strings.TrimPrefix(second, "Android "), kept.Auth, kept.Refresh} {
		if strings.Contains(published.String(), secret) {
			t.Errorf("%q is readable by others", secret)
		}
	}
}

func TestStatusReportsWhyLoginFailed(t *testing.T) {
	a := startAccount(t, platform.Options{})
	url := a.sim.LoginURL()
	a.away()
	a.run()
	var out string
	brokertest.Eventually(t, "the reason in the status", func() bool {
		_, out = a.box.run("status")
		return strings.Contains(out, "offline: "+url) && strings.Contains(out, syscall.ECONNREFUSED.Error())
	})
	if strings.Contains(out, loginPassword) {
		t.Errorf("the status is\n%s", out)
	}
	a.stop()
}
