package tunnel

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"lintod/agent/base/config"
	"lintod/agent/base/journal/journaltest"
	"lintod/agent/base/nettest"
	"lintod/agent/base/sshdtest"
	"lintod/agent/base/state"
	"lintod/behaviors"
)

// box is the device: the behaviours with a real Executor.
type box struct {
	*behaviors.Executor
	keeper  *Keeper
	dir     string
	log     *journaltest.Buffer
	answers chan behaviors.Answer
	events  chan Event
	stop    func()
}

// towards is a configuration that allows a server with a known key.
func towards(t *testing.T, s *sshdtest.Server) Config {
	t.Helper()
	c := Defaults()
	c.Enabled, c.PerMinute, c.AllowHosts = true, 600, config.Strings{s.Address()}
	c.KnownHosts = write(t, filepath.Join(t.TempDir(), "known_hosts"), s.KnownHosts())
	c.LocalPorts = config.Strings{"1-65535"}
	return c
}

func newBox(t *testing.T, c Config) *box {
	t.Helper()
	if ps := c.Validate(); len(ps) > 0 {
		t.Fatal(ps)
	}
	b := &box{dir: t.TempDir(), log: &journaltest.Buffer{}, answers: make(chan behaviors.Answer, 100), events: make(chan Event, 100)}
	log := slog.New(slog.NewTextHandler(b.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	ledger, err := state.OpenLedger(b.dir, log)
	if err != nil {
		t.Fatal(err)
	}
	audit := &behaviors.Audit{Path: filepath.Join(b.dir, "audit.log"), Log: log}
	b.keeper = &Keeper{Config: c, StateDir: b.dir, Audit: audit, Log: log}
	failed := false
	b.keeper.Changed = func(_ context.Context, e Event) error {
		if failed = !failed; failed {
			return errors.New("the platform cannot be reached")
		}
		b.events <- e
		return nil
	}
	registry := &behaviors.Registry{}
	registry.Add(b.keeper.Verbs()...)
	b.Executor = &behaviors.Executor{Registry: registry, Ledger: ledger, Audit: audit, Log: log}
	ctx, cancel := context.WithCancel(context.Background())
	var parts sync.WaitGroup
	parts.Go(func() { b.keeper.Run(ctx) })
	parts.Go(func() { b.Run(ctx) })
	b.stop = func() { cancel(); parts.Wait() }
	t.Cleanup(b.stop)
	await(t, func() bool {
		b.keeper.mu.Lock()
		defer b.keeper.mu.Unlock()
		return b.keeper.ctx != nil
	})
	return b
}

func (b *box) submit(verb string, args behaviors.Arguments) (behaviors.Answer, bool) {
	for {
		refusal, ok := b.Submit(behaviors.Request{Link: "linto", Verb: verb, Args: args, Answered: func() {
			b.Deliver("linto", func(a behaviors.Answer) error { b.answers <- a; return nil })
		}})
		if ok || refusal.Code != behaviors.Busy {
			return refusal, ok
		}
		time.Sleep(time.Millisecond)
	}
}

func arguments(t *testing.T, members map[string]any) behaviors.Arguments {
	t.Helper()
	args := behaviors.Arguments{Values: map[string]json.RawMessage{}}
	for name, member := range members {
		raw, err := json.Marshal(member)
		if err != nil {
			t.Fatal(err)
		}
		args.Values[name] = raw
	}
	return args
}

func (b *box) ask(t *testing.T, verb string, members map[string]any) behaviors.Answer {
	t.Helper()
	answer, ok := b.submit(verb, arguments(t, members))
	if ok {
		select {
		case answer = <-b.answers:
		case <-time.After(2 * time.Minute):
			t.Fatalf("no answer; log:\n%s", b.log)
		}
	}
	return answer
}

func (b *box) audit() string {
	text, _ := os.ReadFile(filepath.Join(b.dir, "audit.log"))
	return string(text)
}

// request requests a tunnel through s to local.
func request(t *testing.T, s *sshdtest.Server, remote, local int) map[string]any {
	t.Helper()
	return map[string]any{argHost: "127.0.0.1", argUser: sshdtest.User(t), argRemote: fmt.Sprint(remote), argLocal: fmt.Sprint(local), argKey: s.Login.PEM}
}

func must(t *testing.T, a behaviors.Answer, code behaviors.Code, says string) {
	t.Helper()
	if a.Code != code || !strings.Contains(a.Error, says) {
		t.Errorf("%s, want %s with %q: %s", a.Code, code, says, a.Error)
	}
}

func TestARealLoginThroughARealTunnel(t *testing.T) {
	relay, device := startServer(t, ""), startServer(t, "")
	b := newBox(t, towards(t, relay))
	remote := nettest.FreePort(t)
	must(t, b.ask(t, "startreversessh", request(t, relay, remote, device.Port)), behaviors.OK, "")
	out, err := logIn(t, remote, device.Login, "echo through the tunnel; head -c 3000000 /dev/zero | wc -c")
	if err != nil || out != "through the tunnel\n3000000\n" {
		t.Errorf("%q, %v", out, err)
	}
	if out, err := logIn(t, remote, relay.Login, "true"); err == nil {
		t.Errorf("the device accepted the relay's key: %q", out)
	}

	again := b.ask(t, "startreversessh", request(t, relay, remote, device.Port))
	must(t, again, behaviors.OK, "")
	must(t, b.ask(t, "startreversessh", request(t, relay, nettest.FreePort(t), device.Port)), behaviors.Busy, "stopreversessh")
	await(t, func() bool { s := b.keeper.Status(); return len(s) == 1 && s[0].Connections == 2 && s[0].Open == 0 })
	if s := b.keeper.Status()[0]; s.RemotePort != remote || s.LocalPort != device.Port {
		t.Errorf("status: %+v", s)
	}

	must(t, b.ask(t, "stopreversessh", nil), behaviors.OK, "")
	if len(b.keeper.Status()) != 0 {
		t.Errorf("status: %+v", b.keeper.Status())
	}
	await(t, func() bool { return !nettest.Listens(remote) })
	must(t, b.ask(t, "startreversessh", request(t, relay, remote, device.Port)), behaviors.OK, "")
	b.stop()
	await(t, func() bool { return !nettest.Listens(remote) })
	for _, says := range []string{`"msg":"reverse SSH closed"`, `"reason":"stopreversessh"`, `"reason":"context canceled"`, `"connections":2`, `"arg_private_key":"***"`} {
		if !strings.Contains(b.audit(), says) {
			t.Errorf("no %s in\n%s", says, b.audit())
		}
	}
}

func TestManyBytesAndHalfClose(t *testing.T) {
	relay := startServer(t, "")
	local, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer local.Close()
	go func() {
		for {
			c, err := local.Accept()
			if err != nil {
				return
			}
			go func() { // answers when the other side has sent everything
				text, _ := io.ReadAll(c)
				c.Write(bytes.ToUpper(text))
				c.Close()
			}()
		}
	}()
	b := newBox(t, towards(t, relay))
	remote := nettest.FreePort(t)
	must(t, b.ask(t, "startreversessh", request(t, relay, remote, local.Addr().(*net.TCPAddr).Port)), behaviors.OK, "")
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", remote))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	sent := bytes.Repeat([]byte("abcdefgh"), 1<<17)
	go func() { c.Write(sent); c.(*net.TCPConn).CloseWrite() }()
	got, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(got, bytes.ToUpper(sent)) {
		t.Errorf("%d bytes of %d came back, %v", len(got), len(sent), err)
	}
}

func TestConnectionsAreBounded(t *testing.T) {
	relay := startServer(t, "", "MaxStartups 100")
	local, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer local.Close()
	b := newBox(t, towards(t, relay))
	remote := nettest.FreePort(t)
	must(t, b.ask(t, "startreversessh", request(t, relay, remote, local.Addr().(*net.TCPAddr).Port)), behaviors.OK, "")
	for range maxConnections + 5 {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", remote))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	await(t, func() bool { return b.keeper.Status()[0].Open == maxConnections })
	b.stop() // with all of them open
	if n := b.keeper.Status(); len(n) != 0 {
		t.Errorf("status %+v", n)
	}
}

func TestHostKeys(t *testing.T) {
	relay := startServer(t, "")
	ask := func(t *testing.T, c Config) behaviors.Answer {
		return newBox(t, c).ask(t, "startreversessh", request(t, relay, nettest.FreePort(t), 9))
	}
	other := &sshdtest.Server{Port: relay.Port, Host: sshdtest.NewKey(t)}
	t.Run("unknown", func(t *testing.T) {
		c := towards(t, relay)
		c.KnownHosts = ""
		a := ask(t, c)
		must(t, a, behaviors.Refused, ssh.FingerprintSHA256(relay.Host.Public))
	})
	t.Run("accepted when new, and stored", func(t *testing.T) {
		c := towards(t, relay)
		c.AcceptNew, c.KnownHosts = true, filepath.Join(t.TempDir(), "new")
		must(t, ask(t, c), behaviors.OK, "")
		if text, err := os.ReadFile(c.KnownHosts); err != nil || string(text) != relay.KnownHosts() {
			t.Errorf("%q, %v", text, err)
		}
		c.AcceptNew = false
		must(t, ask(t, c), behaviors.OK, "")
	})
	t.Run("changed", func(t *testing.T) {
		c := towards(t, relay)
		c.AcceptNew = true
		write(t, c.KnownHosts, other.KnownHosts())
		must(t, ask(t, c), behaviors.Refused, c.KnownHosts+" line 1")
	})
	t.Run("another type is known", func(t *testing.T) {
		dir := t.TempDir()
		if out, err := exec.Command("ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", filepath.Join(dir, "k")).CombinedOutput(); err != nil {
			t.Fatalf("%v %s", err, out)
		}
		text, err := os.ReadFile(filepath.Join(dir, "k"))
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, "k"), string(text))
		two := startServer(t, "", "HostKey "+filepath.Join(dir, "k"))
		c := towards(t, two) // its ed25519 key is known; servers prefer to present the other
		must(t, newBox(t, c).ask(t, "startreversessh", request(t, two, nettest.FreePort(t), 9)), behaviors.OK, "")
	})
	t.Run("revoked", func(t *testing.T) {
		c := towards(t, relay)
		c.AcceptNew = true
		write(t, c.KnownHosts, "@revoked * "+relay.Host.Line()+"\n"+relay.KnownHosts())
		must(t, ask(t, c), behaviors.Refused, c.KnownHosts+" line 1")
	})
	t.Run("file is garbage", func(t *testing.T) {
		c := towards(t, relay)
		write(t, c.KnownHosts, "garbage")
		must(t, ask(t, c), behaviors.Refused, ssh.FingerprintSHA256(relay.Host.Public))
	})
}

func TestPrivateKeys(t *testing.T) {
	relay := startServer(t, "")
	dir, outside := t.TempDir(), t.TempDir()
	for _, folder := range []string{dir, outside} {
		write(t, filepath.Join(folder, "id"), relay.Login.PEM)
	}
	if err := os.Mkdir(filepath.Join(dir, "sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "sub", "id"), relay.Login.PEM)
	write(t, filepath.Join(dir, "open"), relay.Login.PEM)
	os.Chmod(filepath.Join(dir, "open"), 0o644)
	os.Symlink(filepath.Join(outside, "id"), filepath.Join(dir, "link"))
	syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o600)
	unknown := sshdtest.NewKey(t)
	locked := filepath.Join(t.TempDir(), "locked")
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "passphrase", "-f", locked).CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	lockedKey, err := os.ReadFile(locked)
	if err != nil {
		t.Fatal(err)
	}
	c := towards(t, relay)
	c.KeyDir = dir
	b := newBox(t, c)
	for _, tt := range []struct {
		name, key string
		code      behaviors.Code
		says      string
	}{
		{"text", relay.Login.PEM, behaviors.OK, ""},
		{"text without its last newline", strings.TrimSpace(relay.Login.PEM), behaviors.OK, ""},
		{"text with carriage returns", strings.ReplaceAll(relay.Login.PEM, "\n", "\r\n"), behaviors.OK, ""},
		{"name", "id", behaviors.OK, ""},
		{"name below", "sub/id", behaviors.OK, ""},
		{"path", filepath.Join(dir, "id"), behaviors.OK, ""},
		{"path outside", filepath.Join(outside, "id"), behaviors.Refused, ""},
		{"way out", "../" + filepath.Base(outside) + "/id", behaviors.Refused, ""},
		{"link out", "link", behaviors.Refused, ""},
		{"fifo", "fifo", behaviors.Refused, ""},
		{"folder", "sub", behaviors.Refused, ""},
		{"nothing there", "none", behaviors.Refused, syscall.ENOENT.Error()},
		{"readable by others", "open", behaviors.Refused, "chmod 600"},
		{"absent", "", behaviors.Refused, ""},
		{"garbage", "-----BEGIN OPENSSH PRIVATE KEY-----\nplanted\n-----END OPENSSH PRIVATE KEY-----\n", behaviors.BadRequest, argKey},
		{"with a passphrase", string(lockedKey), behaviors.Refused, ""},
		{"an unknown key", unknown.PEM, behaviors.Failed, relay.Address()},
		{"too long", strings.Repeat("\n", maxKey+1), behaviors.BadRequest, argKey},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := request(t, relay, nettest.FreePort(t), 9)
			r[argKey] = tt.key
			a := b.ask(t, "startreversessh", r)
			must(t, a, tt.code, tt.says)
			b.ask(t, "stopreversessh", nil)
			if strings.Contains(a.Error, outside) || strings.Contains(a.Error, dir) {
				t.Errorf("the answer contains paths: %s", a.Error)
			}
		})
	}
	t.Run("configured", func(t *testing.T) {
		c.Key = filepath.Join(outside, "id")
		r := request(t, relay, nettest.FreePort(t), 9)
		delete(r, argKey)
		must(t, newBox(t, c).ask(t, "startreversessh", r), behaviors.OK, "")
	})
	body := strings.Split(relay.Login.PEM, "\n")[2]
	for name, text := range map[string]string{"log": b.log.String(), "audit": b.audit()} {
		if strings.Contains(text, body) || strings.Contains(text, "planted") || strings.Contains(text, "BEGIN") {
			t.Errorf("the %s contains a key:\n%s", name, text)
		}
	}
}

