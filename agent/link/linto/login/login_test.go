package login

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"lintod/agent/base/journal/journaltest"
)

const (
	password  = "pass-3f9c1e"
	authToken = "eyJ-auth-7d21"
	freshOne  = "eyJ-refresh-90ab"
	limit     = 2 * time.Minute // timeout of a failing test
)

// fake is an overwatch server whose answers a test sets for each path.
type fake struct {
	*httptest.Server
	mu     sync.Mutex
	routes map[string]http.HandlerFunc // "GET /auths"
	calls  []string
	bodies []string
}

func newFake(t *testing.T) *fake {
	f := &fake{routes: map[string]http.HandlerFunc{
		"GET /auths":                  says(200, `[{"type":"ldap","basePath":"/ldap"},{"type":"local","basePath":"/local"}]`),
		"POST /local/android/login":   says(202, loginJSON(authToken, freshOne)),
		"GET /local/scopes":           says(200, `[{"name":"Home","topic":"blk","services":{}}]`),
		"GET /local/android/refresh":  says(202, refreshJSON("eyJ-second", "eyJ-second-refresh")),
		"GET /local/android/logout":   says(200, "Ok"),
		"POST /local/android/refresh": says(500, ""),
	}}
	f.Server = httptest.NewServer(f)
	t.Cleanup(f.Close)
	return f
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path, ok := strings.CutPrefix(r.URL.Path, "/overwatch")
	call := r.Method + " " + path
	body, _ := io.ReadAll(r.Body)
	f.mu.Lock()
	f.calls = append(f.calls, call+" "+r.Header.Get("Authorization"))
	f.bodies = append(f.bodies, string(body))
	route := f.routes[call]
	f.mu.Unlock()
	if !ok || route == nil {
		http.NotFound(w, r)
		return
	}
	route(w, r)
}

func (f *fake) route(call string, h http.HandlerFunc) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.routes[call] = h
}

func (f *fake) count(call string) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.calls {
		if strings.HasPrefix(c, call) {
			n++
		}
	}
	return n
}

func says(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

func refreshJSON(auth, refresh string) string {
	return fmt.Sprintf(`{"auth_token":%q,"refresh_token":%q,"expiration_date":%d,"session_id":"DEV_5f3d38"}`,
		auth, refresh, time.Now().Add(60*24*time.Hour).Unix())
}

func loginJSON(auth, refresh string) string {
	return `{"user":` + refreshJSON(auth, refresh) +
		`,"mqtt":{"mqtt_host":"linto.example","mqtt_port":"1883","mqtt_use_login":true,"mqtt_login":"DEV_5f3d38","mqtt_password":"` + password + `"}}`
}

// stage is a client and its sessions.
type stage struct {
	*Client
	t        *testing.T
	log      *journaltest.Buffer
	sessions chan Session
	left     chan Session
	stop     func()
}

func settings(t *testing.T, url string) Config {
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte(password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return Config{URL: url, User: "ann@example.org", PasswordFile: file}
}

func start(t *testing.T, c Config, file string, options ...func(*Client)) *stage {
	s := &stage{t: t, log: &journaltest.Buffer{}, sessions: make(chan Session, 100), left: make(chan Session, 100)}
	s.Client = New(c, file, slog.New(slog.NewTextHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	for _, o := range options {
		o(s.Client)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- s.Run(ctx, func(ctx context.Context, session Session) error {
			s.sessions <- session
			<-ctx.Done()
			s.left <- session
			return nil
		})
	}()
	s.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run returned %v", err)
		}
		for _, secret := range []string{password, authToken, freshOne, "eyJ-"} {
			if strings.Contains(s.log.String(), secret) {
				t.Errorf("%q is in the log:\n%s", secret, s.log)
			}
		}
	})
	t.Cleanup(s.stop)
	return s
}

func (s *stage) session() Session {
	s.t.Helper()
	select {
	case session := <-s.sessions:
		return session
	case <-time.After(limit):
		s.t.Fatalf("no session; the problem is %q", s.Problem())
		return Session{}
	}
}

func (s *stage) eventually(what string, ok func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(limit); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatalf("timed out waiting for %s; the problem is %q", what, s.Problem())
		}
	}
}

