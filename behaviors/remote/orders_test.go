package remote

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lintod/agent/base/config"
)

// The daemon reports which task was requested. If that must be signed, root carries
// out the signed order, once, and nothing else.
func TestRootRequiresTheSignedOrder(t *testing.T) {
	for name, tt := range map[string]struct {
		order  string // "" for none
		second string // of the next task
		text   string // the new contents of the file
		free   bool   // config need not be signed
		keys   bool   // the text changes who must sign
		done   string // the resulting contents of the file
	}{
		"unsigned":                      {text: "new", done: "old"},
		"not by an allowed signer":      {order: "forged", text: "new", done: "old"},
		"the text":                      {order: `a config {"action":"set","text":"new"}`, text: "new", done: "new"},
		"another text":                  {order: `a config {"action":"set","text":"other"}`, text: "new", done: "old"},
		"a change":                      {order: `a config {"action":"set","change":"+"}`, text: "old+", done: "old+"},
		"another change":                {order: `a config {"action":"set","change":"+"}`, text: "old-", done: "old"},
		"an order to read":              {order: `a config {"action":"get"}`, text: "new", done: "old"},
		"an order to do something else": {order: `a reboot {"action":"set","text":"new"}`, text: "new", done: "old"},
		"expired":                       {order: `a config {"action":"set","text":"new"} late`, text: "new", done: "old"},
		"twice":                         {order: `a config {"action":"set","text":"new"}`, second: `a config {"action":"set","text":"new"}`, text: "new", done: "new"},
		"undone":                        {order: `a config {"action":"set","text":"new"}`, second: `b config {"action":"undo"}`, text: "new", done: "old"},
		"undone before anything":        {order: `a config {"action":"undo"}`, text: "new", done: "old"},
		"not to be signed":              {text: "new", free: true, done: "new"},
		"but its signers are":           {text: "new", free: true, keys: true, done: "old"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "lintod.toml")
			if err := os.WriteFile(path, []byte("old"), 0o600); err != nil {
				t.Fatal(err)
			}
			o := Owner{
				Path: path, StateDir: filepath.Join(dir, "root"),
				Merge: func(text, change []byte) ([]byte, error) { return append(text, change...), nil },
				Parse: func([]byte) (bool, error) { return tt.keys, nil },
				Load: func() (Allowed, error) {
					return Allowed{
						Config: Config{Config: ConfigTable{Switch: Switch{true}, Probation: config.Duration(time.Minute)}},
						Signed: func(verb string) bool { return verb == "config" && !tt.free },
						Authentic: func(order []byte) (SignedOrder, error) {
							words := strings.Split(string(order), " ")
							if len(words) < 3 {
								return SignedOrder{}, errors.New("forged")
							}
							s := SignedOrder{ID: words[0], Do: words[1], Args: json.RawMessage(words[2]), Expires: time.Now()}
							if len(words) > 3 {
								s.Expires = time.Now().Add(-time.Hour)
							}
							return s, nil
						},
					}, nil
				},
			}
			task := func(order, text string) error {
				_, err := serve(t, o, os.Getpid(), fmt.Sprintf(`{"order":%q,"config":{"path":%q,"text":%q}}`, base64.StdEncoding.EncodeToString([]byte(order)), path, text))
				return err
			}
			err := task(tt.order, tt.text)
			if tt.second != "" {
				if err != nil {
					t.Fatal(err)
				}
				second := "old"
				if name == "twice" {
					second = "new"
				}
				if err = task(tt.second, second); (err == nil) != (name == "undone") {
					t.Errorf("the second time: %v", err)
				}
			} else if (err == nil) != (tt.done == tt.text) {
				t.Errorf("%v", err)
			}
			if got, _ := os.ReadFile(path); string(got) != tt.done {
				t.Errorf("the file has %q, want %q", got, tt.done)
			}
		})
	}
}
