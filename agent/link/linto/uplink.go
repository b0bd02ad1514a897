package linto

import (
	"context"
	"sync"
)

// uplink lets goroutines wait for the connection, and notice that one is not
// the same any more.
type uplink struct {
	mu   sync.Mutex
	up   chan struct{} // closed while the platform can be reached
	gone chan struct{} // closed when the present connection is lost
}

func newUplink() *uplink {
	u := &uplink{up: make(chan struct{}), gone: make(chan struct{})}
	close(u.gone)
	return u
}

func (u *uplink) set(up bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case up == isClosed(u.up):
	case up:
		u.gone = make(chan struct{})
		close(u.up)
	default:
		u.up = make(chan struct{})
		close(u.gone)
	}
}

func (u *uplink) isUp() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return isClosed(u.up)
}

// await blocks until there is a connection and returns what is closed at its
// end, or fails with ctx's cause.
func (u *uplink) await(ctx context.Context) (gone <-chan struct{}, err error) {
	for {
		u.mu.Lock()
		up, gone := u.up, u.gone
		u.mu.Unlock()
		if isClosed(up) {
			return gone, nil
		}
		select {
		case <-up:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
