package broker

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/url"
	"time"
)

// dial opens the stream to addr on which MQTT is spoken. It ends with ctx.
// shown is called with each side's certificate before it is used.
func dial(ctx context.Context, addr *url.URL, conf Config, shown func(whose string, c *x509.Certificate)) (*wire, error) {
	var secure *tls.Config
	if addr.Scheme == "mqtts" || addr.Scheme == "wss" {
		var err error
		if secure, err = conf.tls(addr.Hostname()); err != nil {
			return nil, err
		}
		for _, own := range secure.Certificates {
			shown("certificate in cert_file", own.Leaf)
		}
		secure.VerifyConnection = func(s tls.ConnectionState) error {
			shown("broker's certificate", s.PeerCertificates[0])
			return nil
		}
	}
	open := func(ctx context.Context, network, host string) (net.Conn, error) {
		return openStream(ctx, network, host, secure, conf.patience())
	}
	var conn net.Conn
	var err error
	if addr.Scheme == "ws" || addr.Scheme == "wss" {
		conn, err = openWebsocket(ctx, addr, open)
	} else {
		conn, err = open(ctx, "tcp", addr.Host)
	}
	if err != nil {
		return nil, err
	}
	return newWire(conn, conf.patience()), nil
}

func openStream(ctx context.Context, network, host string, secure *tls.Config, patience time.Duration) (net.Conn, error) {
	dialer := net.Dialer{Control: userTimeout(patience)}
	raw, err := dialer.DialContext(ctx, network, host)
	if err != nil {
		return nil, &stepError{stepReach, err}
	}
	if secure == nil {
		return raw, nil
	}
	conn := tls.Client(raw, secure)
	if err := conn.HandshakeContext(ctx); err != nil {
		raw.Close()
		return nil, &stepError{stepTLS, err}
	}
	return conn, nil
}
