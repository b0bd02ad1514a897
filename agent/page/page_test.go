package page

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"lintod/agent/base/secret"
	"lintod/agent/turn"
)

// device is a page with a simulated device.
type device struct {
	*Page
	base string // "http://127.0.0.1:port"

	shown atomic.Pointer[string] // the path of a picture
	mu    sync.Mutex
	now   map[string]any
	calls []string
}

func (d *device) took() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return strings.Join(d.calls, " ")
}

// notice publishes a notice of turn n.
func (d *device) notice(n int, w turn.What, text string) {
	d.Bus.Publish(turn.Notice{At: time.Now(), Turn: n, What: w, Text: text})
}

func start(t *testing.T, frames ...string) *device {
	t.Helper()
	d := &device{now: map[string]any{
		"serial": "kitchen", "look": "idle", "state": "idle", "volume": 40, "language": "en-GB", "languages": []string{"en-GB", "fr-FR"},
		"flags": turn.Flags{}, "links": []string{"linto"},
	}}
	d.Page = &Page{
		Config: Config{Listen: "127.0.0.1:0", Frames: frames}, Bus: &turn.Bus{}, Commands: map[string]Command{},
		Now: func() any {
			d.mu.Lock()
			defer d.mu.Unlock()
			raw, _ := json.Marshal(d.now)
			return json.RawMessage(raw)
		},
		Level: func() float64 { return -20 },
		Picture: func() string {
			if path := d.shown.Load(); path != nil {
				return *path
			}
			return ""
		},
		Log: slog.New(slog.DiscardHandler),
	}
	for _, name := range []string{"press", "release", "letgo", "talk", "stop", "say", "ask", "volume", "mute", "language", "status", "log", "doctor"} {
		d.Commands[name] = func(_ context.Context, args json.RawMessage) (any, error) {
			d.mu.Lock()
			defer d.mu.Unlock()
			if name != "status" && name != "log" {
				d.calls = append(d.calls, name+string(args))
			}
			if bytes.Contains(args, []byte("refuse")) {
				return nil, errors.New("the device refuses")
			}
			return d.now["result of "+name], nil
		}
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	eventually(t, "the page is served", func() bool { return d.serving.Load() != nil })
	d.base = "http://" + d.serving.Load().address
	return d
}

func eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("timed out waiting until: %s", what)
		}
	}
}

// key returns the key of a new URL.
func (d *device) key(t *testing.T) string {
	t.Helper()
	address, err := d.Address(false)
	if err != nil {
		t.Fatal(err)
	}
	_, key, _ := strings.Cut(string(address), "#key=")
	return key
}

// session opens a session.
func (d *device) session(t *testing.T) string {
	t.Helper()
	status, body := d.send(t, "POST", "/session", fmt.Sprintf(`{"key":%q}`, d.key(t)), nil)
	var answer struct{ Result string }
	if err := json.Unmarshal([]byte(body), &answer); err != nil || status != http.StatusOK || answer.Result == "" {
		t.Fatalf("%d %s %v", status, body, err)
	}
	return answer.Result
}

