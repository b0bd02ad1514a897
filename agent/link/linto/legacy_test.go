package linto

import (
	"maps"
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

func TestImport(t *testing.T) {
	got, err := Setup().Import([]byte(lintoJSON))
	want := map[string]string{
		"device.serial": "cellar-7", "linto.broker": "mqtts://broker.example:8883", "linto.scope": "house", "linto.username": "cellar-7",
		"linto.keepalive": "30s", "device.volume": "85", "tts.language": "fr-FR",
	}
	if err != nil || !maps.Equal(got.Answers, want) || got.Secret != `pa"ss\word` {
		t.Errorf("%+v, %v", got, err)
	}
	if len(got.Notes) != 1 {
		t.Errorf("notes: %q", got.Notes)
	}
}

func TestImportOfUnusualFiles(t *testing.T) {
	answers := func(pairs ...string) map[string]string {
		m := map[string]string{}
		for i := 0; i < len(pairs); i += 2 {
			m[pairs[i]] = pairs[i+1]
		}
		return m
	}
	mqtt := func(members string) string { return `{"sn":"0","config":{"mqtt":{"host":"h",` + members + `}}}` }
	tests := []struct {
		name, file string
		want       map[string]string
		err, note  string
	}{
		{"as little as possible", `{"config":{"mqtt":{"host":"h"}}}`, answers("linto.broker", "mqtt://h"), "", ""},
		{"numbers", mqtt(`"port":1884,"keepalive":10,"uselogin":"true","username":5`), answers("device.serial", "0", "linto.broker", "mqtt://h:1884", "linto.keepalive", "10s", "linto.username", "5"), "", ""},
		{"no login", mqtt(`"uselogin":false,"username":"u","password":"p"`), answers("device.serial", "0", "linto.broker", "mqtt://h"), "", ""},
		{"null", mqtt(`"port":null,"protocol":null`), answers("device.serial", "0", "linto.broker", "mqtt://h"), "", ""},
		{"IPv6", `{"config":{"mqtt":{"host":"fe80::1","port":"1883"}}}`, answers("linto.broker", "mqtt://[fe80::1]:1883"), "", ""},
		{"keepalive", mqtt(`"keepalive":"often"`), answers("device.serial", "0", "linto.broker", "mqtt://h"), "", `keepalive "often"`},
		{"volume", `{"config":{"mqtt":{"host":"h"},"sound":{"volume":"loud","tts_lang":"tlh"}}}`, answers("linto.broker", "mqtt://h"), "", `volume "loud"`},
		{"language", `{"config":{"mqtt":{"host":"h"},"sound":{"tts_lang":"tlh"}}}`, answers("linto.broker", "mqtt://h"), "", `language "tlh"`},
		{"key file", mqtt(`"keyfile":"/k"`), answers("device.serial", "0", "linto.broker", "mqtt://h"), "", "cert_file"},
		{"protocol", mqtt(`"protocol":"carrier pigeon"`), answers(), "config.mqtt.protocol", ""},
		{"another file", `{"name":"lintod"}`, answers(), "config.mqtt.host", ""},
		{"an object for a value", mqtt(`"port":{}`), answers(), "anything", ""},
		{"not JSON", `sn = "7"`, answers(), "anything", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Setup().Import([]byte(tt.file))
			if (err == nil) != (tt.err == "") || err != nil && tt.err != "anything" && !strings.Contains(err.Error(), tt.err) {
				t.Fatal(err)
			}
			if err == nil && !maps.Equal(got.Answers, tt.want) {
				t.Errorf("%+v", got.Answers)
			}
			if !strings.Contains(strings.Join(got.Notes, "\n"), tt.note) {
				t.Errorf("notes: %q", got.Notes)
			}
		})
	}
}
