package login

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"syscall"

	"lintod/agent/base/neterr"
)

var errSlow = errors.New("the platform did not answer in time; is it overloaded, or the address that of something else?")

// explained is an error in a sentence for people.
type explained struct {
	sentence string
	err      error
}

func (e *explained) Error() string { return e.sentence }
func (e *explained) Unwrap() error { return e.err }

var platform = neterr.Server{Name: "the platform", Address: "url in [linto.login]", CA: "ca_file in [linto.login]"}

// sentence says in one sentence what went wrong under a request, and what to do.
func sentence(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	for _, words := range []func(error) string{platform.Certificate, platform.Network, explainHTTPS} {
		if text := words(err); text != "" {
			return &explained{text, err}
		}
	}
	var outer *url.Error
	if errors.As(err, &outer) {
		return outer.Err // without the address, which the caller adds
	}
	return err
}

func explainHTTPS(err error) string {
	switch {
	case errors.Is(err, http.ErrSchemeMismatch):
		return "TLS is not spoken at that port; use the platform's https port, or http:// if it has none"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
		return "the platform closed the connection instead of answering; does that port speak https?"
	}
	return ""
}
