package media

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"lintod/audio"
	"lintod/audio/wav"
)

// second returns a second of sound, at that rate.
func second(rate int) []byte { return wav.Encode(make([]int16, rate), rate) }

// ancient is a server that behaves like SHOUTcast, with titles in the sound.
func ancient(t *testing.T, every int) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				if _, err := http.ReadRequest(bufio.NewReader(conn)); err != nil {
					return
				}
				fmt.Fprintf(conn, "ICY 200 OK\r\nicy-notice1:<BR>a notice<BR>\r\nicy-name:a b: c\r\n")
				if every > 0 {
					fmt.Fprintf(conn, "icy-metaint:%d\r\n", every)
				}
				fmt.Fprint(conn, "\r\n")
				file := second(rate)
				for i := 0; every > 0 && i < len(file); i += every {
					piece := file[i:min(len(file), i+every)]
					_, _ = conn.Write(piece)
					if len(piece) == every {
						title := []byte("StreamTitle='\xff\xfb';")
						_, _ = conn.Write(append([]byte{2}, append(title, make([]byte, 32-len(title))...)...))
					}
				}
				if every == 0 {
					_, _ = conn.Write(file)
				}
			}()
		}
	}()
	return "http://" + listener.Addr().String()
}

func TestShoutcast(t *testing.T) {
	for _, every := range []int{0, 1, 100, 8192} {
		address := ancient(t, every)
		sound, err := opener(address).Open(t.Context(), address+"/")
		if err != nil {
			t.Fatalf("titles after %d bytes: %v", every, err)
		}
		if n, err := length(sound); n != rate || err != nil {
			t.Errorf("titles after %d bytes: %d samples, %v", every, n, err)
		}
	}
}

func TestInvalidTitleIntervals(t *testing.T) {
	for _, every := range []string{"-1", "0", "99999999999", "x"} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("icy-metaint", every)
			_, _ = w.Write(second(rate))
		}))
		if _, err := opener(s.URL).Open(t.Context(), s.URL); err == nil {
			t.Errorf("titles after %s bytes were accepted", every)
		}
		s.Close()
	}
}

// listServer serves sounds and playlists of them.
func listServer(t *testing.T) *httptest.Server {
	mux := http.NewServeMux()
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	for path, text := range map[string]string{
		"/plain.m3u":    "http://HOST/second\n",
		"/bom.m3u":      "\xef\xbb\xbf#EXTM3U\r\n#EXTINF:-1,Radio\r\nhttp://HOST/second\r\n",
		"/relative.m3u": "#EXTM3U\nsecond\n./second\n",
		"/three.pls":    "[playlist]\nNumberOfEntries=3\nFile1=http://HOST/second\nTitle1=x\nFILE2=http://HOST/none\nfile3 = http://HOST/other\n",
		"/foreign.m3u":  "#EXTM3U\nhttp://169.254.169.254/latest\nhttp://HOST/../second\nfile:///etc/passwd\nhttp://HOST/second\n",
		"/nothing.m3u":  "#EXTM3U\nfile:///etc/passwd\n",
		"/empty.pls":    "[playlist]\n",
		"/hls.m3u8":     "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:9,\nfirst.ts\n",
		"/self.m3u":     "#EXTM3U\nhttp://HOST/self.m3u\n",
		"/many.m3u":     "#EXTM3U\n" + strings.Repeat("http://HOST/self.m3u\n", 90),
		"/crowd.m3u":    "#EXTM3U\n" + strings.Repeat("http://HOST/second\n", 200),
		"/deep.m3u":     "#EXTM3U\nplain.m3u\n",
		"/long.m3u":     "#EXTM3U\n#" + strings.Repeat("x", maxPlaylist),
		"/untyped.m3u8": "\xef\xbb\xbfsecond\r\n",
		"/dead.m3u":     "#EXTM3U\nnone\nnone2\n",
	} {
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, strings.ReplaceAll(text, "http://HOST", s.URL))
		})
	}
	mux.HandleFunc("/typed", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "audio/x-mpegurl; charset=utf-8")
		fmt.Fprint(w, "# a station\n\nsecond\n")
	})
	mux.HandleFunc("/mistyped", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "audio/x-mpegurl")
		_, _ = w.Write(second(rate))
	})
	mux.HandleFunc("/misnamed.pls", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(second(rate)) })
	mux.HandleFunc("/second", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(second(rate)) })
	mux.HandleFunc("/other", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(second(48000)) })
	return s
}

