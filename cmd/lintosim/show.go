package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"lintod/agent/base/printable"
	"lintod/cmd/lintosim/platform"
	"lintod/cmd/lintosim/speech"
)

// colours adds colours to text, if the output is a terminal.
type colours bool

func (c colours) paint(code, s string) string {
	if !c {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

func (c colours) dim(s string) string     { return c.paint("2", s) }
func (c colours) bold(s string) string    { return c.paint("1", s) }
func (c colours) warn(s string) string    { return c.paint("33", s) }
func (c colours) sound(s string) string   { return c.paint("35", s) }
func (c colours) heard(s string) string   { return c.paint("1;33", s) }
func (c colours) fromDev(s string) string { return c.paint("36", s) }
func (c colours) toDev(s string) string   { return c.paint("32", s) }

// tale prints events as text.
type tale struct {
	out    io.Writer
	colour colours
	begun  time.Time
	chunks chunks
}

// chunks counts binary messages, which are too many to print.
type chunks struct {
	m     platform.Message // the first of them
	n     int
	bytes int
}

const chunksShown = 50 // one line per second with 20 ms chunks

func (t *tale) ready(url, websocket, login string) {
	t.line(t.begun, t.colour.bold("LinTO platform ready at "+url))
	if websocket != "" {
		t.line(t.begun, t.colour.bold("and over WebSocket at "+websocket))
	}
	if login != "" {
		t.line(t.begun, t.colour.bold("devices log in at "+login))
	}
	t.line(t.begun, t.colour.dim("waiting for devices; help lists commands, Ctrl-C exits"))
}

func (t *tale) lost(n uint64) {
	t.line(time.Now(), t.colour.warn(fmt.Sprintf("… %d lines not shown: the terminal was too slow", n)))
}

func (t *tale) event(e platform.Event) {
	if e.Kind == platform.Exchanged && t.count(e.Message) {
		return
	}
	t.flush()
	switch e.Kind {
	case platform.Exchanged:
		t.message(e.Message)
	case platform.Connected:
		t.line(e.At, t.colour.dim(printable.Line("● "+e.Client+" connected from "+e.Text)))
	case platform.Disconnected:
		t.line(e.At, t.colour.dim(printable.Line("○ "+e.Client+" disconnected: "+e.Text)))
	case platform.Refused:
		t.line(e.At, t.colour.warn(printable.Line("✗ "+e.Client+" refused: "+e.Text)))
	case platform.LoggedIn, platform.Refreshed, platform.LoggedOut:
		t.line(e.At, t.colour.dim(printable.Line("● "+e.Client+" "+string(e.Kind)+": "+e.Text)))
	case platform.Understood:
		t.heard(e.At, e.Heard)
	case platform.Noted:
		t.line(e.At, t.colour.warn("! "+printable.Line(e.Message.Serial+": "+e.Text)))
	}
}

// count counts m if it is a chunk of a stream.
func (t *tale) count(m platform.Message) bool {
	if m.Command != "streaming/chunk" || m.Direction != platform.FromDevice {
		return false
	}
	if t.chunks.n > 0 && (t.chunks.m.Serial != m.Serial || t.chunks.n >= chunksShown) {
		t.flush()
	}
	if t.chunks.n == 0 {
		t.chunks.m = m
	}
	t.chunks.n++
	t.chunks.bytes += len(m.Payload)
	return true
}

// flush prints the chunks counted so far.
func (t *tale) flush() {
	c := t.chunks
	t.chunks = chunks{}
	if c.n == 0 {
		return
	}
	seconds := float64(c.bytes) / 2 / 16000
	t.head(c.m, t.colour.sound(fmt.Sprintf("%d × sound, %d bytes, %.2f s at 16 kHz", c.n, c.bytes, seconds)))
}

func (t *tale) message(m platform.Message) {
	body := pretty(m.Payload, t.colour)
	if m.Will {
		body += t.colour.warn(" (last will)")
	}
	if m.Retain {
		body += t.colour.dim(" (retained)")
	}
	t.head(m, body)
}

// head prints a message with its direction, device, and command. The scope is omitted, because it
// is always the same.
func (t *tale) head(m platform.Message, body string) {
	switch m.Direction {
	case platform.FromDevice:
		t.line(m.At, t.colour.fromDev("← "+columns(m))+body)
	case platform.ToDevice:
		t.line(m.At, t.colour.toDev("→ "+columns(m))+body)
	default:
		t.line(m.At, "· "+printable.Line(m.Topic)+"  "+body)
	}
}

func columns(m platform.Message) string {
	return fmt.Sprintf("%-10s %-18s ", printable.Line(m.Serial), short(printable.Line(m.Command)))
}

// short truncates long IDs; eight characters distinguish them.
func short(command string) string {
	i := strings.LastIndexByte(command, '/')
	if r := []rune(command[i+1:]); i > 0 && len(r) > 12 {
		return command[:i+1] + string(r[:8]) + "…"
	}
	return command
}

func (t *tale) heard(at time.Time, h speech.Heard) {
	text := t.colour.warn("not understood")
	if h.Text != "" {
		text = t.colour.heard("“" + printable.Line(h.Text) + "”")
	}
	how := fmt.Sprintf("  (%s, %.2f s of sound in %.2f s)", h.By, h.Length.Seconds(), h.Took.Seconds())
	if h.By == speech.ByLevel {
		text, how = t.colour.warn("words, perhaps"), "  (pocketsphinx is not installed)"
	}
	t.line(at, "  heard      "+text+t.colour.dim(how))
}

func (t *tale) line(at time.Time, text string) {
	stamp := t.colour.dim(fmt.Sprintf("%8.3f ", at.Sub(t.begun).Seconds()))
	fmt.Fprintln(t.out, stamp+text)
}

// jsonLines prints events as JSON.
type jsonLines struct {
	out   io.Writer
	begun time.Time
}

// jsonEvent is one line. In Payload, secrets are hidden and audio is replaced by its properties; it
// is absent if it was not JSON.
type jsonEvent struct {
	T         float64 `json:"t"` // seconds since the start
	Kind      string  `json:"kind"`
	URL       string  `json:"url,omitempty"`
	WebSocket string  `json:"websocket,omitempty"`
	Login     string  `json:"login,omitempty"`
	Direction string  `json:"direction,omitempty"` // "from" or "to" a device
	Topic     string  `json:"topic,omitempty"`
	Serial    string  `json:"serial,omitempty"`
	Command   string  `json:"command,omitempty"`
	Bytes     int     `json:"bytes,omitempty"`
	Payload   any     `json:"payload,omitempty"`
	Retain    bool    `json:"retain,omitempty"`
	Will      bool    `json:"will,omitempty"`
	Client    string  `json:"client,omitempty"`
	Heard     *string `json:"heard,omitempty"`
	By        string  `json:"by,omitempty"`
	Seconds   float64 `json:"seconds,omitempty"`
	DBFS      float64 `json:"dbfs,omitempty"`
	Text      string  `json:"text,omitempty"`
}

func (j *jsonLines) ready(url, websocket, login string) {
	j.print(j.begun, jsonEvent{Kind: "ready", URL: url, WebSocket: websocket, Login: login})
}

func (j *jsonLines) lost(n uint64) {
	j.print(time.Now(), jsonEvent{Kind: "note", Text: fmt.Sprintf("%d events not shown", n)})
}

func (j *jsonLines) flush() {}

func (j *jsonLines) event(e platform.Event) {
	m := e.Message
	out := jsonEvent{
		Kind: string(e.Kind), Client: e.Client, Text: e.Text,
		Topic: m.Topic, Serial: m.Serial, Command: m.Command,
	}
	switch e.Kind {
	case platform.Exchanged:
		out.Direction = direction(m)
		out.Bytes, out.Payload = len(m.Payload), redacted(m.Payload)
		out.Retain, out.Will, out.Client = m.Retain, m.Will, m.Client
	case platform.Understood:
		out.Heard, out.By = &e.Heard.Text, string(e.Heard.By)
		out.Seconds, out.DBFS = e.Heard.Length.Seconds(), e.Heard.Level
	}
	j.print(e.At, out)
}

func direction(m platform.Message) string {
	switch m.Direction {
	case platform.FromDevice:
		return "from"
	case platform.ToDevice:
		return "to"
	}
	return ""
}

func (j *jsonLines) print(at time.Time, e jsonEvent) {
	e.T = at.Sub(j.begun).Seconds()
	j.write(e)
}

func (j *jsonLines) write(e any) {
	if line, err := json.Marshal(e); err == nil {
		_, _ = fmt.Fprintf(j.out, "%s\n", printable.EscapeJSON(line)) // the reader may have exited
	}
}
