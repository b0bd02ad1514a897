// Package nettest provides ports of the loopback interface for tests. Only tests
// import it.
package nettest

import (
	"fmt"
	"math/rand/v2"
	"net"
	"testing"
	"time"
)

// FreePort returns a port of the loopback interface without a listener. Until the
// end of the test no other test gets it, not even in another process, and no
// outgoing connection, because those start at 32768 (ip_local_port_range in ip(7)).
func FreePort(t testing.TB) int {
	t.Helper()
	for range 100 {
		port := 10000 + rand.IntN(22000)
		reserved, err := net.Listen("unix", fmt.Sprintf("@lintod-test-port-%d", port))
		if err != nil {
			continue
		}
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			l.Close()
			t.Cleanup(func() { reserved.Close() })
			return port
		}
		reserved.Close()
	}
	t.Fatal("no free port on the loopback interface")
	return 0
}

// Listens reports whether a port of the loopback interface has a listener.
func Listens(port int) bool {
	c, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", port), 10*time.Second)
	if err == nil {
		c.Close()
	}
	return err == nil
}
