package linto

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"lintod/agent/base/journal/journaltest"
	"lintod/agent/broker"
	"lintod/agent/broker/brokertest"
	"lintod/agent/turn"
	"lintod/audio"
)

// server is the platform's side of live transcription, in a bubble. The
// test determines its answers.
type server struct {
	*live
	log     journaltest.Buffer
	sound   []byte             // all chunks
	steps   []string           // all other messages, and "chunk" once for each run of chunks
	reply   func(step string)  // called for each message
	slow    atomic.Int64       // nanoseconds that the link takes for a chunk
	down    atomic.Bool        // not connected
	said    atomic.Int64       // messages
	mic     func() turn.Stream // for dictations
	mu      sync.Mutex
	notices []string // published notices

	rtt time.Duration

	// Behaviour of the newest server; see obey.
	opens    time.Duration // start-up time of its recogniser
	thinks   time.Duration // how long its recogniser takes for the last text
	words    string        // the last text
	running  bool
	open     time.Time
	heldTill time.Time
	got      []byte // what the recogniser of the current stream received
}

func newServer() *server {
	s := &server{opens: 20 * time.Millisecond, words: "hello world"}
	s.live = &live{
		publish: s.published, uplink: newUplink(), chunk: 1920, patience: 15 * time.Second,
		listen: func(context.Context, func()) (turn.Stream, error) { return s.mic(), nil },
		notify: func(w turn.What, text string) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.notices = append(s.notices, string(w)+": "+text)
		},
		doubt:      func() {},
		log:        slog.New(slog.NewTextHandler(&s.log, nil)),
		slot:       make(chan struct{}, 1),
		dictations: make(chan *dictation, 1),
	}
	s.uplink.set(true)
	s.reply = s.obey
	return s
}

func (s *server) published(ctx context.Context, step string, payload []byte, _ byte) error {
	if s.down.Load() {
		return broker.ErrOffline
	}
	if step == "chunk" {
		s.sound = append(s.sound, payload...)
		if s.running && !time.Now().Before(s.open) {
			s.got = append(s.got, payload...)
		}
		time.Sleep(time.Duration(s.slow.Load()))
	}
	if n := len(s.steps); step != "chunk" || n == 0 || s.steps[n-1] != step {
		s.steps = append(s.steps, step)
	}
	s.reply(step)
	return nil
}

// say sends a message from the platform, which arrives a moment later.
func (s *server) say(step, streaming string) {
	e, err := parseStreaming(step, []byte(`{"behavior":{"streaming":`+streaming+`}}`))
	if err != nil {
		panic(err)
	}
	n := s.said.Add(1) // keeps the messages in order
	time.AfterFunc(s.rtt+time.Millisecond+time.Duration(n)*time.Microsecond, func() {
		if now := s.stream.Load(); now != nil {
			now.take(e)
		}
	})
}

// obey is the newest server. It sends "started" before its recogniser can be
// reached, and keeps a stream for 3 s after its stop. A stream whose recogniser
// was not reached is kept without limit.
func (s *server) obey(step string) {
	now := time.Now()
	if s.running && !s.heldTill.IsZero() && !now.Before(s.heldTill) {
		s.running = false
	}
	switch {
	case step == "start" && s.running:
		s.say("error", `{"status":"started","message":"already started"}`)
	case step == "start":
		s.running, s.open, s.heldTill, s.got = true, now.Add(s.opens), time.Time{}, nil
		s.say("start", `{"status":"started"}`)
	case !s.running:
		s.say("error", `{"status":"`+step+`","message":"not started"}`)
	case step == "stop":
		s.say("stop", `{"status":"stop"}`)
		if now.Before(s.open) {
			return
		}
		if words := s.words; s.heldTill.IsZero() {
			time.AfterFunc(s.thinks, func() { s.say("chunk", `{"text":"`+words+`"}`) })
		}
		s.heldTill = now.Add(3 * time.Second)
	}
}

// obeyFinal is a server that ends streams properly: with a final result, after
// which the next stream may start immediately.
func (s *server) obeyFinal(step string) {
	switch step {
	case "start":
		s.running, s.open, s.got = true, time.Now(), nil
		s.say("start", `{"status":"started"}`)
	case "stop":
		s.say("stop", `{"status":"stop"}`)
		s.say("final", `{"status":"final","result":"{\"text\":\"hello world\"}"}`)
	}
}

// finishDictation ends the dictation and waits for its last text.
func (s *server) finishDictation() error {
	done, err := s.end()
	if err == nil {
		<-done
	}
	return err
}

// speech returns a microphone that delivers n frames, one every 20 ms.
func speech(n int) func(*audio.Frame) error {
	at := 0
	return func(f *audio.Frame) error {
		if at == n {
			return io.EOF
		}
		time.Sleep(audio.FrameTime)
		*f = numbered(at)
		at++
		return nil
	}
}

