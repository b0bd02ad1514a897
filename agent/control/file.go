package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// A client may open a file and pass it with its request, so that the daemon
// does not need to find it or have access to it (unix(7), SCM_RIGHTS).

type fileKey struct{}

// File returns the file that the client has passed with the request; nil if
// there is none. The handler owns it.
func File(ctx context.Context) *os.File {
	if p, ok := ctx.Value(fileKey{}).(*peer); ok {
		f := p.file
		p.file = nil
		return f
	}
	return nil
}

func withFile(ctx context.Context, p *peer) context.Context {
	return context.WithValue(ctx, fileKey{}, p)
}

// peer reads requests, and keeps the last file that was passed with them.
type peer struct {
	*net.UnixConn
	file *os.File
	oob  [128]byte
}

func (p *peer) Read(b []byte) (int, error) {
	n, oobn, _, _, err := p.ReadMsgUnix(b, p.oob[:])
	messages, _ := syscall.ParseSocketControlMessage(p.oob[:oobn]) // invalid messages contain none
	for i := range messages {
		fds, _ := syscall.ParseUnixRights(&messages[i])
		for _, fd := range fds {
			p.close()
			p.file = os.NewFile(uintptr(fd), "file from the client")
		}
	}
	if n <= 0 && err == nil {
		err = io.EOF
	}
	return max(n, 0), err
}

func (p *peer) close() {
	if p.file != nil {
		p.file.Close()
		p.file = nil
	}
}

// CallWithFile is Call with a file for the daemon to read.
func CallWithFile(ctx context.Context, path, command string, args any, file *os.File) error {
	_, err := exchange(ctx, path, command, args, file, nil)
	return err
}

// send writes a request, with file if it is not nil.
func send(conn net.Conn, req request, file *os.File) error {
	if file == nil {
		return write(conn, req)
	}
	line, err := encode(req)
	if err != nil {
		return err
	}
	socket, ok := conn.(*net.UnixConn)
	if !ok {
		return errors.New("files require a Unix socket")
	}
	n, _, err := socket.WriteMsgUnix(line, unix.UnixRights(int(file.Fd())), nil)
	if err == nil && n < len(line) {
		_, err = conn.Write(line[n:])
	}
	if err != nil {
		return fmt.Errorf("pass the file: %w", err)
	}
	return nil
}
