//go:build !linux

package broker

import (
	"syscall"
	"time"
)

// userTimeout does nothing here: only Linux has TCP_USER_TIMEOUT, and the
// read deadline of wire detects a dead connection without it.
func userTimeout(time.Duration) func(network, address string, c syscall.RawConn) error { return nil }
