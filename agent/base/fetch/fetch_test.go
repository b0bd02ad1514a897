package fetch

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// maze is a server on the loopback interface that redirects.
func maze(t *testing.T) *url.URL {
	mux := http.NewServeMux()
	mux.HandleFunc("/plain", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("plain")) })
	for from, to := range map[string]string{"/moved": "/plain", "/around": "/around", "/file": "file:///etc/passwd", "/elsewhere": "http://[::1]:80/"} {
		mux.HandleFunc(from, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, to, http.StatusFound) })
	}
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestGet(t *testing.T) {
	u := maze(t)
	here := Guard{Inside: func(host string) bool { return host == u.Hostname() }}
	refused := errors.New("not that one")
	for _, tt := range []struct {
		path  string
		guard Guard
		want  error
	}{
		{"/plain", here, nil},
		{"/moved", here, nil},
		{"/none", here, StatusError(404)},
		{"/around", here, ErrRedirects},
		{"/file", here, ErrAddress},
		{"/elsewhere", here, ErrInside},
		{"/plain", Guard{}, ErrInside},
		{"/plain", Guard{Inside: here.Inside, Check: func(*url.URL) error { return refused }}, refused},
		{"/moved", Guard{Inside: here.Inside, Check: func(u *url.URL) error {
			if u.Path == "/plain" {
				return refused
			}
			return nil
		}}, refused},
	} {
		at := *u
		at.Path, at.RawQuery = tt.path, "token=secret"
		answer, err := tt.guard.Get(t.Context(), &at)
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.path, err, tt.want)
		}
		if err == nil {
			answer.Close()
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("%s shows a secret: %v", tt.path, err)
		}
	}
}

func TestParse(t *testing.T) {
	for text, want := range map[string]bool{
		"http://a.example/": true, "https://a.example:8443/b?c": true, "ftp://a.example/": false, "https://": false, "": false,
		"file:///etc/passwd": false, "//a.example/": false, "http://a.example/" + strings.Repeat("a", maxAddress): false,
	} {
		if _, err := Parse(text); (err == nil) != want {
			t.Errorf("%.60s: %v", text, err)
		}
	}
}

// An internet name that resolves to an address in the local network is not
// followed, even if it is listed.
func TestNamesThatResolveToLocalAddresses(t *testing.T) {
	for ip, want := range map[string]bool{
		"93.184.216.34": true, "2606:2800:220:1::1": true,
		"127.0.0.1": false, "10.1.2.3": false, "172.16.0.1": false, "192.168.1.1": false, "169.254.169.254": false,
		"100.64.0.1": false, "0.0.0.0": false, "224.0.0.1": false, "::1": false, "fe80::1": false, "fd00::1": false,
		"::ffff:127.0.0.1": false, "::ffff:10.0.0.1": false,
		"0.1.2.3": false, "192.0.0.8": false, "198.18.0.1": false, "203.0.113.1": false, "240.0.0.1": false, "255.255.255.255": false,
		"64:ff9b::a00:1": false, "64:ff9b::7f00:1": false, "64:ff9b::5db8:d822": true, "64:ff9b:1::5db8:d822": false,
		"2002:a00:1::1": false, "2002:5db8:d822::1": true, "2001:0:5db8:d822::1": false, "2001:db8::1": false, "3fff::1": false,
		"fec0::1": false, "::7f00:1": false, "::a00:1": false, "ff02::1": false, "100::1": false, "5f00::1": false, "2a00:1450:4001:80b::200e": true,
	} {
		if got := public(netip.MustParseAddr(ip)); got != want {
			t.Errorf("%s is public: %v", ip, got)
		}
	}
	for host, want := range map[string]bool{
		"64:ff9b::a00:1": true, "10.0.0.5": true, "::1": true, "localhost": true, "nas": true, "radio.local": true, "a.b.lan.": true, "x.home.arpa": true,
		"media.example": false, "local.example": false, "localx.com": false,
	} {
		if got := Local(host); got != want {
			t.Errorf("%s is local: %v", host, got)
		}
	}
}

// dripping returns some bytes at a time, with pauses.
type dripping struct {
	bytes int
	pause time.Duration
}

func (d dripping) Read(b []byte) (int, error) {
	time.Sleep(d.pause)
	return min(d.bytes, len(b)), nil
}

func (d dripping) Close() error { return nil }

func TestSlowServers(t *testing.T) {
	for _, tt := range []struct {
		dripping
		want error
	}{
		{dripping{1, 9 * time.Second}, ErrSlow},
		{dripping{200, time.Second}, ErrSlow},
		{dripping{0, 100 * time.Millisecond}, ErrSlow},
		{dripping{700, time.Second}, nil},
		{dripping{7000, 9 * time.Second}, nil},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			f := &Answer{ctx: ctx, cancel: cancel, body: tt.dripping, idle: time.AfterFunc(time.Hour, func() {})}
			defer f.Close()
			buf := make([]byte, 1<<14)
			for began := time.Now(); time.Since(began) < time.Hour; {
				if _, err := f.Read(buf); err != nil {
					if !errors.Is(err, tt.want) || time.Since(began) > time.Minute {
						t.Errorf("%v: %v after %v", tt.dripping, err, time.Since(began))
					}
					return
				}
			}
			if tt.want != nil {
				t.Errorf("%v for an hour", tt.dripping)
			}
		})
	}
}

func TestRedirects(t *testing.T) {
	guard := Guard{Check: func(u *url.URL) error {
		if u.Host == "c.example" {
			return ErrInside
		}
		return nil
	}}
	request := func(address string) *http.Request {
		u, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		return &http.Request{URL: u}
	}
	for _, tt := range []struct {
		from, to string
		ok       bool
	}{
		{"https://a.example/", "https://b.example/", true},
		{"http://a.example/", "https://b.example/", true},
		{"http://a.example/", "http://b.example/", true},
		{"https://a.example/", "http://b.example/", false},
		{"https://a.example/", "https://c.example/", false},
	} {
		if err := guard.redirect(request(tt.to), []*http.Request{request(tt.from)}); (err == nil) != tt.ok {
			t.Errorf("from %s to %s: %v", tt.from, tt.to, err)
		}
	}
}