func TestHostileArguments(t *testing.T) {
	c := Defaults()
	c.Enabled, c.PerMinute, c.AllowHosts, c.AllowUsers = true, 600, config.Strings{"relay.example"}, config.Strings{"tunnel"}
	c.AllowPorts = config.Strings{"2222", "20000-20010"}
	b := newBox(t, c)
	for _, tt := range []struct {
		field string
		value any
		code  behaviors.Code
	}{
		{argHost, nil, behaviors.BadRequest},
		{argHost, 1, behaviors.BadRequest},
		{argHost, []string{"relay.example"}, behaviors.BadRequest},
		{argHost, "", behaviors.BadRequest},
		{argHost, "relay.example\n", behaviors.BadRequest},
		{argHost, "-oProxyCommand=reboot", behaviors.BadRequest},
		{argHost, "relay.example;reboot", behaviors.BadRequest},
		{argHost, "relay.example\x00", behaviors.BadRequest},
		{argHost, strings.Repeat("a", 1<<20), behaviors.BadRequest},
		{argHost, "evil.example", behaviors.Refused},
		{argHost, "relay.example.evil", behaviors.Refused},
		{argHost, "relay.example:2222", behaviors.Refused},
		{argHost, "relay.example:99999", behaviors.BadRequest},
		{argUser, nil, behaviors.BadRequest},
		{argUser, 1, behaviors.BadRequest},
		{argUser, "a b", behaviors.BadRequest},
		{argUser, "-l", behaviors.BadRequest},
		{argUser, "root", behaviors.Refused},
		{argRemote, nil, behaviors.BadRequest},
		{argRemote, 0, behaviors.BadRequest},
		{argRemote, 65536, behaviors.BadRequest},
		{argRemote, -1, behaviors.BadRequest},
		{argRemote, "", behaviors.BadRequest},
		{argRemote, "2222;reboot", behaviors.BadRequest},
		{argRemote, []int{2222}, behaviors.BadRequest},
		{argRemote, 2222.5, behaviors.BadRequest},
		{argRemote, true, behaviors.BadRequest},
		{argRemote, 1e300, behaviors.BadRequest},
		{argRemote, 2223, behaviors.Refused},
		{argRemote, 20011, behaviors.Refused},
		{argLocal, 0, behaviors.BadRequest},
		{argLocal, map[string]int{}, behaviors.BadRequest},
		{argLocal, 23, behaviors.Refused},
		{argKey, 1, behaviors.BadRequest},
		{argKey, []string{"planted"}, behaviors.BadRequest},
		{argKey, "a\x00b", behaviors.BadRequest},
		{"id", 1, behaviors.BadRequest},
	} {
		r := map[string]any{argHost: "relay.example", argUser: "tunnel", argRemote: 2222, argKey: "x\n"}
		r[tt.field] = tt.value
		names := tt.field
		if tt.code == behaviors.Refused { // by a list in the configuration
			names = "[behaviors.startreversessh]"
		}
		if a := b.ask(t, "startreversessh", r); a.Code != tt.code || !strings.Contains(a.Error, names) || len(a.Error) > 300 || strings.Contains(a.Error, "planted") {
			t.Errorf("%s = %.40s: %s %.300s", tt.field, fmt.Sprint(tt.value), a.Code, a.Error)
		}
	}
}

