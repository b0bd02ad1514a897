package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lintod/audio/wav"
	"lintod/cmd/lintosim/platform"
)

const patience = 20 * time.Second

// session is a running lintosim.
type session struct {
	t     *testing.T
	stdin io.Writer
	lines chan string // of standard output
	code  chan int
	stop  context.CancelFunc
	port  string
}

func startSession(t *testing.T, args ...string) *session {
	t.Helper()
	s := runSession(t, append([]string{"-listen", "127.0.0.1:0"}, args...)...)
	ready := s.wait("mqtt://")
	_, rest, _ := strings.Cut(ready, "mqtt://127.0.0.1:")
	s.port = strings.TrimRight(rest, `",}`)
	s.port, _, _ = strings.Cut(s.port, `"`)
	return s
}

// runSession starts lintosim with these arguments.
func runSession(t *testing.T, args ...string) *session {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	in, stdin := io.Pipe()
	out, stdout := io.Pipe()
	s := &session{t: t, stdin: stdin, lines: make(chan string, 1000), code: make(chan int, 1), stop: stop}
	go func() {
		s.code <- run(ctx, args, in, stdout, stdout)
		_ = stdout.Close()
	}()
	go func() {
		defer close(s.lines)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			s.lines <- lines.Text()
		}
	}()
	t.Cleanup(func() {
		stop()
		_ = stdin.Close()
	})
	return s
}

// wait returns the next line that has all parts.
func (s *session) wait(parts ...string) string {
	s.t.Helper()
	limit := time.After(patience)
	var seen []string
	for {
		select {
		case line, more := <-s.lines:
			if !more {
				s.t.Fatalf("lintosim ended before %q; it printed\n%s", parts, strings.Join(seen, "\n"))
			}
			if containsAll(line, parts) {
				return line
			}
			seen = append(seen, line)
		case <-limit:
			s.t.Fatalf("no line with %q; lintosim printed\n%s", parts, strings.Join(seen, "\n"))
		}
	}
}

func containsAll(line string, parts []string) bool {
	for _, part := range parts {
		if !strings.Contains(line, part) {
			return false
		}
	}
	return true
}

func (s *session) enter(line string) {
	if _, err := io.WriteString(s.stdin, line+"\n"); err != nil {
		s.t.Fatal(err)
	}
}

func (s *session) publish(topic, payload string) {
	s.t.Helper()
	if _, err := exec.LookPath("mosquitto_pub"); err != nil {
		s.t.Skip("SKIPPED: mosquitto_pub is not installed; scripts/test installs it")
	}
	if out, err := exec.Command("mosquitto_pub", "-p", s.port, "-t", topic, "-m", payload).CombinedOutput(); err != nil {
		s.t.Fatalf("%v: %s", err, out)
	}
}

func (s *session) exit() int {
	s.t.Helper()
	select {
	case code := <-s.code:
		return code
	case <-time.After(patience):
		s.t.Fatal("lintosim does not exit")
		return -1
	}
}

func TestPromptSendsBehavioursToTheLastDevice(t *testing.T) {
	s := startSession(t)
	s.enter("say hello")
	s.wait("no device has connected yet")
	s.publish("home/fromlinto/kitchen/status", `{"connexion":"online"}`)
	s.wait("← kitchen", "status", "online")
	for _, c := range []struct{ typed, command, payload string }{
		{"say hello there", "say", `{"value": "hello there"}`},
		{"volume 40", "volume", `{"value": 40}`},
		{"endvolume 0", "endvolume", `{"value": 0}`},
		{"mute", "mute", `{}`},
		{"unmute", "unmute", `{}`},
		{"ping", "ping", `{}`},
		{"tts_lang fr-FR", "tts_lang", `{"value": "fr-FR"}`},
		{"shellexec ls -l", "shellexec", `{"cmd": "ls -l"}`},
		{"meeting start weekly", "managemeeting", `{"command": "startlocalrecording", "sessionname": "weekly"}`},
		{`send demo_mode {"value":"start"}`, "demo_mode", `{"value": "start"}`},
		{`raw home/tolinto/kitchen/x {"a":1}`, "x", `{"a": 1}`},
	} {
		s.enter(c.typed)
		s.wait("→ kitchen", c.command, c.payload)
	}
	for typed, want := range map[string]string{
		"volume loud": "a number from 0 to 100", "volume 101": "a number from 0 to 100", "say": "say TEXT",
		"dance": "unknown command", "send x y": "not JSON", "raw + {}": "+ or #", "meeting record x": "start|stop",
		"fault fire": "unknown fault", "use a b": "spaces", "help": "shellexec", "devices": "scope home",
	} {
		s.enter(typed)
		s.wait(want)
	}
	s.enter("use cellar")
	s.enter("ping")
	s.wait("→ cellar", "ping")
	s.enter("quit")
	if code := s.exit(); code != 0 {
		t.Errorf("exit status %d", code)
	}
}

