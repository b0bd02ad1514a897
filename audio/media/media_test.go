package media

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"lintod/agent/base/fetch"
	"lintod/audio"
	"lintod/audio/codec"
	"lintod/audio/wav"
)

const rate = 16000

func opener(allow ...string) *Opener {
	o := &Opener{Config: Defaults()}
	o.Config.Allow = allow
	return o
}

// length reads a sound to its end and returns its number of samples.
func length(s audio.Sound) (n int, err error) {
	defer s.Close()
	buf := make([]int16, 1000)
	for {
		k, err := s.Read(context.Background(), buf)
		n += k
		if errors.Is(err, io.EOF) {
			return n, nil
		} else if err != nil {
			return n, err
		}
	}
}

// station is a server of sounds.
func station(t *testing.T) *httptest.Server {
	mux := http.NewServeMux()
	mux.HandleFunc("/second", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/x-nonsense") // a wrong type, which is ignored
		_, _ = w.Write(wav.Encode(make([]int16, rate), rate))
	})
	mux.HandleFunc("/radio", func(w http.ResponseWriter, r *http.Request) { // is endless
		_, _ = w.Write(wav.AppendHeader(nil, rate, 1<<30))
		for r.Context().Err() == nil {
			if _, err := w.Write(make([]byte, 1<<16)); err != nil {
				return
			}
		}
	})
	mux.HandleFunc("/stall", func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write(wav.Encode(make([]int16, rate), rate)[:8000])
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	mux.HandleFunc("/page", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>no sound</html>") })
	mux.HandleFunc("/large", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Length", "999999999999") })
	mux.HandleFunc("/moved", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/second", http.StatusFound) })
	mux.HandleFunc("/around", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/around", http.StatusFound) })
	mux.HandleFunc("/inside", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://[::1]:80/", http.StatusFound)
	})
	mux.HandleFunc("/file", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "file:///etc/passwd", http.StatusFound)
	})
	mux.HandleFunc("/header", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X", strings.Repeat("x", 128<<10))
	})
	mux.HandleFunc("/status", func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			fmt.Fprint(conn, "HTTP/1.1 500 \x1b[31mred\r\n\r\n")
			conn.Close()
		}
	})
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

// errAny is any error from the HTTP library.
var errAny = errors.New("any")

func TestOpen(t *testing.T) {
	s := station(t)
	o := opener(s.URL)
	for _, tt := range []struct {
		path string
		want error // nil: it plays
	}{
		{"/second", nil},
		{"/moved", nil},
		{"/page", codec.ErrUnknown},
		{"/none", fetch.StatusError(404)},
		{"/large", errSize},
		{"/around", fetch.ErrRedirects},
		{"/inside", errNotAllowed},
		{"/file", fetch.ErrAddress},
		{"/header", errAny},
		{"/status", fetch.StatusError(500)},
		{"/none%1b%5b31m%0a", fetch.StatusError(404)},
	} {
		sound, err := o.Open(t.Context(), s.URL+tt.path+"?token=secret")
		switch {
		case tt.want != nil:
			if err == nil || tt.want != errAny && !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.path) {
				t.Errorf("%s: %v, want %v", tt.path, err, tt.want)
			}
			if err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("the error for %s contains a secret: %v", tt.path, err)
			}
		case err != nil:
			t.Errorf("%s: %v", tt.path, err)
		default:
			if n, err := length(sound); n != rate || err != nil {
				t.Errorf("%s: %d samples, %v", tt.path, n, err)
			}
		}
	}
}

func TestRadioIsLimited(t *testing.T) {
	s := station(t)
	o := opener(s.URL)
	o.Config.MaxTime = o.Config.MaxTime / 600 // 6 s
	sound, err := o.Open(t.Context(), s.URL+"/radio")
	if err != nil {
		t.Fatal(err)
	}
	if n, err := length(sound); n != 6*rate || err != nil {
		t.Errorf("%d samples, %v; want an end without an error after 6 s", n, err)
	}
	o.Config.MaxSize = 50_000
	if sound, err = o.Open(t.Context(), s.URL+"/radio"); err != nil {
		t.Fatal(err)
	}
	if n, err := length(sound); n > 25_000 || !errors.Is(err, errSize) {
		t.Errorf("%d samples, %v; want an end after 50,000 bytes", n, err)
	}
}