func TestOffByDefault(t *testing.T) {
	b := newBox(t, Defaults())
	for _, verb := range []string{"startreversessh", "stopreversessh"} {
		must(t, b.ask(t, verb, nil), behaviors.Disabled, "[behaviors.startreversessh]")
	}
}

func TestServers(t *testing.T) {
	c := Config{AllowHosts: config.Strings{"relay.example", "other.example:2222", "[fe80::1]:22", "10.0.0.1"}}
	for _, tt := range []struct{ asked, want string }{
		{"relay.example", "relay.example:22"},
		{"Relay.Example", "Relay.Example:22"},
		{"relay.example:22", "relay.example:22"},
		{"relay.example:23", ""},
		{"other.example", "other.example:2222"},
		{"other.example:2222", "other.example:2222"},
		{"other.example:22", ""},
		{"fe80::1", "[fe80::1]:22"},
		{"[fe80::1]:22", "[fe80::1]:22"},
		{"10.0.0.1", "10.0.0.1:22"},
		{"10.0.0.11", ""},
	} {
		host, port := splitHost(tt.asked)
		if got, _ := c.server(host, port); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.asked, got, tt.want)
		}
	}
}

func TestServersThatRestrictPorts(t *testing.T) {
	remote := nettest.FreePort(t)
	for _, permit := range []string{fmt.Sprintf(`restrict,port-forwarding,permitlisten="localhost:%d"`, remote), fmt.Sprintf(`restrict,port-forwarding,permitlisten="127.0.0.1:%d"`, remote)} {
		t.Run(permit, func(t *testing.T) {
			relay := startServer(t, permit)
			b := newBox(t, towards(t, relay))
			wrong := nettest.FreePort(t)
			must(t, b.ask(t, "startreversessh", request(t, relay, wrong, 9)), behaviors.Failed, fmt.Sprint(wrong))
			must(t, b.ask(t, "startreversessh", request(t, relay, remote, 9)), behaviors.OK, "")
			b.stop()
			await(t, func() bool { return !nettest.Listens(remote) })
		})
	}
}

