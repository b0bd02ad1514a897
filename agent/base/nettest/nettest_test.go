package nettest

import (
	"fmt"
	"net"
	"testing"
)

// No two tests get the same port, and a port in use is not returned.
func TestFreePort(t *testing.T) {
	seen := map[int]bool{}
	for range 50 {
		port := FreePort(t)
		if seen[port] || port >= 32768 || Listens(port) {
			t.Errorf("got %d, twice %v", port, seen[port])
		}
		seen[port] = true
	}
	port := FreePort(t)
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if !Listens(port) {
		t.Error("no listener detected")
	}
}
