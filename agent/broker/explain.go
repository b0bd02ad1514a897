package broker

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"lintod/agent/base/neterr"
)

// A step of connecting. The same error has different causes in different steps.
type step string

const (
	stepReach     step = "reach"
	stepTLS       step = "tls handshake"
	stepUpgrade   step = "websocket upgrade"
	stepConnect   step = "mqtt connect"
	stepSubscribe step = "subscribe"
	stepConnected step = "connection lost"
)

type stepError struct {
	step step
	err  error
}

func (e *stepError) Error() string { return string(e.step) + ": " + e.err.Error() }
func (e *stepError) Unwrap() error { return e.err }

// within adds the step to err unless an inner step is already known.
func within(s step, err error) error {
	var inner *stepError
	if errors.As(err, &inner) {
		return err
	}
	return &stepError{s, err}
}

// Error is a failure to establish or keep a connection. Its text is a
// sentence for people; errors.Is and As find the cause.
type Error struct {
	Broker string // the address as configured, without credentials
	Err    error
}

func (e *Error) Error() string { return e.Broker + ": " + Explain(e.Err) }
func (e *Error) Unwrap() error { return e.Err }

// failures are the errors of all addresses of one attempt.
type failures []*Error

func (f failures) Unwrap() []error {
	list := make([]error, len(f))
	for i, err := range f {
		list[i] = err
	}
	return list
}

// Error states a cause that several addresses have in common only once, as for a
// cluster.
func (f failures) Error() string {
	var sentences []string
	at := map[string][]string{}
	for _, err := range f {
		sentence := Explain(err.Err)
		if at[sentence] == nil {
			sentences = append(sentences, sentence)
		}
		at[sentence] = append(at[sentence], err.Broker)
	}
	for i, sentence := range sentences {
		sentences[i] = strings.Join(at[sentence], ", ") + ": " + sentence
	}
	return strings.Join(sentences, "; ")
}

var (
	errUpgrade = errors.New("no websocket at that address")
	errFilter  = errors.New("subscription refused")
)

// Refused reports whether the broker was reached and does not accept our
// identity, or our subscriptions.
func Refused(err error) bool {
	return errors.Is(err, packets.ErrorRefusedBadUsernameOrPassword) ||
		errors.Is(err, packets.ErrorRefusedNotAuthorised) || errors.Is(err, errFilter)
}

var peer = neterr.Server{Name: "the broker", Address: "the address", CA: "ca_file"}

// unreached reports whether no address of an attempt could be reached.
func unreached(err error) bool {
	var all failures
	if !errors.As(err, &all) {
		return false
	}
	for _, one := range all {
		var at *stepError
		if !errors.As(one, &at) || at.step != stepReach {
			return false
		}
	}
	return true
}

// Explain returns one sentence with the meaning of an error of this package and
// what to do about it. For unknown errors it returns their own text. Long texts are
// truncated, because they quote the server.
func Explain(err error) string {
	text := err.Error()
	for _, words := range []func(error) string{explainMQTT, peer.Certificate, explainTLS, peer.Network, explainSilence} {
		if sentence := words(err); sentence != "" {
			text = sentence
			break
		}
	}
	if len(text) > maxText {
		return strings.ToValidUTF8(text[:maxText], "") + "…"
	}
	return text
}

// maxText is the maximum length of an explanation, in bytes.
const maxText = 2 << 10

// advised is an error with the advice for a refusal of user name or password.
type advised struct {
	advice string
	err    error
}

func (e *advised) Error() string { return e.err.Error() }
func (e *advised) Unwrap() error { return e.err }

// refusedID is the refusal of a client id.
type refusedID struct {
	id  string
	err error
}

func (e *refusedID) Error() string { return e.err.Error() }
func (e *refusedID) Unwrap() error { return e.err }

// anyLength is the length of a client id that every broker accepts [MQTT-3.1.3-5].
const anyLength = 23

