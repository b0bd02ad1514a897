package shell

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"lintod/agent/base/config"
	"lintod/agent/base/journal/journaltest"
	"lintod/agent/base/state"
	"lintod/behaviors"
)

const link = "linto"

// anything is a free shell: it runs through a socket, or as another user.
func anything() Config {
	c := Defaults()
	c.Enabled, c.Allow, c.PerMinute = true, config.Strings{free}, 600
	return c
}

// only is a shell for these commands, which it runs as children of the daemon.
func only(commands ...string) Config {
	c := anything()
	c.Allow, c.Commands = nil, map[string]string{}
	for _, cmd := range commands {
		cmd = fill(cmd)
		c.Commands[cmd] = cmd
	}
	return c
}

// desk is the behaviour with a real Executor.
type desk struct {
	*behaviors.Executor
	dir     string
	log     *journaltest.Buffer
	answers chan behaviors.Answer
	stop    func()
}

func open(c Config, dir, socket string) (*desk, error) {
	d := &desk{dir: dir, log: &journaltest.Buffer{}, answers: make(chan behaviors.Answer, 100)}
	log := slog.New(slog.NewTextHandler(d.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	ledger, err := state.OpenLedger(dir, log)
	if err != nil {
		return nil, err
	}
	registry := &behaviors.Registry{}
	registry.Add(newVerb(&shell{Config: c, socket: socket, ownDirectory: filepath.Join(dir, "shell")}))
	d.Executor = &behaviors.Executor{
		Registry: registry,
		Ledger:   ledger,
		Audit:    &behaviors.Audit{Path: filepath.Join(dir, "audit.log"), Log: log},
		Log:      log,
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { d.Run(ctx); close(ended) }()
	d.stop = func() { cancel(); <-ended }
	return d, nil
}

func newDesk(t *testing.T, c Config, dir string) *desk {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "no.sock")
	if c.free() && c.User == "" {
		socket = listen(t, filepath.Join(dir, "shell"))
	}
	d, err := open(c, dir, socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.stop)
	return d
}

// listen does what systemd does for lintod-shell.socket: it starts a runner for each
// connection, and keeps the connection until the runner has ended.
func listen(t *testing.T, directory string) (socket string) {
	t.Helper()
	if err := os.MkdirAll(directory, 0o700); err != nil {
		t.Fatal(err)
	}
	socket = filepath.Join(t.TempDir(), "shell.sock")
	daemon := filepath.Join(t.TempDir(), "daemon.pid")
	if err := os.WriteFile(daemon, fmt.Appendln(nil, os.Getpid()), 0o600); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	var units sync.WaitGroup
	t.Cleanup(func() { listener.Close(); units.Wait() })
	units.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			units.Go(func() {
				defer conn.Close()
				runner := exec.Command(os.Args[0])
				runner.Env, runner.Dir = append(os.Environ(), runnerEnv+"="+daemon), directory
				file, err := conn.(*net.UnixConn).File()
				if err != nil {
					t.Error(err)
					return
				}
				defer file.Close()
				runner.Stdin = file
				runner.Run()
			})
		}
	})
	return socket
}

func (d *desk) deliver() {
	d.Deliver(link, func(a behaviors.Answer) error { d.answers <- a; return nil })
}

// submit waits until the Executor has started.
func (d *desk) submit(q behaviors.Request) (behaviors.Answer, bool) {
	q.Link, q.Verb, q.Answered = link, "shellexec", d.deliver
	for {
		refusal, ok := d.Submit(q)
		if ok || refusal.Code != behaviors.Busy {
			return refusal, ok
		}
		time.Sleep(time.Millisecond)
	}
}

func (d *desk) next(t *testing.T) behaviors.Answer {
	t.Helper()
	select {
	case answer := <-d.answers:
		return answer
	case <-time.After(2 * time.Minute):
		t.Fatalf("no answer; log:\n%s", d.log)
		panic("not reached")
	}
}

// nap is longer than any test, and unique.
var nap = fmt.Sprintf("sleep 61.%06d", os.Getpid())