func (s *stage) problem() string {
	s.t.Helper()
	s.eventually("a problem", func() bool { return s.Problem() != "" })
	return s.Problem()
}

func tokenFile(t *testing.T) string { return filepath.Join(t.TempDir(), "login.json") }

func TestLoginFromTheFirstRequestToTheSession(t *testing.T) {
	f, file := newFake(t), tokenFile(t)
	s := start(t, settings(t, f.URL), file)
	want := Session{ID: "DEV_5f3d38", Scope: "blk", Broker: "mqtt://linto.example:1883", Username: "DEV_5f3d38", Password: password}
	if got := s.session(); got != want {
		t.Errorf("session %#v\nwant %#v", got, want)
	}
	if got := s.Token(); got != "Android "+authToken {
		t.Errorf("token %q", got)
	}
	s.stop()
	calls := fmt.Sprint(f.calls)
	if want := "[GET /auths  POST /local/android/login  GET /local/scopes Android " + authToken + "]"; calls != want {
		t.Errorf("requests %s\nwant     %s", calls, want)
	}
	var body map[string]string
	if err := json.Unmarshal([]byte(f.bodies[1]), &body); err != nil || len(body) != 3 ||
		body["email"] != "ann@example.org" || body["username"] != "ann@example.org" || body["password"] != password {
		t.Errorf("login sends %s", f.bodies[1])
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("tokens are stored in %v, %v; want mode 0600", info, err)
	}
}

func TestRestartContinuesTheSavedLogin(t *testing.T) {
	f, file := newFake(t), tokenFile(t)
	c := settings(t, f.URL)
	first := start(t, c, file)
	want := first.session()
	first.stop()

	second := start(t, c, file)
	if got := second.session(); got != want || second.Token() != "Android "+authToken {
		t.Errorf("session %#v\nwant %#v", got, want)
	}
	second.eventually("the token is checked", func() bool { return f.count("GET /local/scopes") == 2 })
	second.stop()
	if n := f.count("POST"); n != 1 {
		t.Errorf("%d logins", n)
	}

	// Also without the platform.
	f.Close()
	if got := start(t, c, file).session(); got != want {
		t.Errorf("session %#v\nwant %#v", got, want)
	}
}

func TestUnusableSavedLogin(t *testing.T) {
	for name, spoil := range map[string]func(*Config, string){
		"another user":  func(c *Config, _ string) { c.User = "bob" },
		"another scope": func(c *Config, _ string) { c.Scope = "Home" },
		"garbage":       func(_ *Config, file string) { _ = os.WriteFile(file, []byte("{"), 0o600) },
		"too long":      func(_ *Config, file string) { _ = os.WriteFile(file, make([]byte, maxFile+1), 0o600) },
		"hostile":       func(_ *Config, file string) { _ = os.WriteFile(file, []byte(`{"Auth":"a\nb"}`), 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			f, file := newFake(t), tokenFile(t)
			c := settings(t, f.URL)
			first := start(t, c, file)
			first.session()
			first.stop()
			spoil(&c, file)
			s := start(t, c, file)
			s.session()
			if n := f.count("POST /local/android/login"); n != 2 {
				t.Errorf("%d logins; want a second", n)
			}
		})
	}
}