func (d *device) request(t *testing.T, method, path, body string, header map[string]string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, d.base+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range header {
		if req.Header.Set(name, value); name == "Host" {
			req.Host = value
		}
	}
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

func (d *device) send(t *testing.T, method, path, body string, header map[string]string) (status int, text string) {
	t.Helper()
	answer := d.request(t, method, path, body, header)
	defer answer.Body.Close()
	raw, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(raw)
}

const asJSON = "application/json"

func TestWhoMayControlTheDevice(t *testing.T) {
	d := start(t)
	session := d.session(t)
	good := func(change ...string) map[string]string {
		h := map[string]string{"Authorization": "Bearer " + session, "Content-Type": asJSON}
		for i := 0; i < len(change); i += 2 {
			if h[change[i]] = change[i+1]; change[i+1] == "" {
				delete(h, change[i])
			}
		}
		return h
	}
	port := d.base[strings.LastIndex(d.base, ":"):]
	for name, test := range map[string]struct {
		header map[string]string
		status int
	}{
		"the page itself":  {good("Origin", d.base, "Sec-Fetch-Site", "same-origin"), http.StatusOK},
		"not a browser":    {good(), http.StatusOK},
		"through a tunnel": {good("Host", "localhost:9000", "Origin", "http://localhost:9000"), http.StatusOK},
		"IPv6":             {good("Host", "[::1]"+port), http.StatusOK},
		"a rebound name":   {good("Host", "evil.example"+port), http.StatusMisdirectedRequest},
		"a name that looks like a loopback address": {good("Host", "127.0.0.1.evil.example"), http.StatusMisdirectedRequest},
		"another page in the browser":               {good("Origin", "https://evil.example"), http.StatusForbidden},
		"another port of the loopback interface":    {good("Origin", "http://127.0.0.1:1"), http.StatusForbidden},
		"a browser that reports it":                 {good("Sec-Fetch-Site", "cross-site"), http.StatusForbidden},
		"the same site, another port":               {good("Sec-Fetch-Site", "same-site"), http.StatusForbidden},
		"a frame without an origin":                 {good("Origin", "null"), http.StatusForbidden},
		"a form":                                    {good("Content-Type", "text/plain"), http.StatusUnsupportedMediaType},
		"another user: no session":                  {good("Authorization", ""), http.StatusUnauthorized},
		"another user: a guess":                     {good("Authorization", "Bearer "+strings.Repeat("A", len(session))), http.StatusUnauthorized},
		"another user: the session without Bearer":  {good("Authorization", session), http.StatusUnauthorized},
		"another user: an empty session":            {good("Authorization", "Bearer "), http.StatusUnauthorized},
		"a cookie":                                  {good("Authorization", "", "Cookie", "session="+session), http.StatusUnauthorized},
	} {
		t.Run(name, func(t *testing.T) {
			before := d.took()
			status, body := d.send(t, "POST", "/do/stop", "{}", test.header)
			if status != test.status {
				t.Errorf("status %d, want %d: %s", status, test.status, body)
			}
			if did := d.took() != before; did != (test.status == http.StatusOK) {
				t.Errorf("the command was executed: %v", did)
			}
		})
	}
	for _, path := range []string{"/events", "/do/status"} {
		method := map[bool]string{true: "GET", false: "POST"}[path == "/events"]
		if status, _ := d.send(t, method, path, "{}", good("Authorization", "")); status != http.StatusUnauthorized {
			t.Errorf("%s without a session: %d", path, status)
		}
	}
	if status, _ := d.send(t, "POST", "/do/reboot", "{}", good()); status != http.StatusNotFound {
		t.Errorf("a command that is not offered: %d", status)
	}
}

func TestHostileRequests(t *testing.T) {
	d := start(t)
	header := map[string]string{"Authorization": "Bearer " + d.session(t), "Content-Type": asJSON}
	for name, body := range map[string]string{
		"none": "", "not JSON": "stop", "half": `{"text":`, "deep": strings.Repeat("[", 20000), "too long": `"` + strings.Repeat("x", maxBody) + `"`,
	} {
		if status, answer := d.send(t, "POST", "/do/stop", body, header); status != http.StatusBadRequest || len(answer) > 500 {
			t.Errorf("%s: %d %.500s", name, status, answer)
		}
		if status, _ := d.send(t, "POST", "/session", body, nil); status != http.StatusBadRequest {
			t.Errorf("a session with %s: %d", name, status)
		}
	}
	if took := d.took(); took != "" {
		t.Errorf("executed %s", took)
	}
	if status, answer := d.send(t, "POST", "/do/say", `{"text":"refuse"}`, header); status != http.StatusConflict || !strings.Contains(answer, `"error"`) {
		t.Errorf("a command that the device refuses: %d %s", status, answer)
	}
	for _, path := range []string{"/../page.go", "/static/", "/display/", "/display/x", "/app.js/..%2f..%2fpage.go"} {
		if status, _ := d.send(t, "GET", path, "", nil); status != http.StatusNotFound {
			t.Errorf("%s: %d", path, status)
		}
	}
}

func TestKeysWorkOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s sessions
		first, late := s.newKey(), s.newKey()
		session, err := s.open(first)
		if err != nil || !s.known(session) {
			t.Fatalf("%v", err)
		}
		if _, err := s.open(first); !errors.Is(err, errKey) {
			t.Errorf("again: %v", err)
		}
		if s.known(first) || s.known("") {
			t.Error("a key was accepted as a session")
		}
		time.Sleep(keyLife)
		if _, err := s.open(late); !errors.Is(err, errKey) {
			t.Errorf("an expired key: %v", err)
		}
		var oldest secret.Text = s.newKey()
		for range maxKeys {
			s.newKey()
		}
		if _, err := s.open(oldest); !errors.Is(err, errKey) {
			t.Errorf("a key beyond the limit: %v", err)
		}
		for range maxSessions {
			if _, err := s.open(s.newKey()); err != nil {
				t.Fatal(err)
			}
		}
		if s.known(session) || len(s.sessions) != maxSessions {
			t.Error("the number of sessions is not limited")
		}
	})
}

