package main

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// A device played by mosquitto_pub: its messages are shown and answered, and broken
// rules are reported.
func TestFolotoyDeviceIsShownAndCommanded(t *testing.T) {
	for _, format := range []string{"story", "JSON"} {
		args := []string{"folotoy", "-listen", "127.0.0.1:0", "-http", "127.0.0.1:0", "-delay", "1ms", "-strict"}
		if format == "JSON" {
			args = append(args, "-json")
		}
		s := runSession(t, args...)
		ready := s.wait("mqtt://")
		_, s.port, _ = strings.Cut(ready, "mqtt://127.0.0.1:")
		s.port, _, _ = strings.Cut(s.port, `"`)
		s.port = strings.TrimSpace(s.port)
		if format == "story" {
			ready = s.wait("http://")
		}
		_, sounds, _ := strings.Cut(ready, "http://")
		sounds = "http://" + sounds[:strings.IndexAny(sounds, `/"`)]

		s.enter("say hello")
		s.wait("no device has been seen yet")
		post := func(payload string) { s.publish("/sys/folotoy/toy1/thing/event/post", payload) }
		post(`{"msgId":5,"identifier":"recording_transcribed","inputParams":{"recordingId":1,"recordingText":"几点了"}}`)
		s.wait("toy1", "event/post", "recording_transcribed")
		s.wait("toy1", "command/call", "You said: 几点了", "iwantplay")
		s.publish("/sys/folotoy/toy1/thing/command/callAck", `{"msgId":1,"identifier":"iwantplay","result":1}`)
		s.wait("callAck")
		s.enter("volume 40")
		s.wait("updatecommonconfig", "40")
		s.enter("role 7")
		s.enter("fault missing")
		s.enter("play bell.wav")
		s.wait(sounds+"/bell.wav", "7")
		s.enter("roles")
		s.wait("/sys/config", "load_roles_config")
		for typed, want := range map[string]string{
			"fault fire": "unknown fault", "role x": "invalid syntax", "config []": "not a JSON object", "send {": "command/call", "devices": "toy1", "dance": "unknown command",
		} {
			s.enter(typed)
			s.wait(want)
		}
		for _, c := range [][2]string{
			{`{"msgId":5,"identifier":"recording_transcribed","inputParams":{"recordingId":2,"recordingText":"a"}}`, "event 5 follows 5"},
			{`{"msgId":60,"identifier":"recording_transcribed","inputParams":{"recordingId":3}}`, "not a string"},
			{`{"msgId":"x","identifier":"dance"}`, "without a number"},
			{`{"msgId":99,"identifier":"voice_generated","inputParams":{"recordingId":4,"order":1,"voiceText":""}}`, "voiceText is empty"},
			{`{"msgId":1000,"identifier":"voice_generated","inputParams":{"recordingId":5,"order":3,"voiceText":"c"}}`, "order 3 follows 0"},
			{`{"msgId":10000,"identifier":"recording_transcribed","inputParams":{"recordingId":"x","recordingText":"a"}} `, "cannot unmarshal"},
			{`{"msgId":100000,"identifier":"login","inputParams":{}}`, "unknown event"},
		} {
			post(c[0])
			s.wait("toy1", c[1])
		}
		s.publish("/sys/folotoy/toy1/thing/command/callAck", `{"msgId":1,"identifier":"iwantplay","result":1}`)
		s.wait("more often than it was sent")
		s.enter("quit")
		if code := s.exit(); code != 1 {
			t.Errorf("%s: exit status %d although rules were broken", format, code)
		}
	}
	s := runSession(t, "folotoy", "-fault", "fire")
	if code := s.exit(); code != 2 {
		t.Errorf("exit status %d", code)
	}
}

// The sounds are what their names say.
func TestFolotoySounds(t *testing.T) {
	s := runSession(t, "folotoy", "-listen", "127.0.0.1:0", "-http", "127.0.0.1:0", "-json")
	_, sounds, _ := strings.Cut(s.wait("mqtt://"), `"sounds":"`)
	sounds, _, _ = strings.Cut(sounds, `"`)
	for name, want := range map[string]string{"bell.wav": "RIFF", "page": "<!do", "missing": "404 ", "endless": "RIFF", "stalled": "RIFF", "huge": "RIFF"} {
		response, err := http.Get(sounds + "/" + name)
		if err != nil {
			t.Fatal(err)
		}
		head := make([]byte, 4)
		if _, err := io.ReadFull(response.Body, head); err != nil || string(head) != want {
			t.Errorf("%s begins with %q, %v", name, head, err)
		}
		response.Body.Close()
	}
	if response, err := http.Get(sounds + "/loop"); err == nil {
		response.Body.Close()
		t.Error("the redirects end")
	}
	s.stop()
	if code := s.exit(); code != 0 {
		t.Errorf("exit status %d", code)
	}
}