func TestPlaylists(t *testing.T) {
	s := listServer(t)
	o := opener(s.URL)
	for path, seconds := range map[string]int{
		"/plain.m3u": 1, "/bom.m3u": 1, "/relative.m3u": 2, "/three.pls": 2, "/foreign.m3u": 2, "/deep.m3u": 1, "/typed": 1, "/mistyped": 1, "/untyped.m3u8": 1, "/misnamed.pls": 1,
		"/nothing.m3u": 0, "/empty.pls": 0, "/hls.m3u8": 0, "/self.m3u": 0, "/many.m3u": 0, "/crowd.m3u": 0, "/long.m3u": 0, "/dead.m3u": 0,
	} {
		sound, err := o.Open(t.Context(), s.URL+path)
		if seconds == 0 {
			if err == nil {
				t.Errorf("%s was played", path)
				sound.Close()
			} else if !strings.Contains(err.Error(), s.URL) {
				t.Errorf("%s: %v does not contain an address", path, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		if n, err := length(sound); n != seconds*rate || err != nil {
			t.Errorf("%s: %d samples, %v; want %d s", path, n, err, seconds)
		}
	}
	if _, err := o.Open(t.Context(), s.URL+"/hls.m3u8"); !errors.Is(err, errHLS) {
		t.Errorf("HLS: %v", err)
	}
}

// A playlist cannot contain addresses that are not allowed.
func TestPlaylistsObeyTheList(t *testing.T) {
	s := listServer(t)
	for allow, want := range map[string]bool{"/plain.m3u": false, "/": true} {
		sound, err := opener(s.URL+allow).Open(t.Context(), s.URL+"/plain.m3u")
		if (err == nil) != want || err != nil && !errors.Is(err, errNotAllowed) {
			t.Errorf("with %s allowed: %v", allow, err)
		}
		if err == nil {
			sound.Close()
		}
	}
}

func TestPlaylistInFile(t *testing.T) {
	s := listServer(t)
	o := &Opener{Config: Defaults(), Trusted: true}
	sound, err := o.File(io.NopCloser(strings.NewReader("#EXTM3U\n" + s.URL + "/second\n")))
	if err != nil {
		t.Fatal(err)
	}
	if n, err := length(sound); n != rate || err != nil {
		t.Errorf("%d samples, %v", n, err)
	}
	if _, err := o.File(io.NopCloser(strings.NewReader("#EXTM3U\na.mp3\n"))); err == nil {
		t.Error("a file name was treated as an address")
	}
}

// dripping sends some bytes at a time, with pauses.
type dripping struct {
	bytes int
	pause time.Duration
}

func (d dripping) Read(b []byte) (int, error) {
	time.Sleep(d.pause)
	return min(d.bytes, len(b)), nil
}

func (d dripping) Close() error { return nil }

// A server that sends forever, but never any sound, is given up as well.
func TestSilentServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := opener()
		s := o.program(t.Context())
		defer s.Close()
		head := bytes.NewReader([]byte("ID3\x04\x00\x00\x7f\x7f\x7f\x7f"))
		began := time.Now()
		r := untilDone{s.ctx, io.MultiReader(head, dripping{1000, time.Second})}
		s.silent.Reset(soundLimit)
		if err := s.begin(&body{Reader: r, Closer: io.NopCloser(nil)}, nil, 0); err == nil {
			t.Error("it was played")
		}
		if waited := time.Since(began); waited > 2*soundLimit || !errors.Is(context.Cause(s.ctx), errSilent) {
			t.Errorf("it ended after %v with %v", waited, context.Cause(s.ctx))
		}
	})
}