// explain names the properties of the id for which brokers are known to refuse it.
func (e *refusedID) explain() string {
	switch {
	case strings.ContainsFunc(e.id, func(r rune) bool { return !portable(r) }):
		return fmt.Sprintf("the broker rejects the client ID %q, probably because of a character other than A-Z a-z 0-9 _ -; set a client_id without it", e.id)
	case len(e.id) > anyLength:
		return fmt.Sprintf("the broker rejects the client ID %q, probably because it is longer than %d characters; set a shorter client_id", e.id, anyLength)
	}
	return fmt.Sprintf("the broker rejects the client ID %q, probably because of its access rules; allow it there, or set an allowed client_id", e.id)
}

func explainMQTT(err error) string {
	var reason interface{ explain() string }
	if errors.As(err, &reason) {
		return reason.explain() // if that is empty, the disconnect is explained like any other
	}
	switch {
	case errors.Is(err, packets.ErrorRefusedBadUsernameOrPassword), errors.Is(err, packets.ErrorRefusedNotAuthorised):
		advice := "correct username and password_file"
		var other *advised
		if errors.As(err, &other) {
			advice = other.advice
		}
		return "the broker rejects the user name or password; " + advice
	case errors.Is(err, packets.ErrorRefusedServerUnavailable):
		return "the broker answers that it is unavailable; see its log"
	case errors.Is(err, packets.ErrorRefusedBadProtocolVersion):
		return "the broker does not accept MQTT 3.1.1; enable that version in its configuration"
	case errors.Is(err, errTakeover):
		return "the broker repeatedly accepts the connection and closes it, even while there is traffic; " +
			"probably another device uses the same client ID: set a different client_id on each"
	case errors.Is(err, errFilter):
		return err.Error() + "; allow it in the broker's access rules for this username"
	case errors.Is(err, errSilent):
		return err.Error() + "; the network is interrupted, or the broker hangs"
	case errors.Is(err, errProtocol):
		return err.Error() + "; correct the port"
	case errors.Is(err, errUpgrade):
		return err.Error() + "; correct port and path of the ws:// or wss:// address"
	}
	return ""
}

// explainTLS explains why the broker rejects us, or that it does not use TLS.
func explainTLS(err error) string {
	var record tls.RecordHeaderError
	var remote *net.OpError
	switch {
	case errors.As(err, &record):
		return "that port does not use TLS; use the broker's TLS port, or mqtt:// or ws:// if it has none"
	case errors.As(err, &remote) && remote.Op == "remote error":
		return fmt.Sprintf("the broker rejects the TLS handshake (%v); does it require a (newer) client certificate in cert_file and key_file?", remote.Err)
	}
	return ""
}

func explainSilence(err error) string {
	var at *stepError
	s := stepReach
	if errors.As(err, &at) {
		s = at.step
	}
	switch {
	case neterr.TimedOut(err):
		return explainTimeout(s)
	case neterr.HungUp(err):
		return explainHangup(s)
	}
	return ""
}

func explainTimeout(s step) string {
	switch s {
	case stepReach:
		return "no answer from that host; is it running, is the address correct, does a firewall block it?"
	case stepConnected:
		return "the broker no longer accepts data; the network is interrupted, or the broker hangs"
	}
	return fmt.Sprintf("the host accepted the connection but did not answer in time (%s); is that the broker's port?", s)
}

func explainHangup(s step) string {
	switch s {
	case stepTLS:
		return "the connection was closed during the TLS handshake; is that a port without TLS (mqtt://, ws://)?"
	case stepUpgrade:
		return "the connection was closed during the websocket upgrade; is that a port without websockets?"
	case stepSubscribe:
		return "the broker closed the connection on the subscription; probably its access rules do not allow it"
	case stepConnect:
		return "the connection was closed before it was accepted; does that port use TLS (mqtts://), or require a client certificate (cert_file and key_file), or has the broker's cluster lost too many nodes?"
	}
	return "the broker closed the connection"
}