func TestSessionEndsWithTheServer(t *testing.T) {
	session := start(t).session(t)
	d := start(t)
	if status, _ := d.send(t, "POST", "/do/stop", "{}", map[string]string{"Authorization": "Bearer " + session, "Content-Type": asJSON}); status != http.StatusUnauthorized {
		t.Errorf("status %d", status)
	}
}

// stream reads the events of one browser.
type stream struct {
	answer *http.Response
	lines  *bufio.Scanner
}

func (d *device) follow(t *testing.T, session string) *stream {
	t.Helper()
	answer := d.request(t, "GET", "/events", "", map[string]string{"Authorization": "Bearer " + session})
	t.Cleanup(func() { answer.Body.Close() })
	if answer.StatusCode != http.StatusOK {
		t.Fatalf("status %d", answer.StatusCode)
	}
	lines := bufio.NewScanner(answer.Body)
	lines.Buffer(nil, 1<<20)
	return &stream{answer, lines}
}

// until reads views until want returns true.
func (s *stream) until(t *testing.T, want func(face) bool) face {
	t.Helper()
	var last face
	for s.lines.Scan() {
		text, ok := strings.CutPrefix(s.lines.Text(), "data: {")
		if !ok {
			continue
		}
		var v struct{ Face face }
		if err := json.Unmarshal([]byte("{"+text), &v); err != nil {
			t.Fatal(err)
		}
		if last = v.Face; want(last) {
			return last
		}
	}
	t.Fatalf("the events end: %v; the last is %+v", s.lines.Err(), last)
	return last
}

// A later viewer sees what was said before, and receives what is said from then
// on.
func TestViewerGetsTheCurrentState(t *testing.T) {
	d := start(t)
	d.notice(1, turn.GotTranscript, "the turn before")
	d.notice(2, turn.GotPartial, "what")
	d.notice(2, turn.GotTranscript, "what time is it")
	d.notice(2, turn.GotSentence, "It is ten.")
	s := d.follow(t, d.session(t))
	f := s.until(t, func(f face) bool { return len(f.Sentences) == 1 })
	if f.Heard != "what time is it" || f.Partial != "" || f.Turn != 2 {
		t.Errorf("%+v", f)
	}
	d.notice(2, turn.GotSentence, "Good night.")
	d.notice(2, turn.GotAnswer, "It is ten. Good night.")
	d.notice(2, turn.GotEmotion, "sleepy")
	f = s.until(t, func(f face) bool { return f.Emotion == "sleepy" })
	if strings.Join(f.Sentences, "|") != "It is ten.|Good night." {
		t.Errorf("sentences %q", f.Sentences)
	}
	d.notice(3, turn.Problem, "no route")
	if f = s.until(t, func(f face) bool { return f.Problem != "" }); f.Heard != "" || f.Emotion != "" || f.Sentences != nil {
		t.Errorf("from the previous turn: %+v", f)
	}
}

// A hundred browsers that do not read do not delay the publisher, and one that
// wakes up gets the latest view.
func TestSleepingBrowsers(t *testing.T) {
	d := start(t)
	session := d.session(t)
	var sleeping []*stream
	for range 100 {
		sleeping = append(sleeping, d.follow(t, session))
	}
	awake := d.follow(t, session)
	for i := range 2000 {
		d.notice(1, turn.GotSentence, fmt.Sprintf("%d %s", i, strings.Repeat("x", 1000)))
	}
	d.notice(2, turn.GotTranscript, "at last")
	newest := func(f face) bool { return f.Heard == "at last" }
	awake.until(t, newest)
	sleeping[50].until(t, newest)
}

func TestTooManyBrowsers(t *testing.T) {
	d := start(t)
	session := d.session(t)
	for range maxViewers {
		d.follow(t, session)
	}
	if status, _ := d.send(t, "GET", "/events", "", map[string]string{"Authorization": "Bearer " + session}); status != http.StatusServiceUnavailable {
		t.Errorf("a browser beyond the limit: %d", status)
	}
}

