package models

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const manifest = `{"type":"micro","version":2,"wake_word":"Hey Test","author":"Somebody","model":"hey_test.tflite","micro":{"probability_cutoff":0.9,"sliding_window_size":5}}`

func pinned(content string) pin {
	sum := sha256.Sum256([]byte(content))
	return pin{int64(len(content)), hex.EncodeToString(sum[:])}
}

func folder(t *testing.T) string { return filepath.Join(t.TempDir(), "wake") }

// The downloaded file matches the offer, and can be found by everyone with read
// access.
func TestGet(t *testing.T) {
	served := map[string]string{"/m/hey_test.tflite": "a model", "/m/hey_test.json": manifest}
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if content, ok := served[r.URL.Path]; ok {
			_, _ = w.Write([]byte(content))
			return
		}
		http.NotFound(w, r)
	}))
	defer server.Close()
	g := Getter{Dir: folder(t), Client: server.Client()}
	o := Offer{Name: "hey_test", base: server.URL + "/m/hey_test", model: pinned("a model"), manifest: pinned(manifest)}
	if err := g.Get(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	path, err := Find([]string{filepath.Join(g.Dir, "none"), g.Dir}, "hey_test")
	if err != nil || path != filepath.Join(g.Dir, "hey_test.json") {
		t.Errorf("found %q, %v", path, err)
	}
	for _, name := range []string{"hey_test.json", "hey_test.tflite"} {
		info, err := os.Stat(filepath.Join(g.Dir, name))
		if err != nil || info.Mode().Perm() != 0o644 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(g.Dir, ".*")); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}

	// A different file is rejected, and the existing one stays.
	for name, content := range map[string]string{"longer": "a model and more", "shorter": "a mod", "of the same size": "A model", "endless": strings.Repeat("x", 3<<20)} {
		served["/m/hey_test.tflite"] = content
		if err := g.Get(t.Context(), o); err == nil {
			t.Errorf("a file that is %s was accepted", name)
		}
		if kept, _ := os.ReadFile(filepath.Join(g.Dir, "hey_test.tflite")); string(kept) != "a model" {
			t.Errorf("%s: the model is %.20q now", name, kept)
		}
	}
	delete(served, "/m/hey_test.tflite")
	if err := g.Get(t.Context(), o); err == nil || !strings.Contains(err.Error(), o.base) {
		t.Errorf("a missing file: %v", err)
	}
}

// Redirections do not leave TLS.
func TestGetFollowsNoRedirectionWithoutTLS(t *testing.T) {
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		t.Error("requested without TLS")
		_, _ = w.Write([]byte("a model"))
	}))
	defer plain.Close()
	server := httptest.NewTLSServer(http.RedirectHandler(plain.URL, http.StatusFound))
	defer server.Close()
	o := Offer{Name: "hey_test", base: server.URL, model: pinned("a model"), manifest: pinned(manifest)}
	if err := (Getter{Dir: folder(t), Client: server.Client()}).Get(t.Context(), o); err == nil {
		t.Error("a redirection to http was followed")
	}
}

// A server that does not respond is waited for until the context ends.
func TestGetEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	silent := make(chan struct{})
	server := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		cancel()
		<-silent
	}))
	defer server.Close()
	defer close(silent)
	o := Offer{Name: "hey_test", base: server.URL, model: pinned("a model"), manifest: pinned(manifest)}
	if err := (Getter{Dir: folder(t), Client: server.Client()}).Get(ctx, o); err == nil {
		t.Error("no error")
	}
}

// Root writes into a directory of the daemon's user, who must not be able to
// redirect it.
func TestGetStaysInItsDirectory(t *testing.T) {
	elsewhere := t.TempDir()
	dir := folder(t)
	if err := os.Symlink(elsewhere, dir); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("a model")) }))
	defer server.Close()
	o := Offer{Name: "hey_test", base: server.URL, model: pinned("a model"), manifest: pinned("a model")}
	if err := (Getter{Dir: dir, Client: server.Client()}).Get(t.Context(), o); err == nil {
		t.Error("a link to another directory was followed")
	}
	if files, _ := os.ReadDir(elsewhere); len(files) > 0 {
		t.Errorf("written elsewhere: %v", files)
	}
}

// Each offer is complete, and refers to an immutable commit over TLS.
func TestOffers(t *testing.T) {
	for _, o := range Offers() {
		for _, p := range []pin{o.model, o.manifest} {
			if sum, err := hex.DecodeString(p.sha256); err != nil || len(sum) != sha256.Size || p.size < 100 || p.size > maxFile {
				t.Errorf("%s: %+v", o.Name, p)
			}
		}
		if !strings.HasPrefix(o.base, "https://") || !strings.HasSuffix(o.base, "/"+o.Name) || o.Phrase == "" || o.Author == "" || o.License == "" {
			t.Errorf("%+v", o)
		}
	}
	// The directory of test models has some of them, byte for byte.
	dir := os.Getenv("LINTOD_WAKE_MODELS")
	if dir == "" {
		t.Skip("SKIPPED: LINTOD_WAKE_MODELS is not a directory with models; their checksums were not compared")
	}
	compared := 0
	for _, o := range Offers() {
		for ending, want := range map[string]pin{".tflite": o.model, ".json": o.manifest} {
			content, err := os.ReadFile(filepath.Join(dir, o.Name+ending))
			if err != nil {
				continue
			}
			compared++
			if got := pinned(string(content)); got != want {
				t.Errorf("%s%s is %+v, the offer has %+v", o.Name, ending, got, want)
			}
		}
	}
	if compared == 0 {
		t.Errorf("%s has none of the models", dir)
	}
}

// The error for a missing model names the command that downloads it, or the models
// that can be downloaded.
func TestErrorOfFindContainsTheCommand(t *testing.T) {
	dirs := []string{t.TempDir(), filepath.Join(t.TempDir(), "absent")}
	if _, err := Find(dirs, "okay_nabu"); err == nil || !strings.Contains(err.Error(), "lintod wake get okay_nabu") {
		t.Errorf("a model that can be downloaded: %v", err)
	}
	if _, err := Find(dirs, "hey_nobody"); err == nil || !strings.Contains(err.Error(), "okay_nabu") || strings.Contains(err.Error(), "get hey_nobody") {
		t.Errorf("a model that cannot be downloaded: %v", err)
	}
	if os.Geteuid() != 0 {
		closed := filepath.Join(dirs[0], "closed")
		if err := os.Mkdir(closed, 0); err != nil {
			t.Fatal(err)
		}
		if _, err := Find([]string{closed}, "okay_nabu"); err == nil || !strings.Contains(err.Error(), fs.ErrPermission.Error()) {
			t.Errorf("an unreadable directory: %v", err)
		}
	}
}

// A list also contains the unusable models, with the reason.
func TestList(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "hey_test.json"), []byte(manifest), 0o600); err != nil {
		t.Fatal(err)
	}
	if list := List([]string{dir, dir}); len(list) != 1 || list[0].Err == nil || !strings.Contains(list[0].Err.Error(), "hey_test.tflite") {
		t.Errorf("%+v", list)
	}
}
