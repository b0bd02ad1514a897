package xiaozhi

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"lintod/agent/link/xiaozhi/message"
	"lintod/agent/turn"
	"lintod/behaviors"
)

// A held button: the half second before it, the speech while the session is being
// opened, and all that follows are sent to the server; the answer is played to its
// end.
func TestHeldButton(t *testing.T) {
	play(t, nil, func(s *stage) {
		s.server.script = func(m sent) {
			if m.String() == "listen stop" {
				s.server.says(`{"type":"stt","text":"what time is it"}`)
				s.server.answer(1200 * time.Millisecond)
			}
		}
		s.press()
		s.talks(2 * time.Second)
		s.release()
		if n := s.server.heard(); n != 34 { // 2 s, and the last one is padded
			s.Errorf("%d packets for two seconds", n)
		}
		s.wait(400 * time.Millisecond)
		s.expect(turn.Speaking)
		s.wait(3 * time.Second)
		s.expect(turn.Idle)
		s.expectSent("hello", "listen start manual", "listen stop")
		if d := s.loudspeaker.length(); d != 1200*time.Millisecond {
			s.Errorf("%v of 1.2 s were played", d)
		}
		if r := s.last(); r.Result != turn.ResultSpoken {
			s.Errorf("record %+v", r)
		}
		// The session stays open: the next press needs no hello.
		s.press()
		s.talks(time.Second)
		s.release()
		s.wait(3 * time.Second)
		s.expectSent("hello", "listen start manual", "listen stop", "listen start manual", "listen stop")
	})
}

// No sound is lost while the server delays its hello.
func TestSlowHello(t *testing.T) {
	play(t, func(s *stage) { s.server.delay = 8 * time.Second }, func(s *stage) {
		s.press()
		s.talks(3 * time.Second)
		s.release()
		if n := s.server.heard(); n != 0 {
			s.Errorf("%d packets before the session was open", n)
		}
		s.wait(6 * time.Second)
		if n := s.server.heard(); n != 50 {
			s.Errorf("%d packets for three seconds", n)
		}
		s.expectSent("hello", "listen start manual", "listen stop")
	})
}

// After a tap the server decides when the user has finished, and the conversation
// continues until the user is silent.
func TestConversation(t *testing.T) {
	play(t, nil, func(s *stage) {
		s.tap()
		s.talks(2 * time.Second)
		s.server.answer(time.Second)
		s.wait(3 * time.Second)
		s.expect(turn.Listening)
		s.talks(time.Second)
		s.server.answer(time.Second)
		s.wait(3 * time.Second)
		s.expect(turn.Listening)
		s.wait(25 * time.Second) // silence
		s.expect(turn.Idle)
		s.expectSent("hello", "listen start auto", "listen start auto", "listen start auto", "goodbye")
		if s.loudspeaker.cued(turn.ErrorCue) {
			s.Error("the end of the conversation is reported as an error")
		}
	})
}

// Sound is played that arrives before its announcement, or after its end.
func TestEarlyAndLateSound(t *testing.T) {
	play(t, nil, func(s *stage) {
		s.press()
		s.talks(time.Second)
		s.release()
		s.server.speaking.Go(func() { s.server.speaks(1200 * time.Millisecond) })
		s.wait(50 * time.Millisecond)
		s.server.says(`{"type":"tts","state":"start"}`)
		s.wait(950 * time.Millisecond)
		s.server.says(`{"type":"tts","state":"stop"}`)
		s.wait(3 * time.Second)
		s.expect(turn.Idle)
		if d := s.loudspeaker.length(); d != 1200*time.Millisecond {
			s.Errorf("%v of 1.2 s were played", d)
		}
	})
}

