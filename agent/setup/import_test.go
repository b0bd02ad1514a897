package setup

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// linto.json as the LinTO client writes it, with values of both kinds.
const lintoJSON = `{
  "enrolled": true, "sn": "cellar-7", "connexion": "offline",
  "config": {
    "network": [{"name": "eth0", "ip_address": "10.0.0.5"}],
    "firmware": "1.1.0",
    "ftp": {"host": "", "user": "", "password": "ftp-secret"},
    "sound": {"input": "hw:0,1", "output": "hw:1,1", "volume": 85, "sensibility": "100", "tts_lang": "fr-FR"},
    "mqtt": {"scope": "house", "frommetopic": "fromlinto", "towardsmetopic": "tolinto", "client_id": "", "clean": true,
      "host": "broker.example", "port": "8883", "username": "cellar-7", "password": "pa\"ss\\word", "uselogin": true,
      "keepalive": "30", "protocol": "MQTTS", "keyfile": ""}
  }
}`

func TestImportedConfiguration(t *testing.T) {
	f := prepare(t)
	f.Yes = true
	if _, err := f.Import([]byte(strings.ReplaceAll(lintoJSON, "broker.example", "127.0.0.1"))); err != nil {
		t.Fatal(err)
	}
	f.Given = Answers{Serial: "cellar-8"} // flags take precedence
	c := f.run()
	password, err := os.ReadFile(filepath.Join(filepath.Dir(f.Path), "password"))
	if err != nil || string(password) != "pa\"ss\\word\n" || c.Device.Serial != "cellar-8" || c.Device.Volume != 85 ||
		c.TTS.Language != "fr-FR" || c.Linto.Keepalive.Std().Seconds() != 30 || c.Linto.Scope != "house" {
		t.Errorf("%q, %v, %+v", password, err, c)
	}
	text, _ := os.ReadFile(f.Path)
	if all := string(text) + f.out.String(); strings.Contains(all, `ss\word`) || strings.Contains(all, `ss\\word`) || strings.Contains(all, "ftp-secret") {
		t.Error("a password is printed")
	}
}

// For any contents of the file, the result is an error or a valid configuration.
func FuzzImport(f *testing.F) {
	f.Add([]byte(lintoJSON))
	f.Add([]byte(`{"sn":"\u0000\"]","config":{"mqtt":{"host":"h\n","port":"x","scope":"[a]\nb = 1"}}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		s := &Setup{Path: "lintod.toml"}
		if _, err := s.Import(raw); err != nil {
			return
		}
		s.Answers = s.Answers.over(nil)
		text, _, err := s.render(s.Answers)
		if err != nil {
			return
		}
		c, err := check("lintod.toml", text)
		if err != nil || c.Device.Serial != s.Answers[Serial] || c.Linto.Username != s.Answers["linto.username"] {
			t.Errorf("%v: %q became %q", err, s.Answers[Serial], c.Device.Serial)
		}
	})
}
