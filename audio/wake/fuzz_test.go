package wake

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"lintod/agent/base/fuzzcost"
	"lintod/agent/base/printable"
	"lintod/audio/wyoming"
)

// canned is a connection whose peer has already sent everything, and accepts
// everything.
type canned struct {
	net.Conn
	said io.Reader
}

func (c canned) Read(b []byte) (int, error)     { return c.said.Read(b) }
func (canned) Write(b []byte) (int, error)      { return len(b), nil }
func (canned) Close() error                     { return nil }
func (canned) SetReadDeadline(time.Time) error  { return nil }
func (canned) SetWriteDeadline(time.Time) error { return nil }

// For any messages of a service, about itself and about words, only configured words
// are detected, at a possible time, at low cost.
func FuzzEvents(f *testing.F) {
	event := func(kind, data string) string { return fmt.Sprintf("{\"type\":%q,\"data\":%s}\n", kind, data) }
	info := event("info", `{"wake":[{"models":[{"name":"ok_nabu","phrase":"ok nabu"}]}]}`)
	f.Add([]byte(info + event("detection", `{"name":"ok_nabu","timestamp":12}`)))
	f.Add([]byte(info + event("detection", `{"timestamp":-9223372036854775808}`) + event("info", `{}`)))
	f.Add([]byte(event("info", `{"wake":[{}]}`) + event("detection", `{"name":"OK Nabu","timestamp":1e300}`)))
	f.Add([]byte(event("error", `{"text":"`+strings.Repeat("x", 5000)+`"}`)))
	f.Fuzz(func(t *testing.T, said []byte) {
		began := time.Now()
		l := &Listener{
			Config: Config{Engine: EngineWyoming, Words: []Word{{Name: "ok nabu"}}},
			Awake:  func() bool { return true },
			Heard: func(d Detection) {
				if d.Word.Name != "ok nabu" || d.Over.After(time.Now()) || d.Over.Before(began.Add(-maxPast)) {
					t.Errorf("heard %+v", d)
				}
			},
			Log: slog.New(slog.DiscardHandler),
		}
		fuzzcost.Check(t, func() {
			conn := wyoming.NewConn(context.Background(), canned{said: bytes.NewReader(said)})
			defer conn.Close()
			models, err := ask(conn)
			if err != nil {
				return
			}
			x := &connection{Conn: conn, mic: &capture{listener: l}, began: began, asked: make(chan time.Time, 1), again: make(chan struct{}, 1)}
			if x.words, x.names, err = match(l.Config.Words, models); err != nil {
				if len(err.Error()) > 8<<10 || strings.Contains(err.Error(), "\n") {
					t.Errorf("the error has %d bytes: %.200s", len(err.Error()), err)
				}
				return
			}
			if err := x.receive(t.Context()); err == nil {
				t.Error("the end of the stream was not detected")
			}
		})
		if raw, err := json.Marshal(l.Status()); err != nil || len(raw) > 16<<10 {
			t.Errorf("the status has %d bytes, %v", len(raw), err)
		}
		_ = printable.Line(l.Status().Line())
	})
}
