package control

import (
	"bufio"
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
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// fixture is a running server.
type fixture struct {
	*Server
	stop    context.CancelFunc
	stopped chan error

	waiting   chan struct{} // "wait" has started
	cancelled chan error    // causes of the contexts of "wait"
	release   chan struct{} // closed to end "slow"
}

func serve(t *testing.T, path string) *fixture {
	t.Helper()
	f := &fixture{stopped: make(chan error, 1), waiting: make(chan struct{}, 100), cancelled: make(chan error, 100), release: make(chan struct{})}
	wait := func(ctx context.Context, _ json.RawMessage) (any, error) {
		f.waiting <- struct{}{}
		<-ctx.Done()
		f.cancelled <- context.Cause(ctx)
		return nil, context.Cause(ctx)
	}
	f.Server = &Server{
		Path: path,
		Handlers: map[string]Handler{
			"echo": func(_ context.Context, args json.RawMessage) (any, error) { return args, nil },
			"fail": func(context.Context, json.RawMessage) (any, error) {
				return nil, errors.New("the loudspeaker is gone")
			},
			"read": func(ctx context.Context, _ json.RawMessage) (any, error) {
				file := File(ctx)
				if file == nil {
					return nil, errors.New("no file")
				}
				defer file.Close()
				text, err := io.ReadAll(file)
				if err == nil && string(text) != "in the file" {
					err = fmt.Errorf("read %q", text)
				}
				return nil, err
			},
			"odd":  func(context.Context, json.RawMessage) (any, error) { return make(chan int), nil },
			"wait": wait,
			"slow": func(ctx context.Context, _ json.RawMessage) (any, error) {
				select {
				case <-f.release:
					return "done", nil
				case <-ctx.Done():
					return nil, context.Cause(ctx)
				}
			},
		},
		Streams: map[string]StreamHandler{
			"count": func(_ context.Context, args json.RawMessage, send func(any) error) error {
				var n int
				if err := json.Unmarshal(args, &n); err != nil {
					return err
				}
				for i := range n {
					if err := send(map[string]int{"n": i}); err != nil {
						return err
					}
				}
				return errors.New("all sent")
			},
			"flood": func(ctx context.Context, _ json.RawMessage, send func(any) error) error {
				for {
					if err := send(strings.Repeat("x", 1000)); err != nil {
						f.cancelled <- err
						return err
					}
				}
			},
			"watch": func(ctx context.Context, args json.RawMessage, send func(any) error) error {
				if err := send("first"); err != nil {
					return err
				}
				_, err := wait(ctx, args)
				return err
			},
		},
		Log: slog.New(slog.DiscardHandler),
	}
	var ctx context.Context
	ctx, f.stop = context.WithCancel(context.Background())
	go func() { f.stopped <- f.Run(ctx) }()
	t.Cleanup(func() {
		f.stop()
		if err := <-f.stopped; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	awaitListener(t, path)
	return f
}

func awaitListener(t testing.TB, path string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		conn, err := net.Dial("unix", path)
		if err == nil {
			conn.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

func socket(t *testing.T) string { return filepath.Join(t.TempDir(), "run", "lintod.sock") }

// raw returns a client that sends arbitrary data.
func raw(t *testing.T, path string) *net.UnixConn {
	t.Helper()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(2 * time.Minute)); err != nil {
		t.Fatal(err)
	}
	return conn.(*net.UnixConn)
}

func say(t *testing.T, w io.Writer, text string) {
	t.Helper()
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
}

func line(t *testing.T, r *bufio.Reader) string {
	t.Helper()
	text, err := r.ReadString('\n')
	if err != nil {
		t.Fatalf("%q, %v", text, err)
	}
	return strings.TrimSuffix(text, "\n")
}

func TestCall(t *testing.T) {
	f := serve(t, socket(t))
	for name, test := range map[string]struct {
		command string
		args    any
		result  string
		err     string
	}{
		"with arguments":    {"echo", map[string]string{"text": "it's \"quoted\"\n"}, `{"text":"it's \"quoted\"\n"}`, ""},
		"without arguments": {"echo", nil, `{}`, ""},
		"failure":           {"fail", nil, ``, "the loudspeaker is gone"},
		"unknown":           {"reboot", nil, ``, `unknown command "reboot"; want one of count, echo, fail, flood, odd, read, slow, wait, watch`},
		"result not JSON":   {"odd", nil, ``, "encode the result: json: unsupported type: chan int"},
		"arguments not":     {"echo", make(chan int), ``, "encode the arguments of echo: json: unsupported type: chan int"},
		"too long":          {"echo", strings.Repeat("x", maxRequest), ``, errLongRequest.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			var result json.RawMessage
			err := Call(t.Context(), f.Path, test.command, test.args, &result)
			if test.err != "" && (err == nil || err.Error() != test.err) || test.err == "" && err != nil {
				t.Errorf("error is %v", err)
			}
			if string(result) != test.result {
				t.Errorf("result is %s", result)
			}
		})
	}
	if err := Call(t.Context(), f.Path, "echo", nil, nil); err != nil {
		t.Errorf("without a result: %v", err)
	}
	var number int
	if err := Call(t.Context(), f.Path, "echo", "text", &number); !errors.Is(err, errBadAnswer) {
		t.Errorf("error is %v", err)
	}
}

func TestOneConnectionManyRequests(t *testing.T) {
	conn := raw(t, serve(t, socket(t)).Path)
	r := bufio.NewReader(conn)
	// Together, then one in pieces, the last without its newline.
	say(t, conn, "{\"command\":\"echo\",\"args\":1}\n{\"command\":\"fail\"}\n{\"command\":")
	for _, want := range []string{`{"ok":true,"result":1}`, `{"ok":false,"error":"the loudspeaker is gone"}`} {
		if got := line(t, r); got != want {
			t.Errorf("answer is %s, not %s", got, want)
		}
	}
	say(t, conn, `"echo"}`)
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got := line(t, r); got != `{"ok":true,"result":{}}` {
		t.Errorf("answer is %s", got)
	}
	if _, err := r.ReadByte(); err != io.EOF {
		t.Errorf("after the last answer: %v", err)
	}
}

func TestHostileRequests(t *testing.T) {
	f := serve(t, socket(t))
	for name, text := range map[string]string{
		"not JSON": "status", "list": "[1]", "number": "5", "command no text": `{"command":5}`, "empty": "",
		"null": "null", "two": `{"command":"echo"}{"command":"echo"}`, "deep": strings.Repeat("[", 60000),
		"zeros": strings.Repeat("\x00", 100), "long name": `{"command":"` + strings.Repeat("x", 60000) + `"}`,
	} {
		t.Run(name, func(t *testing.T) {
			conn := raw(t, f.Path)
			say(t, conn, text+"\n")
			var a answer
			got := line(t, bufio.NewReader(conn))
			if err := json.Unmarshal([]byte(got), &a); err != nil || a.OK || a.Error == "" || len(got) > 400 {
				t.Errorf("answer is %.500s, %v", got, err)
			}
		})
	}
	if err := Call(t.Context(), f.Path, "echo", nil, nil); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

func TestEndlessRequestIsCutOff(t *testing.T) {
	conn := raw(t, serve(t, socket(t)).Path)
	go func() {
		for err := error(nil); err == nil; {
			_, err = conn.Write(bytes.Repeat([]byte("x"), 1000))
		}
	}()
	r := bufio.NewReader(conn)
	if got := line(t, r); !strings.Contains(got, errLongRequest.Error()) {
		t.Errorf("answer is %s", got)
	}
	if rest, err := io.ReadAll(r); len(rest) > 0 {
		t.Errorf("followed by %q, %v", rest, err)
	}
}

func TestHandlerEndsWhenTheClientGoes(t *testing.T) {
	f := serve(t, socket(t))
	for name, leave := range map[string]func(conn *net.UnixConn){
		"closed":                   func(conn *net.UnixConn) { conn.Close() },
		"closed after a half":      func(conn *net.UnixConn) { conn.CloseWrite(); conn.Close() },
		"closed with more to do":   func(conn *net.UnixConn) { conn.Write([]byte("{\"command\":\"echo\"}\n")); conn.Close() },
		"closed with half a thing": func(conn *net.UnixConn) { conn.Write([]byte("{")); conn.Close() },
	} {
		for _, command := range []string{"wait", "watch"} {
			t.Run(command+" "+name, func(t *testing.T) {
				conn := raw(t, f.Path)
				say(t, conn, `{"command":"`+command+"\"}\n")
				if command == "watch" {
					line(t, bufio.NewReader(conn))
				}
				leave(conn)
				select {
				case cause := <-f.cancelled:
					if !errors.Is(cause, errGone) {
						t.Errorf("cause is %v", cause)
					}
				case <-time.After(2 * time.Minute):
					t.Error("the handler continues")
				}
			})
		}
	}
}

// "echo … | nc -N -U" closes its side of the connection and still waits for the
// answer.
func TestHalfClosedClientGetsItsAnswer(t *testing.T) {
	f := serve(t, socket(t))
	conn := raw(t, f.Path)
	say(t, conn, `{"command":"slow"}`)
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	// The server has detected the end when it answers another request.
	if err := Call(t.Context(), f.Path, "echo", nil, nil); err != nil {
		t.Fatal(err)
	}
	close(f.release)
	if got := line(t, bufio.NewReader(conn)); got != `{"ok":true,"result":"done"}` {
		t.Errorf("answer is %s", got)
	}
}

func TestCallEndsWithItsContext(t *testing.T) {
	f := serve(t, socket(t))
	cause := errors.New("the user pressed Ctrl-C")
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(10*time.Millisecond, func() { cancel(cause) })
	if err := Call(ctx, f.Path, "wait", nil, nil); !errors.Is(err, cause) {
		t.Errorf("error is %v", err)
	}
	if cause := <-f.cancelled; !errors.Is(cause, errGone) {
		t.Errorf("the handler ended for %v", cause)
	}
}

func TestStream(t *testing.T) {
	f := serve(t, socket(t))
	var events []string
	handle := func(e json.RawMessage) error { events = append(events, string(e)); return nil }
	err := Stream(t.Context(), f.Path, "count", 3, handle)
	if err == nil || err.Error() != "all sent" || fmt.Sprint(events) != `[{"n":0} {"n":1} {"n":2}]` {
		t.Errorf("events %v, error %v", events, err)
	}
	enough := errors.New("enough")
	if err := Stream(t.Context(), f.Path, "count", 1000000, func(json.RawMessage) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("error is %v", err)
	}
	if err := Stream(t.Context(), f.Path, "echo", 3, handle); err != nil {
		t.Errorf("a command without events: %v", err)
	}
}

func TestStreamToAClientThatDoesNotRead(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: takes the write limit of 5 s")
	}
	f := serve(t, socket(t))
	say(t, raw(t, f.Path), "{\"command\":\"flood\"}\n")
	select {
	case err := <-f.cancelled:
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("send failed with %v", err)
		}
	case <-time.After(10 * writeLimit):
		t.Error("send blocks")
	}
}

// as connects as another user, which only root can do.
func as(t *testing.T, path string, uid int) *net.UnixConn {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("SKIPPED: only root can become another user")
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	become := func(uid int) { // only this thread
		if _, _, errno := syscall.RawSyscall(syscall.SYS_SETRESUID, ^uintptr(0), uintptr(uid), ^uintptr(0)); errno != 0 {
			t.Fatal(errno)
		}
	}
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	file := os.NewFile(uintptr(fd), "client")
	defer file.Close()
	become(uid)
	err = syscall.Connect(fd, &syscall.SockaddrUnix{Name: path})
	become(0)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.FileConn(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn.(*net.UnixConn)
}

// serveAll is serve for every user of the system.
func serveAll(t *testing.T) *fixture {
	t.Helper()
	dir, err := os.MkdirTemp("", "lintod-control-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	f := serve(t, filepath.Join(dir, "lintod.sock"))
	for path, mode := range map[string]os.FileMode{dir: 0o755, f.Path: 0o666} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

// Listeners of several users that never read do not lock out root, another user, or
// their own user, who loses the oldest of them.
func TestListenersAreReplaced(t *testing.T) {
	f := serveAll(t)
	listen := func(uid int) *net.UnixConn {
		conn := as(t, f.Path, uid)
		say(t, conn, "{\"command\":\"flood\"}\n")
		if text := line(t, bufio.NewReaderSize(conn, 1)); !strings.Contains(text, "event") {
			t.Fatalf("user %d got %s", uid, text)
		}
		return conn
	}
	for _, uid := range []int{1001, 1002} {
		for range 2 * maxOfUser {
			listen(uid)
		}
	}
	for _, uid := range []int{0, 1001, 1003} {
		conn := as(t, f.Path, uid)
		say(t, conn, "{\"command\":\"echo\"}\n")
		if text := line(t, bufio.NewReader(conn)); !strings.Contains(text, `"ok":true`) {
			t.Errorf("user %d got %s", uid, text)
		}
	}
}

// Many busy connections of other users leave a place for root.
func TestBusyUsersDoNotLockOutRoot(t *testing.T) {
	f := serveAll(t)
	for i := range maxConnections {
		say(t, as(t, f.Path, 1001+i%2), "{\"command\":\"wait\"}\n")
		<-f.waiting
	}
	if err := Call(t.Context(), f.Path, "echo", nil, nil); err != nil {
		t.Error(err)
	}
	conn := as(t, f.Path, 1003)
	if text := line(t, bufio.NewReader(conn)); !strings.Contains(text, `"ok":false`) {
		t.Errorf("one more connection got %s", text)
	}
}

func TestConnectionsAreLimited(t *testing.T) {
	f := serve(t, socket(t))
	var conns []*net.UnixConn
	for range maxOfUser {
		conn := raw(t, f.Path)
		say(t, conn, "{\"command\":\"wait\"}\n")
		<-f.waiting // until then it counts as idle
		conns = append(conns, conn)
	}
	if err := Call(t.Context(), f.Path, "echo", nil, nil); err == nil || !strings.Contains(err.Error(), errTooMany.Error()) {
		t.Errorf("error is %v", err)
	}
	conns[0].Close()
	for deadline := time.Now().Add(time.Minute); Call(t.Context(), f.Path, "echo", nil, nil) != nil; {
		if time.Now().After(deadline) {
			t.Fatal("refused after a client has disconnected")
		}
	}
}

// New connections replace even those that arrived so fast that none is being
// served yet.
func TestBurstOfConnectionsIsReplaced(t *testing.T) {
	f := serve(t, socket(t))
	var conns []*net.UnixConn
	for range 500 {
		conns = append(conns, raw(t, f.Path))
	}
	if err := Call(t.Context(), f.Path, "echo", nil, nil); err != nil {
		t.Error(err)
	}
	for i, conn := range conns[:len(conns)-maxOfUser] {
		if text, _ := io.ReadAll(conn); len(text) > 0 {
			t.Fatalf("connection %d got %s", i, text)
		}
	}
}

func TestIdleConnectionsAreReplaced(t *testing.T) {
	f := serve(t, socket(t))
	busy := raw(t, f.Path)
	say(t, busy, "{\"command\":\"wait\"}\n")
	<-f.waiting
	for i := range 2 * maxConnections {
		conn := raw(t, f.Path)
		if i%2 == 0 { // the others have sent a request before
			continue
		}
		say(t, conn, "{\"command\":\"echo\"}\n")
		line(t, bufio.NewReader(conn))
	}
	if err := Call(t.Context(), f.Path, "echo", nil, nil); err != nil {
		t.Error(err)
	}
	select {
	case err := <-f.cancelled:
		t.Errorf("the busy connection was closed: %v", err)
	default:
	}
}

func TestEndAnswersAndRemovesTheSocket(t *testing.T) {
	f := serve(t, socket(t))
	idle := raw(t, f.Path)
	done := make(chan error)
	conn := raw(t, f.Path)
	say(t, conn, "{\"command\":\"watch\"}\n")
	r := bufio.NewReader(conn)
	line(t, r)
	go func() {
		_, err := idle.Read(make([]byte, 1))
		done <- err
	}()
	f.stop()
	if got := line(t, r); got != `{"ok":false,"error":"context canceled"}` {
		t.Errorf("the waiting client got %s", got)
	}
	if err := <-done; !errors.Is(err, io.EOF) {
		t.Errorf("the idle client got %v", err)
	}
	err := <-f.stopped
	f.stopped <- err
	if _, err := os.Lstat(f.Path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is left behind, %v", err)
	}
}

func TestSocketIsForOwnerAndGroup(t *testing.T) {
	for _, umask := range []int{0, 0o022, 0o077} {
		old := syscall.Umask(umask)
		f := serve(t, socket(t))
		syscall.Umask(old)
		// An answer shows that the server has finished setting up its socket.
		if err := Call(t.Context(), f.Path, "echo", nil, nil); err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(f.Path); err != nil || info.Mode() != os.ModeSocket|socketMode {
			t.Errorf("umask %03o: mode %v, %v", umask, info.Mode(), err)
		}
	}
}

func TestSecondServerIsRefused(t *testing.T) {
	f := serve(t, socket(t))
	second := &Server{Path: f.Path, Log: f.Log}
	if err := second.Run(t.Context()); !errors.Is(err, errSecond) {
		t.Errorf("error is %v", err)
	}
	if err := Call(t.Context(), f.Path, "echo", nil, nil); err != nil {
		t.Errorf("the first: %v", err)
	}
}

func TestStaleSocketIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lintod.sock")
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false) // as after a kill -9
	stale.Close()
	if err := Call(t.Context(), path, "echo", nil, nil); !errors.Is(err, errNotRunning) {
		t.Errorf("error is %v", err)
	}
	f := serve(t, path)
	if err := Call(t.Context(), f.Path, "echo", nil, nil); err != nil {
		t.Error(err)
	}
}

func TestFileThatIsNotASocketIsKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "precious")
	if err := os.WriteFile(path, []byte("data"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := (&Server{Path: path}).Run(t.Context()); !errors.Is(err, errNoSocket) {
		t.Errorf("error is %v", err)
	}
	if data, err := os.ReadFile(path); err != nil || string(data) != "data" {
		t.Errorf("the file contains %q, %v", data, err)
	}
}

func TestCallWithoutADaemon(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lintod.sock")
	want := `lintod is not running (no ` + path + `); start it with "systemctl start lintod"`
	if err := Call(t.Context(), path, "status", nil, nil); err == nil || err.Error() != want {
		t.Errorf("error is %v", err)
	}
}

// callerEnv is the socket that the test binary calls when run as a child process.
const callerEnv = "CONTROL_TEST_SOCKET"

func TestCallWithoutPermission(t *testing.T) {
	if path := os.Getenv(callerEnv); path != "" {
		fmt.Println(Call(t.Context(), path, "echo", nil, nil))
		return
	}
	if os.Getuid() != 0 {
		t.Skip("SKIPPED: only root can call as another user")
	}
	group, err := user.LookupGroup("audio")
	if err != nil {
		t.Skipf("SKIPPED: %v", err)
	}
	dir, err := os.MkdirTemp("", "control")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	f := serve(t, filepath.Join(dir, "lintod.sock"))
	binary := filepath.Join(dir, "caller")
	if err := copyFile(os.Args[0], binary); err != nil {
		t.Fatal(err)
	}
	gid, err := strconv.Atoi(group.Gid)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Chmod(dir, 0o755), os.Chown(f.Path, 0, gid)); err != nil {
		t.Fatal(err)
	}
	call := func(gid uint32) string {
		child := exec.Command(binary, "-test.run=^TestCallWithoutPermission$")
		child.Env = []string{callerEnv + "=" + f.Path}
		child.Dir = dir
		child.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: gid}}
		out, err := child.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		text, _, _ := strings.Cut(string(out), "\n")
		return text
	}
	if got := call(65534); !strings.Contains(got, f.Path) || !strings.Contains(got, "sudo adduser $USER audio") {
		t.Errorf("the error for a non-member is %s", got)
	}
	if got := call(uint32(gid)); got != "<nil>" {
		t.Errorf("the error for a member is %s", got)
	}
}

