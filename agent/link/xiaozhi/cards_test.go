package xiaozhi

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	"lintod/agent/cards"
	"lintod/agent/link"
	"lintod/agent/turn"
)

// deck records what the link reports about cards.
type deck struct{ heard []string }

func (d *deck) Content(uid string, c cards.Content) {
	d.heard = append(d.heard, fmt.Sprint("content ", uid, " ", c.Skill, " ", c.Version, " ", c.Files, " ", c.Hosts))
}
func (d *deck) Current(uid, skill string) { d.heard = append(d.heard, "current "+uid+" "+skill) }
func (d *deck) Unknown(uid, why string)   { d.heard = append(d.heard, "unknown "+uid+" "+why) }
func (d *deck) Assistant(uid string)      { d.heard = append(d.heard, "assistant "+uid) }

func TestCards(t *testing.T) {
	for message, want := range map[string]string{
		`{"type":"card_unknown","rfid_uid":"04a1b2c3","error":"who?"}`:                                                                                                                                                             "unknown 04A1B2C3 who?",
		`{"type":"card_ai","rfid_uid":"04A1B2C3","agent_name":"Fox"}`:                                                                                                                                                              "assistant 04A1B2C3",
		`{"type":"card_up_to_date","rfid_uid":"04A1B2C3","skill_id":"fox1","latest_version":"3","update_required":false}`:                                                                                                          "current 04A1B2C3 fox1",
		`{"type":"card_content","rfid_uid":"04A1B2C3","skill_id":"fox1","version":3,"audio":[{"index":1,"url":"https://c/a"}],"images":[{"index":1,"url":"https://c/p"}]}`:                                                         "content 04A1B2C3 fox1 3 [{audio 1 https://c/a} {image 1 https://c/p}] [ota.example]",
		`{"type":"card_content","rfid_uid":"04A1B2C3","skill_id":"fox1","latest_version":"7","stories":[{"index":2,"audio":[{"index":1,"url":"https://c/b"}]},{"index":1,"title":"x","audio":[{"index":1,"url":"https://c/a"}]}]}`: "content 04A1B2C3 fox1 7 [{audio 1 https://c/a} {audio 2 https://c/b}] [ota.example]",
		`{"type":"card_content","skill_id":"fox1","version":"4","audio":[{"index":1,"url":"https://c/a"}]}`:                                                                                                                        "content  fox1 4 [{audio 1 https://c/a}] [ota.example]",
		`{"type":"card_content","rfid_uid":"04A1B2C3","skill_id":"fox1","update_required":false}`:                                                                                                                                  "current 04A1B2C3 fox1",
		`{"type":"download_response","status":"download_required","rfid_uid":"04A1B2C3","pack_code":"p1","version":"2","files":{"audio_1":"https://c/a","x":7}}`:                                                                   "content 04A1B2C3 p1 2 [{audio 1 https://c/a}] [ota.example]",
		`{"type":"download_response","status":"not_found","rfid_uid":"04A1B2C3","message":"no such pack"}`:                                                                                                                         "unknown 04A1B2C3 no such pack",
		`{"type":"download_response","status":"up_to_date","rfid_uid":"04A1B2C3","pack_code":"p1"}`:                                                                                                                                "current 04A1B2C3 p1",
		`{"type":"card_content","rfid_uid":"04A1B2C3","skill_id":7,"audio":[{"index":"1","url":5},null,3]}`:                                                                                                                        "content 04A1B2C3   [{audio 0 } {audio 0 } {audio 0 }] [ota.example]",
		`{"type":"card_unknown","rfid_uid":"../../etc"}`:                                                                                                                                                                           "",
		`{"type":"card_ai"}`: "",
	} {
		d := &deck{}
		play(t, func(s *stage) { s.device.Cards, s.config.URL = d, "https://ota.example/xiaozhi/ota/" }, func(s *stage) {
			s.server.says(message)
			s.wait(0)
		})
		var expected []string
		if want != "" {
			expected = []string{want}
		}
		if !reflect.DeepEqual(d.heard, expected) {
			t.Errorf("%s: %q, want %q", message, d.heard, want)
		}
	}
}

func TestCardLookup(t *testing.T) {
	d := &deck{}
	play(t, func(s *stage) { s.device.Cards = d }, func(s *stage) {
		for _, c := range []link.Card{{UID: "04A1B2C3"}, {UID: "04A1B2C4", Skill: "fox1", Version: "3"}} {
			if err := s.LookUpCard(s.ctx, c); err != nil {
				s.Error(err)
			}
		}
		s.wait(0)
		s.expectSent("card_lookup 04A1B2C3", "card_lookup 04A1B2C4")
		s.put(s.ctx, event{kind: down})
		if err := s.LookUpCard(s.ctx, link.Card{UID: "04A1B2C3"}); err == nil {
			s.Error("a card was looked up without a connection")
		}
	})
	play(t, func(s *stage) { s.device.Cards, s.server.kind = d, useWebSocket }, func(s *stage) {
		if err := s.LookUpCard(s.ctx, link.Card{UID: "04A1B2C3"}); err == nil {
			s.Error("a card was looked up over WebSocket without a session")
		}
	})
	if len(d.heard) != 0 {
		t.Errorf("heard %v", d.heard)
	}
}

// A card that starts a conversation opens a session, in which the button then
// listens immediately. Removing the card before that ends the session.
func TestCardOpensASession(t *testing.T) {
	with := func(f func(*stage)) {
		t.Helper()
		play(t, func(s *stage) { s.device.Cards = &deck{} }, f)
	}
	says := func(s *stage) { s.server.says(`{"type":"card_ai","rfid_uid":"04A1B2C3"}`) }
	with(func(s *stage) {
		says(s)
		s.wait(time.Second)
		s.expect(turn.Idle)
		s.expectSent("hello")
		s.tap()
		s.expectSent("hello", "listen start auto")
		s.CardRemoved("04A1B2C3") // which has no effect now
		s.wait(time.Second)
		s.expect(turn.Listening)
		s.expectSent("hello", "listen start auto")
	})
	with(func(s *stage) {
		says(s)
		s.wait(time.Second)
		s.CardRemoved("04A1B2C4") // another one
		s.wait(time.Second)
		s.expectSent("hello")
		s.CardRemoved("04A1B2C3")
		s.wait(time.Second)
		s.expectSent("hello", "goodbye")
		says(s) // again
		s.wait(time.Second)
		s.expectSent("hello", "goodbye", "hello")
	})
	with(func(s *stage) { // before the server answers
		s.server.delay = time.Second
		says(s)
		s.wait(0)
		s.CardRemoved("04A1B2C3")
		s.wait(5 * time.Second)
		s.server.delay = 30 * time.Millisecond
		s.tap()
		s.wait(time.Second)
		s.expect(turn.Listening)
		s.expectSent("hello", "hello", "listen start auto")
	})
	with(func(s *stage) { // a server that has forgotten the session
		says(s)
		s.wait(time.Hour)
		s.expect(turn.Idle)
		if got := s.server.messages(); len(got) != 2 || got[0] != "hello" || got[1] != "goodbye" {
			s.Errorf("sent %q", got)
		}
	})
}