func TestFaceIsBounded(t *testing.T) {
	var f face
	long := strings.Repeat("ü", 64<<10)
	for range 100 {
		for _, w := range []turn.What{turn.GotSentence, turn.GotTranscript, turn.GotPartial, turn.GotEmotion, turn.Problem, turn.GotDisplay} {
			f.take(turn.Notice{Turn: 1, What: w, Text: long}, nil)
		}
	}
	if raw, err := json.Marshal(f); err != nil || len(raw) > maxAnswer+10*maxWords {
		t.Errorf("%d bytes, %v", len(raw), err)
	}
}

// A whole answer is shown until its parts are spoken.
func TestAnswerIsShownOnce(t *testing.T) {
	var f face
	for _, n := range []struct {
		what       turn.What
		text, want string
	}{
		{turn.GotAnswer, "It is ten. Good night.", "It is ten. Good night."},
		{turn.GotSentence, "It is ten.", "It is ten."},
		{turn.GotSentence, "Good night.", "It is ten.|Good night."},
		{turn.GotAnswer, "It is ten. Good night.", "It is ten.|Good night."},
	} {
		f.take(turn.Notice{Turn: 1, What: n.what, Text: n.text}, nil)
		if got := strings.Join(f.Sentences, "|"); got != n.want {
			t.Errorf("after %s: %q; want %q", n.what, got, n.want)
		}
	}
}

func TestDisplay(t *testing.T) {
	const maps = "https://maps.example"
	for text, want := range map[string]display{
		"Battery is low":                         {Text: "Battery is low"},
		"URL https://maps.example/a?b=c":         {URL: "https://maps.example/a?b=c"},
		"URL https://maps.example:443/":          {URL: "https://maps.example:443/"},
		"URL http://maps.example/":               {Refused: "http://maps.example/"},
		"URL https://maps.example.evil.example/": {Refused: "https://maps.example.evil.example/"},
		"URL https://maps.example@evil.example/": {Refused: "https://maps.example@evil.example/"},
		"URL https://u:p@maps.example/":          {Refused: "https://u:p@maps.example/"},
		"URL javascript:alert(1)":                {Refused: "javascript:alert(1)"},
		"URL https:maps.example/":                {Refused: "https:maps.example/"},
		"URL ":                                   {},
		"URL %zz":                                {Refused: "%zz"},
	} {
		if got := newDisplay(text, []string{maps}); *got != want {
			t.Errorf("%q is shown as %+v", text, *got)
		}
	}
}

func TestHTMLOfThePlatformIsServedToItsFrameOnly(t *testing.T) {
	d := start(t)
	s := d.follow(t, d.session(t))
	page := func(html string) string {
		d.notice(0, turn.GotDisplay, "DOCSTRING "+html)
		var path string
		s.until(t, func(f face) bool {
			if f.Display == nil || f.Display.Page == "" {
				return false
			}
			path = f.Display.Page
			status, body := d.send(t, "GET", path, "", nil)
			return status == http.StatusOK && body == html
		})
		return path
	}
	first := page("<p>one</p><script>alert(1)</script>")
	answer := d.request(t, "GET", first, "", nil)
	answer.Body.Close()
	policy := answer.Header.Get("Content-Security-Policy")
	if !strings.HasPrefix(policy, "sandbox;") || strings.Contains(policy, "script") || !strings.Contains(policy, "default-src 'none'") {
		t.Errorf("policy %q", policy)
	}
	page("<p>two</p>")
	if status, _ := d.send(t, "GET", first, "", nil); status != http.StatusNotFound {
		t.Errorf("the previous page: %d", status)
	}
}

func TestPolicyOfThePage(t *testing.T) {
	d := start(t, "https://maps.example")
	for _, path := range []string{"/", "/app.js", "/nowhere"} {
		answer := d.request(t, "GET", path, "", nil)
		answer.Body.Close()
		policy := answer.Header.Get("Content-Security-Policy")
		for _, want := range []string{"default-src 'none'", "script-src 'self';", "style-src 'self';", "frame-src 'self' https://maps.example;", "frame-ancestors 'none'"} {
			if !strings.Contains(policy, want) {
				t.Errorf("the policy of %s lacks %s", path, want)
			}
		}
		if strings.Contains(policy, "unsafe") {
			t.Errorf("the policy of %s is %s", path, policy)
		}
	}
}