func copyFile(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o755)
}

// Another program may have created the socket.
func TestHostileAnswers(t *testing.T) {
	for name, test := range map[string]struct {
		answer string
		want   error
	}{
		"nothing":        {"", errNoAnswer},
		"not JSON":       {"hello\n", errBadAnswer},
		"no end":         {strings.Repeat("x", maxAnswer+10), errLongAnswer},
		"wrong types":    {`{"ok":"yes"}` + "\n", errBadAnswer},
		"events, no end": {`{"event":1}` + "\n", errNoAnswer},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "sock")
			l, err := net.Listen("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			var server sync.WaitGroup
			server.Go(func() {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				io.WriteString(conn, test.answer)
				conn.Close()
			})
			if err := Call(t.Context(), path, "echo", nil, nil); !errors.Is(err, test.want) {
				t.Errorf("error is %v", err)
			}
			l.Close()
			server.Wait()
		})
	}
}

// The answer to any line is one line of JSON with ok, or an error.
func FuzzRequest(f *testing.F) {
	path := filepath.Join(f.TempDir(), "fuzz.sock")
	s := &Server{Path: path, Log: slog.New(slog.DiscardHandler), Handlers: map[string]Handler{
		"echo": func(_ context.Context, args json.RawMessage) (any, error) { return args, nil },
	}}
	ctx, cancel := context.WithCancel(context.Background())
	stopped := make(chan error, 1)
	go func() { stopped <- s.Run(ctx) }()
	f.Cleanup(func() { cancel(); <-stopped })
	for _, seed := range []string{`{"command":"echo"}`, `{"command":"echo","args":{"a":[1,null]}}`, `{"command":"x"}`, `{`, ``} {
		f.Add([]byte(seed))
	}
	awaitListener(f, path)
	f.Fuzz(func(t *testing.T, request []byte) {
		if len(request) == 0 || bytes.ContainsRune(request, '\n') {
			return
		}
		conn := raw(t, path)
		defer conn.Close()
		conn.Write(append(request, '\n'))
		conn.CloseWrite()
		text, err := io.ReadAll(conn)
		var a answer
		if err != nil || bytes.Count(text, []byte("\n")) != 1 || json.Unmarshal(text, &a) != nil || a.OK == (a.Error != "") {
			t.Errorf("%q was answered with %q, %v", request, text, err)
		}
	})
}