// payload requests cmd, in which NAP is replaced by a long sleep.
func payload(cmd string) []byte {
	text, _ := json.Marshal(map[string]string{"cmd": fill(cmd)})
	return text
}

// asking is a request with a JSON object.
func asking(raw []byte) behaviors.Request {
	q := behaviors.Request{Digest: behaviors.Digest(raw)}
	if err := json.Unmarshal(raw, &q.Args.Values); err != nil {
		q.Args.Problem = err
	}
	return q
}

func fill(cmd string) string { return strings.ReplaceAll(cmd, "NAP", nap) }

// ask returns the rejection or the answer, and the result in it.
func (d *desk) ask(t *testing.T, raw []byte) (behaviors.Answer, Result) {
	t.Helper()
	answer, ok := d.submit(asking(raw))
	if ok {
		answer = d.next(t)
	}
	var result Result
	if answer.Result != nil {
		if err := json.Unmarshal(answer.Result, &result); err != nil {
			t.Fatal(err)
		}
	}
	return answer, result
}

func TestCommands(t *testing.T) {
	t.Setenv("LINTOD_PLANTED", "from-the-daemon")
	dir := t.TempDir()
	d := newDesk(t, anything(), dir)
	exit := func(n int) *int { return &n }
	for _, tt := range []struct {
		cmd, stdout, stderr string
		exit                *int
		code                behaviors.Code
	}{
		{"echo out; echo err >&2", "out\n", "err\n", exit(0), behaviors.OK},
		{"echo lost in the original; exit 3", "lost in the original\n", "", exit(3), behaviors.Failed},
		{"kill -SEGV $$", "", "", nil, behaviors.Killed},
		{"printf '<&>\\377\\n'", "<&>\uFFFD\n", "", exit(0), behaviors.OK},
		{"pwd", filepath.Join(dir, "shell") + "\n", "", exit(0), behaviors.OK},
		{"cat", "", "", exit(0), behaviors.OK},
		{"echo $LINTOD_PLANTED$NOTIFY_SOCKET", "\n", "", exit(0), behaviors.OK},
		{"echo $HOME", filepath.Join(dir, "shell") + "\n", "", exit(0), behaviors.OK},
		{"umask", "0077\n", "", exit(0), behaviors.OK},
		{"echo a\necho 'b\"'", "a\nb\"\n", "", exit(0), behaviors.OK},
	} {
		a, r := d.ask(t, payload(tt.cmd))
		if a.Code != tt.code || r.Stdout != tt.stdout || r.Stderr != tt.stderr || fmt.Sprint(deref(r.ExitCode)) != fmt.Sprint(deref(tt.exit)) || r.Truncated {
			t.Errorf("%s: %+v %+v", tt.cmd, a, r)
		}
	}
	if a, r := d.ask(t, payload("no-such-command")); a.Code != behaviors.NotFound || *r.ExitCode != 127 || !strings.Contains(r.Stderr, "no-such-command") {
		t.Errorf("%+v %+v", a, r)
	}
	if a, r := d.ask(t, []byte(`{"cmd":"echo x","id":"req.1"}`)); a.ID != "req.1" || r.Stdout != "x\n" {
		t.Errorf("%+v %+v", a, r)
	}
	if a, _ := d.ask(t, payload("(setsid sleep 60 &); true")); !strings.Contains(string(a.Result), `"background_killed":1`) {
		t.Errorf("%s", a.Result)
	}
}

func deref(n *int) any {
	if n == nil {
		return nil
	}
	return *n
}

