// Package wyomingtest is a Wyoming service for tests: a real listener on
// loopback, whose conversation the test writes.
//
// What must not live here: the conversation of a kind of service, which stands
// with the tests that need it.
package wyomingtest

import (
	"context"
	"net"
	"sync"
	"testing"

	"lintod/audio/wyoming"
)

// Service is a service that can go away and come back at the same address.
type Service struct {
	// Address is what goes into a configuration.
	Address string

	t      testing.TB
	handle func(*wyoming.Conn)

	mu       sync.Mutex
	listener net.Listener
	ctx      context.Context
	stop     context.CancelFunc
	all      sync.WaitGroup
}

// New returns a service that runs until the test ends. handle has one
// connection, in a goroutine of its own; it is closed when handle returns, and
// when the service stops.
func New(t testing.TB, handle func(*wyoming.Conn)) *Service {
	t.Helper()
	s := &Service{t: t, handle: handle}
	s.listen("127.0.0.1:0")
	s.Address = "wyoming://" + s.listener.Addr().String()
	t.Cleanup(s.Stop)
	return s
}

// Stop ends the service and all its connections. It may be called twice.
func (s *Service) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listener.Close() // first, or who is hung up on could come back at once
	s.stop()
	s.all.Wait()
}

// Start lets a service that was stopped come back.
func (s *Service) Start() {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listen(s.listener.Addr().String())
}

func (s *Service) listen(address string) {
	s.t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		s.t.Fatalf("listen: %v", err)
	}
	s.listener = listener
	s.ctx, s.stop = context.WithCancel(context.Background())
	ctx := s.ctx
	s.all.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			s.all.Go(func() {
				c := wyoming.NewConn(ctx, conn)
				defer c.Close()
				s.handle(c)
			})
		}
	})
}
