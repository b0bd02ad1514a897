package cards

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"lintod/agent/base/fetch"
)

// sound returns a file that starts like an MP3, different for each name.
func sound(name string, size int) []byte {
	body := []byte("ID3\x04\x00\x00\x00\x00\x00\x00")
	for len(body) < size {
		body = append(body, name...)
	}
	return body[:size]
}

var picture = []byte("\xff\xd8\xff\xe0\x00\x10JFIF\x00")

// library is a server on the loopback interface with sounds of 100 kB at
// /NAME.mp3, pictures, and invalid answers.
func library(t *testing.T) (server *httptest.Server, gate chan struct{}) {
	gate = make(chan struct{})
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "audio/mpeg")
		body := sound(r.URL.Path, 100_000)
		for len(body) > 0 { // in pieces, so that it can be interrupted
			n := min(len(body), 8192)
			if _, err := w.Write(body[:n]); err != nil {
				return
			}
			_ = http.NewResponseController(w).Flush()
			body = body[n:]
		}
	})
	mux.HandleFunc("/p.jpg", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(picture) })
	mux.HandleFunc("/page.mp3", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>please log in</html>") })
	mux.HandleFunc("/paged.mp3", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write(sound("x", 1000))
	})
	mux.HandleFunc("/disguised.mp3", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "audio/mpeg")
		fmt.Fprint(w, "<!DOCTYPE html><p>not a sound")
	})
	mux.HandleFunc("/empty.mp3", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("/long.mp3", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Length", "99999999999") })
	mux.HandleFunc("/endless.mp3", func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write(sound("x", 1000))
		for r.Context().Err() == nil {
			if _, err := w.Write(make([]byte, 1<<16)); err != nil {
				return
			}
		}
	})
	mux.HandleFunc("/short.mp3", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "5000")
		_, _ = w.Write(sound("x", 4000))
	})
	mux.HandleFunc("/inside.mp3", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://[::1]:9/a.mp3", http.StatusFound)
	})
	mux.HandleFunc("/gated.mp3", func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write(sound("/gated.mp3", 1000))
		_ = http.NewResponseController(w).Flush()
		select {
		case <-gate:
		case <-r.Context().Done():
		}
	})
	server = httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server, gate
}

// album returns a skill with some files on a server on the loopback interface.
func album(server, skill, version string, names ...string) Content {
	c := Content{Skill: skill, Version: version, Hosts: []string{"127.0.0.1"}}
	for i, name := range names {
		c.Files = append(c.Files, File{Audio, i + 1, server + "/" + name})
	}
	return c
}

// ended are the arguments of a call of Done.
type ended struct {
	uids  []string
	skill string
	err   error
}

