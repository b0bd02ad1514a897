package media

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path"
	"strconv"
	"strings"

	"lintod/agent/base/fetch"
)

// maxMetaint is the maximum distance between two titles of a station, in bytes.
const maxMetaint = 1 << 20

var errSize = errors.New("it exceeds max_size in [behaviors.play]")

// body is the content of a file or an answer.
type body struct {
	io.Reader
	io.Closer
	kind string // the server's Content-Type, or the type by the name
}

// fetch starts receiving from an address.
func (o *Opener) fetch(ctx context.Context, u *address) (*body, error) {
	got, err := o.guard().Get(ctx, u.URL)
	if errors.Is(err, fetch.ErrInside) {
		err = fmt.Errorf("%w, which the name does not show; list its IP address in [behaviors.play]", err)
	}
	if err != nil {
		return nil, err
	}
	if got.Size > int64(o.Config.MaxSize) {
		got.Close()
		return nil, fmt.Errorf("%w: %d bytes", errSize, got.Size)
	}
	var r io.Reader = got
	if titles := got.Header.Get("Icy-Metaint"); titles != "" { // they were not requested
		n, err := strconv.Atoi(titles)
		if err != nil || n < 1 || n > maxMetaint {
			got.Close()
			return nil, fmt.Errorf("the station announces a title interval of %.20q bytes; want 1 to %d", titles, maxMetaint)
		}
		r = &untitled{r: got, every: n, left: n}
	}
	kind := got.Header.Get("Content-Type")
	switch strings.ToLower(path.Ext(u.Path)) {
	case ".m3u", ".m3u8", ".pls": // for which many servers have no type
		kind = listType
	}
	return &body{Reader: r, Closer: got, kind: kind}, nil
}

// shoutcast is a connection to a server that may use SHOUTcast's variant of HTTP/1.0, with "ICY"
// instead of "HTTP/1.0".
type shoutcast struct {
	net.Conn
	begun bool
	head  []byte // to be read before the connection
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

// untitled removes the titles from a station's stream: after each block of sound, a byte contains
// their length in units of 16 bytes.
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
