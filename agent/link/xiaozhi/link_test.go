package xiaozhi

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"lintod/agent/base/retry"
	"lintod/agent/link/xiaozhi/message"
	"lintod/agent/link/xiaozhi/ota"
	"lintod/agent/turn"
)

// The transport that is used, depending on what the server offers and what has
// failed (decision C44).
func TestChoice(t *testing.T) {
	for _, tt := range []struct {
		transport       string
		mqtt, webSocket bool
		failed          int // attempts over MQTT, in a row
		want            string
	}{
		{"auto", true, true, 0, useMQTT},
		{"auto", true, false, 0, useMQTT},
		{"auto", false, true, 0, useWebSocket},
		{"auto", false, false, 0, ""},
		{"mqtt", true, true, 0, useMQTT},
		{"mqtt", false, true, 0, ""},
		{"websocket", true, true, 0, useWebSocket},
		{"websocket", true, false, 0, ""},
		{"auto", true, true, 2, useMQTT},
		{"auto", true, true, 3, useWebSocket},
		{"auto", true, false, 3, useMQTT},
		{"mqtt", true, true, 3, useMQTT},
	} {
		play(t, func(s *stage) { s.config.Transport = tt.transport }, func(s *stage) {
			if got, _, _ := s.choose(); got != "" {
				s.Errorf("%q without settings", got)
			}
			s.settle(place(tt.mqtt, tt.webSocket))
			notices := s.runner.Bus.Subscribe(8)
			defer notices.Close()
			for range tt.failed {
				s.countFailure(errors.New("no route to host"))
			}
			if got, _, _ := s.choose(); got != tt.want {
				s.Errorf("%+v: %q", tt, got)
			}
			switched := tt.want == useWebSocket && tt.failed > 0
			if told := len(notices.C); (told == 1) != switched || switched && (<-notices.C).What != turn.GotDisplay {
				s.Errorf("%+v: %d notices", tt, told)
			}
			if switched { // the first one is tried again after a while, and with other settings
				s.settle(place(tt.mqtt, tt.webSocket)) // the request that the failures caused
				if got, _, _ := s.choose(); got != useWebSocket {
					s.Errorf("%q after a request that returned the same settings", got)
				}
				s.wait(fallbackTime)
				if got, _, _ := s.choose(); got != useMQTT {
					s.Errorf("%q an hour later", got)
				}
				s.avoidMQTT(errors.New("no sound arrives"))
				moved := place(true, true)
				moved.MQTT.URL = "mqtt://192.0.2.9:1883"
				if s.settle(moved); s.Config.Transport == auto {
					if got, _, _ := s.choose(); got != useMQTT {
						s.Errorf("%q after the broker has moved", got)
					}
				}
			}
		})
	}
}

