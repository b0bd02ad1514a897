package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"lintod/agent/base/printable"
	"lintod/agent/broker"
)

func watch(ctx context.Context, c *call) error {
	serial := "+"
	if len(c.args) > 0 {
		serial = c.args[0]
		if err := checkSerials(serial); err != nil {
			return err
		}
	}
	conn := c.conn(c.said(serial, "#"))
	conn.Offline = func(err error) { fmt.Fprintf(c.stderr, "lintoctl: %v; trying again\n", err) }
	show := (&teller{w: c.stdout, last: map[string]string{}, chunks: map[string]chunks{}}).tell
	if c.json {
		show = jsonTeller(c.stdout)
	}
	outer := ctx
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	conn.Handle = func(_ context.Context, m broker.Message) {
		if said, ok := c.read(m); ok {
			if err := show(said); err != nil {
				cancel(fmt.Errorf("print: %w", err)) // as when piped into head
			}
		}
	}
	if err := conn.Run(ctx); err != nil {
		return err
	}
	if outer.Err() != nil {
		return nil // Ctrl-C is how it ends
	}
	return context.Cause(ctx)
}

// jsonTeller prints a message as one line of JSON, whole. A payload that is no
// JSON comes as base64.
func jsonTeller(w io.Writer) func(message) error {
	return func(m message) error {
		line := struct {
			Time     time.Time       `json:"time"`
			Serial   string          `json:"serial"`
			Name     string          `json:"name"`
			Retained bool            `json:"retained,omitempty"`
			Payload  json.RawMessage `json:"payload,omitempty"`
			Base64   []byte          `json:"base64,omitempty"`
		}{Time: time.Now(), Serial: m.serial, Name: m.name, Retained: m.retained}
		if json.Valid(m.payload) {
			line.Payload = m.payload
		} else {
			line.Base64 = m.payload
		}
		text, err := json.Marshal(line)
		if err == nil {
			_, err = fmt.Fprintf(w, "%s\n", printable.EscapeJSON(text))
		}
		return err
	}
}

// teller prints messages for people: a status when it has changed, sound as its
// size, a stream when it ends.
type teller struct {
	w      io.Writer
	last   map[string]string // status by serial
	chunks map[string]chunks // of the present stream, by serial
}

type chunks struct{ count, bytes int }

func (t *teller) tell(m message) error {
	what := clean(m.name) + " " + summary(m.payload)
	switch m.name {
	case "status":
		if st, ok := readStatus(m.payload); ok {
			what = st.line()
		}
		if t.last[m.serial] == what {
			return nil
		}
		remember(t.last, m.serial, what)
	case "streaming/start":
		delete(t.chunks, m.serial)
	case "streaming/chunk":
		c := t.chunks[m.serial]
		remember(t.chunks, m.serial, chunks{c.count + 1, c.bytes + len(m.payload)})
		return nil
	case "streaming/stop":
		c := t.chunks[m.serial]
		delete(t.chunks, m.serial)
		what = fmt.Sprintf("streaming/stop after %d chunks, %d bytes", c.count, c.bytes)
	}
	if m.retained {
		what += " (retained)"
	}
	_, err := fmt.Fprintf(t.w, "%s  %s  %s\n", time.Now().Format(time.TimeOnly), clean(m.serial), what)
	return err
}

// remember bounds what a broker can make us keep.
func remember[V any](in map[string]V, serial string, v V) {
	if len(in) >= maxDevices {
		clear(in)
	}
	in[serial] = v
}

const summaryLength = 200 // characters

// summary is a payload on one line, its long texts (sound) as their length.
func summary(payload []byte) string {
	var object map[string]any
	if json.Unmarshal(payload, &object) != nil {
		if utf8.Valid(payload) && len(payload) <= summaryLength {
			return clean(string(payload))
		}
		return fmt.Sprintf("(%d bytes)", len(payload))
	}
	for key, v := range object {
		if text, ok := v.(string); ok && len(text) > summaryLength {
			object[key] = fmt.Sprintf("(%d characters)", len(text))
		}
	}
	var text strings.Builder
	plain := json.NewEncoder(&text)
	plain.SetEscapeHTML(false)
	if err := plain.Encode(object); err != nil {
		return fmt.Sprintf("(%d bytes)", len(payload))
	}
	return clean(strings.TrimSuffix(text.String(), "\n"))
}

// clean makes a text of a device fit for a line.
func clean(s string) string { return printable.Short(s, summaryLength) }