// A press while the device speaks: silence immediately, and no second hello.
func TestInterruption(t *testing.T) {
	for _, tt := range []struct {
		name   string
		do     func(*stage)
		reason string
		then   []string
	}{
		{"button", (*stage).press, "button_pressed", []string{"listen start manual"}},
		{"wake word", func(s *stage) {
			if err := s.runner.Wake(turn.WakeWord{Name: "hey robot"}, Name, time.Now()); err != nil {
				s.Fatal(err)
			}
		}, "wake_word_detected", []string{"listen detect hey robot", "listen start auto"}},
		{"stop", func(s *stage) { s.runner.Post(turn.Stop) }, "user_interrupt", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			play(t, nil, func(s *stage) {
				s.press()
				s.talks(time.Second)
				s.release()
				s.server.answer(20 * time.Second)
				s.wait(3 * time.Second)
				s.expect(turn.Speaking)
				now := time.Now()
				tt.do(s)
				s.wait(500 * time.Millisecond)
				if s.loudspeaker.last.Sub(now) > 150*time.Millisecond {
					s.Errorf("played %v after the interruption", s.loudspeaker.last.Sub(now))
				}
				s.expectSent(append([]string{"hello", "listen start manual", "listen stop", "abort " + tt.reason}, tt.then...)...)
				s.server.says(`{"type":"tts","state":"stop"}`) // of the old answer: no effect now
				s.wait(500 * time.Millisecond)
				if tt.then != nil {
					s.expect(turn.Listening)
				}
			})
		})
	}
}

// A server that stops responding, in each state: the device gives up in time and
// reports it.
func TestMuteServer(t *testing.T) {
	for _, tt := range []struct {
		name  string
		story func(*stage)
		limit time.Duration
		sent  string // last message
	}{
		{"no hello", func(s *stage) { s.server.delay = -1; s.press() }, 11 * time.Second, "hello"},
		{"no answer", func(s *stage) { s.press(); s.talks(time.Second); s.release() }, 22 * time.Second, "goodbye"},
		{"no end of speech", func(s *stage) { s.tap(); s.talks(time.Second) }, 28 * time.Second, "goodbye"},
		{"no tts stop", func(s *stage) {
			s.press()
			s.talks(time.Second)
			s.release()
			s.server.says(`{"type":"tts","state":"start"}`)
			s.server.speaks(2 * time.Second)
		}, 40 * time.Second, "listen stop"},
		{"no sound, no text", func(s *stage) {
			s.press()
			s.talks(time.Second)
			s.release()
			s.server.says(`{"type":"tts","state":"start"}`)
		}, 45 * time.Second, "listen stop"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			play(t, nil, func(s *stage) {
				s.server.mute = true
				tt.story(s)
				s.wait(tt.limit)
				s.release()
				s.expect(turn.Idle)
				if m := s.server.messages(); m[len(m)-1] != tt.sent {
					s.Errorf("sent %q", m)
				}
				// The next press opens a session in any case.
				s.server.delay = 30 * time.Millisecond
				s.wait(2 * time.Second)
				n := s.server.heard()
				s.press()
				s.talks(time.Second)
				if s.server.heard() == n {
					s.Errorf("the next press has no effect; sent %q", s.server.messages())
				}
			})
		})
	}
}

// The server ends the session in each state: the device recovers, and the next
// press opens a new session within 300 ms.
func TestGoodbyeInEachState(t *testing.T) {
	for _, tt := range []struct {
		name  string
		story func(*stage)
		ends  turn.State // 100 ms later
	}{
		{"open", func(s *stage) {
			s.press()
			s.talks(time.Second)
			s.release()
			s.server.answer(time.Second)
			s.wait(3 * time.Second)
		}, turn.Idle},
		{"listening", func(s *stage) { s.tap(); s.talks(4 * time.Second) }, turn.Idle},
		{"waiting", func(s *stage) { s.press(); s.talks(4 * time.Second); s.release() }, turn.Idle},
		{"announced", func(s *stage) {
			s.press()
			s.talks(time.Second)
			s.release()
			s.server.says(`{"type":"tts","state":"start"}`)
		}, turn.Idle},
		{"speaking", func(s *stage) {
			s.press()
			s.talks(time.Second)
			s.release()
			s.server.answer(time.Second)
			s.wait(700 * time.Millisecond)
		}, turn.Speaking},
	} {
		t.Run(tt.name, func(t *testing.T) {
			play(t, nil, func(s *stage) {
				tt.story(s)
				s.server.says(`{"type":"goodbye","session_id":"another"}`) // not our session
				synctest.Wait()
				s.server.says(`{"type":"goodbye","session_id":"s","reason":"error"}`)
				s.wait(100 * time.Millisecond)
				s.wait(time.Second)
				s.expect(turn.Idle)
				hellos := func() (n int) {
					for _, m := range s.server.messages() {
						if m == "hello" {
							n++
						}
					}
					return n
				}
				if slices.Contains(s.server.messages(), "goodbye") {
					s.Error("a goodbye was answered with another")
				}
				s.press()
				s.wait(300 * time.Millisecond)
				if m := s.server.messages(); hellos() != 2 || m[len(m)-1] != "listen start manual" {
					s.Errorf("the next press sent %q", m)
				}
			})
		})
	}
}

