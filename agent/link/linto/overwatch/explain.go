package overwatch

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"syscall"
	"time"
)

var errSlow = errors.New("the platform did not answer in time; is it overloaded, or the address that of something else?")

// explained is an error in a sentence for people.
type explained struct {
	sentence string
	err      error
}

func (e *explained) Error() string { return e.sentence }
func (e *explained) Unwrap() error { return e.err }

// explain says in one sentence what went wrong under a request, and what to do.
func explain(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	for _, words := range []func(error) string{explainCertificate, explainNetwork} {
		if sentence := words(err); sentence != "" {
			return &explained{sentence, err}
		}
	}
	var outer *url.Error
	if errors.As(err, &outer) {
		return outer.Err // without the address, which the caller adds
	}
	return err
}

func explainCertificate(err error) string {
	var unknown x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	var host x509.HostnameError
	switch {
	case errors.As(err, &unknown):
		return "the platform's certificate is signed by a CA that is not known here; put that CA's certificate into ca_file in [linto.login]"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		const layout = "2006-01-02 15:04 MST"
		return fmt.Sprintf("the platform's certificate is valid from %s to %s, and this device's clock says %s; set the clock, or renew the certificate",
			invalid.Cert.NotBefore.UTC().Format(layout), invalid.Cert.NotAfter.UTC().Format(layout), time.Now().UTC().Format(layout))
	case errors.As(err, &host):
		return fmt.Sprintf("the platform's certificate is not for the name %q; use the name that it was made for", host.Host)
	case errors.Is(err, http.ErrSchemeMismatch):
		return "TLS is not spoken at that port; use the platform's https port, or http:// if it has none"
	}
	return ""
}

func explainNetwork(err error) string {
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns) && dns.IsNotFound:
		return fmt.Sprintf("the name %s is unknown; correct url in [linto.login], or the device's DNS", dns.Name)
	case errors.As(err, &dns):
		return fmt.Sprintf("the name %s cannot be looked up; is the network up and a DNS server set?", dns.Name)
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused: nothing listens there; start the platform, or correct url in [linto.login]"
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTUNREACH):
		return "there is no way to that host; is the network up?"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
		return "the platform closed the connection instead of answering; does that port speak https?"
	}
	return ""
}
