package tunnel

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/crypto/ssh"

	"lintod/behaviors"
)

// connectLimit is the time limit until the tunnel is open.
const connectLimit = 20 * time.Second

var errConnect = fmt.Errorf("no answer within %v", connectLimit)

// connect logs in and opens the port. It returns when the port is open.
func connect(ctx context.Context, t target, signer ssh.Signer, keys *hostKeys) (connection, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, connectLimit, errConnect)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", t.server)
	if err != nil {
		return connection{}, failure(ctx, fmt.Errorf("connect to %s: %w", t.server, err))
	}
	unwatch := context.AfterFunc(ctx, func() { conn.Close() }) // the handshake does not support contexts
	client, listener, err := handshake(conn, t, signer, keys)
	if err == nil && unwatch() {
		return connection{client, listener}, nil
	}
	conn.Close()
	return connection{}, failure(ctx, err)
}

func handshake(conn net.Conn, t target, signer ssh.Signer, keys *hostKeys) (*ssh.Client, net.Listener, error) {
	var keyErr error // the library may wrap it in another
	c, channels, requests, err := ssh.NewClientConn(conn, t.server, &ssh.ClientConfig{
		User:              t.user,
		Auth:              []ssh.AuthMethod{ssh.PublicKeys(signer)},
		ClientVersion:     "SSH-2.0-lintod",
		HostKeyAlgorithms: keys.algorithms(t.server),
		HostKeyCallback: func(address string, remote net.Addr, key ssh.PublicKey) error {
			keyErr = keys.check(address, remote, key)
			return keyErr
		},
	})
	if keyErr != nil {
		return nil, nil, keyErr
	}
	if err != nil {
		return nil, nil, fmt.Errorf("log in at %s as %s: %w", t.server, t.user, err)
	}
	client := ssh.NewClient(c, channels, requests)
	listener, err := forward(client, t.remotePort)
	if err != nil {
		return nil, nil, fmt.Errorf("%s does not open port %d: %w; it may be in use, or not be permitted to %s", t.server, t.remotePort, err, t.user)
	}
	return client, listener, nil
}

// forward requests the port with the bind address of OpenSSH's client, and then with others: a
// server that restricts ports (PermitListen) compares the text.
func forward(client *ssh.Client, port int) (listener net.Listener, err error) {
	for _, host := range []string{"localhost", "127.0.0.1"} {
		if listener, err = client.Listen("tcp", fmt.Sprintf("%s:%d", host, port)); err == nil {
			return listener, nil
		}
	}
	return nil, err
}

// failure adds the code to an error, and the cause if ctx has ended.
func failure(ctx context.Context, err error) error {
	var known *behaviors.Failure
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, errConnect):
		return behaviors.Fail(behaviors.Timeout, "%v", errors.Join(err, cause))
	case cause != nil:
		return cause
	case errors.As(err, &known):
		return known
	}
	return behaviors.Fail(behaviors.Failed, "%v", err)
}