// untilDone reads until its context ends, like the body of a response.
type untilDone struct {
	ctx context.Context
	io.Reader
}

func (u untilDone) Read(b []byte) (int, error) {
	if u.ctx.Err() != nil {
		return 0, context.Cause(u.ctx)
	}
	return u.Reader.Read(b)
}

func TestCloseWhileItReads(t *testing.T) {
	s := station(t)
	sound, err := opener(s.URL).Open(t.Context(), s.URL+"/stall")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() {
		_, err := length(sound)
		ended <- err
	}()
	sound.Close()
	select {
	case <-ended:
	case <-time.After(time.Minute):
		t.Fatal("it does not end")
	}
}

var _ audio.Sound = (*program)(nil)

func FuzzAddress(f *testing.F) {
	for _, a := range []string{"https://media.example/bells/a.mp3", "https://media.example/bells/%252e%252e/x", "https://media.example/bells/..;/x", "http://[::1]:8000/"} {
		f.Add(a)
	}
	o := opener("https://media.example/bells/")
	f.Fuzz(func(t *testing.T, text string) {
		u, err := o.parse(text)
		if err != nil {
			return
		}
		if u.Scheme != "https" || !strings.EqualFold(u.Hostname(), "media.example") || !strings.HasPrefix(u.EscapedPath(), "/bells") {
			t.Errorf("%q was allowed", text)
		}
		// However often it is decoded, and wherever it is truncated, it cannot
		// escape the prefix.
		for path, n := u.EscapedPath(), 0; n < 8; n++ {
			for _, step := range strings.FieldsFunc(path, func(r rune) bool { return r == '/' || r == '\\' }) {
				if step, _, _ = strings.Cut(step, ";"); strings.TrimSpace(step) == ".." {
					t.Errorf("%q leads to a parent directory", text)
				}
			}
			path = unescape(path)
		}
		for _, r := range u.String() {
			if r < ' ' || r == 0x7f {
				t.Errorf("%q prints %q", text, u.String())
			}
		}
	})
}

func FuzzPlaylist(f *testing.F) {
	f.Add([]byte("#EXTM3U\nhttp://a/b\n"), "")
	f.Add([]byte("[playlist]\nFile1=http://a/b\n"), "audio/x-scpls")
	f.Fuzz(func(t *testing.T, text []byte, kind string) {
		b := &body{Reader: bytes.NewReader(text), kind: kind}
		list, err := readPlaylist(bufio.NewReader(b.Reader), b)
		if err == nil && len(list) > maxAddresses {
			t.Errorf("%d addresses", len(list))
		}
		o := opener("https://media.example/")
		for _, a := range list {
			_, _ = o.resolve(nil, a)
		}
	})
}

// FuzzTitles reads a station's stream like an HTTP client and a decoder.
func FuzzTitles(f *testing.F) {
	f.Add([]byte("ICY 200 OK\r\n\r\nabc"), 3)
	f.Add([]byte("HTTP/1.1 200 OK\r\n\r\nabc\x01"), 1)
	f.Fuzz(func(t *testing.T, sent []byte, every int) {
		here, there := net.Pipe()
		go func() {
			_, _ = there.Write(sent)
			there.Close()
		}()
		defer here.Close()
		every = 1 + max(0, every%maxMetaint)
		u := &untitled{r: &shoutcast{Conn: here}, every: every, left: every}
		n, err := io.Copy(io.Discard, u)
		if n > int64(len(sent)+5) {
			t.Errorf("%d bytes of %d, %v", n, len(sent), err)
		}
	})
}
