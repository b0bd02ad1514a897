package linto

import "sync"

// uplink lets goroutines wait for the connection, and detect that it has
// changed.
type uplink struct {
	mu   sync.Mutex
	up   chan struct{} // closed while the platform can be reached
	gone chan struct{} // closed when the current connection is lost
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

// now returns a channel that is closed while there is a connection, and one that
// is closed when it is lost.
func (u *uplink) now() (up, gone <-chan struct{}) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.up, u.gone
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
