package media

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"

	"lintod/audio"
)

const (
	// idleLimit is how long a server may send nothing.
	idleLimit = 10 * time.Second
	// Of rateWindow of waiting for a server, minRate bytes a second must come of
	// it. Speech has 700 at least.
	rateWindow = 20 * time.Second
	minRate    = 250
	// maxMetaint bounds the sound between two titles of a station, in bytes.
	maxMetaint = 1 << 20
)

var (
	errSize = errors.New("it is longer than max_size in [behaviors.play] allows")
	errIdle = fmt.Errorf("the server has sent nothing for %v", idleLimit)
	errSlow = fmt.Errorf("the server has sent less than %d bytes a second for %v", minRate, rateWindow)
)

// statusError is an HTTP status other than 200.
type statusError int

func (e statusError) Error() string {
	return fmt.Sprintf("the server answers %d %s", int(e), http.StatusText(int(e)))
}

// body is what a file or an answer holds.
type body struct {
	io.Reader
	io.Closer
	kind string // the server's Content-Type, or what the name stands for
}

// fetch begins to receive what is at an address.
func (o *Opener) fetch(ctx context.Context, u *address) (*body, error) {
	f := &answer{}
	ctx, f.cancel = context.WithCancelCause(ctx)
	f.idle = time.AfterFunc(headerLimit, func() { f.cancel(errIdle) })
	b, err := f.start(ctx, o, u)
	f.idle.Stop()
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		f.Close()
		if wrapped := (*url.Error)(nil); errors.As(err, &wrapped) {
			err = wrapped.Err // without the whole address
		}
		return nil, err
	}
	return b, nil
}

// answer is one of a server, while it lasts.
type answer struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	body   io.ReadCloser
	idle   *time.Timer // ends it when it fires

	waited time.Duration // for the server, in the present window
	got    int           // bytes in that time
}

func (f *answer) start(ctx context.Context, o *Opener, u *address) (*body, error) {
	f.ctx = ctx
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, u.URL.String(), http.NoBody)
	if err != nil {
		return nil, err
	}
	request.Header.Set("User-Agent", "lintod")
	got, err := o.client().Do(request) //nolint:bodyclose // f.Close does
	if err != nil {
		return nil, err
	}
	f.body = got.Body
	switch {
	case got.StatusCode != http.StatusOK:
		return nil, statusError(got.StatusCode)
	case got.ContentLength > int64(o.Config.MaxSize):
		return nil, fmt.Errorf("%w: %d bytes", errSize, got.ContentLength)
	}
	var r io.Reader = f
	if titles := got.Header.Get("Icy-Metaint"); titles != "" { // nobody has asked for them
		n, err := strconv.Atoi(titles)
		if err != nil || n < 1 || n > maxMetaint {
			return nil, fmt.Errorf("the station announces titles after each %.20q bytes; want 1 to %d", titles, maxMetaint)
		}
		r = &untitled{r: f, every: n, left: n}
	}
	kind := got.Header.Get("Content-Type")
	switch strings.ToLower(path.Ext(u.Path)) {
	case ".m3u", ".m3u8", ".pls": // of which many servers know no type
		kind = listType
	}
	return &body{Reader: r, Closer: f, kind: kind}, nil
}

// Read gives up a server that sends nothing, or drop by drop. Only the time of
// waiting counts: a station is not slow while the loudspeaker has enough.
func (f *answer) Read(b []byte) (int, error) {
	f.idle.Reset(idleLimit)
	began := time.Now()
	n, err := f.body.Read(b)
	f.idle.Stop()
	f.waited += time.Since(began)
	f.got += n
	if f.waited >= rateWindow {
		if f.got < minRate*int(f.waited/time.Second) {
			return n, errSlow
		}
		f.waited, f.got = 0, 0
	}
	if err != nil && !errors.Is(err, io.EOF) && f.ctx.Err() != nil {
		err = context.Cause(f.ctx)
	}
	return n, err
}

// Close ends the fetch. It may be called twice.
func (f *answer) Close() error {
	f.cancel(audio.ErrClosed)
	if f.body == nil {
		return nil
	}
	return f.body.Close()
}

// shoutcast is a connection to a server that may speak as SHOUTcast does: "ICY"
// where HTTP/1.0 has its name, and else the same.
type shoutcast struct {
	net.Conn
	begun bool
	head  []byte // what is yet to be read before the connection
}

func (s *shoutcast) Read(b []byte) (int, error) {
	if !s.begun {
		s.begun = true
		head := make([]byte, len("ICY "))
		n, err := io.ReadFull(s.Conn, head)
		if s.head = head[:n]; string(s.head) == "ICY " {
			s.head = []byte("HTTP/1.0 ")
		}
		if n == 0 {
			return 0, err
		}
	}
	if len(s.head) > 0 {
		n := copy(b, s.head)
		s.head = s.head[n:]
		return n, nil
	}
	return s.Conn.Read(b)
}

// untitled takes the titles out of what a station sends: behind each piece of
// sound a byte says how many times 16 bytes of them follow.
type untitled struct {
	r     io.Reader
	every int
	left  int // bytes of sound before the next title
}

func (u *untitled) Read(b []byte) (int, error) {
	if u.left == 0 {
		var size [1]byte
		if _, err := io.ReadFull(u.r, size[:]); err != nil {
			return 0, err
		}
		if _, err := io.CopyN(io.Discard, u.r, 16*int64(size[0])); err != nil {
			return 0, err
		}
		u.left = u.every
	}
	n, err := u.r.Read(b[:min(len(b), u.left)])
	u.left -= n
	return n, err
}
