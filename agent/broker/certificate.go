package broker

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"lintod/agent/base/certificate"
)

// renewalTime is how long before its expiry a certificate should be renewed.
const renewalTime = 14 * 24 * time.Hour

// warnOfExpiry logs in time that a certificate expires.
func (c *Conn) warnOfExpiry(whose string, cert *x509.Certificate) {
	if left := time.Until(cert.NotAfter); left > 0 && left < renewalTime {
		c.report.say(slog.LevelWarn, "certificate expires soon; renew it", "which",
			fmt.Sprintf("the %s, %q, on %s", whose, cert.Subject.CommonName, cert.NotAfter.UTC().Format(time.DateOnly)))
	}
}

// ServerCertificate fetches the certificate of the broker at address, after
// the checks of a normal connection. It is nil if the address is one without
// TLS. Errors are sentences, like those of a Conn.
func (c Config) ServerCertificate(ctx context.Context, address string) (*x509.Certificate, error) {
	u, err := ParseAddress(address)
	if err != nil || u.Scheme != "mqtts" && u.Scheme != "wss" {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	secure, err := c.tls(u.Hostname())
	if err != nil {
		return nil, &Error{address, err}
	}
	conn, err := openStream(ctx, "tcp", u.Host, secure, c.patience())
	if err != nil {
		return nil, &Error{address, err}
	}
	defer conn.Close()
	peer, ok := conn.(*tls.Conn)
	if !ok || len(peer.ConnectionState().PeerCertificates) == 0 {
		return nil, &Error{address, errors.New("it presents no certificate")}
	}
	return peer.ConnectionState().PeerCertificates[0], nil
}

// ClientCertificate reads the device's certificate; nil if it has none.
func (c Config) ClientCertificate() (*x509.Certificate, error) {
	if c.CertFile == "" {
		return nil, nil
	}
	pair, err := certificate.Pair(c.CertFile, c.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("cert_file and key_file: %w", err)
	}
	return x509.ParseCertificate(pair.Certificate[0])
}