func TestHostileArguments(t *testing.T) {
	d := newDesk(t, anything(), t.TempDir())
	for name, raw := range map[string]string{
		"missing": `{}`, "null": `{"cmd":null}`, "number": `{"cmd":1}`, "list": `{"cmd":["ls"]}`, "object": `{"cmd":{}}`, "bool": `{"cmd":true}`,
		"NUL": `{"cmd":"ls\u0000-l"}`, "no UTF-8": "{\"cmd\":\"\xff\"}", "1 MB": `{"cmd":"` + strings.Repeat("a", 1<<20) + `"}`,
		"empty": `{"cmd":""}`, "blank": `{"cmd":" \n"}`,
	} {
		if a, _ := d.ask(t, []byte(raw)); a.Code != behaviors.BadRequest || !strings.Contains(a.Error, "cmd") || len(a.Error) > 250 {
			t.Errorf("%s: %.300s", name, fmt.Sprint(a))
		}
	}
	if a, r := d.ask(t, payload("# "+strings.Repeat("x", maxCommand-10)+"\necho")); a.Code != behaviors.OK || r.Stdout != "\n" {
		t.Errorf("the longest: %+v", a)
	}
}

func TestOffByDefault(t *testing.T) {
	c := Defaults()
	c.Allow = config.Strings{free}
	d := newDesk(t, c, t.TempDir())
	a, _ := d.ask(t, payload("touch planted"))
	if a.Code != behaviors.Disabled || !strings.Contains(a.Error, "[behaviors.shellexec]") {
		t.Errorf("%+v", a)
	}
}

func TestAllow(t *testing.T) {
	for _, tt := range []struct {
		entry, cmd string
		want       bool
	}{
		{"*", "rm -rf / ; :", true},
		{"uptime", "uptime", true},
		{"uptime", "uptime ", false},
		{"uptime", "uptime; reboot", false},
		{"uptime", "Uptime", false},
		{"systemctl status *", "systemctl status lintod.service", true},
		{"systemctl status *", "systemctl status ", false},
		{"systemctl status *", "systemctl status a b", false},
		{"systemctl status *", "systemctl status a;reboot", false},
		{"systemctl status *", "systemctl status a\nreboot", false},
		{"systemctl status *", "systemctl status a\n", false},
		{"systemctl status *", "systemctl status $(reboot)", false},
		{"systemctl status *", "systemctl status `reboot`", false},
		{"systemctl status *", "systemctl status a|sh", false},
		{"systemctl status *", "systemctl status a>b", false},
		{"systemctl status *", "systemctl status 'a'", false},
		{"systemctl status *", "systemctl status --help", false},
		{"systemctl status *", "systemctl status a\x00", false},
		{"systemctl status *", "systemctl status é", false},
		{"systemctl status lintod*", "systemctl status lintod-audio", true},
		{"cat /var/log/*", "cat /var/log/syslog.1", true},
		{"cat /var/log/*", "cat /var/log/../shadow", false},
		{"cat /var/log/*", "cat /var/log/..", false},
		{"cat /var/log/.*", "cat /var/log/..", false},
		{"cat /var/log/*", "cat /var/log/a/b", false},
		{"journalctl -u * -n *", "journalctl -u lintod -n 20", true},
		{"journalctl -u * -n *", "journalctl -u lintod -n -1", false},
		{"ping -c 1 *", "ping -c 1 192.168.1.1", true},
		{"a.b", "axb", false},
	} {
		if got := matches(tt.entry, tt.cmd); got != tt.want {
			t.Errorf("%q allows %q: %v", tt.entry, tt.cmd, got)
		}
	}
}

func TestOnlyAllowedCommandsRun(t *testing.T) {
	c := anything()
	c.Allow, c.Commands = config.Strings{"echo *"}, map[string]string{"both": "echo one; echo two"}
	d := newDesk(t, c, t.TempDir())
	if a, r := d.ask(t, payload("echo hello")); a.Code != behaviors.OK || r.Stdout != "hello\n" {
		t.Errorf("%+v %+v", a, r)
	}
	if a, r := d.ask(t, payload("both")); a.Code != behaviors.OK || r.Stdout != "one\ntwo\n" {
		t.Errorf("%+v %+v", a, r)
	}
	if a, _ := d.ask(t, payload("echo hello; touch x")); a.Code != behaviors.Refused || !strings.Contains(a.Error, "[behaviors.shellexec]") {
		t.Errorf("%+v", a)
	}
}