func TestFailures(t *testing.T) {
	for _, tt := range []struct {
		name  string
		spoil func(*fake, *Config)
		says  []string
	}{
		{"wrong user", func(f *fake, _ *Config) {
			f.route("POST /local/android/login", says(401, `{"message":"Wrong user credential"}`))
		}, []string{"Wrong user credential", "password_file"}},
		{"an echo of the password", func(f *fake, _ *Config) {
			f.route("POST /local/android/login", says(401, `{"message":"`+password+` is wrong"}`))
		}, []string{`"*** is wrong"`}},
		{"server down", func(f *fake, _ *Config) { f.Close() }, []string{syscall.ECONNREFUSED.Error()}},
		{"server error", func(f *fake, _ *Config) { f.route("GET /auths", says(500, "oops")) }, []string{"500"}},
		{"HTML", func(f *fake, _ *Config) {
			f.route("GET /auths", func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "text/html; charset=utf-8")
				_, _ = io.WriteString(w, "<html>Welcome to the hotel</html>")
			})
		}, []string{"text/html", "url"}},
		{"wrong path", func(_ *fake, c *Config) { c.URL += "/elsewhere" }, []string{"404", "url"}},
		{"redirect", func(f *fake, _ *Config) {
			f.route("GET /auths", func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, "http://u:secret@elsewhere.example/auths?key=secret", http.StatusFound)
			})
		}, []string{"http://elsewhere.example/auths", "url"}},
		{"redirect of the password", func(f *fake, _ *Config) {
			f.route("POST /local/android/login", func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, "/overwatch/auths", http.StatusTemporaryRedirect)
			})
		}, []string{"/overwatch/auths"}},
		{"10 MB", func(f *fake, _ *Config) {
			f.route("GET /auths", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(bytes.Repeat([]byte("["), 10<<20)) })
		}, []string{"1048576"}},
		{"endless headers", func(f *fake, _ *Config) {
			f.route("GET /auths", func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("X", strings.Repeat("x", 1<<20))
				w.WriteHeader(http.StatusOK)
			})
		}, nil},
		{"no answer", func(f *fake, _ *Config) {
			f.route("GET /auths", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		}, nil},
		{"byte by byte", func(f *fake, _ *Config) {
			f.route("GET /auths", func(w http.ResponseWriter, r *http.Request) {
				for r.Context().Err() == nil {
					_, _ = io.WriteString(w, "[")
					_ = http.NewResponseController(w).Flush()
					select {
					case <-r.Context().Done():
					case <-time.After(20 * time.Millisecond):
					}
				}
			})
		}, nil},
		{"closes the connection", func(f *fake, _ *Config) {
			f.route("GET /auths", func(w http.ResponseWriter, _ *http.Request) {
				c, _, _ := http.NewResponseController(w).Hijack()
				c.Close()
			})
		}, nil},
		{"no method", func(f *fake, _ *Config) { f.route("GET /auths", says(200, "[]")) }, nil},
		{"no token", func(f *fake, _ *Config) { f.route("POST /local/android/login", says(202, "{}")) }, []string{"auth_token"}},
		{"hostile session", func(f *fake, _ *Config) {
			f.route("POST /local/android/login", says(202, `{"user":{"auth_token":"a","session_id":"x/#"}}`))
		}, []string{"session_id"}},
		{"reserved session", func(f *fake, _ *Config) {
			f.route("POST /local/android/login", says(202, `{"user":{"auth_token":"a","session_id":"$SYS"}}`))
		}, []string{"session_id"}},
		{"reserved scope", func(f *fake, _ *Config) {
			f.route("GET /local/scopes", says(200, `[{"name":"Home","topic":"$share"}]`))
		}, []string{"$share"}},
		{"broker's address with a password", func(f *fake, _ *Config) {
			f.route("POST /local/android/login", says(202, `{"user":{"auth_token":"a","session_id":"x"},"mqtt":{"mqtt_host":"mqtt://a:b@h:1:2"}}`))
		}, []string{"[linto]"}},
		{"no broker", func(f *fake, _ *Config) {
			f.route("POST /local/android/login", says(202, `{"user":{"auth_token":"a","session_id":"x"},"mqtt":{}}`))
		}, []string{"[linto]"}},
		{"no scope", func(f *fake, _ *Config) { f.route("GET /local/scopes", says(200, "[]")) }, nil},
		{"several scopes", func(f *fake, _ *Config) {
			f.route("GET /local/scopes", says(200, `[{"name":"Home","topic":"a"},{"name":"Work\n","topic":"b"}]`))
		}, []string{`"Home", "Work"`}},
		{"unknown scope", func(_ *fake, c *Config) { c.Scope = "Moon" }, []string{`"Moon"`, `"Home"`}},
		{"scopes of a web token", func(f *fake, _ *Config) { f.route("GET /local/scopes", says(200, "{}")) }, nil},
		{"no password file", func(_ *fake, c *Config) { c.PasswordFile = "/nonexistent/pw" }, []string{"password_file", syscall.ENOENT.Error()}},
		{"no CA file", func(_ *fake, c *Config) { c.CAFile = "/nonexistent/ca" }, []string{"ca_file", syscall.ENOENT.Error()}},
		{"empty CA file", func(_ *fake, c *Config) { c.CAFile = c.PasswordFile }, []string{"ca_file"}},
		{"https to an http server", func(_ *fake, c *Config) { c.URL = strings.Replace(c.URL, "http:", "https:", 1) }, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFake(t)
			c := settings(t, f.URL)
			tt.spoil(f, &c)
			s := start(t, c, tokenFile(t), func(c *Client) {
				if tt.name == "no answer" || tt.name == "byte by byte" {
					c.limit = 300 * time.Millisecond
				}
			})
			got := s.problem()
			for _, part := range tt.says {
				if !strings.Contains(got, part) {
					t.Errorf("the problem is %q; want %q in it", got, part)
				}
			}
			if strings.ContainsAny(got, "\n") || strings.Contains(got, "secret") {
				t.Errorf("the problem is %q", got)
			}
			if len(s.sessions) > 0 {
				t.Error("there is a session nevertheless")
			}
			s.stop()
			if n := strings.Count(s.log.String(), "level=WARN"); n != 1 {
				t.Errorf("%d lines in the log:\n%s", n, s.log)
			}
		})
	}
}