func TestPortInUse(t *testing.T) {
	relay := startServer(t, "")
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	// sshd succeeds if it can bind one of the addresses of localhost.
	if six, err := net.Listen("tcp", fmt.Sprintf("[::1]:%d", taken.Addr().(*net.TCPAddr).Port)); err == nil {
		defer six.Close()
	}
	b := newBox(t, towards(t, relay))
	must(t, b.ask(t, "startreversessh", request(t, relay, taken.Addr().(*net.TCPAddr).Port, 9)), behaviors.Failed, fmt.Sprint(taken.Addr().(*net.TCPAddr).Port))
}

func TestNoListener(t *testing.T) {
	c := Defaults()
	c.Enabled, c.AllowHosts = true, config.Strings{fmt.Sprintf("127.0.0.1:%d", nettest.FreePort(t))}
	r := request(t, &sshdtest.Server{Login: sshdtest.NewKey(t)}, 2222, 22)
	must(t, newBox(t, c).ask(t, "startreversessh", r), behaviors.Failed, syscall.ECONNREFUSED.Error())
}

// A server that accepts connections and sends nothing must not delay the end.
func TestSilentServerAndStop(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	c := Defaults()
	c.Enabled, c.AllowHosts = true, config.Strings{silent.Addr().String()}
	b := newBox(t, c)
	if refusal, ok := b.submit("startreversessh", arguments(t, request(t, &sshdtest.Server{Login: sshdtest.NewKey(t)}, 2222, 22))); !ok {
		t.Fatalf("%+v", refusal)
	}
	conn, err := silent.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	b.stop()
	must(t, <-b.answers, behaviors.Interrupted, "")
}