// A server that has forgotten the session answers the first message with a goodbye.
// The utterance is sent again, and nothing of it is lost.
func TestForgottenSession(t *testing.T) {
	play(t, nil, func(s *stage) {
		s.press()
		s.talks(time.Second)
		s.release()
		s.server.answer(time.Second)
		s.wait(3 * time.Second)
		s.expect(turn.Idle)
		before := s.server.heard()
		s.server.script = func(m sent) {
			if m.Type == "listen" && m.Session == "s" {
				s.server.after(200*time.Millisecond, `{"type":"goodbye","session_id":"s"}`)
			}
		}
		s.press()
		s.talks(2 * time.Second)
		s.release()
		s.wait(time.Second)
		// All of the two seconds, and the first 200 ms twice.
		if n := s.server.heard() - before; n < 34+3 || n > 34+5 {
			s.Errorf("%d packets for two seconds", n)
		}
		s.expectSent("hello", "listen start manual", "listen stop", "listen start manual", "hello", "listen start manual", "listen stop")
	})
}

// A server that is interrupted by the voice starts its next answer while the rest of the previous
// one plays. The text of both is known.
func TestNextAnswerAtOnce(t *testing.T) {
	play(t, nil, func(s *stage) {
		s.press()
		s.talks(time.Second)
		s.release()
		notices := s.runner.Bus.Subscribe(64)
		defer notices.Close()
		s.server.speaking.Go(func() {
			s.server.says(`{"type":"tts","state":"start"}`, `{"type":"tts","state":"sentence_start","text":"one"}`)
			s.server.speaks(1200 * time.Millisecond)
			s.server.says(`{"type":"tts","state":"stop"}`, `{"type":"tts","state":"start"}`, `{"type":"tts","state":"sentence_start","text":"two"}`)
			s.server.speaks(1200 * time.Millisecond)
			s.server.says(`{"type":"tts","state":"stop"}`)
		})
		s.wait(4 * time.Second)
		s.expect(turn.Idle)
		var texts []string
		for len(notices.C) > 0 {
			if n := <-notices.C; n.What == turn.GotSentence {
				texts = append(texts, n.Text)
			}
		}
		if !slices.Equal(texts, []string{"one", "two"}) || s.loudspeaker.length() != 2400*time.Millisecond {
			s.Errorf("%q, %v of sound", texts, s.loudspeaker.length())
		}
	})
}

// A server that says goodbye after its answer ends the conversation, although the device
// listens again already.
func TestFarewell(t *testing.T) {
	play(t, nil, func(s *stage) {
		s.tap()
		s.talks(time.Second)
		s.server.answer(time.Second)
		s.wait(2 * time.Second)
		s.server.says(`{"type":"goodbye","session_id":"s"}`)
		s.wait(time.Second)
		s.expect(turn.Idle)
		s.expectSent("hello", "listen start auto", "listen start auto")
		if r := s.last(); r.Result == turn.ResultFailed {
			s.Errorf("record %+v", r)
		}
	})
}

// Answers about tools carry the id of the current session, and none without one.
func TestAnswersNameTheSession(t *testing.T) {
	play(t, nil, func(s *stage) {
		id := func() string {
			var m sent
			s.receive(0, []byte(`{"type":"mcp","payload":{"jsonrpc":"2.0","id":1,"method":"ping"}}`), nil, func(answer []byte) error { return json.Unmarshal(answer, &m) })
			synctest.Wait()
			if m.Type != message.MCP {
				s.Errorf("answer %+v", m)
			}
			return m.Session
		}
		before := id()
		s.press()
		s.talks(time.Second)
		during := id()
		s.server.answer(time.Second)
		s.wait(3 * time.Second)
		s.server.says(`{"type":"goodbye","session_id":"s"}`)
		synctest.Wait()
		if after := id(); before != "" || during != "s" || after != "" {
			s.Errorf("%q before, %q in, and %q after session s", before, during, after)
		}
	})
}