func BenchmarkCall(b *testing.B) {
	path := filepath.Join(b.TempDir(), "bench.sock")
	s := &Server{Path: path, Log: slog.New(slog.DiscardHandler), Handlers: map[string]Handler{
		"echo": func(_ context.Context, args json.RawMessage) (any, error) { return args, nil },
	}}
	ctx, cancel := context.WithCancel(context.Background())
	stopped := make(chan error, 1)
	go func() { stopped <- s.Run(ctx) }()
	for Call(ctx, path, "echo", nil, nil) != nil {
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := Call(ctx, path, "echo", nil, nil); err != nil {
			b.Fatal(err)
		}
	}
	cancel()
	<-stopped
}

// A file is passed with its own request only, and is always closed.
func TestFileIsPassed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	serve(t, path)
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, []byte("in the file"), 0o600); err != nil {
		t.Fatal(err)
	}
	open := func() int {
		fds, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Skip("SKIPPED, nothing was tested: no /proc")
		}
		return len(fds)
	}
	before := open()
	for range 20 {
		file, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := CallWithFile(t.Context(), path, "read", nil, file); err != nil {
			t.Error(err)
		}
		if err := CallWithFile(t.Context(), path, "echo", nil, file); err != nil { // which does not use it
			t.Error(err)
		}
		file.Close()
		if err := Call(t.Context(), path, "read", nil, nil); err == nil {
			t.Error("a file was received that was not sent")
		}
	}
	for limit := time.Now().Add(time.Minute); open() > before+10; time.Sleep(time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("%d descriptors were open before, %d are now", before, open())
		}
	}
}

// The packaged service's directory is closed to other users, so the socket in it
// cannot be seen.
func TestGroupOfAClosedDirectory(t *testing.T) {
	dir := t.TempDir()
	const gid = 54321
	if err := os.Chown(dir, -1, gid); err != nil {
		t.Skipf("SKIPPED, nothing was tested: %v", err)
	}
	if got := howToGetIn(filepath.Join(dir, "lintod.sock")); !strings.Contains(got, strconv.Itoa(gid)) {
		t.Errorf("%q does not name the group", got)
	}
}

// A child that the daemon was starting when it was killed keeps the socket open for a moment.
func TestSocketOfAKilledDaemon(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if conn, err := l.Accept(); err == nil {
			conn.Close()
		}
		l.Close()
	}()
	if err := Free(path); err != nil {
		t.Error(err)
	}
	<-done
}