// The end of the sound's context ends a Read that waits for the server.
func TestStallEndsWithItsContext(t *testing.T) {
	s := station(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	sound, err := opener(s.URL).Open(ctx, s.URL+"/stall")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { _, err := length(sound); ended <- err }()
	cancel(errors.New("enough"))
	if err := <-ended; err == nil {
		t.Error("the sound ended without an error")
	}
}

func TestAllow(t *testing.T) {
	o := opener("https://media.example/bells/", "http://10.0.0.5:8000")
	for address, want := range map[string]bool{
		"https://media.example/bells/a.mp3":                        true,
		"https://MEDIA.example:443/bells/a.mp3?x=1":                true,
		"https://media.example/bells":                              true,
		"https://media.example/bellsandmore/a.mp3":                 false,
		"https://media.example/bells/../secret":                    false,
		"https://media.example/bells/%2e%2e/secret":                false,
		"https://media.example/bells/..%5csecret":                  false,
		"https://media.example/bells/..;/secret":                   false,
		"https://media.example/bells/..;a=b/secret":                false,
		"https://media.example/bells/%2e%2e;/secret":               false,
		"https://media.example/bells/..%3b/secret":                 false,
		"https://media.example/bells/%252e%252e/secret":            false,
		"https://media.example/bells/%25252e%25252e/secret":        false,
		"https://media.example/bells/..%2fsecret":                  false,
		"https://media.example/bells/..%252fsecret":                false,
		"https://media.example/bells/..%255csecret":                false,
		"https://media.example/bells/%c0%ae%c0%ae/secret":          false,
		"https://media.example/bells/%ef%bc%8e%ef%bc%8e/secret":    false,
		"https://media.example/bells/..%20/secret":                 false,
		"https://media.example/bells/.../secret":                   false,
		"https://media.example/bells/a%00/../secret":               false,
		"https://media.example/bells%2fsecret":                     false,
		"https://media.example/bells/sub%2Fa%20b%25.mp3?x=../y":    true,
		"https://media.example/bells/a;b/c..mp3":                   true,
		"https://media.example/bells/caf%c3%a9.mp3":                true,
		"https://media.example/":                                   false,
		"http://media.example/bells/a.mp3":                         false,
		"https://media.example:8443/bells/a.mp3":                   false,
		"https://media.example.evil/bells/a.mp3":                   false,
		"https://media.example@evil.example/bells/a":               false,
		"http://10.0.0.5:8000/radio":                               true,
		"http://10.0.0.5:8000":                                     true,
		"http://10.0.0.5/radio":                                    false,
		"file:///etc/passwd":                                       false,
		"ftp://media.example/bells/a":                              false,
		"https://":                                                 false,
		"":                                                         false,
		"https://media.example/bells/" + strings.Repeat("a", 2048): false,
	} {
		if err := o.Check(address); (err == nil) != want {
			t.Errorf("%.80s: %v, want allowed %v", address, err, want)
		}
	}
	if err := opener().Check("https://media.example/"); !errors.Is(err, errNotAllowed) {
		t.Errorf("an empty list allows: %v", err)
	}
	hand := &Opener{Config: Defaults(), Trusted: true}
	if err := hand.Check("http://localhost/a.wav"); err != nil {
		t.Errorf("the owner's own request: %v", err)
	}
}

func TestFile(t *testing.T) {
	o := opener()
	sound, err := o.File(io.NopCloser(strings.NewReader(string(wav.Encode(make([]int16, 5*rate), rate)))))
	if err != nil {
		t.Fatal(err)
	}
	if n, err := length(sound); n != 5*rate || err != nil {
		t.Errorf("%d samples, %v", n, err)
	}
}

func TestValidate(t *testing.T) {
	c := Defaults()
	c.Allow = []string{"https://media.example/", "media.example", "file:///", "https://user@media.example/"}
	c.MaxSize, c.MaxTime = 5, 0
	if ps := c.Validate(); len(ps) != 5 {
		t.Errorf("%d problems, want 5: %v", len(ps), ps)
	}
	if time.Duration(Defaults().MaxTime) != time.Hour || len(Defaults().Validate()) != 0 {
		t.Error("the defaults are invalid")
	}
}
