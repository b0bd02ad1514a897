package setup

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// linto.json as the LinTO client keeps it, with values of both kinds.
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

func TestImport(t *testing.T) {
	a, notes, err := Import([]byte(lintoJSON))
	want := Answers{
		Serial: "cellar-7", Broker: "mqtts://broker.example:8883", Scope: "house", Username: "cellar-7",
		Password: `pa"ss\word`, Keepalive: "30s", Volume: "85", Language: "fr-FR",
	}
	if err != nil || a != want {
		t.Errorf("%+v, %v", a, err)
	}
	if len(notes) != 1 || !strings.Contains(notes[0], "sound cards") {
		t.Errorf("notes: %q", notes)
	}
}

func TestImportOfOddFiles(t *testing.T) {
	mqtt := func(members string) string { return `{"sn":"0","config":{"mqtt":{"host":"h",` + members + `}}}` }
	tests := []struct {
		name, file string
		want       Answers
		err, note  string
	}{
		{"as little as possible", `{"config":{"mqtt":{"host":"h"}}}`, Answers{Broker: "mqtt://h"}, "", ""},
		{"numbers", mqtt(`"port":1884,"keepalive":10,"uselogin":"true","username":5`), Answers{Serial: "0", Broker: "mqtt://h:1884", Keepalive: "10s", Username: "5"}, "", ""},
		{"no login", mqtt(`"uselogin":false,"username":"u","password":"p"`), Answers{Serial: "0", Broker: "mqtt://h"}, "", ""},
		{"null", mqtt(`"port":null,"protocol":null`), Answers{Serial: "0", Broker: "mqtt://h"}, "", ""},
		{"IPv6", `{"config":{"mqtt":{"host":"fe80::1","port":"1883"}}}`, Answers{Broker: "mqtt://[fe80::1]:1883"}, "", ""},
		{"keepalive", mqtt(`"keepalive":"often"`), Answers{Serial: "0", Broker: "mqtt://h"}, "", `keepalive "often"`},
		{"volume", `{"config":{"mqtt":{"host":"h"},"sound":{"volume":"loud","tts_lang":"tlh"}}}`, Answers{Broker: "mqtt://h"}, "", `volume "loud"`},
		{"language", `{"config":{"mqtt":{"host":"h"},"sound":{"tts_lang":"tlh"}}}`, Answers{Broker: "mqtt://h"}, "", `language "tlh"`},
		{"key file", mqtt(`"keyfile":"/k"`), Answers{Serial: "0", Broker: "mqtt://h"}, "", "cert_file"},
		{"protocol", mqtt(`"protocol":"carrier pigeon"`), Answers{}, "config.mqtt.protocol", ""},
		{"another file", `{"name":"lintod"}`, Answers{}, "no config.mqtt.host", ""},
		{"an object for a value", mqtt(`"port":{}`), Answers{}, "not understood", ""},
		{"no JSON", `sn = "7"`, Answers{}, "not understood", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a, notes, err := Import([]byte(tt.file))
			if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Fatal(err)
			}
			if err == nil && a != tt.want {
				t.Errorf("%+v", a)
			}
			if !strings.Contains(strings.Join(notes, "\n"), tt.note) {
				t.Errorf("notes: %q", notes)
			}
		})
	}
}

func TestImportedConfiguration(t *testing.T) {
	f := prepare(t)
	f.Yes = true
	var err error
	if f.Answers, _, err = Import([]byte(strings.ReplaceAll(lintoJSON, "broker.example", "127.0.0.1"))); err != nil {
		t.Fatal(err)
	}
	f.Given = Answers{Serial: "cellar-8"} // a flag has the last word
	c := f.run()
	password, err := os.ReadFile(filepath.Join(filepath.Dir(f.Path), "password"))
	if err != nil || string(password) != "pa\"ss\\word\n" || c.Device.Serial != "cellar-8" || c.Device.Volume != 85 ||
		c.TTS.Language != "fr-FR" || c.Linto.Keepalive.Std().Seconds() != 30 || c.Linto.Scope != "house" {
		t.Errorf("%q, %v, %+v", password, err, c)
	}
	text, _ := os.ReadFile(f.Path)
	if all := string(text) + f.out.String(); strings.Contains(all, `ss\word`) || strings.Contains(all, `ss\\word`) || strings.Contains(all, "ftp-secret") {
		t.Error("a password is told")
	}
}

// Whatever the file holds, what is made of it is refused or a right configuration.
func FuzzImport(f *testing.F) {
	f.Add([]byte(lintoJSON))
	f.Add([]byte(`{"sn":"\u0000\"]","config":{"mqtt":{"host":"h\n","port":"x","scope":"[a]\nb = 1"}}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		a, _, err := Import(raw)
		if err != nil {
			return
		}
		s := &Setup{Path: "lintod.toml", Answers: a}
		text, err := s.render()
		if err != nil {
			return
		}
		c, err := check("lintod.toml", text)
		if err != nil || c.Device.Serial != a.Serial || c.Linto.Username != a.Username {
			t.Errorf("%v: %q became %q", err, a.Serial, c.Device.Serial)
		}
	})
}
