package login

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lintod/agent/base/fuzzcost"
)

// A login file with any contents is used only if it is valid, uses little memory,
// and no error reveals its contents.
func FuzzLoad(f *testing.F) {
	c := Config{URL: "https://h", User: "u", Scope: "s"}
	path := filepath.Join(f.TempDir(), "login.json")
	good := login{URL: c.URL, User: c.User, Wanted: c.Scope, BasePath: "/local", Session: Session{ID: "i", Scope: "s", Broker: "mqtt://h"}, Auth: "PLANTED-a", Refresh: "PLANTED-r", Since: 1, Until: 2}
	if err := good.save(path); err != nil {
		f.Fatal(err)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add([]byte(strings.ReplaceAll(string(raw), `"i"`, `"a/#"`)))
	f.Add([]byte(`{"Since":1e300,"Auth":"PLANTED"}`))
	f.Add([]byte("\x00PLANTED"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		fuzzcost.Check(t, func() {
			l, err := load(path, c)
			if err != nil && (strings.Contains(err.Error(), "PLANTED") || len(err.Error()) > 1000) {
				t.Errorf("error %q", err)
			}
			if l.Auth == "" {
				return
			}
			if !topicLevel(l.Session.ID) || !topicLevel(l.Session.Scope) || strings.ContainsAny(string(l.Auth), "\r\n") || l.URL != c.URL {
				t.Errorf("%q was loaded as %+v", text, l)
			}
			if shown := fmt.Sprintf("%v %+v", l, l); strings.Contains(shown, "PLANTED") && !strings.Contains(l.BasePath+l.Session.ID+l.Session.Scope+l.Session.Broker+l.Session.Username, "PLANTED") {
				t.Errorf("shown as %s", shown)
			}
			_ = l.refreshAt()
		})
	})
}