// Each command must be answered within its limit plus a second, and leave no
// processes.
func TestLimit(t *testing.T) {
	commands := map[string]string{
		"never ends":                      "echo so far; NAP",
		"ignores SIGTERM":                 "trap '' TERM; echo so far; while :; do NAP; done",
		"closes its pipes":                "echo so far; exec >&- 2>&-; NAP",
		"floods":                          "echo so far; yes",
		"floods both":                     "echo so far; yes >&2 & yes",
		"left the session":                "echo so far; (setsid NAP &); (env -i setsid NAP &); NAP",
		"forks and forks":                 "echo so far; while :; do (setsid NAP &); sleep 0.01; done",
		"stopped":                         "echo so far; kill -STOP $$",
		"ignores all signals that it can": "trap '' TERM HUP INT QUIT PIPE; echo so far; (trap '' TERM; setsid sh -c 'while :; do NAP; done' &); while :; do NAP; done",
	}
	// On a busy machine a unit needs a second to start.
	const limit = 3 * time.Second
	for where, c := range map[string]Config{"in a unit": anything(), "as a child": only(slices.Collect(maps.Values(commands))...)} {
		c.Timeout = config.Duration(limit)
		d := newDesk(t, c, t.TempDir())
		for name, cmd := range commands {
			t.Run(name+" "+where, func(t *testing.T) {
				a, r := d.ask(t, payload(cmd))
				if a.Code != behaviors.Timeout || !strings.HasPrefix(r.Stdout, "so far\n") || r.ExitCode != nil {
					t.Errorf("%.300s", fmt.Sprint(a))
				}
				t.Logf("answered after %d ms, limit %v", r.Millis, limit)
				if r.Millis > 30_000 {
					t.Error("far too late")
				}
			})
		}
		if out, _ := exec.Command("pgrep", "-f", "^"+nap+"$").Output(); len(out) > 0 {
			t.Errorf("left behind %s: %s", where, out)
		}
	}
}

// A command that kills its runner has ended its unit; it must not appear successful.
func TestRunnerThatIsKilled(t *testing.T) {
	d := newDesk(t, anything(), t.TempDir())
	if a, _ := d.ask(t, payload("kill -9 $PPID; sleep 1")); a.Code != behaviors.Killed {
		t.Errorf("%+v", a)
	}
}

// If the socket exists but does not work, the command must not run as the daemon's
// child.
func TestBrokenSocketDoesNotFallBack(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "shell.sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	listener.(*net.UnixListener).SetUnlinkOnClose(false)
	go func() {
		for conn, err := listener.Accept(); err == nil; conn, err = listener.Accept() {
			conn.Close() // like systemd beyond MaxConnections=
		}
	}()
	for _, state := range []string{"full", "closed"} {
		if state == "closed" {
			listener.Close()
		}
		d, err := open(only("echo ran"), t.TempDir(), socket)
		if err != nil {
			t.Fatal(err)
		}
		if a, _ := d.ask(t, payload("echo ran")); a.Code != behaviors.Refused || a.Result != nil || !strings.Contains(a.Error, "lintod-shell.socket") {
			t.Errorf("%s: %+v", state, a)
		}
		d.stop()
	}
}

// The platform must not control what the daemon's own user does.
func TestFreeShellIsDeniedToTheDaemonsUser(t *testing.T) {
	d, err := open(anything(), t.TempDir(), filepath.Join(t.TempDir(), "no.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer d.stop()
	if _, err := user.Lookup(Account); err == nil && os.Getuid() == 0 {
		t.Skipf("SKIPPED: root becomes %s here", Account)
	}
	if a, _ := d.ask(t, payload("id")); a.Code != behaviors.Refused || a.Result != nil || !strings.Contains(a.Error, "allow") {
		t.Errorf("%+v", a)
	}
	c := anything()
	c.User = userName()
	named := newDesk(t, c, t.TempDir())
	if a, _ := named.ask(t, payload("id")); a.Code != behaviors.Refused || a.Result != nil || !strings.Contains(a.Error, "allow") {
		t.Errorf("named: %+v", a)
	}
}

// A request is answered even if the unit does not end, or does not start.
func TestUnitThatDoesNotEnd(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "shell.sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		for n := 0; ; n++ {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			out := frames{w: conn}
			switch n {
			case 0: // starts, and hangs
				out.write(frameHello, []byte("nobody"))
			case 1: // reports how it ended, and hangs
				out.write(frameHello, []byte("nobody"))
				out.end(0, nil)
			}
			context.AfterFunc(t.Context(), func() { conn.Close() })
		}
	}()
	c := anything()
	c.Timeout = config.Duration(time.Second)
	d, err := open(c, t.TempDir(), socket)
	if err != nil {
		t.Fatal(err)
	}
	defer d.stop()
	for _, want := range []behaviors.Code{behaviors.Timeout, behaviors.OK, behaviors.Refused} {
		if a, _ := d.ask(t, payload("true")); a.Code != want {
			t.Errorf("%+v, want %s", a, want)
		}
	}
}