func (b *box) awaitClosed(t *testing.T, reason string) {
	t.Helper()
	await(t, func() bool { return strings.Contains(b.audit(), `"msg":"reverse SSH closed"`) })
	if !strings.Contains(b.audit(), reason) {
		t.Errorf("no %q in\n%s", reason, b.audit())
	}
	if s := b.keeper.Status(); len(s) != 0 {
		t.Errorf("status: %+v", s)
	}
}

func TestLifeIsLimited(t *testing.T) {
	relay := startServer(t, "")
	c := towards(t, relay)
	c.MaxLife = config.Duration(time.Second)
	b := newBox(t, c)
	remote := nettest.FreePort(t)
	must(t, b.ask(t, "startreversessh", request(t, relay, remote, relay.Port)), behaviors.OK, "")
	b.awaitClosed(t, errLife.Error())
	if e := b.event(t); !errors.Is(e.Err, errLife) {
		t.Errorf("closed: %+v", e)
	}
	await(t, func() bool { return !nettest.Listens(remote) })
}

func (b *box) event(t *testing.T) Event {
	t.Helper()
	select {
	case e := <-b.events:
		return e
	case <-time.After(2 * time.Minute):
		t.Fatalf("no event; log:\n%s", b.log)
		return Event{}
	}
}

// A tunnel that breaks is reported and reopened while its limit lasts; a request in
// the meantime does not wait for the next attempt.
func TestBrokenTunnelIsReopened(t *testing.T) {
	relay, device := startServer(t, ""), startServer(t, "")
	b := newBox(t, towards(t, relay))
	remote := nettest.FreePort(t)
	must(t, b.ask(t, "startreversessh", request(t, relay, remote, device.Port)), behaviors.OK, "")
	for range 2 {
		for _, pid := range relay.Sessions() {
			syscall.Kill(pid, syscall.SIGKILL)
		}
		if e := b.event(t); e.Err == nil || e.Link != "linto" {
			t.Errorf("broken: %+v", e)
		}
		if e := b.event(t); e.Err != nil {
			t.Errorf("open again: %+v", e)
		}
		if out, err := logIn(t, remote, device.Login, "echo back"); err != nil || out != "back\n" {
			t.Errorf("%q, %v", out, err)
		}
	}
	relay.Process.Signal(syscall.SIGSTOP) // without a listener
	for _, pid := range relay.Sessions() {
		syscall.Kill(pid, syscall.SIGKILL)
	}
	if e := b.event(t); e.Err == nil {
		t.Errorf("broken: %+v", e)
	}
	await(t, func() bool { s := b.keeper.Status(); return len(s) == 1 && s[0].Broken != "" })
	relay.Process.Signal(syscall.SIGCONT)
	must(t, b.ask(t, "startreversessh", request(t, relay, remote, device.Port)), behaviors.OK, "")
	if s := b.keeper.Status(); len(s) != 1 || s[0].Broken != "" {
		t.Errorf("status: %+v", s)
	}
	must(t, b.ask(t, "stopreversessh", nil), behaviors.OK, "")
	if s := b.keeper.Status(); len(s) != 0 {
		t.Errorf("status: %+v", s)
	}
}