func TestAskSetsTheNextAnswer(t *testing.T) {
	s := startSession(t)
	s.publish("home/fromlinto/kitchen/status", `{}`)
	s.wait("← kitchen")
	s.enter("ask How are you?")
	s.wait("the next request of kitchen")
	s.publish("home/fromlinto/kitchen/nlp/text/1", `{"text":"hello"}`)
	s.wait("→ kitchen", `"ask"`, "How are you?", `{"intent": "asked"}`)
}

func TestEndOfAPipeDoesNotEndTheProgram(t *testing.T) {
	s := startSession(t)
	_ = s.stdin.(io.Closer).Close()
	s.publish("home/fromlinto/kitchen/pong", `{}`)
	s.wait("← kitchen", "pong")
	s.stop() // like an interrupt
	if code := s.exit(); code != 0 {
		t.Errorf("exit status %d", code)
	}
}

func TestSecretsAreNotShown(t *testing.T) {
	const status = `{"connexion":"online","auth_token":"Android planted","config":{"mqtt":{"username":"u","password":"planted"},"keys":{"privateKey":["planted"]}}}`
	for _, args := range [][]string{nil, {"-json"}} {
		s := startSession(t, args...)
		s.publish("home/fromlinto/kitchen/status", status)
		if line := s.wait("kitchen", "online"); strings.Contains(line, "planted") || !strings.Contains(line, hidden) {
			t.Errorf("%v: %s", args, line)
		}
		s.publish("home/fromlinto/kitchen/status", status[:len(status)-1])
		if line := s.wait("kitchen", "status"); strings.Contains(line, "planted") {
			t.Errorf("%v: %s", args, line)
		}
	}
}

func TestJSONLines(t *testing.T) {
	s := startSession(t, "-json")
	s.publish("home/fromlinto/kitchen/status", `{"connexion":"online"}`)
	var e jsonEvent
	line := s.wait(`"kind":"message"`)
	if err := json.Unmarshal([]byte(line), &e); err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	payload, _ := e.Payload.(map[string]any)
	if e.Direction != "from" || e.Serial != "kitchen" || e.Command != "status" || e.Bytes != 22 || payload["connexion"] != "online" {
		t.Errorf("event %+v", e)
	}
}

