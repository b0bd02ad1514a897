package process

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// DaemonFile is the file to which systemd writes, as root, the process id of the
// daemon when it is ready (lintod.service).
const DaemonFile = "/run/lintod.pid"

// daemonLimit is how long the file may lag behind a daemon that has just started.
const daemonLimit = 5 * time.Second

// IsDaemon returns nil if the process whose id is in the file has opened the other
// end of conn. The children of the daemon run as its user, and could therefore
// connect to services for the daemon only. If the file does not exist, the daemon
// is starting; IsDaemon then waits for some seconds, or until ctx ends.
func IsDaemon(ctx context.Context, conn *net.UnixConn, file string) error {
	peer, err := Peer(conn)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, daemonLimit)
	defer cancel()
	for {
		text, err := os.ReadFile(file)
		number := strings.TrimSpace(string(text)) // empty while it is being written
		switch {
		case err == nil && number == fmt.Sprint(peer.Pid):
			return nil
		case err == nil && number != "":
			return fmt.Errorf("process %d of user %d is not the daemon, process %q in %s", peer.Pid, peer.Uid, number, file)
		}
		select {
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("no process ID of the daemon in %s: lintod.service writes it when the daemon is ready", file), err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Peer returns the process that has opened the other end of conn.
func Peer(conn *net.UnixConn) (*unix.Ucred, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("identify the client: %w", err)
	}
	var peer *unix.Ucred
	if controlErr := raw.Control(func(fd uintptr) {
		peer, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); controlErr != nil {
		err = controlErr
	}
	if err != nil {
		return nil, fmt.Errorf("identify the client: %w", err)
	}
	return peer, nil
}