// A gateway that ends the new sessions of two exchanges may do so until the device
// connects anew.
func TestForgetfulServer(t *testing.T) {
	play(t, nil, func(s *stage) {
		s.server.script = func(m sent) {
			if m.Type == "listen" {
				s.server.after(10*time.Millisecond, `{"type":"goodbye","session_id":"`+m.Session+`"}`)
			}
		}
		for exchange := range 2 {
			s.press()
			s.talks(time.Second)
			s.release()
			s.expectSent(slices.Repeat([]string{"hello", "listen start manual"}, 2*exchange+2)...)
			if r := s.last(); r.Result != turn.ResultFailed || s.server.renewed != exchange {
				s.Errorf("exchange %d: renewed %d times, record %+v", exchange, s.server.renewed, r)
			}
		}
	})
}

// The goodbye of the previous session arrives late, with the id of the new one
// (C51).
func TestLateGoodbye(t *testing.T) {
	play(t, func(s *stage) { s.server.id, s.server.mute = "always", true }, func(s *stage) {
		s.tap()
		s.talks(time.Second)
		s.runner.Post(turn.Stop)
		s.wait(1200 * time.Millisecond) // the echo does not arrive
		s.press()
		s.wait(100 * time.Millisecond)
		s.server.says(`{"type":"goodbye","session_id":"always"}`)
		s.wait(time.Second)
		s.expect(turn.Listening)
		s.expectSent("hello", "listen start auto", "goodbye", "hello", "listen start manual")
	})
}

// A hello is sent only after the old session's goodbye has been echoed, or a
// second has passed.
func TestHelloAfterGoodbye(t *testing.T) {
	for name, mute := range map[string]bool{"echoed": false, "not echoed": true} {
		t.Run(name, func(t *testing.T) {
			play(t, func(s *stage) { s.server.mute = mute }, func(s *stage) {
				s.tap()
				s.talks(time.Second)
				s.runner.Post(turn.Stop)
				synctest.Wait()
				pressed := time.Now()
				s.press()
				s.wait(2 * time.Second)
				s.server.mu.Lock()
				defer s.server.mu.Unlock()
				m := s.server.sent
				wait := m[3].at.Sub(pressed)
				if m[3].Type != "hello" || mute != (wait >= time.Second) || wait > echoLimit+10*time.Millisecond {
					s.Errorf("%v after %v", m[3], wait)
				}
			})
		})
	}
}

// UDP does not work: an error is reported within 6 s of the announcement, and MQTT
// is avoided.
func TestDeadUDP(t *testing.T) {
	for name, unreachable := range map[string]uint64{"dropped by a firewall": 0, "port closed": 1} {
		t.Run(name, func(t *testing.T) {
			play(t, func(s *stage) { s.server.bury, s.server.deaf = true, unreachable }, func(s *stage) {
				s.settle(place(true, true))
				s.press()
				s.talks(time.Second)
				s.release()
				s.server.answer(10 * time.Second)
				s.wait(6100 * time.Millisecond)
				s.expect(turn.Idle)
				s.expectSent("hello", "listen start manual", "listen stop", "udp_timeout")
				if r := s.last(); r.Result != turn.ResultFailed || !strings.Contains(r.Cause, udpAddress) {
					s.Errorf("record %+v", r)
				}
				if transport, _, _ := s.choose(); transport != useWebSocket {
					s.Errorf("the next session is over %q", transport)
				}
			})
		})
	}
}

