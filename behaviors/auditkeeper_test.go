package behaviors

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// keeper runs a keeper, and returns its socket and its file.
func keeper(t *testing.T) (socket, file string, stop func()) {
	t.Helper()
	dir, err := os.MkdirTemp("", "keeper") // short: a socket's path has a limit
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket, file = filepath.Join(dir, "sock"), filepath.Join(dir, "audit.log")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	daemon := filepath.Join(dir, "daemon.pid")
	if err := os.WriteFile(daemon, fmt.Appendln(nil, os.Getpid()), 0o600); err != nil {
		t.Fatal(err)
	}
	k := &AuditKeeper{Path: file, Daemon: daemon, Idle: time.Hour, Log: slog.New(slog.DiscardHandler)}
	go func() { ended <- k.Run(ctx, l) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		l.Close()
	})
	t.Cleanup(stop)
	return socket, file, stop
}

type keptLine struct {
	UID   *int
	PID   int
	Entry map[string]any
	Text  string
}

func keptLines(t *testing.T, file string) (all []keptLine) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var k keptLine
		if err := json.Unmarshal([]byte(line), &k); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		all = append(all, k)
	}
	return all
}

// The keeper has each command in full, in any notation, with the rule that allowed
// it; the other logs have its digest. Secrets are not recorded.
func TestKeeperHasTheWholeCommand(t *testing.T) {
	socket, file, _ := keeper(t)
	verb, n := counter(on())
	o := openOffice(t, t.TempDir(), verb)
	o.Audit.Keeper = socket
	o.run(t)
	commands := []string{`X="$(reboot)"`, "nmcli d w c home password P", "a\nb", strings.Repeat("\x01", 1000)}
	for _, cmd := range commands {
		payload, _ := json.Marshal(map[string]any{"cmd": cmd, "key": "PLANTED"})
		if a := o.ask(t, asking(t, "count", string(payload))); a.Code != OK {
			t.Fatalf("%+v", a)
		}
	}
	var kept []string
	for _, line := range keptLines(t, file) {
		if line.UID == nil || *line.UID != os.Getuid() || line.PID != os.Getpid() {
			t.Errorf("sent by %v", line)
		}
		if line.Entry["msg"] == "behaviour asked" {
			kept = append(kept, line.Entry["arg_cmd"].(string))
			if line.Entry["rule"] != "a rule" || line.Entry["arg_key"] != mask {
				t.Errorf("kept %v", line.Entry)
			}
		}
	}
	if fmt.Sprint(kept) != fmt.Sprint(commands) || n.Load() != int64(len(commands)) {
		t.Errorf("kept %q", kept)
	}
	for _, text := range []string{o.log.String(), o.auditFile(t)} {
		if strings.Contains(text, "nmcli") || strings.Contains(text, "reboot") {
			t.Errorf("shown:\n%s", text)
		}
	}
	if info, err := os.Stat(file); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
}

// A command that the keeper has not recorded is not run, and the error names the
// place to look.
func TestWithoutTheKeeperNothingRuns(t *testing.T) {
	socket, _, stop := keeper(t)
	verb, n := counter(on())
	o := openOffice(t, t.TempDir(), verb)
	o.Audit.Keeper = socket
	o.run(t)
	stop()
	if a := o.ask(t, asking(t, "count", `{"cmd":"x"}`)); a.Code != Refused || n.Load() != 0 || !strings.Contains(a.Error, "lintod-audit") {
		t.Errorf("%+v, performed %d times", a, n.Load())
	}
}

// A process that may send lines may send anything; that must not damage the lines of
// others, or delay them for long.
func TestHostileLinesToTheKeeper(t *testing.T) {
	socket, file, _ := keeper(t)
	send := func(text string) string {
		conn, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(time.Minute))
		io.WriteString(conn, text)
		answer, _ := bufio.NewReader(conn).ReadString('\n')
		return strings.TrimSpace(answer)
	}
	silent, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	for text, want := range map[string]string{
		"hello\n":                                keeperOK,
		"{\"a\":1}\n":                            keeperOK,
		"\x1b[2J\xff\n":                          keeperOK,
		"\n":                                     keeperOK,
		strings.Repeat("x", keeperLine+1) + "\n": "",
	} {
		if got := send(text); got != want {
			t.Errorf("%.20q was answered with %q", text, got)
		}
	}
	if err := tellKeeper(socket, []byte(`{"ours":true}`+"\n")); err != nil {
		t.Error(err)
	}
	if lines := keptLines(t, file); len(lines) != 5 || lines[4].Entry["ours"] != true {
		t.Errorf("kept %v", lines)
	}
}

func TestKeeperRotatesAndEndsWhenIdle(t *testing.T) {
	socket, file, stop := keeper(t)
	filler := strings.Repeat("x", keeperLine-100)
	for i := range 60 {
		if err := tellKeeper(socket, fmt.Appendf(nil, "{\"n\":%d,\"x\":%q}\n", i, filler)); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	files, err := filepath.Glob(file + "*")
	if err != nil || len(files) != auditKeep+1 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, name := range files {
		if info, err := os.Stat(name); err != nil || info.Size() > keeperSize {
			t.Errorf("%s: %v, %v", name, info.Size(), err)
		}
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket + "2", Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	k := &AuditKeeper{Path: file, Idle: time.Millisecond, Log: slog.New(slog.DiscardHandler)}
	if err := k.Run(t.Context(), l); err != nil {
		t.Error(err)
	}
}
