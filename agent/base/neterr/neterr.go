// Package neterr describes in one sentence why a server could not be reached or
// trusted, and what to do about it.
//
// What must not live here: the meaning of errors in one protocol, which that
// protocol's package knows.
package neterr

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"syscall"
	"time"
)

// Server contains the terms for the other side.
type Server struct {
	Name    string // "the broker"
	Address string // where its address is configured: "the address", "url in [login]"
	CA      string // where the CA is configured that its certificate is checked against
}

// Certificate describes why s was not trusted. It returns "" for any other error.
func (s Server) Certificate(err error) string {
	var unknown x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	var host x509.HostnameError
	switch {
	case errors.As(err, &unknown):
		return fmt.Sprintf("%s's certificate is signed by an unknown CA; add that CA's certificate to %s", s.Name, s.CA)
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return s.validity(invalid.Cert, time.Now())
	case errors.As(err, &invalid) && invalid.Reason == x509.IncompatibleUsage:
		return fmt.Sprintf("%s's certificate is not a server certificate; create one with extendedKeyUsage=serverAuth", s.Name)
	case errors.As(err, &invalid) && invalid.Reason == x509.NotAuthorizedToSign:
		return fmt.Sprintf("%s's certificate is signed by a certificate that is not a CA's; add the CA's own certificate to %s", s.Name, s.CA)
	case errors.As(err, &host) && nameless(host.Certificate):
		return fmt.Sprintf("%s's certificate has its name only in the Common Name (%q), which is ignored; "+
			"create a new one with subjectAltName for %q", s.Name, host.Certificate.Subject.CommonName, host.Host)
	case errors.As(err, &host):
		return fmt.Sprintf("%s's certificate is not for the name %q; use the name that it was issued for, or create a new one", s.Name, host.Host)
	}
	return ""
}

// nameless reports whether a certificate names no server (RFC 9525, 6.3).
func nameless(c *x509.Certificate) bool {
	return c != nil && len(c.DNSNames)+len(c.IPAddresses)+len(c.URIs)+len(c.EmailAddresses) == 0
}

// validity distinguishes a clock that was never set from a certificate that
// was not renewed.
func (s Server) validity(cert *x509.Certificate, now time.Time) string {
	const layout = "2006-01-02 15:04 MST"
	if now.Before(cert.NotBefore) {
		return fmt.Sprintf("%s's certificate is valid from %s, but this device's clock says %s; "+
			"probably the clock is wrong: wait until it is synchronised, or set it",
			s.Name, cert.NotBefore.UTC().Format(layout), now.UTC().Format(layout))
	}
	return fmt.Sprintf("%s's certificate expired at %s (this device's clock: %s); renew it there",
		s.Name, cert.NotAfter.UTC().Format(layout), now.UTC().Format(layout))
}

// Network describes why s was not reached. It returns "" for any other error,
// and for timeouts, which have a different meaning in each step of a protocol.
func (s Server) Network(err error) string {
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns) && dns.IsNotFound:
		return fmt.Sprintf("the name %s is unknown; correct %s, or the device's DNS", dns.Name, s.Address)
	case errors.As(err, &dns):
		return fmt.Sprintf("the name %s cannot be looked up; is the network up and a DNS server set?", dns.Name)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Sprintf("connection refused: nothing listens there; start %s, or correct %s", s.Name, s.Address)
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTUNREACH):
		return "no route to that host; is the network up?"
	}
	return ""
}

// HTTP returns the error of a request as one sentence, which wraps it. If ctx, the
// request's context, has ended, it returns its cause.
func (s Server) HTTP(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	for _, words := range []func(error) string{s.Certificate, s.Network, s.https} {
		if text := words(err); text != "" {
			return &explained{text, err}
		}
	}
	var outer *url.Error
	if errors.As(err, &outer) {
		return outer.Err // without the URL, which the caller adds
	}
	return err
}

func (s Server) https(err error) string {
	switch {
	case errors.Is(err, http.ErrSchemeMismatch):
		return fmt.Sprintf("that port does not use TLS; use the https port of %s, or http:// if it has none", s.Name)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
		return s.Name + " closed the connection without an answer; does that port use https?"
	}
	return ""
}

// explained is an error with a sentence for people.
type explained struct {
	sentence string
	err      error
}

func (e *explained) Error() string { return e.sentence }
func (e *explained) Unwrap() error { return e.err }

// TimedOut reports whether a deadline or time limit passed.
func TimedOut(err error) bool {
	var t interface{ Timeout() bool }
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) ||
		errors.As(err, &t) && t.Timeout()
}

// HungUp reports whether the other side closed or reset the connection.
func HungUp(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}