// An answer without sound is reported as an error, however short it is. UDP is
// given up immediately if no sound has ever arrived, otherwise after the second
// such answer, in the same session or not.
func TestAnswersWithoutSound(t *testing.T) {
	ask := func(s *stage, length time.Duration) turn.Record {
		s.press()
		s.talks(time.Second)
		s.release()
		s.server.answer(length)
		s.wait(length + 2*time.Second)
		s.expect(turn.Idle)
		return s.last()
	}
	next := func(s *stage) string { transport, _, _ := s.choose(); return transport }
	for name, tt := range map[string]struct {
		kind   string
		before bool // an answer is played first
		spoil  bool // the received packets are not sound
		length time.Duration
		cause  string // substring of the cause
		then   string // transport
	}{
		"no sound has ever arrived": {useMQTT, false, false, time.Second, udpAddress, useWebSocket},
		"sound arrived before":      {useMQTT, true, false, time.Second, udpAddress, useMQTT},
		"over WebSocket":            {useWebSocket, false, false, time.Second, errNoVoice.Error(), useMQTT},
		"not Opus, short":           {useMQTT, false, true, time.Second, errNotOpus.Error(), useMQTT},
		"not Opus, long":            {useMQTT, false, true, 10 * time.Second, errNotOpus.Error(), useMQTT},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(s *stage) { s.server.kind = tt.kind }, func(s *stage) {
				s.settle(place(true, true))
				if tt.before {
					if r := ask(s, time.Second); r.Result != turn.ResultSpoken {
						s.Errorf("before: %+v", r)
					}
				}
				s.server.bury, s.server.spoil = true, tt.spoil
				r := ask(s, tt.length)
				if r.Result != turn.ResultFailed || !strings.Contains(r.Cause, tt.cause) || !s.loudspeaker.cued(turn.ErrorCue) {
					s.Errorf("record %+v", r)
				}
				if got := next(s); got != tt.then {
					s.Errorf("the next session is over %q", got)
				}
				if !tt.before {
					return
				}
				s.server.says(`{"type":"goodbye","session_id":"s"}`)
				s.wait(time.Second)
				if r := ask(s, time.Second); r.Result != turn.ResultFailed {
					s.Errorf("again: %+v", r)
				}
				if got := next(s); got != useWebSocket {
					s.Errorf("after two, the next session is over %q", got)
				}
			})
		})
	}
}

// A UDP port that the server's host refuses is detected while the user still
// speaks.
func TestClosedPort(t *testing.T) {
	play(t, func(s *stage) { s.server.deaf = 3 }, func(s *stage) {
		s.settle(place(true, true))
		s.press()
		s.talks(time.Second)
		s.deliver(event{kind: dead, session: s.Link.session.number})
		s.wait(100 * time.Millisecond)
		s.expect(turn.Idle)
		if r := s.last(); r.Result != turn.ResultFailed || !strings.Contains(r.Cause, udpAddress) {
			s.Errorf("record %+v", r)
		}
		if transport, _, _ := s.choose(); transport != useWebSocket {
			s.Errorf("the next session is over %q", transport)
		}
	})
}

// A server that does not detect the end of speech: the device shows that it waits
// for the answer, and its timeout starts then.
func TestServerDoesNotDetectTheEndOfSpeech(t *testing.T) {
	play(t, nil, func(s *stage) {
		s.tap()
		s.talks(2 * time.Second)
		s.wait(deafTime - time.Second)
		s.expect(turn.Listening)
		s.wait(2 * time.Second)
		s.expect(turn.Thinking)
		s.expectSent("hello", "listen start auto", "listen stop")
		s.wait(answerLimit)
		s.expect(turn.Idle)
		if r := s.last(); r.Result != turn.ResultFailed {
			s.Errorf("record %+v", r)
		}
	})
}

// A server that is slow to generate a sentence is not mistaken for one behind a
// firewall.
func TestSlowVoice(t *testing.T) {
	play(t, nil, func(s *stage) {
		s.press()
		s.talks(time.Second)
		s.release()
		s.server.says(`{"type":"tts","state":"start"}`)
		s.wait(15 * time.Second)
		s.server.answer(time.Second)
		s.wait(3 * time.Second)
		s.expect(turn.Idle)
		if r := s.last(); r.Result != turn.ResultSpoken {
			s.Errorf("record %+v", r)
		}
	})
}

