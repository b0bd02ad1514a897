// Package signed is the text of a signed command, which lintoctl writes and lintod
// reads: the order, which says what to do, on which devices and when, and the
// envelope in which it is sent on the topic of its verb, with a signature in
// OpenSSH's format (sshsig).
//
// It makes no decisions: agent/signed/verifier decides who may sign and whether an
// order is still valid, and behaviors what a verb does. It is built for every
// system on which lintoctl runs.
package signed

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"lintod/agent/base/plainjson"
	"lintod/agent/signed/sshsig"
)

// An Envelope is the payload of a signed command.
type Envelope struct {
	Signed    string // the text of the order, as signed
	Signature []byte // SSHSIG, without armour
}

type envelopeText struct {
	Signed    string `json:"signed"`
	Signature []byte `json:"signature"`
}

// Encode returns the payload.
func (e Envelope) Encode() []byte {
	raw, err := plainjson.Marshal(envelopeText(e))
	if err != nil {
		panic(err) // two strings always marshal
	}
	return raw
}

// Enveloped reports whether a payload looks like an envelope: an object with one of
// its members. ParseEnvelope validates it.
func Enveloped(payload []byte) bool {
	if !bytes.Contains(payload, []byte(`"sign`)) { // as in almost all
		return false
	}
	var m map[string]json.RawMessage
	if json.Unmarshal(payload, &m) != nil {
		return false
	}
	_, order := m["signed"]
	_, signature := m["signature"]
	return order || signature
}

// ParseEnvelope parses a payload, but not the order in it.
func ParseEnvelope(payload []byte) (Envelope, error) {
	var e Envelope
	if len(payload) > MaxEnvelope {
		return e, fmt.Errorf("the envelope has %d bytes; want at most %d", len(payload), MaxEnvelope)
	}
	m, err := members(payload)
	if err != nil {
		return e, fmt.Errorf("invalid envelope: %w", err)
	}
	if len(m) != 2 {
		return e, fmt.Errorf(`the envelope has %d members; want only "signed" and "signature"`, len(m))
	}
	if e.Signed, err = text1(m, "signed"); err != nil {
		return e, err
	}
	if err := printableASCII(e.Signed); err != nil {
		return e, err
	}
	signature, err := text1(m, "signature")
	if err != nil {
		return e, err
	}
	if e.Signature, err = base64.StdEncoding.Strict().DecodeString(signature); err != nil || len(e.Signature) > sshsig.MaxBlob || strings.ContainsAny(signature, "\r\n") {
		return e, errors.New(`"signature" is not an SSHSIG signature in base64 without line breaks`)
	}
	return e, nil
}

// maxDepth limits the nesting of an order.
const maxDepth = 32

// members parses a JSON object. Names must be unique in it, and in nested objects.
func members(raw []byte) (map[string]json.RawMessage, error) {
	if err := unique(raw); err != nil {
		return nil, err
	}
	var m map[string]json.RawMessage
	if err := json.Unmarshal(raw, &m); err != nil || m == nil {
		return nil, errors.New("it is not a JSON object")
	}
	return m, nil
}

// unique rejects duplicate names in an object, because parsers differ in which of
// the two they use.
func unique(raw []byte) error {
	type level struct {
		names map[string]bool // nil in a list
		value bool            // the next token is the value of a name
	}
	var levels []level
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	for {
		token, err := d.Token()
		if err == io.EOF && len(levels) == 0 {
			return nil
		}
		if err != nil {
			return errors.New("it is not JSON")
		}
		top := len(levels) - 1
		switch t := token.(type) {
		case json.Delim:
			if t == '}' || t == ']' {
				levels = levels[:top]
				continue
			}
			if top+1 >= maxDepth {
				return fmt.Errorf("it is nested deeper than %d levels", maxDepth)
			}
			if top >= 0 {
				levels[top].value = false
			}
			next := level{}
			if t == '{' {
				next.names = map[string]bool{}
			}
			levels = append(levels, next)
		default:
			if top < 0 || levels[top].names == nil {
				continue
			}
			if levels[top].value {
				levels[top].value = false
				continue
			}
			name, _ := token.(string) // the names of an object are strings
			if levels[top].names[name] {
				return fmt.Errorf("%.40q occurs twice", name)
			}
			levels[top].names[name], levels[top].value = true, true
		}
	}
}
