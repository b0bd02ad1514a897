package mqtt

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// quick returns conn with immediate acknowledgements. Gateways send small
// messages with Nagle's algorithm, so each waits for the acknowledgement of the
// previous one. The kernel delays that by 40 ms, and the audio of an answer
// overtakes the message that announces it. TCP_QUICKACK is not permanent
// (tcp(7)), so it is set before each read.
func quick(conn net.Conn) net.Conn {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return conn
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return conn
	}
	return &quickConn{tcp, raw}
}

type quickConn struct {
	*net.TCPConn
	raw syscall.RawConn
}

func (c *quickConn) Read(p []byte) (int, error) {
	_ = c.raw.Control(acknowledgeAtOnce) // if it fails, reading is slower
	return c.TCPConn.Read(p)
}

func acknowledgeAtOnce(fd uintptr) {
	_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1)
}