func TestReconnectsWhenThePlatformIsBack(t *testing.T) {
	f := newFake(t)
	f.route("GET /auths", says(503, ""))
	s := start(t, settings(t, f.URL), tokenFile(t))
	s.problem()
	f.route("GET /auths", says(200, `[{"type":"local","basePath":"/local"}]`))
	s.session()
	s.eventually("no problem is left", func() bool { return s.Problem() == "" })
}

func TestPatience(t *testing.T) {
	if got := patience(errors.New("away")); got != away {
		t.Errorf("an unreachable platform: %v", got)
	}
	if got := patience(&statusError{code: 401}); got != refusal {
		t.Errorf("a refusal: %v", got)
	}
}

// accept makes f accept only one auth_token.
func (f *fake) accept(token string) {
	f.route("GET /local/scopes", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Android "+token {
			says(401, `{"message":"jwt malformed"}`)(w, r)
			return
		}
		says(200, `[{"name":"Home","topic":"blk"}]`)(w, r)
	})
}

func TestRefreshOn401(t *testing.T) {
	for _, tt := range []struct {
		name   string
		spoil  func(*fake)
		token  string
		logins int
	}{
		{"GET", func(*fake) {}, "eyJ-second", 1},
		{"nested in user", func(f *fake) {
			f.route("GET /local/android/refresh", says(202, `{"user":`+refreshJSON("eyJ-second", "")+`}`))
		}, "eyJ-second", 1},
		{"POST if GET is not allowed", func(f *fake) {
			f.route("GET /local/android/refresh", says(405, ""))
			f.route("POST /local/android/refresh", says(202, refreshJSON("eyJ-second", "x")))
		}, "eyJ-second", 1},
		{"POST where GET is unknown", func(f *fake) {
			f.route("GET /local/android/refresh", says(404, "<html>"))
			f.route("POST /local/android/refresh", says(202, refreshJSON("eyJ-second", "x")))
		}, "eyJ-second", 1},
		{"login if refresh is refused", func(f *fake) {
			f.route("GET /local/android/refresh", says(401, `{"message":"`+freshOne+`"}`))
			f.route("POST /local/android/login", says(202, loginJSON("eyJ-second", "x")))
		}, "eyJ-second", 2},
		{"login if refresh returns nothing", func(f *fake) {
			f.route("GET /local/android/refresh", says(202, `{}`))
			f.route("POST /local/android/login", says(202, loginJSON("eyJ-second", "x")))
		}, "eyJ-second", 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f, file := newFake(t), tokenFile(t)
			c := settings(t, f.URL)
			first := start(t, c, file)
			first.session()
			first.stop()

			f.accept("eyJ-second") // another device has logged in
			tt.spoil(f)
			s := start(t, c, file)
			s.session()
			s.eventually("a new token", func() bool { return s.Token() == "Android "+tt.token })
			s.stop()
			if n := f.count("POST /local/android/login"); n != tt.logins {
				t.Errorf("%d logins; want %d", n, tt.logins)
			}
			if len(s.left) != 1 {
				t.Error("a new token alone interrupted the connection")
			}
			if n := strings.Count(s.log.String(), "level=WARN"); n != 1 {
				t.Errorf("%d warnings:\n%s", n, s.log)
			}
		})
	}
}