// A tunnel is not reopened to a server with a different host key.
func TestATunnelIsNotReopenedToAnotherServer(t *testing.T) {
	relay := startServer(t, "")
	c := towards(t, relay)
	b := newBox(t, c)
	must(t, b.ask(t, "startreversessh", request(t, relay, nettest.FreePort(t), 9)), behaviors.OK, "")
	write(t, c.KnownHosts, (&sshdtest.Server{Port: relay.Port, Host: sshdtest.NewKey(t)}).KnownHosts())
	for _, pid := range relay.Sessions() {
		syscall.Kill(pid, syscall.SIGKILL)
	}
	if e := b.event(t); e.Err == nil {
		t.Errorf("broken: %+v", e)
	}
	if e := b.event(t); behaviors.CodeOf(e.Err) != behaviors.Refused {
		t.Errorf("closed: %+v", e)
	}
	b.awaitClosed(t, c.KnownHosts+" line 1")
}

func TestHangingServerIsNoticed(t *testing.T) {
	relay := startServer(t, "")
	c := towards(t, relay)
	c.Keepalive = config.Duration(time.Second)
	b := newBox(t, c)
	must(t, b.ask(t, "startreversessh", request(t, relay, nettest.FreePort(t), 9)), behaviors.OK, "")
	for _, pid := range relay.Sessions() {
		syscall.Kill(pid, syscall.SIGSTOP)
	}
	if e := b.event(t); !errors.Is(e.Err, errSilent) {
		t.Errorf("broken: %+v", e)
	}
	must(t, b.ask(t, "stopreversessh", nil), behaviors.OK, "")
}