// A child of the daemon, with the same user, cannot run commands outside the owner's
// list.
func TestOnlyTheDaemonIsServed(t *testing.T) {
	socket := listen(t, t.TempDir())
	again := exec.Command(os.Args[0])
	again.Env = append(os.Environ(), otherEnv+"="+socket)
	if out, err := again.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// actAsOther is that child: it succeeds if it is rejected.
func actAsOther(socket string) {
	if r, err := dial(context.Background(), socket); err == nil {
		fmt.Printf("commands run as %s", r.user)
		os.Exit(1)
	}
	os.Exit(0)
}

// The user in the owner's configuration applies, and precedes that of the socket.
func TestUserIsThatOfTheConfiguration(t *testing.T) {
	dir := t.TempDir()
	c := anything()
	c.User = userName()
	d, err := open(c, dir, listen(t, filepath.Join(dir, "unit")))
	if err != nil {
		t.Fatal(err)
	}
	defer d.stop()
	if a, r := d.ask(t, payload("pwd")); r.Stdout != filepath.Join(dir, "unit")+"\n" {
		t.Errorf("the user of the socket: %+v", a)
	}
	c.User = "no-such-user"
	if d, err = open(c, t.TempDir(), listen(t, filepath.Join(dir, "unit"))); err != nil {
		t.Fatal(err)
	}
	defer d.stop()
	if a, _ := d.ask(t, payload("id")); a.Code != behaviors.Refused || a.Result != nil || !strings.Contains(a.Error, "no-such-user") {
		t.Errorf("another: %+v", a)
	}
}

func FuzzFrames(f *testing.F) {
	var seed bytes.Buffer
	out := &frames{w: &seed}
	out.write(frameStdout, []byte("hello"))
	out.end(1, nil)
	f.Add(seed.Bytes())
	f.Add([]byte("o\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := &runner{conn: new(net.UnixConn), in: newFrameReader(bytes.NewReader(data))}
		if _, err := r.follow(io.Discard, io.Discard); err == nil {
			t.Error("it ended without an error")
		}
		if size := cap(r.in.buf); size > 2*maxFrame {
			t.Errorf("a buffer of %d bytes for %d", size, len(data))
		}
	})
}

func TestFloodIsBounded(t *testing.T) {
	d := newDesk(t, anything(), t.TempDir())
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	a, r := d.ask(t, payload(`echo first; head -c 40000000 /dev/zero | tr '\0' x; head -c 10000000 /dev/zero >&2; echo last`))
	runtime.ReadMemStats(&after)
	if a.Code != behaviors.OK || !strings.HasPrefix(r.Stdout, "first\nxxx") || !strings.HasSuffix(r.Stdout, "xxxlast\n") {
		t.Errorf("%v, %d bytes: %.40q", a.Code, len(r.Stdout), r.Stdout)
	}
	keep := Defaults().MaxOutput
	if want := int64(50_000_000 + len("first\nlast\n") - 2*keep); !r.Truncated || r.Dropped != want || !strings.Contains(r.Stdout, "bytes dropped") {
		t.Errorf("%d bytes dropped, want %d", r.Dropped, want)
	}
	// NULs take six bytes each in JSON, which is copied a few times.
	if used := after.TotalAlloc - before.TotalAlloc; used > 16<<20 {
		t.Errorf("%d bytes allocated for 50 MB of output", used)
	}
	if len(a.Result) > 7*2*keep {
		t.Errorf("the answer has %d bytes", len(a.Result))
	}
}

func TestCapture(t *testing.T) {
	for _, tt := range []struct {
		writes []string
		want   string
		drop   int64
	}{
		{nil, "", 0},
		{[]string{"12345678"}, "12345678", 0},
		{[]string{"1234", "5678"}, "12345678", 0},
		{[]string{"123456789"}, "123456\n[1 bytes dropped]\n89", 1},
		{[]string{"1234567", "8", "9", "0"}, "123456\n[2 bytes dropped]\n90", 2},
		{[]string{strings.Repeat("x", 1000), "ab", "c"}, "xxxxxx\n[995 bytes dropped]\nbc", 995},
		{[]string{"12345é7é"}, "12345\uFFFD\n[2 bytes dropped]\né", 2},
	} {
		c := newCapture(8)
		for _, w := range tt.writes {
			if n, err := c.Write([]byte(w)); n != len(w) || err != nil {
				t.Errorf("wrote %d, %v", n, err)
			}
		}
		if got, dropped := c.text(); got != tt.want || dropped != tt.drop {
			t.Errorf("%.20q: %q, %d dropped", tt.writes, got, dropped)
		}
	}
}

func FuzzCapture(f *testing.F) {
	f.Add([]byte("hello, world"), 3)
	f.Fuzz(func(t *testing.T, data []byte, step int) {
		if step < 1 {
			return
		}
		c, written := newCapture(64), 0
		for rest := data; len(rest) > 0; {
			n, _ := c.Write(rest[:min(step, len(rest))])
			written, rest = written+n, rest[n:]
		}
		text, dropped := c.text()
		if !utf8.ValidString(text) || written != len(data) || dropped != max(0, int64(len(data))-64) {
			t.Errorf("%q, %d dropped of %d", text, dropped, len(data))
		}
	})
}

func TestAsAnotherUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("SKIPPED: only root may become another user")
	}
	dir := t.TempDir()
	for up := dir; up != os.TempDir(); up = filepath.Dir(up) {
		if err := os.Chmod(up, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	c := anything()
	c.User = "nobody"
	d := newDesk(t, c, dir)
	a, r := d.ask(t, payload("id -un; echo $USER; echo x >file && ls; cat ../audit.log"))
	if r.Stdout != "nobody\nnobody\nfile\n" || !strings.Contains(r.Stderr, "Permission denied") {
		t.Errorf("%+v %+v", a, r)
	}
	c.User = "no-such-user"
	d = newDesk(t, c, t.TempDir())
	if a, _ := d.ask(t, payload("id")); a.Code == behaviors.OK || a.Result != nil || !strings.Contains(a.Error, "no-such-user") {
		t.Errorf("%+v", a)
	}
}

func TestUserWithoutAccessIsRejected(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("SKIPPED: only root may become another user")
	}
	c := anything()
	c.User = "nobody"
	d := newDesk(t, c, t.TempDir()) // 0700, root's
	if a, _ := d.ask(t, payload("id")); a.Code != behaviors.Refused || a.Result != nil || !strings.Contains(a.Error, "nobody") {
		t.Errorf("%+v", a)
	}
}