// An invalid or unknown message from a server leaves the session
// unchanged, and a few lines in the log, however many there are.
func TestGarbage(t *testing.T) {
	var log strings.Builder
	play(t, func(s *stage) { s.device.Log = slog.New(slog.NewTextHandler(&log, nil)) }, func(s *stage) {
		s.press()
		s.talks(time.Second)
		whole := map[string]string{
			"nothing": "", "text": "认证失败", "bytes": "\xff\xfe\x00\x01", "null": "null", "list": "[1]", "number": "7",
			"controls": "{\"type\":\"alert\",\"message\":\"\\u001b[2J\\u0000\\n\\u202e\"}", "nested": strings.Repeat(`{"type":`, 50_000),
			"deep": `{"type":"mcp","payload":{"params":` + strings.Repeat("[", 9_000) + strings.Repeat("]", 9_000) + `}}`,
			"huge": `{"type":"tts","state":"` + strings.Repeat("x", message.MaxMessage) + `"}`, "no type": `{"state":"start"}`,
			"half": `{"type":"tts","state":`, "bad rune": "{\"type\":\"\xff\xfe\"}", "two": `{"type":"tts"}{"type":"goodbye"}`,
		}
		for _, m := range whole {
			s.server.says(m)
			synctest.Wait()
		}
		kinds := []string{
			message.Hello, message.TTS, message.STT, message.LLM, message.MCP, message.System, message.Alert, message.Error, message.ModeUpdate,
			message.AgentReady, message.Listen, message.CallAccepted, message.IoT, message.Emotion, message.Greeting, "of no server",
		}
		members := []string{
			"state", "text", "emotion", "mode", "listening_mode", "status", "command", "reason", "code", "auto_listen", "transport", "udp", "payload", "message", "commands",
		}
		for _, kind := range kinds {
			for _, member := range members {
				for i, value := range []string{`null`, `-1e999`, `1e400`, `true`, `[]`, `{"key":1,"nonce":{},"jsonrpc":7}`, `"` + strings.Repeat("y", 20_000) + `"`} {
					s.server.says(fmt.Sprintf(`{"type":%q,%q:%s,"n":%d}`, kind, member, value, i))
					synctest.Wait()
				}
			}
		}
		for i := range 1000 {
			s.server.says(fmt.Sprintf(`{"type":"t%d"}`, i), fmt.Sprintf(`{"type":"alert","message":"%d"}`, i), fmt.Sprintf(`{"type":"error","message":"%d"}`, i), fmt.Sprint(i))
			synctest.Wait()
		}
		s.expect(turn.Listening)
		s.release()
		s.server.answer(time.Second)
		s.wait(3 * time.Second)
		if r := s.last(); r.Result != turn.ResultSpoken {
			s.Errorf("record %+v", r)
		}
		s.expectSent("hello", "listen start manual", "listen stop")
		if n := s.Stats().Malformed; n < 1000 {
			s.Errorf("%d malformed messages counted", n)
		}
	})
	if n := strings.Count(log.String(), "\n"); n > 150 {
		t.Errorf("%d lines in the log", n)
	}
	if strings.ContainsAny(log.String(), "\x1b\x00") || len(log.String()) > 100_000 {
		t.Errorf("%d bytes in the log, or control characters", len(log.String()))
	}
}

// A server that soon ends each connection causes a few lines in the log, however
// often it does. An outage after a long connection is reported, and so is its end.
func TestShortConnections(t *testing.T) {
	var log strings.Builder
	play(t, func(s *stage) { s.device.Log = slog.New(slog.NewTextHandler(&log, nil)) }, func(s *stage) {
		lines := func() int { defer log.Reset(); return strings.Count(log.String(), "\n") }
		back := retry.Backoff{First: firstPause, Most: mostPause}
		lines()
		for range 1000 {
			s.connected("mqtt://192.0.2.1")
			s.failed(errors.New("closed"), &back)
		}
		if n := lines(); n != 3 { // connected, not connected, connected
			s.Errorf("%d lines", n)
		}
		s.connected("mqtt://192.0.2.1")
		back.Succeeded()
		for range 5 {
			s.failed(errors.New("closed"), &back)
		}
		s.connected("mqtt://192.0.2.1")
		if n := lines(); n != 2 {
			s.Errorf("%d lines about an outage", n)
		}
	})
}

// A server that is unavailable for hours, or soon ends each connection, gets ever
// fewer requests for new settings.
func TestSettingsAreRequestedLessAndLessOften(t *testing.T) {
	var asked []int
	for n := range 100 {
		if requestsSettings(n) {
			asked = append(asked, n)
		}
	}
	if want := []int{3, 6, 12, 24, 48, 96}; !slices.Equal(asked, want) {
		t.Errorf("asked after %v failures, want %v", asked, want)
	}
}