func TestRefusedHello(t *testing.T) {
	for name, answer := range map[string]string{
		"error":   `{"type":"error","message":"chat server unreachable"}`,
		"broken":  `{"type":"hello","transport":"udp","session_id":"s","udp":{"server":"x","port":0}}`,
		"goodbye": `{"type":"goodbye"}`,
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(s *stage) { s.server.delay = -1 }, func(s *stage) {
				s.server.script = func(m sent) {
					if m.Type == "hello" {
						s.server.after(20*time.Millisecond, `{"type":"goodbye"}`, answer)
					}
				}
				s.press()
				s.wait(500 * time.Millisecond)
				if name == "goodbye" { // no effect without a session (G19)
					s.expect(turn.Listening)
					s.wait(helloLimit)
				}
				s.expect(turn.Idle)
				if r := s.last(); r.Result != turn.ResultFailed {
					s.Errorf("record %+v", r)
				}
			})
		})
	}
}

// The server speaks without a turn: with a request (E), by the tool (A), or
// without either.
func TestServerSpeaks(t *testing.T) {
	for _, tt := range []struct {
		name   string
		begin  func(*stage)
		open   bool // a session is open
		sent   []string
		listen bool
	}{
		{"request", func(s *stage) {
			s.server.says(`{"type":"speak_request","session_id":"x","text":"tea","auto_listen":true}`)
		}, false, []string{"hello", "speak_ready ready"}, true},
		{"request in a session", func(s *stage) { s.server.says(`{"type":"speak_request","session_id":"x","text":"tea"}`) }, true, []string{"speak_ready ready"}, false},
		{"wake-up", func(s *stage) {
			s.server.says(`{"type":"mcp","payload":{"jsonrpc":"2.0","id":9999,"method":"tools/call","params":{"name":"self.remote_wakeup","arguments":{"reason":"[device_call] from aa"}}}}`)
		}, false, []string{"hello", "listen detect [device_call] from aa"}, true},
		{"without a request", func(*stage) {}, true, nil, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			play(t, func(s *stage) { s.config.AllowRemoteListening = true }, func(s *stage) {
				if tt.open {
					s.press()
					s.talks(time.Second)
					s.release()
					s.server.answer(time.Second)
					s.wait(3 * time.Second)
				}
				before := len(s.server.messages())
				tt.begin(s)
				s.wait(500 * time.Millisecond)
				heard := s.loudspeaker.length()
				s.server.answer(time.Second)
				s.wait(500 * time.Millisecond)
				s.expect(turn.Speaking)
				s.wait(2 * time.Second)
				if got := s.server.messages()[before:]; !slices.Equal(got[:len(tt.sent)], tt.sent) {
					s.Errorf("sent %q", got)
				}
				if d := s.loudspeaker.length() - heard; d < 900*time.Millisecond {
					s.Errorf("%v of a second were played", d)
				}
				if tt.listen {
					s.expect(turn.Listening)
				} else {
					s.expect(turn.Idle)
				}
			})
		})
	}
}

// The owner does not allow it, or the device is in use: the server gets no answer
// and gives up.
func TestServerMayNotSpeak(t *testing.T) {
	play(t, func(s *stage) { s.config.AllowRemoteSpeech = false }, func(s *stage) {
		s.server.says(`{"type":"speak_request","session_id":"x","text":"tea"}`)
		s.wait(time.Second)
		s.expectSent()
	})
}

// A written question does not open the microphone.
func TestQuestionInWriting(t *testing.T) {
	play(t, nil, func(s *stage) {
		s.server.script = func(m sent) {
			if m.State == "detect" {
				s.server.answer(time.Second)
			}
		}
		reply, err := s.runner.Ask(s.ctx, Name, "what time is it")
		if err != nil || reply.Text != "it is four" {
			s.Errorf("%+v, %v", reply, err)
		}
		s.wait(3 * time.Second)
		s.expectSent("hello", "listen detect what time is it")
		if s.server.heard() != 0 {
			s.Error("the microphone was open")
		}
	})
}