func TestStopInterruptsAtOnce(t *testing.T) {
	dir := t.TempDir()
	d := newDesk(t, anything(), dir)
	if refusal, ok := d.submit(asking(payload("trap '' TERM; echo begun | tee begun; NAP; NAP"))); !ok {
		t.Fatalf("%+v", refusal)
	}
	await(t, func() bool { return strings.Contains(read(filepath.Join(dir, "shell", "begun")), "begun") })
	began := time.Now()
	d.stop()
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("stopping took %v", took)
	} else {
		t.Logf("stopping took %v", took)
	}
	if a := d.next(t); a.Code != behaviors.Interrupted || !strings.Contains(string(a.Result), "begun") {
		t.Errorf("%+v", a)
	}
}

func read(path string) string {
	text, _ := os.ReadFile(path)
	return string(text)
}

func await(t *testing.T, what func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !what(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("timeout")
		}
	}
}

// daemonEnv contains the directory in which the test binary, run as a child, runs a
// command until it is killed.
const daemonEnv = "SHELL_TEST_DIR"

// runnerEnv makes the test binary a runner, for the daemon whose pid is in that
// file.
const runnerEnv = "SHELL_TEST_RUNNER"

const halfway = "echo $$ >>runs; exec sleep 61"

// otherEnv makes the test binary connect to that socket.
const otherEnv = "SHELL_TEST_OTHER"