// shelf returns a Store that runs until the test ends.
func shelf(t *testing.T, dir string, change ...func(*Config)) (*Store, chan ended) {
	cfg := Defaults()
	cfg.Directory, cfg.Reserve = dir, 0
	for _, f := range change {
		f(&cfg)
	}
	done := make(chan ended, 1000)
	s := &Store{
		Config: cfg, Log: slog.New(slog.DiscardHandler),
		Done: func(uids []string, skill string, err error) { done <- ended{uids, skill, err} },
	}
	if err := s.Open(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = s.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
	return s, done
}

func get(t *testing.T, s *Store, done chan ended, uid string, c Content) error {
	t.Helper()
	if err := s.Fetch(uid, c); err != nil {
		return err
	}
	return (<-done).err
}

func TestDownload(t *testing.T) {
	server, _ := library(t)
	dir := t.TempDir()
	s, done := shelf(t, dir)
	c := album(server.URL, "fox1", "3", "a.mp3?signed=1", "b.mp3")
	c.Files = append(c.Files, File{Image, 1, server.URL + "/p.jpg"})
	slices.Reverse(c.Files) // files are played in the order of their numbers
	if err := get(t, s, done, "04A1B2C3D4", c); err != nil {
		t.Fatal(err)
	}
	for _, s := range []*Store{s, reopened(t, dir)} {
		sk, ok := s.Find("04A1B2C3D4")
		if !ok || sk.Version != "3" || len(sk.Tracks) != 2 || len(sk.Images) != 1 {
			t.Fatalf("found %v, %+v", ok, sk)
		}
		for i, want := range []string{"skills/fox1/audio/track1.mp3", "skills/fox1/audio/track2.mp3"} {
			body, err := os.ReadFile(sk.Tracks[i])
			if sk.Tracks[i] != filepath.Join(dir, want) || err != nil || !bytes.Equal(body, sound([]string{"/a.mp3", "/b.mp3"}[i], 100_000)) {
				t.Errorf("track %d: %s, %v, %d bytes", i, sk.Tracks[i], err, len(body))
			}
		}
		if err := s.Verify(t.Context(), "fox1"); err != nil {
			t.Error(err)
		}
		if st := s.Stats(); st.Skills != 1 || st.Known != 1 || st.Bytes != 200_000+int64(len(picture)) {
			t.Errorf("stats %+v", st)
		}
	}
	text, err := os.ReadFile(filepath.Join(dir, "skills/fox1", manifestName))
	if err != nil || strings.Contains(string(text), "signed") {
		t.Errorf("the manifest contains signatures: %s, %v", text, err)
	}
}

// reopened is the Store of another process.
func reopened(t *testing.T, dir string) *Store {
	t.Helper()
	s := &Store{Config: Defaults(), Log: slog.New(slog.DiscardHandler)}
	s.Config.Directory = dir
	if err := s.Open(); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestInvalidAnswersOfServers(t *testing.T) {
	server, _ := library(t)
	elsewhere, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	unlisted := album("http://localhost:"+elsewhere.Port(), "s", "1", "a.mp3")
	any := errors.New("any")
	for name, tt := range map[string]struct {
		content Content
		want    error
	}{
		"a page":                        {album(server.URL, "s", "1", "a.mp3", "page.mp3"), any},
		"a page by type":                {album(server.URL, "s", "1", "paged.mp3"), any},
		"a page with the type of sound": {album(server.URL, "s", "1", "disguised.mp3"), any},
		"nothing":                       {album(server.URL, "s", "1", "empty.mp3"), errEmpty},
		"a large size":                  {album(server.URL, "s", "1", "long.mp3"), errTooLong},
		"no end":                        {album(server.URL, "s", "1", "endless.mp3"), errTooLong},
		"less than announced":           {album(server.URL, "s", "1", "short.mp3"), io.ErrUnexpectedEOF},
		"redirects inside":              {album(server.URL, "s", "1", "inside.mp3"), fetch.ErrInside},
		"inside by address":             {unlisted, fetch.ErrInside},
		"a picture":                     {album(server.URL, "s", "1", "p.jpg"), any},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s, done := shelf(t, dir, func(c *Config) { c.MaxFile = 500_000 })
			if err := get(t, s, done, "04A1B2C3D4", tt.content); err == nil || tt.want != any && !errors.Is(err, tt.want) {
				t.Errorf("%v, want %v", err, tt.want)
			}
			if _, found := s.Find("04A1B2C3D4"); found || s.Stats().Failed != 1 {
				t.Errorf("found %v, %+v", found, s.Stats())
			}
			left, _ := filepath.Glob(filepath.Join(dir, "skills/*"))
			if complete, _ := filepath.Glob(filepath.Join(dir, "skills/.new-s/audio/*.mp3")); complete == nil && left != nil || len(left) > 1 {
				t.Errorf("left on the disk: %v", left)
			}
		})
	}
}