func numbered(n int) audio.Frame {
	f := audio.Frame{At: time.Now()}
	for i := range f.PCM {
		f.PCM[i] = int16(n*audio.FrameSamples + i)
	}
	return f
}

func soundOf(frames int) []byte {
	var b []byte
	for n := range frames * audio.FrameSamples {
		b = binary.LittleEndian.AppendUint16(b, uint16(int16(n)))
	}
	return b
}

// talk runs the stream of a turn.
func (s *server) talk(ctx context.Context, read func(*audio.Frame) error) (string, error) {
	return s.talkTo(ctx, read, nil)
}

func (s *server) talkTo(ctx context.Context, read func(*audio.Frame) error, enough func()) (string, error) {
	recording := newRecording(s.live, 0)
	var ended atomic.Bool
	var recorder sync.WaitGroup
	recorder.Go(func() {
		recording.record(nil, func(f *audio.Frame) error {
			if ended.Load() {
				return io.EOF
			}
			return read(f)
		})
	})
	defer recorder.Wait()
	defer ended.Store(true)
	st := newTranscription(s.live, recording)
	st.enough = enough
	if err := s.claim(ctx, st, claimLimit); err != nil {
		return "", err
	}
	defer s.vacate()
	return st.run(ctx)
}

// dictated runs a dictation of what read returns, until hearing ends.
func (s *server) dictated(ctx, hearing context.Context, read func(*audio.Frame) error) (string, error) {
	recording := newRecording(s.live, dictationMemory)
	hearing, stop := context.WithCancel(hearing)
	var recorder sync.WaitGroup
	recorder.Go(func() {
		recording.record(hearing.Done(), func(f *audio.Frame) error {
			if hearing.Err() != nil {
				return io.EOF
			}
			return read(f)
		})
	})
	defer recorder.Wait()
	defer stop()
	st := newTranscription(s.live, recording)
	st.hearing, st.dictated = hearing, true
	if err := s.claim(ctx, st, 0); err != nil {
		return "", err
	}
	defer s.vacate()
	return st.run(ctx)
}

// play runs story in a bubble.
func play(t *testing.T, story func(*testing.T, *server)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { story(t, newServer()) })
}

func TestStreamOfATurn(t *testing.T) {
	play(t, func(t *testing.T, s *server) {
		text, err := s.talk(t.Context(), speech(50))
		if err != nil || text != "hello world" {
			t.Errorf("understood %q, %v", text, err)
		}
		if !bytes.Equal(s.sound, soundOf(50)) {
			t.Error("the chunks are not what the microphone gave")
		}
		if want := []string{"start", "chunk", "stop"}; !slices.Equal(s.steps, want) {
			t.Errorf("steps %v, want %v", s.steps, want)
		}
		if n := s.chunks.Load(); n != 17 { // 50 frames in threes, and what remains
			t.Errorf("%d chunks, want 17", n)
		}
	})
}

// TestNothingBeforeStarted: a server may send "started" before it is ready
// for sound, and ignores sound before that.
func TestNothingBeforeStarted(t *testing.T) {
	play(t, func(t *testing.T, s *server) {
		began := time.Now()
		s.reply = func(step string) {
			switch step {
			case "start":
				time.AfterFunc(4*time.Second, func() { s.say("start", `{"status":"started"}`) })
			case "chunk":
				if time.Since(began) < 4*time.Second {
					t.Error("a chunk before started")
				}
			case "stop":
				s.say("final", `{"status":"final","result":"hello world"}`)
			}
		}
		if _, err := s.talk(t.Context(), speech(5)); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took < 4*time.Second || !bytes.Equal(s.sound, soundOf(5)) {
			t.Errorf("after %v: %d bytes of sound", took, len(s.sound))
		}
	})
}

func TestStreamsThatDoNotBegin(t *testing.T) {
	tests := []struct {
		name, step, answer string
		want               error
		says               string
		after              time.Duration
	}{
		{"silence", "", "", errPlatform, "", 5 * time.Second},
		{"older server's error", "start", `{"status":"error","message":"no STT"}`, errPlatform, "no STT", 0},
		{"newest server's error", "error", `{"status":"error"}`, errPlatform, "", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			play(t, func(t *testing.T, s *server) {
				s.reply = func(step string) {
					if step == "start" && tt.answer != "" {
						s.say(tt.step, tt.answer)
					}
				}
				began := time.Now()
				_, err := s.talk(t.Context(), speech(5))
				if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.says) {
					t.Errorf("error %v, want %v with %q", err, tt.want, tt.says)
				}
				if took := time.Since(began).Truncate(time.Second); took != tt.after || len(s.sound) > 0 {
					t.Errorf("after %v, with %d bytes of sound", took, len(s.sound))
				}
			})
		})
	}
}