func TestDefaultsAreValidAndOff(t *testing.T) {
	if ps := Defaults().Validate(); len(ps) > 0 || Defaults().Enabled {
		t.Error(ps)
	}
}

func TestValidate(t *testing.T) {
	for key, spoil := range map[string]func(*Config){
		"allow_hosts": func(c *Config) { c.AllowHosts = nil },
		"allow_users": func(c *Config) { c.AllowUsers = config.Strings{"a b"} },
		"allow_ports": func(c *Config) { c.AllowPorts = config.Strings{"30-20"} },
		"local_ports": func(c *Config) { c.LocalPorts = config.Strings{"0"} },
		"known_hosts": func(c *Config) { c.KnownHosts = "relative" },
		"key":         func(c *Config) { c.Key = "relative" },
		"key_dir":     func(c *Config) { c.KeyDir = "relative" },
		"keepalive":   func(c *Config) { c.Keepalive = 0 },
		"max_life":    func(c *Config) { c.MaxLife = config.Duration(9 * time.Hour) },
		"at_once":     func(c *Config) { c.AtOnce = 0 },
		"per_minute":  func(c *Config) { c.PerMinute = 0 },
	} {
		c := Defaults()
		c.Enabled, c.AllowHosts = true, config.Strings{"relay.example:22", "*", "[::1]:22"}
		spoil(&c)
		if ps := c.Validate(); len(ps) != 1 || ps[0].Key != key {
			t.Errorf("%s: %v", key, ps)
		}
	}
}

// For any request, only targets in the lists are accepted.
func FuzzTarget(f *testing.F) {
	f.Add("relay.example", "tunnel", 2222, 22)
	f.Add("relay.example:2022", "-l", 0, -1)
	c := Defaults()
	c.AllowHosts, c.AllowUsers = config.Strings{"relay.example:2022"}, config.Strings{"tunnel"}
	f.Fuzz(func(t *testing.T, host, user string, remote, local int) {
		got, err := c.target(behaviors.Args{argHost: host, argUser: user, argRemote: remote, argLocal: local})
		if err == nil && (!strings.EqualFold(got.server, "relay.example:2022") || got.user != "tunnel" || got.remotePort < 1024 || got.localPort != 22) {
			t.Errorf("%+v", got)
		}
	})
}