// The connection is lost in each state: the exchange fails immediately.
func TestConnectionLost(t *testing.T) {
	for _, story := range []func(*stage){
		func(*stage) {},
		func(s *stage) { s.server.delay = -1; s.press() },
		func(s *stage) { s.press(); s.talks(time.Second) },
		func(s *stage) { s.press(); s.talks(time.Second); s.release() },
		func(s *stage) { s.press(); s.talks(time.Second); s.release(); s.server.answer(9 * time.Second) },
		func(s *stage) {
			s.press()
			s.talks(time.Second)
			s.release()
			s.server.answer(9 * time.Second)
			s.wait(time.Second)
		},
	} {
		play(t, nil, func(s *stage) {
			story(s)
			s.put(s.ctx, event{kind: down, err: errors.New("cable")})
			s.wait(time.Second)
			s.expect(turn.Idle)
			if s.runner.Online(Name) {
				s.Error("triggers are not refused")
			}
			s.put(s.ctx, event{kind: up, channel: s.server})
			s.wait(time.Second)
			s.server.delay = 30 * time.Millisecond
			n := s.server.heard()
			s.press()
			s.talks(time.Second)
			if s.server.heard() == n {
				s.Errorf("the next press has no effect; sent %q", s.server.messages())
			}
		})
	}
}

// A failure of the speaker ends the exchange, not the session.
func TestLoudspeakerFails(t *testing.T) {
	play(t, nil, func(s *stage) {
		s.loudspeaker.broken = errors.New("the card is gone")
		s.press()
		s.talks(time.Second)
		s.release()
		s.server.answer(2 * time.Second)
		s.wait(3 * time.Second)
		s.expect(turn.Idle)
		s.loudspeaker.broken = nil
		s.wait(2 * time.Second)
		s.press()
		s.talks(time.Second)
		s.release()
		s.server.answer(2 * time.Second)
		s.wait(4 * time.Second)
		if r := s.last(); r.Result != turn.ResultSpoken {
			s.Errorf("record %+v", r)
		}
	})
}

// A card is unplugged during an answer, and plugged in again: the rest is played.
func TestCardIsUnplugged(t *testing.T) {
	play(t, nil, func(s *stage) {
		s.loudspeaker.breaks = 2 * time.Second
		s.press()
		s.talks(time.Second)
		s.release()
		s.server.answer(6 * time.Second)
		s.wait(9 * time.Second)
		s.expect(turn.Idle)
		if r := s.last(); r.Result != turn.ResultSpoken || s.loudspeaker.length() < 5500*time.Millisecond {
			s.Errorf("%v of 6 s were played: %+v", s.loudspeaker.length(), r)
		}
	})
}

// The microphone stays open while the answer plays, and the conversation continues
// in one exchange.
func TestRealtime(t *testing.T) {
	play(t, func(s *stage) { s.config.Listening = "realtime"; s.runner.Duplex = true }, func(s *stage) {
		s.tap()
		s.talks(time.Second)
		s.server.answer(2 * time.Second)
		s.wait(time.Second)
		s.expect(turn.Conversing)
		n := s.server.heard()
		s.wait(3 * time.Second)
		if more := s.server.heard() - n; more < 45 {
			s.Errorf("%d packets while the answer played", more)
		}
		s.expect(turn.Listening)
		s.expectSent("hello", "listen start realtime", "listen start realtime")
		s.wait(70 * time.Second) // silence
		s.expect(turn.Idle)
	})
}

// Silence ends a session; a long utterance does not.
func TestOnlySilenceEndsTheSession(t *testing.T) {
	play(t, func(s *stage) { s.config.Listening = "realtime"; s.runner.Duplex = true }, func(s *stage) {
		s.tap()
		s.talks(3 * time.Minute) // without a message from the server
		s.expect(turn.Listening)
		s.expectSent("hello", "listen start realtime")
		s.wait(50 * time.Second)
		s.expect(turn.Listening)
		s.wait(15 * time.Second)
		s.expect(turn.Idle)
	})
}

// Without echo cancellation the server would receive the device's own voice, so
// the microphone is closed.
func TestNoRealtimeWithEcho(t *testing.T) {
	play(t, func(s *stage) { s.config.Listening = "realtime" }, func(s *stage) {
		s.tap()
		s.wait(time.Second)
		s.expectSent("hello", "listen start auto")
	})
}