// silent and hangUp are the reactions of real platforms to the token of a
// deleted account.
func silent(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

func hangUp(w http.ResponseWriter, _ *http.Request) {
	c, _, _ := http.NewResponseController(w).Hijack()
	c.Close()
}

// TestTokenThatIsNotAnswered: no answer leads to a login, whose answer gives the
// reason.
func TestTokenThatIsNotAnswered(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{"silence": silent, "closed": hangUp} {
		for _, request := range []string{"GET /local/scopes", "GET /local/android/refresh"} {
			t.Run(name+", "+request, func(t *testing.T) {
				f, file := newFake(t), tokenFile(t)
				c := settings(t, f.URL)
				first := start(t, c, file)
				first.session()
				first.stop()

				f.accept("another")
				f.route(request, answer)
				f.route("POST /local/android/login", says(401, `{"message":"Wrong user credential"}`))
				before := f.count(request)
				s := start(t, c, file, func(c *Client) { c.limit = 200 * time.Millisecond })
				s.session()
				s.eventually("the login is refused", func() bool { return strings.Contains(s.Problem(), "password_file") })
				if n := f.count(request) - before; n != 1 {
					t.Errorf("the token was sent %d times", n)
				}
			})
		}
	}
}

// TestOutageOfThePlatform: an outage does not cause a login with the password.
func TestOutageOfThePlatform(t *testing.T) {
	f, file := newFake(t), tokenFile(t)
	c := settings(t, f.URL)
	first := start(t, c, file)
	first.session()
	first.stop()
	f.Listener.Close()

	s := start(t, c, file)
	s.session()
	s.problem()
	back, err := net.Listen("tcp", f.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	again := &httptest.Server{Listener: back, Config: &http.Server{Handler: f}}
	again.Start()
	defer again.Close()
	s.eventually("the token is accepted", func() bool { return s.Problem() == "" })
	if n := f.count("POST"); n != 1 {
		t.Errorf("%d logins", n)
	}
}

// TestDoubt checks once whether the token is valid, and acts on the answer.
func TestDoubt(t *testing.T) {
	f := newFake(t)
	f.route("GET /local/isAuth", says(200, "Ok"))
	s := start(t, settings(t, f.URL), tokenFile(t))
	s.session()
	s.eventually("the login has finished", func() bool { return s.Problem() == "" && f.count("GET /local/scopes") == 1 })
	for range 10 {
		s.Doubt()
	}
	s.eventually("a check of the token", func() bool { return f.count("GET /local/isAuth Android "+authToken) == 1 })
	for range 10 {
		s.Doubt()
	}
	s.stop()
	if n := f.count("GET /local/isAuth"); n != 1 || f.count("POST") != 1 || f.count("GET /local/android/refresh") != 0 {
		t.Errorf("requests %q", f.calls)
	}
}

func TestDoubtWithAnInvalidToken(t *testing.T) {
	f := newFake(t)
	f.route("GET /local/isAuth", says(401, `{"message":"invalid signature"}`))
	s := start(t, settings(t, f.URL), tokenFile(t))
	s.session()
	s.Doubt()
	s.eventually("a new token", func() bool { return s.Token() == "Android eyJ-second" })
}

// TestTokenThatIsTooNew: the platform answers a login before it recognizes its own
// token.
func TestTokenThatIsTooNew(t *testing.T) {
	f := newFake(t)
	var asked atomic.Int64
	f.route("GET /local/scopes", func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) == 1 {
			says(401, `{"message":"invalid signature"}`)(w, r)
			return
		}
		says(200, `[{"name":"Home","topic":"blk"}]`)(w, r)
	})
	s := start(t, settings(t, f.URL), tokenFile(t))
	s.session()
	if n := f.count("POST /local/android/login"); n != 1 {
		t.Errorf("%d logins", n)
	}
}

