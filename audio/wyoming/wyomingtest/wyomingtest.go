// Package wyomingtest is a Wyoming service for tests: a real listener on the loopback address,
// whose behaviour the test defines.
//
// The behaviour of a specific kind of service belongs in the tests that need it.
package wyomingtest

import (
	"context"
	"net"
	"sync"
	"testing"

	"lintod/audio/wyoming"
)

// Service is a service that can be stopped and restarted at the same address.
type Service struct {
	// Address is the address for the configuration.
	Address string

	t      testing.TB
	handle func(*wyoming.Conn)

	mu       sync.Mutex
	listener net.Listener
	ctx      context.Context
	stop     context.CancelFunc
	all      sync.WaitGroup
}

// New returns a service that runs until the test ends. handle handles one connection, in its own
// goroutine; it is closed when handle returns, and when the service stops.
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
	s.listener.Close() // first, otherwise clients could reconnect immediately
	s.stop()
	s.all.Wait()
}

// Start restarts a stopped service.
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