func TestCommandLine(t *testing.T) {
	users := filepath.Join(t.TempDir(), "users")
	write := func(text string) {
		if err := os.WriteFile(users, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, c := range []struct {
		name, users string
		args        []string
		code        int
		want        string
	}{
		{"help", "", []string{"-help"}, 0, "LinTO platform"},
		{"unknown flag", "", []string{"-nonsense"}, 2, "-nonsense"},
		{"flag with a wrong value", "", []string{"-delay", "soon"}, 2, "-delay"},
		{"flag with two dashes", "", []string{"--chunk-limit=x"}, 2, "-chunk-limit"},
		{"argument", "", []string{"x"}, 2, "x"},
		{"unknown generation", "", []string{"-server", "1999"}, 2, "2021 or 2024"},
		{"unknown fault", "", []string{"-fault", "fire"}, 2, "-fault"},
		{"no users file", "", []string{"-users", users + "x"}, 2, users + "x"},
		{"broken users file", "a:b\nnonsense", []string{"-users", users}, 2, ":2: want name:password"},
		{"empty users file", "# nobody\n", []string{"-users", users}, 2, "no account"},
		{"taken address", "", []string{"-listen", taken.Addr().String()}, 1, taken.Addr().String()},
		{"all well", "admin:x\nkitchen:y\n", []string{"-users", users, "-listen", "127.0.0.1:0", "-websocket", "127.0.0.1:0", "-fault", "none"}, 0, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			write(c.users)
			var stdout, stderr strings.Builder
			code := run(cancelled, c.args, strings.NewReader(""), &stdout, &stderr)
			if code != c.code || !strings.Contains(stdout.String()+stderr.String(), c.want) {
				t.Errorf("exit status %d, printed %q; want %d, %q", code, stderr.String(), c.code, c.want)
			}
		})
	}
}

func TestPretty(t *testing.T) {
	long := strings.Repeat("x", 1000)
	for _, c := range []struct{ name, payload, want string }{
		{"empty", ``, `(empty)`},
		{"order is kept", `{"b":1,"a":[true,null,1.50]}`, `{"b": 1, "a": [true, null, 1.50]}`},
		{"long string", `{"x":"` + long + `"}`, `{"x": "` + long[:160] + `… (1000 characters)"}`},
		{"secret", `{"password":"p","token":{"a":1},"list":[{"auth_token":"t"}]}`, `{"password": •••, "token": •••, "list": [{"auth_token": •••}]}`},
		{"JSON in a string", `{"result":"{\n \"text\": \"hi\"\n}"}`, `{"result": '{"text": "hi"}'}`},
		{"no JSON", `hello`, `not JSON: hello`},
		{"invalid JSON with a secret", `{"password":"x`, `14 bytes, not JSON; not shown, because it may contain a secret`},
		{"binary", "\xff\xfe\x00", `3 bytes, binary`},
		{"terminal tricks", "{\"a\":\"\\u001b[2J\u009b2J\"}", "{\"a\": \"\\u001b[2J·2J\"}"},
		{"control characters outside JSON", "\x1b[2Jx", "not JSON: ·[2Jx"},
		{"no HTML escapes", `{"a":"<&>"}`, `{"a": "<&>"}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := pretty([]byte(c.payload), false); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestAudioIsSummarized(t *testing.T) {
	pcm := make([]int16, 16000)
	for i := range pcm {
		pcm[i] = int16(2318 * (1 - i/20%2*2)) // -23 dB below full scale
	}
	body, err := json.Marshal(map[string][]byte{"audio": wav.Encode(pcm, 16000)})
	if err != nil {
		t.Fatal(err)
	}
	if got := pretty(body, false); got != `{"audio": WAV 1.00 s, 16 kHz mono, −23 dBFS}` {
		t.Errorf("got %s", got)
	}
	shown, _ := json.Marshal(redacted(body))
	if !strings.Contains(string(shown), `"seconds":1,"rate":16000,"channels":1,"dbfs":-23`) {
		t.Errorf("for scripts %s", shown)
	}
}

func TestChunksAreCounted(t *testing.T) {
	var out strings.Builder
	begun := time.Now()
	screen := &tale{out: &out, begun: begun}
	event := func(command string, payload []byte) {
		screen.event(platform.Event{At: begun, Kind: platform.Exchanged, Message: platform.Message{
			At: begun, Serial: "kitchen", Command: command, Direction: platform.FromDevice, Payload: payload,
		}})
	}
	for range 60 {
		event("streaming/chunk", make([]byte, 640))
	}
	event("streaming/stop", []byte("{}"))
	want := "   0.000 ← kitchen    streaming/chunk    50 × sound, 32000 bytes, 1.00 s at 16 kHz\n" +
		"   0.000 ← kitchen    streaming/chunk    10 × sound, 6400 bytes, 0.20 s at 16 kHz\n" +
		"   0.000 ← kitchen    streaming/stop     {}\n"
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
}

func TestLoginIsShownWithoutSecrets(t *testing.T) {
	users := filepath.Join(t.TempDir(), "users")
	if err := os.WriteFile(users, []byte("ann:planted-5a\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := startSession(t, "-http", "127.0.0.1:0", "-users", users, "-server", "2021")
	_, url, _ := strings.Cut(s.wait("devices log in at"), "log in at ")
	for password, shown := range map[string]string{"wrong": "refused: HTTP login", "planted-5a": "login: session DEV_"} {
		body := `{"email":"ann","password":"` + password + `"}`
		response, err := http.Post(url+"/local/android/login", "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil || strings.Contains(string(answer), "DEV_") != (password != "wrong") {
			t.Errorf("%s answers %s, %v", password, answer, err)
		}
		if line := s.wait("ann", shown); strings.Contains(line, "planted") || strings.Contains(line, "eyJ") {
			t.Errorf("a secret is shown: %s", line)
		}
	}
}

func TestSlowTerminalLosesLinesAndReportsIt(t *testing.T) {
	f := newFeed[platform.Event]()
	for range cap(f.events) + 5 {
		f.put(platform.Event{Kind: platform.Connected, Client: "c"})
	}
	var out strings.Builder
	screen := &tale{out: &out, begun: time.Now()}
	done := make(chan struct{})
	go func() { f.show(screen); close(done) }()
	for len(f.events) > 0 {
		time.Sleep(time.Millisecond)
	}
	f.end()
	<-done
	if !strings.Contains(out.String(), "5 lines not shown") {
		t.Error("the lost lines were not reported")
	}
}

func FuzzPretty(f *testing.F) {
	f.Add([]byte(`{"audio":"UklGRg==","password":{"a":[1,2,{}]}}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		if strings.ContainsRune(pretty(payload, false), '\x1b') {
			t.Error("an escape character reaches the terminal")
		}
		redacted(payload)
	})
}
