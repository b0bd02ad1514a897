package websocket

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/gorilla/websocket"

	"lintod/agent/base/neterr"
	"lintod/agent/base/printable"
	"lintod/agent/base/wsdial"
)

var errSilent = errors.New("two pings were not answered; the network is interrupted, or the server hangs")

// serverError is a failure to establish or keep a connection.
type serverError struct {
	server string // scheme, host and path: a query may contain a token
	err    error
}

func (e *serverError) Unwrap() error { return e.err }
func (e *serverError) Error() string { return printable.Clip(e.server+": "+explain(e.err), 1000) }

// sentence is an error with a known meaning.
type sentence struct {
	text   string
	causes []error
}

func (e *sentence) Error() string   { return e.text }
func (e *sentence) Unwrap() []error { return e.causes }

func refusal(text string, cause error) error { return &sentence{text, []error{ErrRefused, cause}} }

var server = neterr.Server{Name: "the WebSocket server", Address: "its address", CA: "ca_file"}

func explain(err error) string {
	var known *sentence
	if errors.As(err, &known) {
		return known.text
	}
	for _, words := range []func(error) string{server.Certificate, server.Network} {
		if sentence := words(err); sentence != "" {
			return sentence
		}
	}
	var record tls.RecordHeaderError
	var closed *websocket.CloseError
	switch {
	case errors.As(err, &record):
		return "that port does not use TLS; use the server's TLS port, or ws:// if it has none"
	case errors.Is(err, context.Canceled):
		return "the attempt was cancelled"
	case errors.Is(err, websocket.ErrReadLimit):
		return fmt.Sprintf("the server sent a message of more than %d bytes", maxReceived)
	case errors.As(err, &closed):
		return fmt.Sprintf("the server closed the connection with code %d%s", closed.Code, quoted(closed.Text))
	case neterr.TimedOut(err):
		return "no answer in time; check the address and port, and whether a firewall blocks it"
	case neterr.HungUp(err):
		return "the server closed the connection unexpectedly"
	}
	return err.Error()
}

// upgradeError explains an answer that is not an upgrade. response is nil if
// there was none.
func upgradeError(err error, response *http.Response) error {
	switch {
	case response != nil && errors.Is(err, websocket.ErrBadHandshake):
	case errors.Is(err, wsdial.ErrAnswer):
		return &sentence{"the answer is not from a WebSocket server: " + err.Error(), []error{err}}
	case strings.HasPrefix(err.Error(), "malformed"): // net/http has no type for it
		return &sentence{"the answer is not HTTP; check the port", []error{err}}
	case neterr.HungUp(err):
		return &sentence{"the server closed the connection instead of answering; check the port, and whether it is one with TLS (wss://)", []error{err}}
	default:
		return err
	}
	body, _ := io.ReadAll(io.LimitReader(response.Body, maxQuoted))
	said := quoted(string(body))
	switch status := response.StatusCode; {
	case status == http.StatusSwitchingProtocols:
		return fmt.Errorf("the answer is not from a WebSocket server: %w", err)
	case status == http.StatusBadRequest:
		return refusal("the server refuses the request (HTTP 400)"+said+"; check the address, and whether the server knows the device", err)
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return refusal(fmt.Sprintf("the server refuses the token or the device (HTTP %d)%s", status, said), err)
	case status == http.StatusNotFound:
		return errors.New("the server has no WebSocket at this path (HTTP 404); correct the path of the address")
	case status >= 300 && status < 400:
		return fmt.Errorf("the server redirects to %s (HTTP %d); configure that address", withoutQuery(response.Header.Get("Location")), status)
	case status >= 500:
		return fmt.Errorf("the server, or a proxy in front of it, failed (HTTP %d)%s", status, said)
	default:
		return fmt.Errorf("a web server answers, but not with a WebSocket (HTTP %d)%s", status, said)
	}
}

// refusedBy explains a close before the first JSON message. said is the text that
// was received instead, if any.
func refusedBy(err error, said string) error {
	var closed *websocket.CloseError
	switch {
	case said != "":
		return refusal("the server refuses the device"+quoted(said), err)
	case errors.As(err, &closed) && closed.Code != websocket.CloseNoStatusReceived && closed.Code != websocket.CloseAbnormalClosure:
		return refusal(fmt.Sprintf("the server accepted the connection and closed it with code %d%s before its first message; "+
			"it may not accept the device", closed.Code, quoted(closed.Text)), err)
	case errors.As(err, &closed), neterr.HungUp(err):
		return refusal("the server accepted the connection and closed it without a message; some servers do so if the token or the device is unknown", err)
	}
	return err
}

// maxQuoted limits the quoted text from a server, in bytes.
const maxQuoted = 200

// quoted is the text after a colon, if there is any.
func quoted(text string) string {
	if text = printable.Clip(text, maxQuoted); text == "" {
		return ""
	}
	return fmt.Sprintf(": %q", text)
}

func withoutQuery(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return "another address"
	}
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}
