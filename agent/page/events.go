package page

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	_ "image/gif" // supported picture formats
	_ "image/jpeg"
	_ "image/png"
	"io"
	"math"
	"net/http"
	"os"
	"sync"
	"syscall"
	"time"

	"lintod/agent/base/loop"
	"lintod/agent/turn"
)

const (
	// noticeQueue is how many notices can be queued; then the oldest are dropped.
	noticeQueue = 256
	maxViewers  = 128
	// The page is updated at most once per leastBeat. Changes without a notice appear
	// within slowBeat; the voice level is updated every levelBeat.
	leastBeat = 50 * time.Millisecond
	levelBeat = 100 * time.Millisecond
	slowBeat  = time.Second
	// sign is how often something is sent to each browser, so that both ends detect a
	// lost connection.
	sign = 15 * time.Second
	// pictureLimit is the time limit for a picture.
	pictureLimit = time.Minute
	// silence is the level while the device does not listen, in dBFS.
	silence = -96
)

// viewers are the connected browsers. Each gets only the latest view: one that
// sleeps misses the earlier ones.
type viewers struct {
	mu     sync.Mutex
	list   map[loop.Signal]struct{}
	newest view
}

// view is what the page shows.
type view struct {
	text    []byte // JSON
	number  uint64 // number of the text
	level   int    // dBFS
	display *display
	picture picture
}

// picture is a file, and the path at which it is served.
type picture struct{ file, page string }

func (v *viewers) get() view {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.newest
}

func (v *viewers) any() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.list) > 0
}

// show sends a view to all viewers.
func (v *viewers) show(text []byte, level int, d *display, pic picture) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.newest.picture = pic
	if v.newest.display = d; string(text) != string(v.newest.text) {
		v.newest.text = text
		v.newest.number++
	} else if level == v.newest.level {
		return
	}
	v.newest.level = level
	for wake := range v.list {
		wake.Set()
	}
}

// join adds a viewer, which is signalled for each new view; nil if there are too
// many.
func (v *viewers) join() loop.Signal {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.list) == maxViewers {
		return nil
	}
	if v.list == nil {
		v.list = map[loop.Signal]struct{}{}
	}
	wake := loop.NewSignal()
	v.list[wake] = struct{}{}
	return wake
}

func (v *viewers) leave(wake loop.Signal) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.list, wake)
}

// watch keeps the view up to date while there are viewers. It always follows what
// is said, for later viewers.
func (p *Page) watch(ctx context.Context, notices *turn.Subscription) {
	beat := time.NewTimer(slowBeat)
	defer beat.Stop()
	var shown time.Time
	var now face
	hears := false
	for {
		if beat.Stop(); p.viewers.any() {
			wait := leastBeat - time.Since(shown)
			if wait <= 0 {
				p.show(now, hears)
				shown, wait = time.Now(), slowBeat
				if hears {
					wait = levelBeat
				}
			}
			beat.Reset(wait)
		} else {
			p.viewers.show(nil, silence, now.Display, picture{})
		}
		select {
		case <-ctx.Done():
			return
		case n := <-notices.C:
			now.take(n, p.Config.Frames)
			hears = n.State.Hears()
		case <-p.changed:
		case <-beat.C:
		}
	}
}

func (p *Page) show(now face, hears bool) {
	pic := p.viewers.get().picture
	if file := p.pictureFile(); file != pic.file {
		if pic = (picture{file: file}); file != "" {
			pic.page = "/picture/" + rand.Text() // an <img> sends no session, so its path is secret
		}
	}
	text, err := json.Marshal(struct {
		Now     any    `json:"now"`
		Face    face   `json:"face"`
		Picture string `json:"picture,omitempty"`
	}{p.Now(), now, pic.page})
	if err != nil {
		p.Log.Error("the page is outdated", "error", err)
		return
	}
	level := float64(silence)
	if hears {
		level = p.Level()
	}
	p.viewers.show(text, int(math.Round(level)), now.Display, pic)
}

func (p *Page) pictureFile() string {
	if p.Picture == nil {
		return ""
	}
	return p.Picture()
}

// events sends what the page shows to a browser, as server-sent events, until it
// disconnects.
func (p *Page) events(w http.ResponseWriter, r *http.Request) {
	wake := p.viewers.join()
	if wake == nil {
		refuse(w, http.StatusServiceUnavailable, errors.New("too many browsers follow the device"))
		return
	}
	defer p.viewers.leave(wake)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // for nginx
	p.changed.Set()
	idle := time.NewTicker(sign)
	defer idle.Stop()
	out := http.NewResponseController(w)
	for seen := (view{}); ; {
		now := p.viewers.get()
		_ = out.SetWriteDeadline(time.Now().Add(writeLimit))
		text := ":\n\n" // a comment, which keeps the connection alive
		if now.text != nil && now.number != seen.number {
			text += "event: view\ndata: " + string(now.text) + "\n\n"
		}
		if now.level != seen.level {
			text += fmt.Sprintf("event: level\ndata: %d\n\n", now.level)
		}
		_, err := io.WriteString(w, text)
		if err != nil || out.Flush() != nil {
			return
		}
		seen = now
		select {
		case <-r.Context().Done():
			return
		case <-wake:
		case <-idle.C:
		}
	}
}

// display serves HTML from the platform, which can only be displayed.
func (p *Page) display(w http.ResponseWriter, r *http.Request) {
	d := p.viewers.get().display
	if d == nil || d.Page == "" || d.Page != r.URL.Path {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Security-Policy", "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'")
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeLimit))
	_, _ = w.Write([]byte(d.html))
}

// maxPicture limits a picture in bytes, and maxPixels the decoded size: a file of
// some kilobytes can be a picture that exceeds the memory of a small device.
const (
	maxPicture = 20 << 20
	maxPixels  = 20_000_000
)

// picture serves the picture of the view, if the file is one.
func (p *Page) picture(w http.ResponseWriter, r *http.Request) {
	pic := p.viewers.get().picture
	if pic.page == "" || pic.page != r.URL.Path {
		http.NotFound(w, r)
		return
	}
	file, err := os.OpenFile(pic.file, os.O_RDONLY|syscall.O_NONBLOCK, 0) // otherwise a pipe would block for a writer
	if err != nil {
		http.NotFound(w, r)
		return
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Size() > maxPicture {
		http.NotFound(w, r)
		return
	}
	size, kind, err := image.DecodeConfig(file)
	if err != nil || int64(size.Width)*int64(size.Height) > maxPixels {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "image/"+kind)
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(pictureLimit))
	http.ServeContent(w, r, "", info.ModTime(), file)
}
