package mqtt

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// quick returns conn with acknowledgements that go out at once. Gateways send
// small messages with Nagle's algorithm, so each waits for the acknowledgement of
// the one before; the kernel delays that by 40 ms, and the audio of an answer
// overtakes the message that announces it. TCP_QUICKACK does not last (tcp(7)):
// it is set before each read.
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
	_ = c.raw.Control(acknowledgeAtOnce) // without it, reading is slower
	return c.TCPConn.Read(p)
}

func acknowledgeAtOnce(fd uintptr) {
	_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1)
}