// The page is small, and loads nothing from other servers.
func TestSizeOfThePage(t *testing.T) {
	size := 0
	err := fs.WalkDir(static, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		raw, err := fs.ReadFile(static, path)
		size += len(raw)
		text := strings.ReplaceAll(string(raw), "http://www.w3.org/2000/svg", "")
		for _, elsewhere := range []string{"http:", "https:", "src=\"//", "url(", "@import"} {
			if strings.Contains(text, elsewhere) {
				t.Errorf("%s refers to another server: %s", path, elsewhere)
			}
		}
		return err
	})
	if err != nil || size > 150<<10 {
		t.Errorf("%d bytes, %v", size, err)
	}
}

func TestConfig(t *testing.T) {
	for listen, ok := range map[string]bool{
		"127.0.0.1:8090": true, "[::1]:8090": true, "127.1.2.3:0": true,
		"0.0.0.0:8090": false, ":8090": false, "[::]:8090": false, "192.168.1.2:8090": false, "127.0.0.1": false, "localhost:8090": false, "127.0.0.1:99999": false, "": false,
	} {
		if ps := (Config{Listen: listen}).Validate(); (len(ps) == 0) != ok {
			t.Errorf("listen = %q: %v", listen, ps)
		}
	}
	for frame, ok := range map[string]bool{
		"https://maps.example": true, "http://10.0.0.1:8080": true,
		"https://maps.example/": false, "https://maps.example/x": false, "maps.example": false, "javascript:alert(1)": false, "https://*.example": false,
		"https://a.example; script-src *": false, "http://127.0.0.1:8090": false, "https://u@maps.example": false, "https://maps.example:443": false, "": false,
	} {
		if ps := (Config{Listen: "127.0.0.1:8090", Frames: []string{frame}}).Validate(); (len(ps) == 0) != ok {
			t.Errorf("frames = [%q]: %v", frame, ps)
		}
	}
}

func FuzzDisplay(f *testing.F) {
	for _, text := range []string{"URL https://maps.example/", "URL https://maps.example@x/", "DOCSTRING <p>", "words"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		d := newDisplay(text, []string{"https://maps.example"})
		if d.URL == "" {
			return
		}
		at, err := url.Parse(d.URL)
		if err != nil || at.Scheme != "https" || at.Hostname() != "maps.example" {
			t.Errorf("%q may be framed", d.URL)
		}
	})
}

// A picture is served only at its secret path, and only if browsers can show it.
func TestPictures(t *testing.T) {
	d := start(t)
	events := d.follow(t, d.session(t))
	good := painted(t)
	huge := bytes.Clone(good)
	binary.BigEndian.PutUint32(huge[16:], 60000) // the size in the header
	binary.BigEndian.PutUint32(huge[20:], 60000)
	binary.BigEndian.PutUint32(huge[29:], crc32.ChecksumIEEE(huge[12:29]))
	pipe := filepath.Join(t.TempDir(), "page2.jpg")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	var before string
	for name, tt := range map[string]struct {
		content []byte
		path    string
		want    int
	}{
		"good": {good, "", http.StatusOK}, "page": {[]byte("<html><script>1</script>"), "", http.StatusNotFound}, "empty": {[]byte{}, "", http.StatusNotFound},
		"huge": {huge, "", http.StatusNotFound}, "a pipe": {nil, pipe, http.StatusNotFound}, "nothing": {nil, "/nowhere/at/all.jpg", http.StatusNotFound}, "a folder": {nil, t.TempDir(), http.StatusNotFound},
	} {
		if tt.path == "" {
			d.setPicture(t, tt.content)
		} else {
			d.shown.Store(&tt.path)
			d.Changed()
		}
		var path string
		for (path == "" || path == before) && events.lines.Scan() {
			if text, ok := strings.CutPrefix(events.lines.Text(), "data: {"); ok {
				var view struct{ Picture string }
				if err := json.Unmarshal([]byte("{"+text), &view); err != nil {
					t.Fatal(err)
				}
				path = view.Picture
			}
		}
		answer, err := http.Get(d.base + path)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if kind := answer.Header.Get("Content-Type"); answer.StatusCode != tt.want || tt.want == http.StatusOK && kind != "image/png" {
			t.Errorf("%s: %s, %s", name, answer.Status, kind)
		}
		if before != "" {
			if status, _ := d.send(t, "GET", before, "", nil); status != http.StatusNotFound {
				t.Errorf("the previous picture is still served: %d", status)
			}
		}
		before = path
	}
}
