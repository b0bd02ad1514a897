//go:build !linux

package broker

import (
	"syscall"
	"time"
)

// userTimeout is nothing here: only Linux has TCP_USER_TIMEOUT, and the read
// deadline of wire notices a dead link without it.
func userTimeout(time.Duration) func(network, address string, c syscall.RawConn) error { return nil }