// TestStreamLeftBehind starts a stream after a power cut: the server still has the
// old stream, and reports that in the form of its generation. No text of the old
// stream is attributed to the new one.
func TestStreamLeftBehind(t *testing.T) {
	for name, already := range map[string][2]string{
		"older server":  {"start", `{"status":"started","message":"already started"}`},
		"newest server": {"error", `{"status":"started","message":"already started"}`},
	} {
		for _, thinks := range []time.Duration{0, 1200 * time.Millisecond, 3 * time.Second, 3300 * time.Millisecond} {
			t.Run(fmt.Sprintf("%s, last word after %v", name, thinks), func(t *testing.T) {
				play(t, func(t *testing.T, s *server) {
					s.running, s.thinks, s.words = true, thinks, "open the door"
					s.reply = func(step string) {
						if step == "start" && s.running && (s.heldTill.IsZero() || time.Now().Before(s.heldTill)) {
							s.say(already[0], already[1])
							return
						}
						s.obey(step)
						if step == "stop" {
							s.thinks, s.words = 0, "hello world" // of the next stream
						}
					}
					text, err := s.talk(t.Context(), speech(50))
					if err != nil || text != "hello world" {
						t.Errorf("understood %q, %v", text, err)
					}
					if !bytes.Equal(s.got, soundOf(50)) {
						t.Error("the recogniser did not receive all of the microphone's sound")
					}
					if n := slices.Index(s.steps, "chunk"); n < 0 || strings.Count(strings.Join(s.steps[:n], " "), "stop") != 1 {
						t.Errorf("steps %v; want one stop, because each one ends the stream that runs 3 s later", s.steps)
					}
				})
			})
		}
	}
}

// TestStreamThatIsNeverReleased fails after some seconds, and sends no sound to the
// old stream.
func TestStreamThatIsNeverReleased(t *testing.T) {
	play(t, func(t *testing.T, s *server) {
		s.running, s.open = true, time.Now().Add(time.Hour) // its recogniser is dead
		began := time.Now()
		_, err := s.talk(t.Context(), speech(1e6))
		if took := time.Since(began); !errors.Is(err, errPlatform) || took < releaseLimit || took > releaseLimit+time.Second {
			t.Errorf("error %v after %v", err, took)
		}
		if len(s.sound) > 0 {
			t.Errorf("%d bytes of sound were sent to the earlier stream", len(s.sound))
		}
	})
}

// TestTurnAfterTurn runs several turns on the newest server, which refuses each
// start for 3 s after a stop: each turn is transcribed, and its recogniser
// receives all of its sound, from the first moment.
func TestTurnAfterTurn(t *testing.T) {
	for _, opens := range []time.Duration{0, 20 * time.Millisecond, 400 * time.Millisecond} {
		for _, thinks := range []time.Duration{0, 1200 * time.Millisecond, 3 * time.Second} {
			for _, pause := range []time.Duration{0, time.Second, 2900 * time.Millisecond, 3100 * time.Millisecond, 10 * time.Second} {
				t.Run(fmt.Sprintf("opens after %v, last word after %v, pause %v", opens, thinks, pause), func(t *testing.T) {
					play(t, func(t *testing.T, s *server) {
						s.opens, s.thinks = opens, thinks
						for n := range 5 {
							s.words = fmt.Sprint("words ", n)
							text, err := s.talk(t.Context(), speech(50+n))
							if err != nil || text != s.words {
								t.Errorf("turn %d: understood %q, %v", n, text, err)
							}
							if !bytes.Equal(s.got, soundOf(50+n)) {
								t.Errorf("turn %d: the recogniser got %d bytes", n, len(s.got))
							}
							time.Sleep(pause)
						}
					})
				})
			}
		}
	}
}

// TestTextAfterTheStopEndsTheWait: a text after the stop is the last one.
func TestTextAfterTheStopEndsTheWait(t *testing.T) {
	play(t, func(t *testing.T, s *server) {
		var last time.Time
		s.reply = func(step string) {
			if step == "stop" {
				last = time.Now()
			}
			s.obey(step)
		}
		if _, err := s.talk(t.Context(), speech(50)); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(last); took > moreTime+10*time.Millisecond {
			t.Errorf("waited %v after the stop", took)
		}
	})
}

