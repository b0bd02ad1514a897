//go:build !linux

package mqtt

import "net"

// quick does nothing here: only Linux has TCP_QUICKACK.
func quick(conn net.Conn) net.Conn { return conn }