// TestPending: before the first login the device reports what it is doing.
func TestPending(t *testing.T) {
	f := newFake(t)
	release := make(chan struct{})
	login := says(200, `[{"type":"local","basePath":"/local"}]`)
	f.route("GET /auths", func(w http.ResponseWriter, r *http.Request) { <-release; login(w, r) })
	s := start(t, settings(t, f.URL), tokenFile(t))
	s.eventually("the first request", func() bool { return f.count("GET /auths") == 1 })
	if got := s.Pending(); !strings.Contains(got, f.URL) {
		t.Errorf("pending is %q", got)
	}
	close(release)
	s.session()
	if got := s.Pending(); got != "" {
		t.Errorf("pending after the login is %q", got)
	}
}

func TestRefreshBeforeTheTokenEnds(t *testing.T) {
	f := newFake(t)
	var refreshes atomic.Int64
	soon := func() string {
		return fmt.Sprintf(`{"auth_token":"eyJ-%d","refresh_token":"r","expiration_date":"%d","session_id":"DEV_5f3d38"}`,
			refreshes.Load(), time.Now().Unix()+2)
	}
	f.route("POST /local/android/login", func(w http.ResponseWriter, r *http.Request) {
		says(202, `{"user":`+soon()+`,"mqtt":{"mqtt_host":"b","mqtt_port":1883}}`)(w, r)
	})
	f.route("GET /local/android/refresh", func(w http.ResponseWriter, r *http.Request) {
		refreshes.Add(1)
		says(202, soon())(w, r)
	})
	s := start(t, settings(t, f.URL), tokenFile(t))
	s.session()
	s.eventually("two refreshes", func() bool { return s.Token() == "Android eyJ-2" })
	s.stop()
	if n := f.count("POST"); n != 1 || len(s.left) != 1 {
		t.Errorf("%d logins, %d sessions; want one of each", n, len(s.left))
	}
}

func TestRefreshAfterFourFifthsOfTheLifetime(t *testing.T) {
	for _, tt := range []struct {
		since, until seconds
		want         int64
	}{
		{1000, 2000, 1800},
		{1000, 0, 1000 + 48*60},   // unknown, or a wrong clock
		{1000, 500, 1000 + 48*60}, // expired on arrival
		{1000, 1e18, 1000 + 8e8},
	} {
		if got := (login{Since: tt.since, Until: tt.until}).refreshAt().Unix(); got != tt.want {
			t.Errorf("refresh of %d to %d at %d; want %d", tt.since, tt.until, got, tt.want)
		}
	}
}

