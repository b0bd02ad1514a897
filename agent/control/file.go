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

// A client may open a file and hand it over with its request: the daemon need
// not be able to, or be allowed to, find it (unix(7), SCM_RIGHTS).

type fileKey struct{}

// File is what the client has handed over with the request; nil when nothing.
// The handler owns it.
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

// peer reads requests, and keeps the last file that came with them.
type peer struct {
	*net.UnixConn
	file *os.File
	oob  [128]byte
}

func (p *peer) Read(b []byte) (int, error) {
	n, oobn, _, _, err := p.ReadMsgUnix(b, p.oob[:])
	messages, _ := syscall.ParseSocketControlMessage(p.oob[:oobn]) // nothing in what is not understood
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

// CallWithFile is Call with a file that the daemon is to read.
func CallWithFile(ctx context.Context, path, command string, args any, file *os.File) error {
	_, err := exchange(ctx, path, command, args, file, nil)
	return err
}

// send writes a request, and file with it where there is one.
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
