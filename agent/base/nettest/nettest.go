// Package nettest gives tests ports of the loopback interface. Only tests import it.
package nettest

import (
	"fmt"
	"math/rand/v2"
	"net"
	"testing"
	"time"
)

// FreePort returns a port of the loopback interface on which nobody listens. Until the
// end of the test it is given to no other test, whose process may be another, and to no
// outgoing connection: those begin at 32768 (ip_local_port_range in ip(7)).
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
	t.Fatal("no port of the loopback is free")
	return 0
}

// Listens reports whether somebody listens on a port of the loopback interface.
func Listens(port int) bool {
	c, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", port), 10*time.Second)
	if err == nil {
		c.Close()
	}
	return err == nil
}
