package login

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"lintod/agent/base/config"
	"lintod/agent/base/secret"
)

func TestAddressOfTheBroker(t *testing.T) {
	for answer, want := range map[string]string{
		`{"mqtt_host":"h","mqtt_port":"1883"}`:              "mqtt://h:1883",
		`{"mqtt_host":"h","mqtt_port":1883}`:                "mqtt://h:1883",
		`{"mqtt_host":"h","mqtt_port":"8883"}`:              "mqtts://h:8883",
		`{"mqtt_host":"::1","mqtt_port":"1883"}`:            "mqtt://[::1]:1883",
		`{"mqtt_host":"[::1]","mqtt_port":"1883"}`:          "mqtt://[::1]:1883",
		`{"mqtt_host":"wss://domain/mqtt"}`:                 "wss://domain/mqtt",
		`{"mqtt_host":"mqtts://h:9883","mqtt_port":"1883"}`: "mqtts://h:9883",
		`{"mqtt_host":"h"}`:                                 "",
		`{"mqtt_host":"h","mqtt_port":"0"}`:                 "",
		`{"mqtt_host":"h","mqtt_port":"65536"}`:             "",
		`{"mqtt_host":"h","mqtt_port":{}}`:                  "",
		`{"mqtt_host":"u:p@h","mqtt_port":"1883"}`:          "",
		`{"mqtt_host":"http://h","mqtt_port":"1883"}`:       "",
		`{"mqtt_host":"mqtt://u:p@h","mqtt_port":"1883"}`:   "",
		`{"mqtt_host":"h\n","mqtt_port":"1883"}`:            "",
		`{"mqtt_port":"1883"}`:                              "",
	} {
		var m mqttData
		if err := json.Unmarshal([]byte(answer), &m); err != nil {
			t.Errorf("%s: %v", answer, err)
		}
		got, err := m.address()
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%s gives %q, %v; want %q", answer, got, err, want)
		}
	}
}

func TestCredentialsOfTheBroker(t *testing.T) {
	const login = `"mqtt_login":"u","mqtt_password":"p"`
	for answer, want := range map[string]string{
		`{"mqtt_use_login":true,` + login + `}`:    "u",
		`{"mqtt_use_login":"true",` + login + `}`:  "u",
		`{` + login + `}`:                          "u",
		`{"mqtt_use_login":false,` + login + `}`:   "",
		`{"mqtt_use_login":"false",` + login + `}`: "",
		`{"mqtt_use_login":false}`:                 "",
		`{"mqtt_use_login":true}`:                  "",
	} {
		var m mqttData
		if err := json.Unmarshal([]byte(answer), &m); err != nil {
			t.Errorf("%s: %v", answer, err)
		}
		if user, password := m.credentials(); user != want || (password == "") != (want == "") {
			t.Errorf("%s gives %q", answer, user)
		}
	}
}

func TestSecretsDoNotPrint(t *testing.T) {
	var log strings.Builder
	s := Session{ID: "DEV_1", Scope: "blk", Broker: "mqtt://h:1883", Username: "DEV_1", Password: "hunter2"}
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "session", s, "secret", s.Password)
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "session", s, "secret", s.Password)
	fmt.Fprintf(&log, "%v %+v %#v %s %q", s, s, s, s.Password, s.Password)
	fmt.Fprintf(&log, "%v %+v %#v", login{Session: s, Auth: "hunter2"}, &s, tokens{Auth: "hunter2"})
	if strings.Contains(log.String(), "hunter2") || strings.Count(log.String(), secret.Hidden) < 5 {
		t.Error(log.String())
	}
}

func TestConfig(t *testing.T) {
	good := Config{URL: "https://linto.example", User: "ann", PasswordFile: "pw"}
	for _, tt := range []struct {
		name   string
		change func(*Config)
		wants  string
	}{
		{"good", func(*Config) {}, ""},
		{"none", func(c *Config) { *c = Config{} }, ""},
		{"no url", func(c *Config) { c.URL = "" }, "url"},
		{"another scheme", func(c *Config) { c.URL = "mqtt://h" }, "url"},
		{"no scheme", func(c *Config) { c.URL = "linto.example" }, "url"},
		{"password in the url", func(c *Config) { c.URL = "https://ann:hunter2@h" }, "url"},
		{"query", func(c *Config) { c.URL += "?a=b" }, "url"},
		{"no user", func(c *Config) { c.User = "" }, "user"},
		{"no password", func(c *Config) { c.PasswordFile = "" }, "password_file"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := good
			tt.change(&c)
			var ps config.Problems = c.Validate()
			key := ""
			if len(ps) == 1 {
				key = ps[0].Key
			}
			if key != tt.wants || (len(ps) > 0) != (tt.wants != "") || strings.Contains(ps.Error(), "hunter2") {
				t.Errorf("problems %q; want one of %q", ps, tt.wants)
			}
		})
	}
	for url, want := range map[string]string{
		"http://h": "http://h/overwatch", "http://h/": "http://h/overwatch", "http://h:80/api": "http://h/api", "https://h:443": "https://h/overwatch", "https://h:8443": "https://h:8443/overwatch",
	} {
		if base, err := (Config{URL: url}).base(); err != nil || base.String() != want {
			t.Errorf("%s becomes %v, %v; want %s", url, base, err, want)
		}
	}
}

func FuzzAnswers(f *testing.F) {
	for _, seed := range []string{
		loginJSON("a", "b"), refreshJSON("a", "b"),
		`[{"name":"Home","topic":"blk"}]`, `[{"type":"local","basePath":"/../x"}]`,
		`{"user":{"expiration_date":1e300}}`, `{"mqtt":{"mqtt_use_login":"perhaps"}}`, `null`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var a loginAnswer
		if json.Unmarshal([]byte(text), &a) == nil && a.User.check() == nil {
			l := login{}.renewed(a.User)
			_ = l.refreshAt()
			if !topicLevel(l.Session.ID) || strings.ContainsAny(string(l.Auth), "\r\n") {
				t.Errorf("accepted %q %q", l.Session.ID, l.Auth)
			}
			if raw, err := json.Marshal(l); err != nil || json.Unmarshal(raw, &l) != nil {
				t.Errorf("cannot be saved: %v", err)
			}
		}
		_, _ = a.MQTT.address()
		var scopes []scope
		if json.Unmarshal([]byte(text), &scopes) == nil {
			if s, err := choose(scopes, ""); err == nil && !topicLevel(s.Topic) {
				t.Errorf("chose %q", s.Topic)
			} else if err != nil && strings.Contains(err.Error(), "\n") {
				t.Errorf("error %q", err)
			}
		}
		var methods []method
		if json.Unmarshal([]byte(text), &methods) == nil {
			if m, err := local(methods); err == nil {
				s, err := newServer(Config{URL: "https://h"}, answerLimit)
				if err != nil {
					t.Fatal(err)
				}
				if r, err := s.request(t.Context(), "GET", m.BasePath, "", nil); err == nil && r.URL.Host != "h" {
					t.Errorf("base path %q leads to %s", m.BasePath, r.URL)
				}
			}
		}
	})
}
