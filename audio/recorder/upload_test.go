package recorder

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// pipes is a network inside the bubble.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case p.conns <- server:
		return client, nil
	case <-p.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (p *pipes) Close() error   { p.once.Do(func() { close(p.closed) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

// platform is a real HTTP server that answers uploads as in script, and then accepts
// all.
type platform struct {
	*httptest.Server
	mu     sync.Mutex
	script []string
	never  map[string]string // results, by prefix of the path
	asked  []string          // "path verdict"
	taken  map[string][]byte // by path
}

func newPlatform(t *testing.T, script ...string) *platform {
	p := &platform{script: script, taken: map[string][]byte{}}
	network := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
	p.Server = httptest.NewUnstartedServer(p)
	p.Listener.Close()
	p.Listener = network
	// Without TLS: its close notification is sent under a lock on which others wait,
	// which stops the bubble's clock, including the timeout of the notification.
	p.Start()
	p.Client().Transport.(*http.Transport).DialContext = network.dial
	return p
}

func (p *platform) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	verdict := "200"
	if len(p.script) > 0 {
		verdict, p.script = p.script[0], p.script[1:]
	}
	for begin, always := range p.never {
		if strings.HasPrefix(r.URL.Path, begin) {
			verdict = always
		}
	}
	p.asked = append(p.asked, r.URL.Path+" "+verdict)
	switch verdict {
	case "hang up":
		_, _ = io.CopyN(io.Discard, r.Body, 1000)
		panic(http.ErrAbortHandler)
	case "redirect":
		http.Redirect(w, r, "https://elsewhere.example/", http.StatusTemporaryRedirect)
		return
	}
	body, err := io.ReadAll(r.Body)
	sum := sha256.Sum256(body)
	switch {
	case err != nil, r.Method != http.MethodPut, r.ContentLength != int64(len(body)),
		r.Header.Get("Content-Digest") != "sha-256=:"+base64.StdEncoding.EncodeToString(sum[:])+":":
		http.Error(w, "damaged", http.StatusInternalServerError)
	case r.Header.Get("Authorization") != "Bearer s3cret":
		http.Error(w, "who are you", http.StatusUnauthorized)
	case verdict != "200":
		var code int
		_, _ = fmt.Sscan(verdict, &code)
		http.Error(w, "no", code)
	default:
		p.taken[r.URL.Path] = body
		w.WriteHeader(http.StatusCreated)
	}
}

func uploadConfig(t *testing.T) Config {
	cfg := testConfig(t, FLAC)
	cfg.UploadURL = "http://example.com/in/"
	cfg.UploadTokenFile = filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(cfg.UploadTokenFile, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return cfg
}

// Whatever fails, finally the platform has each recording as on the disk, and did
// not get requests in a hot loop.
func TestUploadIsRetriedUntilComplete(t *testing.T) {
	cfg := uploadConfig(t)
	playUploads(t, cfg, []string{"hang up", "500", "redirect", "429", "503"}, func(s *stage, p *platform) {
		s.start("équipe")
		time.Sleep(10 * time.Second)
		if len(p.asked) != 0 {
			t.Errorf("uploaded while it is recorded: %v", p.asked)
		}
		began := time.Now()
		f := s.end("équipe")
		for s.rec.Status().Uploads.Done == 0 {
			time.Sleep(time.Second)
			if time.Since(began) > time.Hour {
				t.Fatalf("not uploaded: %+v, %v", s.rec.Status(), p.asked)
			}
		}
		if took := time.Since(began); len(p.asked) != 6 || took < time.Minute {
			t.Errorf("asked %v in %v", p.asked, took)
		}
		body := must(os.ReadFile(filepath.Join(cfg.Directory, f.Path)))
		if string(p.taken["/in/"+f.Path]) != string(body) {
			t.Errorf("the platform has others than %q: %v", f.Path, p.asked)
		}
		if u := s.rec.Status().Uploads; u != (Uploads{Done: 1, Failed: 5}) {
			t.Errorf("status: %+v", u)
		}
		s.stop()
		s.run() // a restart does not send it again
		time.Sleep(time.Hour)
		if len(p.asked) != 6 {
			t.Errorf("asked %v", p.asked)
		}
	})
}

// A recording that the platform rejects does not delay the others; it is retried, at
// increasing intervals.
func TestRejectedUpload(t *testing.T) {
	cfg := uploadConfig(t)
	playUploads(t, cfg, nil, func(s *stage, p *platform) {
		for _, session := range []string{"a", "b"} {
			if session == "b" {
				p.mu.Lock()
				p.script = []string{"413", "413", "200", "413"}
				p.mu.Unlock()
			}
			s.start(session)
			time.Sleep(5 * time.Second)
			if session == "a" {
				p.mu.Lock()
				p.script = []string{"413"}
				p.mu.Unlock()
			}
			s.end(session)
			synctest.Wait()
		}
		time.Sleep(time.Hour)
		if u := s.rec.Status().Uploads; u.Done != 2 || u.Failed < 2 || u.Waiting != 0 {
			t.Errorf("status: %+v, asked %v", u, p.asked)
		}
		if n := len(p.asked); n > 10 {
			t.Errorf("asked %d times", n)
		}
	})
}

// An upload that the platform rejects permanently is given up, also after a restart,
// and its recording is kept; so is one on which the server always fails while it
// accepts others. Neither delays the others.
func TestUploadThatNeverSucceedsIsGivenUp(t *testing.T) {
	for _, verdict := range []string{"413", "hang up", "500"} {
		cfg := uploadConfig(t)
		playUploads(t, cfg, nil, func(s *stage, p *platform) {
			p.never = map[string]string{"/in/bad/": verdict}
			s.start("bad")
			time.Sleep(5 * time.Second)
			bad := s.end("bad")
			for i := range 2 * maxRefused {
				session := fmt.Sprint("good", i)
				s.start(session)
				time.Sleep(5 * time.Second)
				s.end(session)
				time.Sleep(time.Hour)
				if u := s.rec.Status().Uploads; u.Done != i+1 {
					t.Fatalf("%s: the others are delayed: %+v, %v", verdict, u, p.asked)
				}
			}
			if u := s.rec.Status().Uploads; u.Waiting != 0 || u.Refused != 1 {
				t.Errorf("%s: status: %+v", verdict, u)
			}
			asked := len(p.asked)
			s.stop()
			s.run()
			time.Sleep(time.Hour)
			if len(p.asked) != asked {
				t.Errorf("%s: after a restart it is sent again: %v", verdict, p.asked[asked:])
			}
			if _, err := os.Stat(filepath.Join(cfg.Directory, bad.Path)); err != nil {
				t.Errorf("%s: the recording was deleted: %v", verdict, err)
			}
		})
	}
}

// The token and the secret in the address do not appear in status and marks.
func TestUploadErrorsHoldNoSecret(t *testing.T) {
	cfg := uploadConfig(t)
	cfg.UploadURL += "?key=s3cret"
	playUploads(t, cfg, []string{"500"}, func(s *stage, p *platform) {
		p.Close() // from now on there is no answer
		s.start("a")
		time.Sleep(5 * time.Second)
		s.end("a")
		time.Sleep(time.Minute)
		u := s.rec.Status().Uploads
		if u.Failed == 0 || u.Error == "" || strings.Contains(u.Error, "s3cret") {
			t.Errorf("status: %+v", u)
		}
	})
}

func playUploads(t *testing.T, cfg Config, script []string, test func(*stage, *platform)) {
	t.Helper()
	play(t, cfg, func(s *stage) {
		p := newPlatform(t, script...)
		defer p.Close()
		s.stop()
		s.rec.HTTP = p.Client()
		s.run()
		test(s, p)
		s.stop()
	})
}