// Every invalid value of a configuration is reported with its key.
func TestValidate(t *testing.T) {
	right := Defaults()
	right.Enabled, right.URL = true, "https://server.example/xiaozhi/ota/"
	if ps := right.Validate(); ps != nil {
		t.Errorf("refused: %v", ps)
	}
	gateway := Defaults()
	gateway.Enabled, gateway.Broker, gateway.ClientID = true, "mqtts://h:8883", "GID@@@aa@@@bb"
	if ps := gateway.Validate(); ps != nil {
		t.Errorf("refused: %v", ps)
	}
	for key, change := range map[string]func(*Config){
		"ota_url":           func(c *Config) { *c = Defaults(); c.Enabled = true },
		"profile":           func(c *Config) { c.Profile = "x" },
		"transport":         func(c *Config) { c.Transport = "udp" },
		"listening":         func(c *Config) { c.Listening = "never" },
		"udp_iv":            func(c *Config) { c.UDPIV = "x" },
		"complexity":        func(c *Config) { c.Complexity = 11 },
		"websocket_version": func(c *Config) { c.WebSocketVersion = 4 },
		"broker":            func(c *Config) { c.Broker = "mqtt://h" },
		"silence_timeout":   func(c *Config) { c.SilenceTimeout = -1 },
	} {
		c := right
		change(&c)
		if ps := c.Validate(); len(ps) != 1 || ps[0].Key != key {
			t.Errorf("%s: %v", key, ps)
		}
	}
	for key, change := range map[string]func(*Config){
		"client_id":       func(c *Config) { c.ClientID = "" },
		"publish_topic":   func(c *Config) { c.PublishTopic = "" },
		"broker":          func(c *Config) { c.Broker = "h:1883" },
		"websocket_url":   func(c *Config) { c.WebSocketURL = "http://h" },
		"subscribe_topic": func(c *Config) { c.SubscribeTopic = string(make([]byte, 121)) },
	} {
		c := gateway
		change(&c)
		if ps := c.Validate(); len(ps) != 1 || ps[0].Key != key {
			t.Errorf("%s: %v", key, ps)
		}
	}
	if c := right; c.silence() != time.Minute {
		t.Errorf("silence %v", c.silence())
	}
	right.Profile = cheeko
	if right.silence() != cheekoSilence {
		t.Errorf("silence of Cheeko %v", right.silence())
	}
}

// The topics of the subscriptions, one at a time.
func TestSubscriptions(t *testing.T) {
	const id = "GID@@@aa_bb_cc_dd_ee_ff@@@36c98363"
	for name, tt := range map[string]struct {
		profile, topic string
		want           []string
	}{
		"none given":           {plain, "", []string{"devices/p2p/" + id}},
		"one given":            {plain, "x", []string{"x"}},
		"Cheeko, none given":   {cheeko, "", []string{"devices/p2p/" + id, "devices/p2p/aa_bb_cc_dd_ee_ff"}},
		"Cheeko, that one":     {cheeko, "devices/p2p/aa_bb_cc_dd_ee_ff", []string{"devices/p2p/aa_bb_cc_dd_ee_ff"}},
		"Cheeko, another form": {cheeko, "x", []string{"x", "devices/p2p/aa_bb_cc_dd_ee_ff"}},
	} {
		c := Defaults()
		c.Profile = tt.profile
		if got := c.subscriptions(ota.MQTT{ClientID: id, SubscribeTopic: tt.topic}); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}

// New settings do not end a session: the connection changes after it.
func TestNewSettingsInASession(t *testing.T) {
	play(t, nil, func(s *stage) {
		s.settle(place(false, true))
		left := make(chan struct{})
		go func() { defer close(left); s.stayOverWebSocket(s.ctx, time.Time{}) }()
		synctest.Wait()
		s.put(s.ctx, event{kind: up, channel: s.server}) // instead of a real one
		s.press()
		s.talks(time.Second)
		s.settle(place(true, true))
		s.wait(time.Second)
		s.expect(turn.Listening)
		s.release()
		s.server.answer(time.Second)
		s.wait(2 * time.Second)
		s.expect(turn.Idle)
		if r := s.last(); r.Result != turn.ResultSpoken {
			s.Errorf("record %+v", r)
		}
		select {
		case <-left:
			s.Error("the transport changed in a session")
		default:
		}
		s.server.says(`{"type":"goodbye","session_id":"s"}`)
		s.wait(time.Second)
		select {
		case <-left:
		default:
			s.Error("the transport did not change after the session")
		}
	})
}
