package message

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"lintod/agent/base/fuzzcost"
)

const udp = `"udp":{"server":"h","port":8884,"encryption":"aes-128-ctr","key":"0102030405060708090A0b0c0d0e0f10","nonce":"010000003ade68b10000000000000000"}`

func TestParse(t *testing.T) {
	key := [16]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}
	nonce := [16]byte{1, 0, 0, 0, 0x3a, 0xde, 0x68, 0xb1}
	full := UDP{Server: "h", Port: 8884, Key: key, Nonce: nonce, ConnectionID: 987654321}
	with := func(id uint32) *UDP { u := full; u.ConnectionID = id; return &u }
	for name, tt := range map[string]struct {
		in   string
		want Message
	}{
		"hello of gateway A":      {`{"type":"hello","transport":"udp","session_id":"u",` + udp + `}`, Message{Type: Hello, Session: "u", Transport: "udp", UDP: &full}},
		"connection id":           {`{"type":"hello","transport":"udp",` + strings.Replace(udp, `"port"`, `"connection_id":7,"cookie":8,"port"`, 1) + `}`, Message{Type: Hello, Transport: "udp", UDP: with(7)}},
		"cookie":                  {`{"type":"hello","transport":"udp",` + strings.Replace(udp, `"port"`, `"connection_id":"x","cookie":8,"port"`, 1) + `}`, Message{Type: Hello, Transport: "udp", UDP: with(8)}},
		"hello of a WebSocket":    {`{"type":"hello","transport":"websocket","audio_params":{"sample_rate":24000}}`, Message{Type: Hello, Transport: "websocket"}},
		"members of another type": {`{"type":"tts","state":"start","text":1,"session_id":null,"version":0}`, Message{Type: TTS, State: "start"}},
		"character change":        {`{"type":"mode_update","mode":"story","listening_mode":"manual","session_id":"n","udp":{"server":"h","port":1}}`, Message{Type: ModeUpdate, Session: "n", Mode: "story", Listening: Manual}},
		"mode change with a key":  {`{"type":"mode_update","mode":"music","listening_mode":"nobody",` + udp + `}`, Message{Type: ModeUpdate, Mode: "music", UDP: &full}},
		"alert":                   {`{"type":"alert","status":"Error","message":"late","emotion":"sad"}`, Message{Type: Alert, Status: "Error", Text: "late", Emotion: "sad"}},
		"error":                   {`{"type":"error","message":"no","code":"NO_SESSION"}`, Message{Type: Error, Text: "no", Code: "NO_SESSION"}},
		"request to speak":        {`{"type":"speak_request","text":"tea","session_id":"s","auto_listen":true}`, Message{Type: SpeakRequest, Text: "tea", Session: "s", AutoListen: true}},
		"an unknown type":         {`{"type":"card_dance","audio":[{}]}`, Message{Type: "card_dance"}},
		"tools":                   {`{"type":"mcp","payload":{"id":1}}`, Message{Type: MCP, Payload: json.RawMessage(`{"id":1}`)}},
	} {
		if got, err := Parse([]byte(tt.in)); err != nil || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s:\n got %+v, %v\nwant %+v", name, got, err, tt.want)
		}
	}
}

func TestRefused(t *testing.T) {
	hello := func(change ...string) string {
		return `{"type":"hello","transport":"udp",` + strings.NewReplacer(change...).Replace(udp) + `}`
	}
	for _, in := range []string{
		hello(`8884`, `0`), hello(`8884`, `65536`), hello(`8884`, `"8884"`), hello(`"h"`, `""`), hello("010203", "0102"),
		hello("010203", "01020g"), hello(`"nonce"`, `"n"`), hello("aes-128-ctr", "none"), `{"type":"hello","transport":"udp"}`,
		`{"type":"mode_update","udp":{"key":"x","nonce":"y"}}`,
		`{"type":"mcp"}`, `{"type":"mcp","payload":[]}`, `{}`, `{"Type":"tts"}`, `{"type":1}`,
	} {
		if m, err := Parse([]byte(in)); err == nil {
			t.Errorf("%s was accepted: %+v", in, m)
		} else if strings.Contains(err.Error(), "01020") {
			t.Errorf("a key in an error: %v", err)
		}
	}
	for _, in := range []string{"", "认证失败", "null", "[]", `{"type"`, "\xff"} {
		if _, err := Parse([]byte(in)); !errors.Is(err, ErrNotJSON) {
			t.Errorf("%q: %v", in, err)
		}
	}
	if _, err := Parse(make([]byte, MaxMessage+1)); err == nil {
		t.Error("a message of any length was accepted")
	}
}

func TestFormat(t *testing.T) {
	for want, got := range map[string][]byte{
		`{"type":"hello","version":3,"transport":"udp","features":{"mcp":true},"audio_params":{"format":"opus","sample_rate":16000,"channels":1,"frame_duration":60}}`: NewHello(3, "udp", ""),
		`{"session_id":"","type":"listen","state":"start","mode":"auto"}`:                                                                                              ListenStart("", Auto),
		`{"session_id":"s","type":"listen","state":"stop"}`:                                                                                                            ListenStop("s"),
		`{"session_id":"s","type":"listen","state":"detect","text":"a <b> & \"c\""}`:                                                                                   ListenDetect("s", `a <b> & "c"`),
		`{"session_id":"s","type":"speech_end"}`:                                                                                                                       NewSpeechEnd("s"),
		`{"session_id":"s","type":"abort","reason":"button_pressed"}`:                                                                                                  Abort("s", ButtonPressed),
		`{"session_id":"s","type":"goodbye"}`:                                                                                                                          NewGoodbye("s"),
		`{"session_id":"s","type":"udp_timeout"}`:                                                                                                                      UDPTimeout("s"),
		`{"session_id":"s","type":"mcp","payload":{"id":12345678901234567890}}`:                                                                                        NewMCP("s", json.RawMessage(`{"id":12345678901234567890}`)),
		`{"session_id":"s","type":"speak_ready","state":"ready","udp_config":{"ready":true,"reuse_existing":false}}`:                                                   SpeakReady("s", false),
	} {
		if string(got) != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		`{"type":"hello","transport":"udp","session_id":"u",` + udp + `}`, `{"type":"mcp","payload":{"id":1}}`,
		`{"type":"mode_update","listening_mode":"auto",` + udp + `}`, `{"type":"tts","state":"sentence_start","text":"x"}`, `认证失败`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		fuzzcost.Check(t, func() {
			m, err := Parse(payload)
			if err != nil {
				return
			}
			if m.Type == "" || len(m.Text) > maxText || len(m.Session) > maxWord || m.Type == Hello && m.Transport == "udp" && m.UDP == nil {
				t.Errorf("%+v", m)
			}
			if m.Type == MCP && !json.Valid(NewMCP(m.Session, m.Payload)) {
				t.Error("the payload of mcp is not JSON")
			}
		})
	})
}