// TestStreamEndsWithAnother is the newest server with a recogniser whose results
// contain words: it forgets a stream when it stops, and 3 s later also forgets the
// stream that runs then. The turn that runs then is sent again.
func TestStreamEndsWithAnother(t *testing.T) {
	play(t, func(t *testing.T, s *server) {
		s.rtt = 150 * time.Millisecond // some chunks are in flight when the stream ends
		var ends []time.Time
		s.reply = func(step string) {
			for len(ends) > 0 && !time.Now().Before(ends[0]) {
				ends, s.running = ends[1:], false
			}
			switch {
			case step == "start" || !s.running:
				s.obey(step)
			case step == "stop":
				s.say("stop", `{"status":"stop"}`)
				s.say("final", `{"status":"final","result":"{\"text\":\"hello world\",\"words\":[]}"}`)
				s.running, ends = false, append(ends, time.Now().Add(3*time.Second))
			}
		}
		for range 3 {
			text, err := s.talk(t.Context(), speech(125))
			if err != nil || text != "hello world" {
				t.Errorf("understood %q, %v", text, err)
			}
			if !bytes.Equal(s.got, soundOf(125)) {
				t.Errorf("the recogniser got %d bytes of %d", len(s.got), len(soundOf(125)))
			}
			time.Sleep(time.Second)
		}
	})
}

// TestNoResponseToTheStream is a platform whose recogniser was never reached: the turn
// fails, so that the utterance can be sent as a file, and the next turn stops the
// stream immediately.
func TestNoResponseToTheStream(t *testing.T) {
	play(t, func(t *testing.T, s *server) {
		s.opens = 4 * time.Second
		if text, err := s.talk(t.Context(), speech(50)); !errors.Is(err, errPlatform) {
			t.Errorf("understood %q, %v", text, err)
		}
		s.opens = 0
		time.Sleep(time.Second)
		if text, err := s.talk(t.Context(), speech(50)); err != nil || text != "hello world" {
			t.Errorf("the next turn: %q, %v", text, err)
		}
	})
}

func TestFinalResults(t *testing.T) {
	tests := []struct {
		name   string
		during [][2]string // said after the first chunk
		end    [][2]string // said after stop
		want   string
	}{
		{"final contains everything", [][2]string{{"chunk", `{"text":"one two"}`}}, [][2]string{{"final", `{"status":"final","result":"{\"text\":\"one two three\"}"}`}}, "one two three"},
		{"final contains the rest", [][2]string{{"chunk", `{"text":"one two"}`}}, [][2]string{{"final", `{"status":"final","result":"{\"text\":\"three\"}"}`}}, "one two three"},
		{"final is empty", [][2]string{{"chunk", `{"text":"one two"}`}}, [][2]string{{"final", `{"status":"final","result":"{\"text\":\"\"}"}`}}, "one two"},
		{"result is an object", nil, [][2]string{{"final", `{"status":"final","result":{"text":"one","words":[]}}`}}, "one"},
		{"result is text", nil, [][2]string{{"final", `{"status":"final","result":"one"}`}}, "one"},
		{"stop contains the text", nil, [][2]string{{"stop", `{"status":"stop","text":"one","words":[]}`}}, "one"},
		{"no final", [][2]string{{"chunk", `{"text":"one"}`}, {"chunk", `{"partial":"tw"}`}}, [][2]string{{"stop", `{"status":"stop"}`}}, "one tw"},
		{"nothing at all", [][2]string{{"chunk", `{"partial":"one"}`}, {"chunk", `{"text":"one two"}`}}, nil, "one two"},
		{"text is the last one", [][2]string{{"chunk", `{"text":"one"}`}}, [][2]string{{"stop", `{"status":"stop"}`}, {"chunk", `{"text":"two"}`}}, "one two"},
		{"text of the utterance before the last", nil, [][2]string{{"chunk", `{"text":"one"}`}, {"stop", `{"status":"stop"}`}, {"chunk", `{"partial":"tw"}`}, {"chunk", `{"text":"two"}`}}, "one two"},
		{"empty text", nil, [][2]string{{"stop", `{"status":"stop"}`}, {"chunk", `{"text":""}`}}, ""},
		{"nothing was understood", nil, [][2]string{{"final", `{"status":"final"}`}}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			play(t, func(t *testing.T, s *server) {
				s.reply = func(step string) {
					switch {
					case step == "start":
						s.obeyFinal(step)
					case step == "chunk" && s.chunks.Load() == 0:
						for _, m := range tt.during {
							s.say(m[0], m[1])
						}
					case step == "stop":
						for _, m := range tt.end {
							s.say(m[0], m[1])
						}
					}
				}
				if text, err := s.talk(t.Context(), speech(9)); err != nil || text != tt.want {
					t.Errorf("understood %q, %v; want %q", text, err, tt.want)
				}
			})
		})
	}
}