func TestMain(m *testing.M) {
	if socket := os.Getenv(otherEnv); socket != "" {
		actAsOther(socket)
	}
	if daemon := os.Getenv(runnerEnv); daemon != "" {
		conn, err := net.FileConn(os.Stdin)
		if err == nil {
			os.Stdin.Close()
			err = Serve(context.Background(), conn.(*net.UnixConn), daemon)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if dir := os.Getenv(daemonEnv); dir != "" {
		d, err := open(only(halfway), dir, filepath.Join(dir, "no.sock"))
		if err != nil {
			panic(err)
		}
		if refusal, ok := d.submit(asking(payload(halfway))); !ok {
			panic(refusal)
		}
		select {}
	}
	os.Exit(m.Run())
}

func TestKilledWhileACommandRuns(t *testing.T) {
	dir := t.TempDir()
	daemon := exec.Command(os.Args[0])
	daemon.Env = append(os.Environ(), daemonEnv+"="+dir)
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	runs := func() string { return read(filepath.Join(dir, "shell", "runs")) }
	await(t, func() bool { return strings.HasSuffix(runs(), "\n") })
	daemon.Process.Signal(syscall.SIGKILL)
	daemon.Wait()
	pid, err := strconv.Atoi(strings.TrimSpace(runs()))
	if err != nil {
		t.Fatal(err)
	}
	await(t, func() bool { // it ends with the daemon; PID 1 of a container may leave a zombie
		stat := read(fmt.Sprintf("/proc/%d/stat", pid))
		return stat == "" || strings.Contains(stat, ") Z ")
	})

	d := newDesk(t, only(halfway), dir)
	d.deliver()
	if a := d.next(t); a.Code != behaviors.Interrupted || a.Verb != "shellexec" {
		t.Errorf("after the restart: %+v", a)
	}
	// The broker has not received an acknowledgement and sends the command again.
	again := asking(payload(halfway))
	again.Duplicate = true
	if refusal, ok := d.submit(again); !ok {
		t.Fatalf("%+v", refusal)
	}
	if a := d.next(t); a.Code != behaviors.Interrupted {
		t.Errorf("the redelivery: %+v", a)
	}
	if n := strings.Count(runs(), "\n"); n != 1 {
		t.Errorf("the command ran %d times", n)
	}
	audit := read(filepath.Join(dir, "audit.log"))
	if strings.Count(audit, "behaviour asked\"") != 1 || strings.Count(audit, `"result":"interrupted"`) != 1 {
		t.Errorf("audit:\n%s", audit)
	}
}

func TestPlantedSecretsAreInNoLog(t *testing.T) {
	const planted = "PLANTED-5ecret"
	dir := t.TempDir()
	d := newDesk(t, anything(), dir)
	d.ask(t, payload("PGPASSWORD="+planted+" sh -c 'echo $PGPASSWORD; echo $PGPASSWORD >&2; exit 4'"))
	d.ask(t, payload("cat <<E\n-----BEGIN OPENSSH PRIVATE KEY-----\n"+planted+"\n-----END OPENSSH PRIVATE KEY-----\nE"))
	d.ask(t, []byte(`{"cmd":["`+planted+`"]}`))
	d.ask(t, []byte(`{"cmd":"`+planted))
	for name, text := range map[string]string{"log": d.log.String(), "audit": read(filepath.Join(dir, "audit.log"))} {
		if strings.Contains(text, planted) || !strings.Contains(text, "sha256") {
			t.Errorf("%s:\n%s", name, text)
		}
	}
}

func TestDefaultsAreValidAndOff(t *testing.T) {
	if ps := Defaults().Validate(); len(ps) > 0 || Defaults().Enabled {
		t.Error(ps)
	}
}

func TestValidate(t *testing.T) {
	for key, spoil := range map[string]func(*Config){
		"allow":         func(c *Config) { c.Allow = nil },
		"commands.name": func(c *Config) { c.Commands = map[string]string{"name": ""} },
		"timeout":       func(c *Config) { c.Timeout = 0 },
		"max_output":    func(c *Config) { c.MaxOutput = 1 << 30 },
		"at_once":       func(c *Config) { c.AtOnce = 0 },
		"per_minute":    func(c *Config) { c.PerMinute = -1 },
		"directory":     func(c *Config) { c.Directory = "relative" },
	} {
		c := anything()
		spoil(&c)
		if ps := c.Validate(); len(ps) != 1 || ps[0].Key != key {
			t.Errorf("%s: %v", key, ps)
		}
	}
}

func TestWarnings(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "socket")
	if err := os.WriteFile(socket, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	another := only("id")
	another.User = "nobody"
	for _, tt := range []struct {
		name   string
		config Config
		socket string
		uid    int
		want   []string // contents of the warnings
	}{
		{"off", Defaults(), "none", 998, nil},
		{"a list, in units", only("id"), socket, 998, nil},
		{"everything, in units", anything(), socket, 998, []string{`allow = ["*"]`}},
		{"a list, as the daemon", only("id"), "none", 998, []string{"behaviors.shellexec.allow"}},
		{"everything, as the daemon", anything(), "none", 998, []string{`allow = ["*"]`, "lintod-shell.socket"}},
		{"another user", another, "none", 0, nil},
		{"another user, which it cannot become", another, "none", 998, []string{"behaviors.shellexec.user"}},
	} {
		got := tt.config.warnings(tt.socket, tt.uid)
		if len(got) != len(tt.want) {
			t.Errorf("%s: %q", tt.name, got)
			continue
		}
		for i, want := range tt.want {
			if !strings.Contains(got[i], want) {
				t.Errorf("%s: %q does not contain %s", tt.name, got[i], want)
			}
		}
	}
}

// No notation lets a * match an option where the owner intended a word.
func TestWildcardDoesNotMatchAnOption(t *testing.T) {
	for _, test := range [][3]string{ // entry, stands for, may run
		{"ls *", "--help", ""},
		{"ls '*'", "--help", ""},
		{`ls "*"`, "-R", ""},
		{`ls ''"*"`, "-R", ""},
		{`ls \*`, "-R", ""},
		{"ls $X*", "-R", ""},
		{"ls `true`*", "-R", ""},
		{"ls;*", "-R", ""},
		{"ls (*)", "-R", ""},
		{"ls --sort=*", "-R", ""},
		{"ls app*", "-web", "yes"},
		{"ls /srv/*", "-web", "yes"},
		{"ls 'app*'", "-web", ""}, // distinguishing it from '' would need a shell
		{"ls '*'", "web", "yes"},
		{"ls 'app*'", "web", "yes"},
	} {
		entry, wild, may := test[0], test[1], test[2] != ""
		if cmd := strings.Replace(entry, "*", wild, 1); matches(entry, cmd) != may {
			t.Errorf("%s may run %s: %v", entry, cmd, !may)
		}
	}
}

// Text matched by a * contains nothing that the shell interprets.
func FuzzMatches(f *testing.F) {
	f.Add("systemctl status x")
	f.Add("systemctl status x;reboot")
	f.Fuzz(func(t *testing.T, cmd string) {
		wild, ok := strings.CutPrefix(cmd, "systemctl status ")
		if matches("systemctl status *", cmd) && (!ok || wild == "" || wild[0] == '-' || strings.ContainsAny(wild, " \t\r\n\x00;&|<>()$`\\\"'*?[]#~=!{}/")) {
			t.Errorf("%q was allowed", cmd)
		}
	})
}
