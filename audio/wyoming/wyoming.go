// Package wyoming implements the Wyoming protocol of voice services (wake words, speech,
// recognition) over TCP: the framing of events, a connection with timeouts, and the events that
// carry sound.
//
// Events of a specific kind of service do not belong here but in the package that uses it.
package wyoming

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// Limits of received data, in bytes. A service that lists its models sends some ten kilobytes; a
// chunk of sound has some thousand bytes.
const (
	maxHeader  = 256 << 10
	maxData    = 1 << 20
	maxPayload = 1 << 20
)

var (
	// ErrProtocol is returned for bytes that are not an event.
	ErrProtocol = errors.New("not the Wyoming protocol")
	// ErrFormat is returned for an unsupported sound format.
	ErrFormat = errors.New("unsupported sound format")
	// ErrTooLong is returned for an event above the limits.
	ErrTooLong = errors.New("the Wyoming service sends too much at once")
)

// Event is one message of the protocol.
type Event struct {
	Type    string
	Data    json.RawMessage // a JSON object, or nil
	Payload []byte          // may be nil
}

// Decode stores the event's data in into, like json.Unmarshal. An event without data changes
// nothing.
func (e Event) Decode(into any) error {
	if len(e.Data) == 0 {
		return nil
	}
	if err := json.Unmarshal(e.Data, into); err != nil {
		return fmt.Errorf("data of %s: %w", e.Type, err)
	}
	return nil
}

// header is the first line of an event. Older peers include the data in it; newer ones send the
// data after it, and an event may have both.
type header struct {
	Type          string          `json:"type"`
	Data          json.RawMessage `json:"data"`
	DataLength    int             `json:"data_length"`
	PayloadLength int             `json:"payload_length"`
}

// Read reads one event. It returns io.EOF if the stream ends between two events, and
// io.ErrUnexpectedEOF if it ends within one. After any other error the stream is unusable.
func Read(r *bufio.Reader) (Event, error) {
	line, err := readLine(r)
	if err != nil {
		return Event{}, err
	}
	var h header
	switch err := json.Unmarshal(line, &h); {
	case err != nil:
		return Event{}, fmt.Errorf("%w: %w", ErrProtocol, err)
	case h.Type == "":
		return Event{}, fmt.Errorf("%w: an event without a type", ErrProtocol)
	case h.DataLength < 0 || h.DataLength > maxData:
		return Event{}, fmt.Errorf("%w: event %.40q announces %d bytes of data; at most %d", ErrTooLong, h.Type, h.DataLength, maxData)
	case h.PayloadLength < 0 || h.PayloadLength > maxPayload:
		return Event{}, fmt.Errorf("%w: event %.40q announces a payload of %d bytes; at most %d", ErrTooLong, h.Type, h.PayloadLength, maxPayload)
	}
	data, err := readBytes(r, h.DataLength)
	if err != nil {
		return Event{}, err
	}
	e := Event{Type: h.Type}
	if e.Data, err = merge(h.Data, data); err != nil {
		return Event{}, fmt.Errorf("data of %.40q: %w", h.Type, err)
	}
	e.Payload, err = readBytes(r, h.PayloadLength)
	return e, err
}

// readLine reads a header without its line break.
func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case len(line) > maxHeader:
			return nil, fmt.Errorf("%w: header: more than %d bytes", ErrTooLong, maxHeader)
		case err == nil:
			return bytes.TrimSpace(line), nil
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF) && len(line) > 0:
			return nil, io.ErrUnexpectedEOF
		default:
			return nil, err
		}
	}
}

func readBytes(r io.Reader, n int) ([]byte, error) {
	if n == 0 {
		return nil, nil
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	return b, nil
}

// merge merges the data in a header with the data after it, whose members take precedence.
func merge(inline, behind []byte) (json.RawMessage, error) {
	if bytes.Equal(inline, []byte("null")) {
		inline = nil
	}
	all := map[string]json.RawMessage{}
	for _, object := range [][]byte{inline, behind} {
		if len(object) == 0 {
			continue
		}
		if err := json.Unmarshal(object, &all); err != nil {
			return nil, fmt.Errorf("%w: not a JSON object: %w", ErrProtocol, err)
		}
	}
	switch {
	case len(inline) == 0 && len(behind) == 0:
		return nil, nil
	case len(inline) == 0:
		return behind, nil
	case len(behind) == 0:
		return inline, nil
	}
	return json.Marshal(all)
}

// Append appends an encoded event. The data must be a JSON object, or empty.
func Append(b []byte, e Event) []byte {
	b = append(b, `{"type":"`...)
	b = append(b, e.Type...) // a constant: nothing to escape
	b = append(b, `","version":"1.5.4"`...)
	if len(e.Data) > 0 {
		b = append(b, `,"data_length":`...)
		b = strconv.AppendInt(b, int64(len(e.Data)), 10)
	}
	if len(e.Payload) > 0 {
		b = append(b, `,"payload_length":`...)
		b = strconv.AppendInt(b, int64(len(e.Payload)), 10)
	}
	b = append(b, "}\n"...)
	b = append(b, e.Data...)
	return append(b, e.Payload...)
}