// TestSilentEndIsNotWaitedForTwice: a platform that sent nothing after a stop
// is not given 3.5 s the next time; one that sent something is, however late
// that was.
func TestSilentEndIsNotWaitedForTwice(t *testing.T) {
	play(t, func(t *testing.T, s *server) {
		quiet := func(step string) {
			switch step {
			case "start":
				s.say("start", `{"status":"started"}`)
			case "chunk":
				s.say("chunk", `{"partial":"hello"}`)
			}
		}
		took := func() time.Duration {
			var ended time.Time
			read := speech(3)
			text, err := s.talk(t.Context(), func(f *audio.Frame) error {
				err := read(f)
				if err != nil {
					ended = time.Now()
				}
				return err
			})
			if err != nil || text != "hello" {
				t.Errorf("understood %q, %v", text, err)
			}
			return time.Since(ended) - openingTime
		}
		s.reply = quiet
		for _, most := range []time.Duration{finalLimit, shortFinal} {
			if took := took(); took < most-100*time.Millisecond || took > most+100*time.Millisecond {
				t.Errorf("waited %v, want %v", took, most)
			}
		}
		s.reply = s.obeyFinal
		_, _ = s.talk(t.Context(), speech(0))
		if s.afterStop.Load() != someWords {
			t.Error("a server that sends final results again is not waited for again")
		}
	})
}

// TestPlatformEndsTheStream: sending stops immediately, and the transcript
// so far is the result.
func TestPlatformEndsTheStream(t *testing.T) {
	play(t, func(t *testing.T, s *server) {
		s.reply = func(step string) {
			switch {
			case step == "start":
				s.obey(step)
			case step == "chunk" && len(s.sound) == 10*1920:
				s.say("stop", `{"status":"stop"}`)
				time.AfterFunc(time.Second, func() { s.say("final", `{"status":"final","result":"enough"}`) })
			}
		}
		ended := false
		text, err := s.talkTo(t.Context(), speech(1000), func() { ended = true })
		if err != nil || text != "enough" || !ended {
			t.Errorf("understood %q, %v, ended %v", text, err, ended)
		}
		if len(s.sound) != 10*1920 || !slices.Equal(s.steps, []string{"start", "chunk"}) {
			t.Errorf("%d bytes were sent, steps %v", len(s.sound), s.steps)
		}
	})
}

// TestReconnectInTheMiddle: the platform still has the old stream, which is
// stopped. A turn is then sent again from its beginning, so that nothing is missing
// that was in flight when the connection was lost. A dictation continues where it
// was.
func TestReconnectInTheMiddle(t *testing.T) {
	for _, dictated := range []bool{false, true} {
		t.Run(fmt.Sprintf("dictated %v", dictated), func(t *testing.T) {
			play(t, func(t *testing.T, s *server) {
				s.words = "good"
				s.reply = func(step string) {
					s.obey(step)
					if step == "stop" {
						s.words = "morning"
					}
				}
				time.AfterFunc(time.Second, func() { s.down.Store(true); s.uplink.set(false) })
				time.AfterFunc(3*time.Second, func() { s.down.Store(false); s.uplink.set(true) })
				talk, want := s.talk, "morning"
				if dictated {
					want = "good morning"
					talk = func(ctx context.Context, read func(*audio.Frame) error) (string, error) {
						return s.dictated(ctx, ctx, read)
					}
				}
				text, err := talk(t.Context(), speech(200))
				if err != nil || text != want {
					t.Errorf("understood %q, %v; want %q", text, err, want)
				}
				if sound := map[bool][]byte{false: s.got, true: s.sound}[dictated]; !bytes.Equal(sound, soundOf(200)) {
					t.Error("the chunks are not what the microphone gave")
				}
				if s.restarts.Load() != 1 || !slices.ContainsFunc(s.notices, func(n string) bool { return strings.HasPrefix(n, "streaming: interrupted: the connection was lost") }) {
					t.Errorf("%d restarts; notices %q", s.restarts.Load(), s.notices)
				}
			})
		})
	}
}

// TestDictationIsForgotten: after a restart of the platform, sound that it has
// not transcribed is sent again, and other sound is not.
func TestDictationIsForgotten(t *testing.T) {
	play(t, func(t *testing.T, s *server) {
		s.reply = func(step string) {
			switch {
			case step == "chunk" && len(s.sound) == 60*640:
				s.say("chunk", `{"text":"good"}`)
			case step == "chunk" && len(s.sound) == 120*640:
				s.running = false
				s.say("error", `{"status":"chunk","message":"not started"}`)
			case step == "stop":
				s.words = "morning"
				s.obey(step)
			default:
				s.obey(step)
			}
		}
		text, err := s.dictated(t.Context(), t.Context(), speech(200))
		if err != nil || text != "good morning" {
			t.Errorf("understood %q, %v", text, err)
		}
		if all := soundOf(200); !bytes.HasSuffix(all, s.got) || len(s.got) < len(all)-63*640 {
			t.Errorf("the new stream received %d bytes", len(s.got))
		}
	})
}