func TestBrokerRefusesTheDevice(t *testing.T) {
	f, file := newFake(t), tokenFile(t)
	c := settings(t, f.URL)
	first := start(t, c, file)
	old := first.session()
	first.stop()

	// The password was changed on the platform while the device was off.
	changed := strings.Replace(loginJSON(authToken, freshOne), `"mqtt_password":"`+password, `"mqtt_password":"pass-new`, 1)
	f.route("POST /local/android/login", says(202, changed))
	s := start(t, c, file)
	if got := s.session(); got != old {
		t.Fatalf("session %#v", got)
	}
	s.eventually("the saved token is checked", func() bool { return f.count("GET /local/scopes") == 2 })
	s.Refused()
	if got := s.session(); got.Password != "pass-new" {
		t.Errorf("session %#v", got)
	}
	if left := <-s.left; left != old {
		t.Errorf("left %#v", left)
	}
	// Repeatedly, as with retries of the broker: the last login is too recent.
	for range 5 {
		s.Refused()
	}
	s.stop()
	if n := f.count("POST"); n != 2 {
		t.Errorf("%d logins; want 2", n)
	}
}

func TestLogoutOnStop(t *testing.T) {
	f, file := newFake(t), tokenFile(t)
	c := settings(t, f.URL)
	c.LogoutOnStop = true
	s := start(t, c, file)
	s.session()
	s.stop()
	if n := f.count("GET /local/android/logout Android " + authToken); n != 1 {
		t.Errorf("%d logouts", n)
	}
	if _, err := os.Stat(file); !os.IsNotExist(err) {
		t.Errorf("the tokens are still stored: %v", err)
	}
	if len(s.left) != 1 {
		t.Error("logged out before the connection had ended")
	}
}

func TestLogoutDoesNotBlockTheStop(t *testing.T) {
	f := newFake(t)
	release := make(chan struct{})
	defer close(release)
	f.route("GET /local/android/logout", func(http.ResponseWriter, *http.Request) { <-release })
	c := settings(t, f.URL)
	c.LogoutOnStop = true
	s := start(t, c, tokenFile(t))
	s.session()
	done := make(chan struct{})
	go func() { defer close(done); s.stop() }()
	select {
	case <-done:
	case <-time.After(limit):
		t.Fatal("Run waits for a platform that hangs")
	}
}

func TestRunReturnsTheErrorOfServe(t *testing.T) {
	f := newFake(t)
	c := New(settings(t, f.URL), tokenFile(t), slog.New(slog.DiscardHandler))
	broken := fmt.Errorf("broken")
	if err := c.Run(t.Context(), func(context.Context, Session) error { return broken }); err != broken {
		t.Errorf("Run returned %v", err)
	}
}

func TestCertificates(t *testing.T) {
	f := newFake(t)
	secure := httptest.NewTLSServer(f)
	defer secure.Close()
	secure.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw})
	if err := os.WriteFile(ca, text, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Run("own CA", func(t *testing.T) {
		c := settings(t, secure.URL)
		c.CAFile = ca
		start(t, c, tokenFile(t)).session()
	})
	t.Run("unknown CA", func(t *testing.T) {
		if got := start(t, settings(t, secure.URL), tokenFile(t)).problem(); !strings.Contains(got, "ca_file") {
			t.Errorf("the problem is %q", got)
		}
	})
	t.Run("another name", func(t *testing.T) {
		_, port, _ := net.SplitHostPort(secure.Listener.Addr().String())
		c := settings(t, "https://localhost:"+port)
		c.CAFile = ca
		if got := start(t, c, tokenFile(t)).problem(); !strings.Contains(got, `"localhost"`) {
			t.Errorf("the problem is %q", got)
		}
	})
	t.Run("redirect to http", func(t *testing.T) {
		f.route("GET /auths", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, f.URL+"/overwatch/auths", http.StatusMovedPermanently)
		})
		c := settings(t, secure.URL)
		c.CAFile = ca
		if got := start(t, c, tokenFile(t)).problem(); !strings.Contains(got, f.URL) {
			t.Errorf("the problem is %q", got)
		}
	})
}
