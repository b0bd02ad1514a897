package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"lintod/agent/base/plainjson"
	"lintod/agent/base/printable"
	"lintod/audio/wav"
	"lintod/cmd/lintosim/speech"
)

const (
	longestString  = 160 // displayed runes of a JSON string
	longestPayload = 2000
	hidden         = "•••"
)

// secretWords mark members whose values are never printed.
var secretWords = []string{"password", "passwd", "secret", "token", "privatekey", "private_key", "credential"}

func secret(key string) bool {
	key = strings.ToLower(key)
	if key == "key" || key == "hmac" { // of a session's sound, of an activation
		return true
	}
	for _, word := range secretWords {
		if strings.Contains(key, word) {
			return true
		}
	}
	return false
}

// A sound contains the properties of a WAV.
type sound struct {
	Seconds  float64 `json:"seconds"`
	Rate     int     `json:"rate"`
	Channels int     `json:"channels"`
	DBFS     float64 `json:"dbfs"`
}

func (s sound) String() string {
	channels := "mono"
	if s.Channels != 1 {
		channels = fmt.Sprintf("%d channels", s.Channels)
	}
	level := strings.Replace(fmt.Sprintf("%.0f", s.DBFS), "-", "−", 1)
	return fmt.Sprintf("WAV %.2f s, %g kHz %s, %s dBFS", s.Seconds, float64(s.Rate)/1000, channels, level)
}

// soundOf measures a base64-encoded WAV; ok is false if it is not one.
func soundOf(audio string) (s sound, ok bool) {
	file, err := base64.StdEncoding.DecodeString(audio)
	if err != nil {
		return s, false
	}
	pcm, rate, err := wav.Read(bytes.NewReader(file))
	if err != nil || rate <= 0 {
		return s, false
	}
	s = sound{Seconds: float64(len(pcm)) / float64(rate), Rate: rate, Channels: 1, DBFS: speech.Level(pcm)}
	if len(file) > 24 && string(file[12:16]) == "fmt " {
		s.Channels = int(file[22])
	}
	return s, true
}

// pretty formats JSON in one line with spaces, keys in their original order, secrets hidden, sound
// replaced by its properties, and long strings truncated. Other data is quoted.
func pretty(payload []byte, c colours) string {
	if len(payload) == 0 {
		return c.dim("(empty)")
	}
	var b strings.Builder
	if !json.Valid(payload) {
		return c.warn(quoted(payload))
	}
	d := json.NewDecoder(bytes.NewReader(payload))
	d.UseNumber()
	w := jsonWriter{b: &b, c: c, d: d}
	w.value("")
	return cut(b.String(), longestPayload)
}

// quoted prints data that is not JSON, unless it may contain a secret.
func quoted(payload []byte) string {
	if secret(string(payload)) {
		return fmt.Sprintf("%d bytes, not JSON; not shown, because it may contain a secret", len(payload))
	}
	if !utf8.Valid(payload) {
		return fmt.Sprintf("%d bytes, binary", len(payload))
	}
	return "not JSON: " + printable.Line(cut(string(payload), longestString))
}

// jsonWriter copies one JSON value token by token.
type jsonWriter struct {
	b *strings.Builder
	c colours
	d *json.Decoder
}

// value writes the next value, which is that of key.
func (w jsonWriter) value(key string) {
	if secret(key) {
		var skipped json.RawMessage
		_ = w.d.Decode(&skipped) // valid, because the whole is
		w.b.WriteString(hidden)
		return
	}
	t, err := w.d.Token()
	if err != nil { // cannot be: the text was valid
		return
	}
	switch t := t.(type) {
	case json.Delim:
		w.compound(t, key)
	case string:
		w.text(key, t)
	case nil:
		w.b.WriteString("null")
	default:
		fmt.Fprint(w.b, t)
	}
}

func (w jsonWriter) compound(open json.Delim, key string) {
	w.b.WriteString(open.String())
	for i := 0; w.d.More(); i++ {
		if i > 0 {
			w.b.WriteString(", ")
		}
		if open == '{' {
			t, _ := w.d.Token()
			name, _ := t.(string)
			w.b.WriteString(w.c.dim(printable.Line(jsonString(name))) + ": ")
			key = name
		}
		w.value(key)
	}
	end, _ := w.d.Token()
	fmt.Fprint(w.b, end)
}

func (w jsonWriter) text(key, s string) {
	if key == "audio" {
		if snd, ok := soundOf(s); ok {
			w.b.WriteString(w.c.sound(snd.String()))
			return
		}
	}
	if key == "result" && json.Valid([]byte(s)) { // JSON in a string, see streaming/final
		w.b.WriteString("'" + pretty([]byte(s), w.c) + "'")
		return
	}
	shown := printable.Line(jsonString(cut(s, longestString)))
	if spoken[key] {
		shown = w.c.bold(shown)
	}
	w.b.WriteString(shown)
}

// spoken are the most important members.
var spoken = map[string]bool{"text": true, "transcript": true, "partial": true, "value": true, "cmd": true, "stdout": true}

func jsonString(s string) string {
	text, _ := plainjson.Marshal(s) // a string always encodes
	return string(text)
}

// cut shortens s to n runes.
func cut(s string, n int) string {
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	r := []rune(s)
	return fmt.Sprintf("%s… (%d characters)", string(r[:n]), len(r))
}

// redacted returns payload as JSON for scripts: secrets hidden, audio replaced by its properties.
func redacted(payload []byte) any {
	var v any
	d := json.NewDecoder(bytes.NewReader(payload))
	d.UseNumber()
	if err := d.Decode(&v); err != nil || moreThanSpace(d) {
		return nil
	}
	return redact("", v)
}

func moreThanSpace(d *json.Decoder) bool {
	_, err := d.Token()
	return err != io.EOF
}

func redact(key string, v any) any {
	if secret(key) {
		return hidden
	}
	switch v := v.(type) {
	case map[string]any:
		for k, member := range v {
			v[k] = redact(k, member)
		}
		return v
	case []any:
		for i, member := range v {
			v[i] = redact(key, member)
		}
		return v
	case string:
		if snd, ok := soundOf(v); ok && key == "audio" {
			return snd
		}
	}
	return v
}
