package control

import (
	"bytes"
	"encoding/json"
	"errors"
	"net"
	"strings"
	"testing"
	"unicode"

	"lintod/agent/base/fuzzcost"
)

// canned is a connection whose peer has sent everything.
type canned struct {
	net.Conn
	said *bytes.Reader
}

func (c canned) Read(b []byte) (int, error) { return c.said.Read(b) }

// For any data from the other end of the socket, a client gets an answer or a
// one-sentence error without control characters, with little memory.
func FuzzAnswer(f *testing.F) {
	for _, seed := range []string{
		`{"ok":true,"result":{"a":1}}`, `{"ok":false,"error":"no"}`, `{"event":1}` + "\n" + `{"ok":true}`,
		`{"event":{"what":"partial","text":"x"}}`, `{"ok":true,"event":null,"error":"\u001b[2J\n"}`, `{"ok":false,"error":"\u202e\n\u009b"}`, `[]`, "",
	} {
		f.Add([]byte(seed + "\n"))
	}
	f.Fuzz(func(t *testing.T, said []byte) {
		fuzzcost.Check(t, func() {
			events := 0
			last, err := read(canned{said: bytes.NewReader(said)}, func(event json.RawMessage) error {
				if events++; !json.Valid(event) || len(event) > maxAnswer {
					t.Errorf("event %q", event)
				}
				return nil
			})
			switch {
			case err == nil && (!last.OK || last.Result != nil && !json.Valid(last.Result)):
				t.Errorf("answer %+v", last)
			case err != nil && !errors.Is(err, errNoAnswer) && len(err.Error()) > 4*maxAnswer:
				t.Errorf("an error of %d bytes", len(err.Error()))
			case err != nil && strings.ContainsFunc(err.Error(), unicode.IsControl):
				t.Errorf("error %q", err)
			}
			if events > bytes.Count(said, []byte("\n"))+1 {
				t.Errorf("%d events", events)
			}
		})
	})
}