func TestInvalidContents(t *testing.T) {
	for name, c := range map[string]Content{
		"path":     album("http://a.example", "../../etc", "1", "a"),
		"dot":      album("http://a.example", ".new-a", "1", "a"),
		"empty":    album("http://a.example", "", "1", "a"),
		"long":     album("http://a.example", strings.Repeat("a", 65), "1", "a"),
		"file":     {Skill: "a", Files: []File{{Audio, 1, "file:///etc/passwd"}}},
		"zero":     {Skill: "a", Files: []File{{Audio, 0, "http://a.example/"}}},
		"negative": {Skill: "a", Files: []File{{Audio, -1, "http://a.example/"}}},
		"huge":     {Skill: "a", Files: []File{{Audio, 10000, "http://a.example/"}}},
		"twice":    {Skill: "a", Files: []File{{Audio, 1, "http://a.example/"}, {Audio, 1, "http://a.example/b"}}},
		"silent":   {Skill: "a", Files: []File{{Image, 1, "http://a.example/"}}},
		"many":     album("http://a.example", "a", "1", make([]string, maxFiles+1)...),
	} {
		if err := c.Check(); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	for text, want := range map[string]string{"04:a1:b2:c3": "04A1B2C3", "04 A1-b2 c3 d4 e5 f6": "04A1B2C3D4E5F6", "0012345678": "0012345678", "": "", "../..": "", "xyz0": ""} {
		if got, err := ParseUID(text); got != want && err == nil || (err == nil) != (want != "") {
			t.Errorf("%q is %q, %v", text, got, err)
		}
	}
}

func TestNewVersionWaitsForTheOldOne(t *testing.T) {
	server, _ := library(t)
	dir := t.TempDir()
	s, done := shelf(t, dir)
	if err := get(t, s, done, "04", album(server.URL, "fox1", "1", "old.mp3")); err != nil {
		t.Fatal(err)
	}
	release := s.Hold("fox1")
	if err := get(t, s, done, "04", album(server.URL, "fox1", "2", "new.mp3", "more.mp3")); err != nil {
		t.Fatal(err)
	}
	old, _ := s.Skill("fox1")
	if body, err := os.ReadFile(old.Tracks[0]); old.Version != "1" || err != nil || !bytes.Equal(body, sound("/old.mp3", 100_000)) {
		t.Errorf("version %s plays, %v", old.Version, err)
	}
	if again := reopened(t, copied(t, dir)); func() string { sk, _ := again.Skill("fox1"); return sk.Version }() != "2" {
		t.Error("the new version is not in place after a restart")
	}
	release()
	for { // Run's goroutine replaces it
		if sk, _ := s.Skill("fox1"); sk.Version == "2" && len(sk.Tracks) == 2 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if err := get(t, s, done, "05", album("http://192.0.2.1", "fox1", "2", "x", "y")); err != nil {
		t.Errorf("an existing version is downloaded again: %v", err)
	}
	if sk, ok := s.Find("05"); !ok || sk.ID != "fox1" {
		t.Error("the second card is unknown")
	}
}

func copied(t *testing.T, dir string) string {
	to := t.TempDir()
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return to
}

func TestRemovedCardEndsTheDownload(t *testing.T) {
	server, gate := library(t)
	s, done := shelf(t, t.TempDir())
	if err := s.Fetch("04", album(server.URL, "fox1", "1", "a.mp3", "gated.mp3")); err != nil {
		t.Fatal(err)
	}
	for s.Stats().Download == nil || s.Stats().Download.Files == 0 {
		time.Sleep(time.Millisecond)
	}
	s.Abandon("05") // another card has no effect
	s.Abandon("04")
	if e := <-done; !errors.Is(e.err, ErrGone) {
		t.Errorf("the download ended with %v", e.err)
	}
	if _, found := s.Skill("fox1"); found || s.Stats().Failed != 0 {
		t.Errorf("found %v, %+v", found, s.Stats())
	}
	close(gate)
	c := album(server.URL, "fox1", "1", "a.mp3", "gated.mp3")
	c.Files[0].URL = server.URL + "/a.mp3?resumed" // which must not be requested again
	if err := get(t, s, done, "04", c); err != nil {
		t.Errorf("the download was not resumed: %v", err)
	}
}

func TestDiskSpaceIsLimited(t *testing.T) {
	server, _ := library(t)
	dir := t.TempDir()
	s, done := shelf(t, dir, func(c *Config) { c.MaxSpace = 350_000 })
	for i := range 3 {
		if err := get(t, s, done, fmt.Sprint(1000+i), album(server.URL, fmt.Sprint("s", i), "1", "a.mp3")); err != nil {
			t.Fatal(err)
		}
	}
	release := s.Hold("s0") // the oldest one is playing
	defer release()
	s.Hold("s1")() // this one was played most recently
	if err := get(t, s, done, "1003", album(server.URL, "s3", "1", "a.mp3")); err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]bool{"s0": true, "s1": true, "s2": false, "s3": true} {
		if _, found := s.Skill(id); found != want {
			t.Errorf("%s exists: %v", id, found)
		}
	}
	if err := get(t, s, done, "1004", album(server.URL, "s4", "1", "a.mp3", "b.mp3", "c.mp3", "d.mp3")); !errors.Is(err, errSpace) {
		t.Errorf("a skill larger than the limit: %v", err)
	}
	if _, found := s.Skill("s0"); !found || s.Stats().Bytes > 350_000 {
		t.Errorf("the playing skill exists: %v; %+v", found, s.Stats())
	}
}

func TestDamage(t *testing.T) {
	server, _ := library(t)
	dir := t.TempDir()
	s, done := shelf(t, dir)
	if err := get(t, s, done, "04", album(server.URL, "fox1", "1", "a.mp3")); err != nil {
		t.Fatal(err)
	}
	sk, _ := s.Skill("fox1")
	if err := os.WriteFile(sk.Tracks[0], sound("other", 100_000), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, there := reopened(t, dir).Skill("fox1"); !there {
		t.Error("the start reads all files") // it must not take minutes
	}
	if err := s.Verify(t.Context(), "fox1"); err == nil {
		t.Error("the damage is not detected")
	}
	if _, there := s.Skill("fox1"); there {
		t.Error("a damaged skill can be played")
	}
}

func TestFiveHundredCards(t *testing.T) {
	server, _ := library(t)
	dir := t.TempDir()
	s, done := shelf(t, dir)
	missing := 500
	take := func() {
		e := <-done
		if missing -= len(e.uids); e.err != nil {
			t.Fatal(e.err)
		}
	}
	for i := range 500 {
		for errors.Is(s.Fetch(fmt.Sprintf("%08X", i), album(server.URL, fmt.Sprint("s", i%100), "1", "a.mp3")), ErrBusy) {
			take()
		}
	}
	for missing > 0 {
		take()
	}
	again := reopened(t, dir)
	for i := range 500 {
		if sk, ok := again.Find(fmt.Sprintf("%08X", i)); !ok || sk.ID != fmt.Sprint("s", i%100) {
			t.Fatalf("card %d: %v %s", i, ok, sk.ID)
		}
	}
}

func TestPositions(t *testing.T) {
	dir := t.TempDir()
	s := reopened(t, dir)
	want := Position{Track: 3, Offset: 90 * time.Second}
	if err := s.SetPosition("fox1", want); err != nil {
		t.Fatal(err)
	}
	if got := reopened(t, dir).Position("fox1"); got.Track != want.Track || got.Offset != want.Offset {
		t.Errorf("%+v after a restart", got)
	}
	if err := s.SetPosition("fox1", Position{}); err != nil {
		t.Fatal(err)
	}
	if got := reopened(t, dir).Position("fox1"); got != (Position{}) {
		t.Errorf("%+v after the end", got)
	}
}

// The child process of TestKilled downloads versions of two skills until it is
// killed.
func TestKilledChild(t *testing.T) {
	server := os.Getenv("LINTOD_CARDS_SERVER")
	if server == "" {
		t.Skip("TestKilled runs it")
	}
	first, err := strconv.Atoi(os.Getenv("LINTOD_CARDS_VERSION"))
	if err != nil {
		t.Fatal(err)
	}
	s, done := shelf(t, os.Getenv("LINTOD_CARDS_DIR"))
	for version := first; ; version++ {
		for _, skill := range []string{"fox", "owl"} {
			name := fmt.Sprintf("%s-%d", skill, version)
			if err := get(t, s, done, skill2uid[skill], album(server, skill, fmt.Sprint(version), name+"-1.mp3", name+"-2.mp3", name+"-3.mp3")); err != nil {
				t.Fatal(err)
			}
			fmt.Println("complete", skill, version)
		}
	}
}

var skill2uid = map[string]string{"fox": "04A1", "owl": "04B2"}

// A process that is killed at any time leaves no incomplete skill, and loses none
// that was complete.
func TestKilled(t *testing.T) {
	times := 20
	if os.Getenv("LINTOD_FULL") != "" {
		times = 200
	}
	server, _ := library(t)
	dir := t.TempDir()
	complete := map[string]int{}
	version, finished := 1, 0
	for range times {
		child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKilledChild$", "-test.v")
		child.Env = append(os.Environ(), "LINTOD_CARDS_SERVER="+server.URL, "LINTOD_CARDS_DIR="+dir, "LINTOD_CARDS_VERSION="+fmt.Sprint(version))
		var out bytes.Buffer
		child.Stdout = &out
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(50+rand.IntN(900)) * time.Millisecond) // killed at a random time
		_ = child.Process.Kill()
		_ = child.Wait()
		if strings.Contains(out.String(), "FAIL") {
			t.Fatalf("the child fails: %s", out.String())
		}
		for line := range strings.Lines(out.String()) {
			var skill string
			var v int
			if n, _ := fmt.Sscanf(line, "complete %s %d\n", &skill, &v); n == 2 {
				complete[skill] = v
				finished++
			}
		}
		s := reopened(t, dir)
		for skill, v := range complete {
			sk, ok := s.Find(skill2uid[skill])
			if !ok {
				t.Fatalf("%s was complete, and is lost", skill)
			}
			got, err := strconv.Atoi(sk.Version)
			if err != nil || got < v {
				t.Fatalf("%s has version %s, but %d was complete", skill, sk.Version, v)
			}
			if err := s.Verify(t.Context(), skill); err != nil {
				t.Fatal(err)
			}
			for i, track := range sk.Tracks {
				if body, err := os.ReadFile(track); err != nil || !bytes.Equal(body, sound(fmt.Sprintf("/%s-%d-%d.mp3", skill, got, i+1), 100_000)) {
					t.Fatalf("%s, version %d, track %d is incomplete: %v", skill, got, i+1, err)
				}
			}
			version = max(version, got+1)
		}
		if left, _ := filepath.Glob(filepath.Join(dir, "skills", ".*", manifestName)); left != nil {
			t.Fatalf("left behind: %v", left)
		}
	}
	if finished == 0 {
		t.Error("no child has completed a skill, so nothing was tested")
	}
	t.Logf("%d skills were complete in %d processes that were killed", finished, times)
}

func FuzzContent(f *testing.F) {
	text, err := json.Marshal(album("http://a.example", "fox1", "3", "a.mp3"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(`{"skill_id":"..","files":[{"kind":"audio","index":1,"url":"http://a"}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var c Content
		if json.Unmarshal(text, &c) != nil || c.Check() != nil {
			return
		}
		if !filepath.IsLocal(filepath.Join("skills", c.Skill)) || strings.ContainsAny(c.Skill, "/\\\x00") {
			t.Errorf("%q escapes the directory", c.Skill)
		}
		for _, file := range c.Files {
			if !filepath.IsLocal(file.name()) {
				t.Errorf("%q escapes the skill", file.name())
			}
		}
		if !c.same(c) {
			t.Error("the content is not the same as itself")
		}
	})
}
