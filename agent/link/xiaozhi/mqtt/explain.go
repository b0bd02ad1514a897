package mqtt

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"

	"lintod/agent/base/neterr"
	"lintod/agent/base/printable"
)

var (
	errProtocol = errors.New("the answer is not from a working MQTT server")
	errSilent   = errors.New("no answer to a ping; the network is interrupted, or the server hangs")
)

// A step of a connection. The same error has different causes in different steps.
type step int

const (
	stepReach step = iota
	stepTLS
	stepConnect
	stepConnected
)

// serverError is a failure to establish or keep a connection.
type serverError struct {
	address string
	step    step
	err     error
}

func (e *serverError) Unwrap() error { return e.err }

func (e *serverError) Error() string { return printable.Clip(e.address+": "+e.explain(), 1000) }

var server = neterr.Server{Name: "the MQTT server", Address: "its address", CA: "ca_file"}

func (e *serverError) explain() string {
	var hint *hintError
	if errors.As(e.err, &hint) {
		return hint.text
	}
	for _, words := range []func(error) string{server.Certificate, server.Network} {
		if sentence := words(e.err); sentence != "" {
			return sentence
		}
	}
	var record tls.RecordHeaderError
	switch {
	case errors.As(e.err, &record):
		return "that port does not use TLS; use the server's TLS port, or mqtt:// if it has none"
	case errors.Is(e.err, context.Canceled):
		return "the attempt was cancelled"
	case neterr.TimedOut(e.err) && e.step == stepReach:
		return "no answer from that host; check the address, and whether a firewall blocks it"
	case neterr.TimedOut(e.err) && e.step == stepConnected:
		return "the server no longer accepts data; the network is interrupted, or the server hangs"
	case neterr.TimedOut(e.err):
		return "the host took the connection but did not answer in time; check that the port is the MQTT server's, and whether it wants TLS (mqtts://)"
	case neterr.HungUp(e.err) && e.step == stepTLS:
		return "the connection was closed during the TLS handshake; check whether the port is one without TLS (mqtt://)"
	case neterr.HungUp(e.err) && e.step == stepConnect:
		return "the server closed the connection instead of answering CONNECT; check whether the port wants TLS (mqtts://)"
	case neterr.HungUp(e.err):
		return "the server closed the connection"
	}
	return e.err.Error()
}

// hintError is an error with a known meaning: a sentence, the error to match,
// and the cause.
type hintError struct {
	text  string
	is    error
	cause error
}

func (e *hintError) Error() string   { return e.text }
func (e *hintError) Unwrap() []error { return []error{e.is, e.cause} }

// errRefusal is the cause of a refusal that is unrelated to the device's identity.
var errRefusal = errors.New("refused by the server")

// connackError returns the error of a CONNACK [MQTT-3.2.2-4].
func connackError(code byte) error {
	cause := fmt.Errorf("CONNACK %d", code)
	switch code {
	case 1:
		return &hintError{"the server does not support MQTT 3.1.1 (CONNACK 1)", errRefusal, cause}
	case 2:
		return &hintError{"the server refuses the client id (CONNACK 2)", ErrRefused, cause}
	case 3:
		return &hintError{"the server reports that it is unavailable (CONNACK 3); see its log", errRefusal, cause}
	}
	return &hintError{fmt.Sprintf("the server refuses the username or password (CONNACK %d)", code), ErrRefused, cause}
}
