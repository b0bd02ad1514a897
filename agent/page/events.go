package page

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	_ "image/gif" // the forms of pictures that are shown
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
	// noticeQueue is how many notices wait to be looked at; then the oldest go.
	noticeQueue = 256
	maxViewers  = 128
	// The page shows what has changed at most once in leastBeat; what announces itself in
	// no notice, within slowBeat; the level of the voice once in levelBeat.
	leastBeat = 50 * time.Millisecond
	levelBeat = 100 * time.Millisecond
	slowBeat  = time.Second
	// sign is how often a viewer hears something, so that either end finds the other gone.
	sign = 15 * time.Second
	// pictureLimit is how long a picture may take.
	pictureLimit = time.Minute
	// silence is the level while the device does not listen, in dBFS.
	silence = -96
)

// viewers are the browsers that follow. Each has no queue but the newest view: one that
// sleeps misses those before it.
type viewers struct {
	mu     sync.Mutex
	list   map[loop.Signal]struct{}
	newest view
}

// view is what the page shows.
type view struct {
	text    []byte // JSON
	number  uint64 // counts the texts
	level   int    // dBFS
	display *display
	picture picture
}

// picture is a file, and the path below which it is served.
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

// show has all viewers see a view.
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

// join adds a viewer, who is woken for each new view; nil when there are too many.
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

// watch keeps the view true while somebody looks. What was said it follows always, for who
// comes later.
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
			pic.page = "/picture/" + rand.Text() // an <img> sends no session: its path is the secret
		}
	}
	text, err := json.Marshal(struct {
		Now     any    `json:"now"`
		Face    face   `json:"face"`
		Picture string `json:"picture,omitempty"`
	}{p.Now(), now, pic.page})
	if err != nil {
		p.Log.Error("the page shows what was", "error", err)
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

// events tells a browser what the page shows, from now on, as server-sent events.
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
		text := ":\n\n" // a comment, which shows that the connection lives
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

// display serves HTML of the platform, which may do nothing but be looked at.
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

// maxPicture bounds a picture that is shown, in bytes, and maxPixels what a browser unpacks:
// some kilobytes can be a picture that no small box has memory for.
const (
	maxPicture = 20 << 20
	maxPixels  = 20_000_000
)

// picture serves the file that belongs to the view, if it is a picture.
func (p *Page) picture(w http.ResponseWriter, r *http.Request) {
	pic := p.viewers.get().picture
	if pic.page == "" || pic.page != r.URL.Path {
		http.NotFound(w, r)
		return
	}
	file, err := os.OpenFile(pic.file, os.O_RDONLY|syscall.O_NONBLOCK, 0) // or a pipe would wait for a writer
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