// TestTurnWithoutConnectionFails: a turn gives up after a while.
func TestTurnWithoutConnectionFails(t *testing.T) {
	play(t, func(t *testing.T, s *server) {
		time.AfterFunc(time.Second, func() { s.down.Store(true); s.uplink.set(false) })
		_, err := s.talk(t.Context(), speech(1e6))
		if !errors.Is(err, errAway) {
			t.Errorf("error %v, want %v", err, errAway)
		}
	})
}

// TestPlatformForgets is a platform that was restarted: it reports an error
// for every chunk. A turn tries once more, a dictation keeps trying.
func TestPlatformForgets(t *testing.T) {
	play(t, func(t *testing.T, s *server) {
		s.reply = func(step string) {
			if step == "chunk" {
				s.say("error", `{"status":"chunk","message":"no stream"}`)
				return
			}
			s.obey(step)
		}
		_, err := s.talk(t.Context(), speech(1e6))
		if !errors.Is(err, errForgotten) || s.restarts.Load() != 1 {
			t.Errorf("error %v after %d restarts", err, s.restarts.Load())
		}
	})
	play(t, func(t *testing.T, s *server) {
		var healed atomic.Bool
		s.reply = func(step string) {
			if step == "chunk" && !healed.Load() {
				s.say("error", `{"status":"chunk","message":"no stream"}`)
				return
			}
			s.obey(step)
		}
		time.AfterFunc(time.Minute, func() { healed.Store(true) })
		hearing, stop := context.WithTimeout(t.Context(), 2*time.Minute)
		defer stop()
		_, err := s.dictated(t.Context(), hearing, speech(1e6))
		if n := s.restarts.Load(); err != nil || n < 3 || n > 20 {
			t.Errorf("error %v after %d restarts; want a few, each after a longer pause", err, n)
		}
	})
}

// TestTurnThatIsDropped releases the platform's only stream immediately.
func TestTurnThatIsDropped(t *testing.T) {
	play(t, func(t *testing.T, s *server) {
		ctx, cancel := context.WithCancelCause(t.Context())
		dropped := errors.New("dropped")
		time.AfterFunc(time.Second, func() { cancel(dropped) })
		read := speech(1e6)
		_, err := s.talk(ctx, func(f *audio.Frame) error {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return read(f)
		})
		if !errors.Is(err, dropped) || s.steps[len(s.steps)-1] != "stop" {
			t.Errorf("error %v, steps %v", err, s.steps)
		}
		if text, err := s.talk(t.Context(), speech(3)); err != nil || text != "hello world" {
			t.Errorf("the next turn: %q, %v", text, err)
		}
	})
}

// TestTurnThatIsDroppedWhileItOpens leaves a stream behind, because the stop does
// not reach the recogniser; the next turn is transcribed nevertheless.
func TestTurnThatIsDroppedWhileItOpens(t *testing.T) {
	for _, after := range []time.Duration{0, time.Millisecond, 100 * time.Millisecond, 450 * time.Millisecond} {
		t.Run(after.String(), func(t *testing.T) {
			play(t, func(t *testing.T, s *server) {
				s.opens, s.rtt = 400*time.Millisecond, 40*time.Millisecond
				ctx, cancel := context.WithTimeout(t.Context(), after)
				defer cancel()
				if _, err := s.talk(ctx, speech(100)); err == nil {
					t.Error("a dropped turn returned a transcript")
				}
				text, err := s.talk(t.Context(), speech(50))
				if err != nil || text != "hello world" || !bytes.Equal(s.got, soundOf(50)) {
					t.Errorf("understood %q, %v; the recogniser got %d bytes", text, err, len(s.got))
				}
			})
		})
	}
}

// frames is a microphone that delivers frames as fast as the bubble's clock.
type frames struct{ n int }