// A change of mode gives the session another id, and sets who ends utterances.
func TestModeUpdate(t *testing.T) {
	play(t, nil, func(s *stage) {
		s.tap()
		s.talks(time.Second)
		s.server.says(`{"type":"mode_update","mode":"music","session_id":"t","listening_mode":"manual"}`)
		s.server.answer(time.Second)
		s.wait(3 * time.Second)
		s.server.says(`{"type":"goodbye","session_id":"s"}`) // of the old session
		s.wait(time.Second)
		s.server.mu.Lock()
		defer s.server.mu.Unlock()
		m := s.server.sent
		if last := m[len(m)-1]; last.String() != "listen start manual" || last.Session != "t" {
			s.Errorf("sent %+v", last)
		}
	})
}

// A shutdown sends goodbye.
func TestShutDown(t *testing.T) {
	var server *server
	play(t, nil, func(s *stage) {
		server = s.server
		s.tap()
		s.talks(time.Second)
	})
	if m := server.messages(); m[len(m)-1] != "goodbye" {
		t.Errorf("sent %q", m)
	}
}

func TestPressWhileTheServerCalls(t *testing.T) {
	play(t, nil, func(s *stage) {
		s.press()
		s.talks(time.Second)
		s.release()
		s.server.answer(time.Second)
		s.wait(3 * time.Second)
		s.server.says(`{"type":"tts","state":"start"}`)
		s.press()
		s.wait(500 * time.Millisecond)
		s.expect(turn.Listening)
		m := s.server.messages()
		if m[len(m)-1] != "listen start manual" || !slices.ContainsFunc(m, func(m string) bool { return strings.HasPrefix(m, "abort") }) {
			s.Errorf("sent %q", m)
		}
	})
}

// Messages that other devices support have the effect that they can have here; the
// rest is ignored.
func TestOtherMessages(t *testing.T) {
	volume := make(chan int, 2)
	play(t, func(s *stage) {
		percent := []behaviors.Param{{Name: "percent", Kind: behaviors.Whole, Max: 100, Required: true}}
		set := func(_ context.Context, c behaviors.Call) (any, error) {
			volume <- c.Args.Whole("percent")
			return nil, nil
		}
		s.device.Registry.Add(behaviors.Verb{Name: "volume", About: "a", Power: behaviors.Safe, Params: percent, Do: set})
		s.device.Registry.Add(behaviors.Verb{Name: "start_volume", About: "a", Power: behaviors.Safe, Params: percent, Do: set})
	}, func(s *stage) {
		s.press()
		s.talks(time.Second)
		s.release()
		s.server.says(
			`{"type":"iot","commands":[{"name":"Lamp","method":"TurnOn"},{"name":"Speaker","method":"SetVolume","parameters":{"volume":35}}]}`,
			`{"type":"iot","commands":[{"name":"Speaker","method":"SetVolume","parameters":{"volume":"loud"}},7]}`,
			`{"type":"iot","commands":{}}`,
			`{"type":"card_unknown","rfid_uid":"04"}`, `{"type":"card_content","rfid_uid":"04","audio":[]}`, `{"type":"card_ai"}`,
			`{"type":"image","url":"https://h/x.png"}`, `{"type":"image_status","state":"x"}`, `{"type":"settings_update","version":3}`,
			`{"type":"settings_ping"}`, `{"type":"custom","payload":{"a":1}}`, `{"type":"custom"}`, `{"type":"llm_thinking"}`,
			`{"type":"emotion","emotion":"happy"}`, `{"type":"ready_for_greeting"}`, `{"type":"server","status":"x"}`, `{"type":"pong"}`,
		)
		s.wait(time.Second)
		s.expect(turn.Thinking)
		s.expectSent("hello", "listen start manual", "listen stop")
		for range 2 { // now and after a restart
			select {
			case v := <-volume:
				if v != 35 {
					s.Errorf("volume %d", v)
				}
			default:
				s.Error("the volume was not set")
			}
		}
		select {
		case v := <-volume:
			s.Errorf("saved volume %d", v)
		default:
		}
	})
}

// The counters are current, not as of the server's last message: with automatic
// listening none arrives while the user speaks.
func TestCountersAreCurrent(t *testing.T) {
	play(t, nil, func(s *stage) {
		s.tap()
		s.talks(time.Second)
		before := s.Stats().Wire.Sent
		s.talks(2 * time.Second)
		if sent := s.Stats().Wire.Sent; before == 0 || sent < before+30 {
			s.Errorf("%d packets were sent in 2 s, after %d", sent-before, before)
		}
	})
}