func (c *frames) Close() error { return nil }
func (c *frames) Read(ctx context.Context, f []audio.Frame) (int, error) {
	select {
	case <-time.After(audio.FrameTime / 10): // ten times real time
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
	f[0] = numbered(c.n)
	c.n++
	return 1, nil
}

// TestTenMinutes: a dictation of ten minutes, through the hub that owns the
// microphone, contains every sample of the microphone exactly once.
func TestTenMinutes(t *testing.T) {
	play(t, func(t *testing.T, s *server) {
		ctx, cancel := context.WithCancel(t.Context())
		hub := &audio.Hub{Log: slog.New(slog.DiscardHandler), Open: func(context.Context) (audio.Input, error) { return &frames{}, nil }}
		s.mic = func() turn.Stream { return hub.Listen(false) }
		var all sync.WaitGroup
		all.Go(func() { s.runDictations(ctx) })
		if err := s.start(ctx); err != nil {
			t.Fatal(err)
		}
		all.Go(func() { _ = hub.Run(ctx) })
		time.Sleep(time.Minute) // ten minutes of sound
		if _, err := s.talk(ctx, speech(1)); !errors.Is(err, errDictating) {
			t.Errorf("a live turn while dictating got %v", err)
		}
		if err := s.start(ctx); !errors.Is(err, errDictating) {
			t.Errorf("a second dictation got %v", err)
		}
		if err := s.finishDictation(); err != nil {
			t.Fatal(err)
		}
		n := len(s.sound) / 640
		if n < 29990 || !bytes.Equal(s.sound, soundOf(n)) {
			t.Errorf("%d frames arrived, and they are not what the microphone gave", n)
		}
		if err := s.finishDictation(); !errors.Is(err, errNoMore) {
			t.Errorf("ending again: %v", err)
		}
		cancel()
		all.Wait()
	})
}

// recorded is a microphone stream of n frames, which are delivered as fast as they
// are read.
type recorded struct{ at, n int }

func (*recorded) SetDelay(time.Duration) {}
func (*recorded) Dropped() uint64        { return 0 }
func (c *recorded) Close() error         { return nil }
func (c *recorded) Read(ctx context.Context, f *audio.Frame) error {
	if c.at == c.n {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	*f = numbered(c.at)
	c.at++
	return nil
}

// TestTenMinutesOverTheWire is the same with a real broker, as fast as possible.
func TestTenMinutesOverTheWire(t *testing.T) {
	const frames = 30000
	s := startAt(brokertest.Start(t, "allow_anonymous true", "max_queued_messages 0"), t, func(l *Link) {
		l.Listen = func(context.Context, func()) (turn.Stream, error) { return &recorded{n: frames}, nil }
	})
	s.dictate()
	var sound []byte
	for len(sound) < frames*2*audio.FrameSamples {
		sound = append(sound, s.next("streaming/chunk", "").Payload...)
	}
	s.finishDictation()
	if !bytes.Equal(sound, soundOf(frames)) {
		t.Error("the chunks are not what the microphone gave")
	}
	total := 0
	for _, m := range s.watch.All() {
		if strings.HasSuffix(m.Topic, "/streaming/chunk") {
			total += len(m.Payload)
		}
	}
	if total != len(sound) {
		t.Errorf("%d bytes were sent after the last sample", total-len(sound))
	}
}

// TestSlowLink: sound that the link cannot send is dropped by the
// microphone's own queue, oldest first, and counted exactly.
func TestSlowLink(t *testing.T) {
	play(t, func(t *testing.T, s *server) {
		ctx, cancel := context.WithCancel(t.Context())
		hub := &audio.Hub{Log: slog.New(slog.DiscardHandler), Open: func(context.Context) (audio.Input, error) { return &frames{}, nil }}
		s.mic = func() turn.Stream { return hub.Listen(false) }
		s.slow.Store(int64(40 * time.Millisecond)) // for 6 ms of sound in the bubble
		var all sync.WaitGroup
		all.Go(func() { s.runDictations(ctx) })
		if err := s.start(ctx); err != nil {
			t.Fatal(err)
		}
		all.Go(func() { _ = hub.Run(ctx) })
		time.Sleep(10 * time.Second)
		go func() { _ = s.finishDictation() }()
		for s.dictation.Load() != nil {
			time.Sleep(10 * time.Millisecond)
			s.slow.Store(0)
		}
		cancel()
		all.Wait()
		// The samples are numbered, so the last one is their total number.
		arrived, lost := len(s.sound)/2, int(s.lost.Load())
		last := binary.LittleEndian.Uint16(s.sound[len(s.sound)-2:])
		if lost == 0 || uint16(arrived+lost-1) != last {
			t.Errorf("%d samples arrived and %d count as lost, but the last one was number %d", arrived, lost, last)
		}
		if n := strings.Count(s.log.String(), "level=WARN"); n != 2 { // at the start, and at the end
			t.Errorf("%d warnings:\n%s", n, s.log.String())
		}
	})
}

// TestDictationIsStoppedOffline: stopping does not wait for the connection.
func TestDictationIsStoppedOffline(t *testing.T) {
	play(t, func(t *testing.T, s *server) {
		ctx, cancel := context.WithCancel(t.Context())
		s.mic = func() turn.Stream { return &endless{} }
		var all sync.WaitGroup
		all.Go(func() { s.runDictations(ctx) })
		if err := s.start(ctx); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		s.down.Store(true)
		s.uplink.set(false)
		time.Sleep(time.Hour)
		if !s.stats().Dictating {
			t.Error("the dictation gave up")
		}
		began := time.Now()
		if err := s.finishDictation(); err != nil || time.Since(began) > time.Second {
			t.Errorf("stopping took %v, %v", time.Since(began), err)
		}
		if err := s.start(ctx); !errors.Is(err, errAway) {
			t.Errorf("a dictation without a connection: %v", err)
		}
		cancel()
		all.Wait()
	})
}

type endless struct{ n int }

func (*endless) SetDelay(time.Duration) {}
func (*endless) Dropped() uint64        { return 0 }
func (e *endless) Close() error         { return nil }
func (e *endless) Read(ctx context.Context, f *audio.Frame) error {
	select {
	case <-time.After(audio.FrameTime):
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	*f = numbered(e.n)
	e.n++
	return nil
}

// TestDictationPublishesItsTranscript: each utterance is published once,
// and the journal contains none.
func TestDictationPublishesItsTranscript(t *testing.T) {
	play(t, func(t *testing.T, s *server) {
		s.reply = func(step string) {
			switch {
			case step == "chunk" && s.chunks.Load() == 3:
				s.say("chunk", `{"partial":"good"}`)
			case step == "chunk" && s.chunks.Load() == 6:
				s.say("chunk", `{"text":"good morning"}`)
			case step == "stop":
				s.say("final", `{"status":"final","result":"{\"text\":\"good morning everybody\"}"}`)
			default:
				s.obey(step)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		s.mic = func() turn.Stream { return &endless{} }
		var all sync.WaitGroup
		all.Go(func() { s.runDictations(ctx) })
		if err := s.start(ctx); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if err := s.finishDictation(); err != nil {
			t.Fatal(err)
		}
		want := []string{"partial: good", "transcript: good morning", "transcript: everybody", "streaming: dictation ended"}
		if !slices.Equal(s.notices, want) {
			t.Errorf("published %q, want %q", s.notices, want)
		}
		if last := s.stats().Transcript; last != "everybody" {
			t.Errorf("the status shows %q", last)
		}
		if strings.Contains(s.log.String(), "morning") {
			t.Errorf("the journal contains what people said:\n%s", s.log.String())
		}
		cancel()
		all.Wait()
	})
}

func TestParseStreaming(t *testing.T) {
	tests := []struct {
		name, step, payload string
		want                streamEvent
	}{
		{"error of the router", "start", `{"behavior":{"error":{"status":"error","message":{"message":"no flow","code":500}}}}`, streamEvent{streamFailed, "no flow (code 500)"}},
		{"error outside of behavior", "chunk", `{"status":"error","message":"not started"}`, streamEvent{streamMissing, "not started"}},
		{"error without a reason", "error", `{"behavior":{"streaming":{"status":"error"}}}`, streamEvent{streamFailed, "no reason given"}},
		{"stop that was refused", "stop", `{"behavior":{"streaming":{"status":"error","message":"not started"}}}`, streamEvent{streamMissing, "not started"}},
		{"empty partial", "chunk", `{"behavior":{"streaming":{"partial":""}}}`, streamEvent{streamPartial, ""}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got, err := parseStreaming(tt.step, []byte(tt.payload)); err != nil || got != tt.want {
				t.Errorf("got %+v, %v; want %+v", got, err, tt.want)
			}
		})
	}
	for _, payload := range []string{``, `null`, `[]`, `{}`, `{"behavior":{}}`, `{"behavior":{"streaming":{}}}`, `{"behavior":{"streaming":{"text":5}}}`} {
		if e, err := parseStreaming("chunk", []byte(payload)); err == nil {
			t.Errorf("%q was parsed as %+v", payload, e)
		}
	}
}

func FuzzParseStreaming(f *testing.F) {
	f.Add("final", []byte(`{"behavior":{"streaming":{"status":"final","result":"{\"text\":\"x\"}"}}}`))
	f.Add("error", []byte(`{"behavior":{"streaming":{"status":"started","message":"already"}}}`))
	f.Fuzz(func(_ *testing.T, step string, payload []byte) {
		if e, err := parseStreaming(step, payload); err == nil {
			var heard transcript
			heard.utterance(e.text)
			heard.finish(e.text)
			_ = heard.soFar()
		}
	})
}

// BenchmarkStream measures the work for one chunk of 60 ms, without the network.
func BenchmarkStream(b *testing.B) {
	s := newServer()
	s.publish = func(context.Context, string, []byte, byte) error { return nil }
	r := newRecording(s.live, 3*audio.FrameSamples)
	st := newTranscription(s.live, r)
	f := numbered(1)
	b.ReportAllocs()
	for b.Loop() {
		for range 3 {
			r.add(f.PCM[:])
		}
		e, ok := st.sound()
		if !ok || e.kind != streamSound {
			b.Fatal(e)
		}
		if err := st.do(b.Context(), send, sending, e); err != nil {
			b.Fatal(err)
		}
		r.forget()
	}
}
