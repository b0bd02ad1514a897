package jitter

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"lintod/audio"
	"lintod/audio/native"
)

func seeded(n int) *rand.Rand { return rand.New(rand.NewPCG(uint64(n), 7)) }

func run(from, to uint32) (list []uint32) {
	for ; from != to; from++ {
		list = append(list, from)
	}
	return list
}

// A network without faults: every packet is played once, 120 ms after its arrival.
func TestGoodNetwork(t *testing.T) {
	for _, ahead := range []int{0, 1, 4} {
		synctest.Test(t, func(t *testing.T) {
			r, w := newRoom(), network{rnd: seeded(1)}
			r.Start()
			r.listen()
			r.deliver(w.carry(time.Now(), 1, 101, ahead, always))
			r.Stop()
			r.finish(t)
			if !slices.Equal(r.numbers(), run(1, 101)) || len(r.frames) != 100 || r.dry != 0 {
				t.Errorf("%d ahead: %d frames, dry %d times: %v", ahead, len(r.frames), r.dry, r.numbers())
			}
			if d := r.frames[0].at.Sub(r.frames[0].sent); d > startTarget || ahead == 4 && d != 0 {
				t.Errorf("%d ahead: the first is played %v after its arrival", ahead, d)
			}
		})
	}
}

// The network of the acceptance test, with several seeds, and a worse one. Speech
// lasts for a minute of storm; then the network is calm.
func TestStormAndCalm(t *testing.T) {
	for seed := range 20 {
		for _, ahead := range []int{0, 3} {
			synctest.Test(t, func(t *testing.T) {
				r, start := newRoom(), time.Now()
				w := network{rnd: seeded(seed), loss: 0.1, jitter: 100 * time.Millisecond, reorder: 0.05, double: 0.1}
				r.Start()
				r.listen()
				r.deliver(w.carry(start, 1, 1001, ahead, sentences))
				stats := r.Stats()
				calm := network{rnd: w.rnd}
				after := time.Now()
				r.deliver(calm.carry(after, 1001, 1401, 0, sentences))
				r.Stop()
				r.finish(t)
				var highest, settled time.Duration
				heardSpeech := map[uint32]bool{}
				for i, h := range r.frames {
					if h.concealed {
						continue
					}
					heardSpeech[h.number] = heardSpeech[h.number] || h.loud
					d := h.at.Sub(h.sent)
					if i > 5 || ahead == 0 { // packets sent ahead wait for their time
						highest = max(highest, d)
					}
					if h.sent.Sub(after) > 10*time.Second {
						settled = max(settled, d)
					}
				}
				if highest > 600*time.Millisecond || settled > 200*time.Millisecond {
					t.Errorf("seed %d, %d ahead: at most %v, and %v after 10 s of calm", seed, ahead, highest, settled)
				}
				missing := 0
				for number := uint32(1); number < 1001; number++ {
					if sentences(number) && !heardSpeech[number] {
						missing++
					}
				}
				if missing > 130 { // a hundred or so were lost on the way
					t.Errorf("seed %d: of 1000 packets, %d of speech were not played: %+v", seed, missing, stats)
				}
				if seed == 0 {
					t.Logf("%d ahead: highest %v, settled %v, %d not played, dry %d times, storm %+v, end %+v", ahead, highest, settled, missing, r.dry, stats, r.Stats())
				}
				checkOrder(t, r)
			})
		}
	}
}

// checkOrder: each packet is played at most once, in order, and no more than three
// consecutive frames are concealed.
func checkOrder(t *testing.T, r *room) {
	t.Helper()
	numbers := r.numbers()
	for i := 1; i < len(numbers); i++ {
		if numbers[i] <= numbers[i-1] {
			t.Fatalf("%d is played after %d", numbers[i], numbers[i-1])
		}
	}
	concealed := 0
	for _, h := range r.frames {
		if !h.concealed {
			concealed = 0
		} else if concealed++; concealed > maxConcealed {
			t.Fatal("more than three consecutive frames are concealed")
		}
	}
}

// Packets of a sentence that arrive after tts stop are played; those of the next
// answer are not mixed with them.
func TestPacketsAfterStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, w := newRoom(), network{rnd: seeded(1)}
		r.Start()
		r.listen()
		r.deliver(w.carry(time.Now(), 1, 21, 0, always))
		r.Stop()
		time.Sleep(100 * time.Millisecond)
		r.deliver(w.carry(time.Now(), 21, 24, 2, always))
		stopped := time.Now()
		r.finish(t)
		if !slices.Equal(r.numbers(), run(1, 24)) {
			t.Errorf("heard %v", r.numbers())
		}
		if d := time.Since(stopped); d > tail+200*time.Millisecond {
			t.Errorf("the answer ended %v after its last packet", d)
		}
		if r.Stats().Playing {
			t.Error("it still plays")
		}
		r.Put(24, sent(24, time.Now(), true)) // outside
		time.Sleep(time.Second)
		r.Put(25, sent(25, time.Now(), true))
		r.Start()
		r.listen()
		r.deliver(w.carry(time.Now(), 26, 30, 0, always))
		r.Stop()
		r.finish(t)
		if !slices.Equal(r.numbers(), slices.Concat(run(1, 24), run(25, 30))) {
			t.Errorf("heard %v", r.numbers())
		}
		if st := r.Stats(); st.Lost != 0 || st.Concealed != 0 || st.Dropped != 1 {
			t.Errorf("%+v", st)
		}
	})
}

// Packets before tts start are played, the newest 600 ms of them, if it follows
// within 500 ms.
func TestPacketsBeforeStart(t *testing.T) {
	for _, c := range []struct {
		packets uint32
		later   time.Duration
		first   uint32
	}{
		{5, 40 * time.Millisecond, 1},
		{15, 40 * time.Millisecond, 6},
		{5, 499 * time.Millisecond, 1},
		{5, 501 * time.Millisecond, 6},
	} {
		synctest.Test(t, func(t *testing.T) {
			r, w := newRoom(), network{rnd: seeded(1)}
			r.deliver(w.carry(time.Now(), 1, 1+c.packets, 100, always))
			time.Sleep(c.later)
			r.Start()
			r.listen()
			r.deliver(w.carry(time.Now(), 1+c.packets, 31, 0, always))
			r.Stop()
			r.finish(t)
			if !slices.Equal(r.numbers(), run(c.first, 31)) {
				t.Errorf("%+v: played %v", c, r.numbers())
			}
			if st := r.Stats(); st.Lost != 0 || st.Concealed != 0 || st.Dropped != uint64(c.first-1) {
				t.Errorf("%+v: %+v", c, st)
			}
		})
	}
}

// A pause in a server's packets is silence, not a fault, and must not increase the
// delay.
func TestPauseOfTheServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, w := newRoom(), network{rnd: seeded(1)}
		r.Start()
		r.listen()
		for i := range uint32(20) {
			r.deliver(w.carry(time.Now(), 1+i*20, 21+i*20, 0, always))
			time.Sleep(time.Duration(200+100*i) * time.Millisecond)
		}
		r.Stop()
		r.finish(t)
		if !slices.Equal(r.numbers(), run(1, 401)) {
			t.Errorf("heard %v", r.numbers())
		}
		if st := r.Stats(); st.Concealed != 0 || st.Lost != 0 || st.Target > startTarget {
			t.Errorf("%+v", st)
		}
	})
}

// A network with occasional stalls of 400 ms: no packet is lost, and after the first
// stall the gaps become shorter.
func TestStall(t *testing.T) {
	for _, ordered := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := network{rnd: seeded(1), ordered: ordered, stall: func(at time.Duration) time.Duration {
				return max(0, 400*time.Millisecond-at%(4*time.Second))
			}}
			r := newRoom()
			r.Start()
			r.listen()
			r.deliver(w.carry(time.Now().Add(time.Second), 1, 1001, 0, always))
			r.Stop()
			r.finish(t)
			if !slices.Equal(r.numbers(), run(1, 1001)) {
				t.Errorf("heard %d", len(r.numbers()))
			}
			st := r.Stats()
			if st.Concealed != 0 || st.Lost != 0 || st.Target < 240*time.Millisecond || st.Delay > 600*time.Millisecond {
				t.Errorf("%+v", st)
			}
		})
	}
}

// A loudspeaker that stalls, as on a busy machine: the packets that arrive meanwhile
// are played, and the remaining delay is reduced in pauses between words.
func TestLoudspeakerStalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, w := newRoom(), network{rnd: seeded(1)}
		r.stalled = 1500 * time.Millisecond
		start := time.Now()
		r.Start()
		r.listen()
		r.deliver(w.carry(start, 1, 601, 0, sentences))
		r.Stop()
		r.finish(t)
		heard := map[uint32]bool{}
		var most, soon, end time.Duration
		for _, h := range r.frames {
			heard[h.number] = heard[h.number] || h.loud
			d := h.at.Sub(h.sent)
			most = max(most, d)
			if at := h.at.Sub(start); at > 14*time.Second {
				soon = max(soon, d)
				if at > 30*time.Second {
					end = max(end, d)
				}
			}
		}
		if most < time.Second || soon > maxTarget || end > 200*time.Millisecond {
			t.Errorf("delay at most %v, after 10 s %v, at the end %v", most, soon, end)
		}
		for number := uint32(1); number < 601; number++ {
			if sentences(number) && !heard[number] {
				t.Errorf("packet %d was not played", number)
			}
		}
	})
}

// An outage with a large loss: three frames are concealed, then it is silent, and
// the rest is played on time.
func TestOutage(t *testing.T) {
	for _, missing := range []uint32{1, 3, 4, 10, 30, 100, 300} {
		synctest.Test(t, func(t *testing.T) {
			r, w, start := newRoom(), network{rnd: seeded(1)}, time.Now()
			list := w.carry(start, 1, 500, 0, always)
			list = slices.DeleteFunc(list, func(a arrival) bool { return a.number >= 100 && a.number < 100+missing })
			r.Start()
			r.listen()
			r.deliver(list)
			r.Stop()
			r.finish(t)
			checkOrder(t, r)
			after := slices.Index(r.numbers(), 101+missing) // beyond the window one more packet is needed to accept the jump
			if after < 0 || r.numbers()[len(r.numbers())-1] != 499 {
				t.Fatalf("%d missing: played %v", missing, r.numbers())
			}
			if st := r.Stats(); missing < window-10 && st.Lost != uint64(missing) {
				t.Errorf("%d missing: %+v", missing, st)
			}
		})
	}
}

// After an interruption by the user, the rest of that answer is not played.
func TestInterruptionDropsTheAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, w := newRoom(), network{rnd: seeded(1)}
		r.Start()
		r.listen()
		r.deliver(w.carry(time.Now(), 1, 21, 0, always))
		r.Drop()
		r.finish(t)
		heard := len(r.frames)
		r.deliver(w.carry(time.Now(), 21, 400, 0, always))
		r.Start()
		r.listen()
		r.deliver(w.carry(time.Now(), 400, 420, 0, always))
		r.Stop()
		r.finish(t)
		if got := r.numbers()[heard:]; !slices.Equal(got, run(400, 420)) {
			t.Errorf("heard %v", got)
		}
		if st := r.Stats(); st.Lost != 0 {
			t.Errorf("%+v", st)
		}
	})
}

// A server that sends too fast, or a loudspeaker that is not read: 2.4 s are kept,
// and silence is dropped first.
func TestBuffersAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom()
		r.Start()
		for number := range uint32(200) {
			r.Put(number, sent(number, time.Now(), true))
		}
		for number := uint32(200); number < 230; number++ {
			r.Put(number, []byte{0x58}) // silence, as encoded with DTX
		}
		r.Put(230, sent(230, time.Now(), true))
		if r.buffer.held != maxHeld || r.buffer.count != 40 {
			t.Errorf("%v are kept, %d packets", r.buffer.held, r.buffer.count)
		}
		if !r.buffer.slots[199%window].silent && r.buffer.slots[199%window].fate != held {
			t.Error("speech was dropped while there was silence")
		}
		r.Stop()
		r.listen()
		r.finish(t)
		if len(r.frames) != 40 || r.frames[39].number != 230 || r.Stats().Concealed != 0 {
			t.Errorf("%d frames, the last %+v; %+v", len(r.frames), r.frames[len(r.frames)-1], r.Stats())
		}
	})
}

// Sequence numbers wrap around, and jump when a gateway restarts its count.
func TestSequences(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, w := newRoom(), network{rnd: seeded(1)}
		r.Start()
		r.listen()
		r.deliver(w.carry(time.Now(), 0xffffffec, 20, 0, always))
		r.Put(1<<30, sent(1<<30, time.Now(), true)) // a single stray packet is ignored
		r.deliver(w.carry(time.Now(), 20, 40, 0, always))
		r.deliver(w.carry(time.Now(), 5000, 5050, 0, always))
		r.deliver(w.carry(time.Now(), 1, 21, 0, always))
		r.Stop()
		r.finish(t)
		want := slices.Concat(run(0xffffffec, 40), run(5001, 5050), run(2, 21))
		if !slices.Equal(r.numbers(), want) {
			t.Errorf("heard %v", r.numbers())
		}
	})
}

// Bytes that are not Opus, as after decryption with a wrong key, are not played, and
// are reported.
func TestWrongKey(t *testing.T) {
	noise := 0
	for seed := range 200 {
		synctest.Test(t, func(t *testing.T) {
			r, rnd := newRoom(), seeded(seed)
			r.Start()
			r.listen()
			for number := range uint32(166) {
				b := make([]byte, 60+rnd.IntN(190))
				for i := range b {
					b[i] = byte(rnd.Uint32())
				}
				r.Put(number, b)
				time.Sleep(frameTime)
			}
			r.Stop()
			r.all.Wait()
			if len(r.frames) > 0 {
				noise++
			} else if !errors.Is(r.err, ErrNotOpus) || r.Stats().Refused == 0 {
				t.Errorf("seed %d: %v, %+v", seed, r.err, r.Stats())
			}
		})
	}
	t.Logf("sound was played in %d of 200 answers of 10 s", noise)
	if noise > 2 {
		t.Errorf("noise in %d of 200 answers", noise)
	}
}

// Gateways without an encoder send PCM.
func TestPCM(t *testing.T) {
	for _, size := range []int{640, 960, 1280, 1500, 1920, 2880} {
		synctest.Test(t, func(t *testing.T) {
			r, rnd := newRoom(), seeded(size)
			r.Start()
			r.listen()
			for number := range uint32(100) {
				b := make([]byte, size)
				for i := 0; i < size; i += 2 {
					v := int16(3000 * rnd.NormFloat64())
					b[i], b[i+1] = byte(v), byte(v>>8)
				}
				r.Put(number, b)
				time.Sleep(frameTime)
			}
			r.Stop()
			r.all.Wait()
			if len(r.frames) > 0 || !errors.Is(r.err, ErrNotOpus) {
				t.Errorf("%d bytes: %d frames, %v", size, len(r.frames), r.err)
			}
		})
	}
}

// A few foreign packets in a valid stream are concealed.
func TestForeignPackets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, w := newRoom(), network{rnd: seeded(1)}
		r.Start()
		r.listen()
		for _, a := range w.carry(time.Now(), 1, 101, 3, always) {
			time.Sleep(time.Until(a.at))
			b := sent(a.number, a.sent, true)
			switch a.number {
			case 20:
				b = make([]byte, 2880)
			case 40:
				b = nil
			case 60:
				b[0] = 0x48 // 20 ms
			case 80:
				b[0] = 0x5c // stereo
			}
			r.Put(a.number, b)
		}
		r.Stop()
		r.finish(t)
		want := slices.DeleteFunc(run(1, 101), func(n uint32) bool { return n%20 == 0 && n < 100 })
		if !slices.Equal(r.numbers(), want) {
			t.Errorf("heard %v", r.numbers())
		}
		if st := r.Stats(); st.Refused != 4 || st.Concealed != 4 || st.Lost != 0 {
			t.Errorf("%+v", st)
		}
	})
}

// The sound process crashes, returns errors, or is not available.
func TestDecoderFails(t *testing.T) {
	for name, c := range map[string]struct {
		fail    func(n int) error
		opened  int
		missing int
		err     error
	}{
		"once":         {func(n int) error { return on(n == 10, io.ErrClosedPipe) }, 2, 1, io.EOF},
		"now and then": {func(n int) error { return on(n%10 == 0, io.ErrClosedPipe) }, 6, 5, io.EOF},
		"a packet":     {func(n int) error { return on(n == 10, native.RefusedError("no")) }, 1, 1, io.EOF},
		"always":       {func(n int) error { return on(n > 10, io.ErrClosedPipe) }, maxDecoders, 40, io.ErrClosedPipe},
	} {
		synctest.Test(t, func(t *testing.T) {
			r, w, n := newRoom(), network{rnd: seeded(1)}, 0
			r.fail = func(p []byte) error {
				if len(p) == 0 {
					return nil
				}
				n++
				return c.fail(n)
			}
			r.Start()
			r.listen()
			r.deliver(w.carry(time.Now(), 1, 51, 0, always))
			r.Stop()
			r.all.Wait()
			if !errors.Is(r.err, c.err) || r.opened != c.opened || len(r.numbers()) != 50-c.missing {
				t.Errorf("%s: %v, %d decoders, %d frames", name, r.err, r.opened, len(r.numbers()))
			}
		})
	}
}

func on(yes bool, err error) error {
	if yes {
		return err
	}
	return nil
}

// The loudspeaker fails during an answer, and another Sound plays the rest.
func TestAnotherSound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, w := newRoom(), network{rnd: seeded(1)}
		r.Start()
		first := r.Sound()
		r.all.Go(func() { r.deliver(w.carry(time.Now(), 1, 101, 0, always)); r.Stop() })
		pcm := make([]int16, testRate/50)
		for range 50 {
			if _, err := first.Read(t.Context(), pcm); err != nil {
				t.Fatal(err)
			}
			time.Sleep(20 * time.Millisecond)
		}
		r.listen()
		if _, err := first.Read(t.Context(), make([]int16, testRate)); err == nil {
			_, err = first.Read(t.Context(), pcm)
			if !errors.Is(err, io.EOF) {
				t.Errorf("the first sound: %v", err)
			}
		}
		first.Close()
		r.finish(t)
		if !slices.Equal(r.numbers(), run(1, 101)) {
			t.Errorf("heard %v", r.numbers())
		}
	})
}

// Close and the end of a context unblock a Read.
func TestBlockedReadEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pcm := make([]int16, 100)
		for name, end := range map[string]func(r *room, s audio.Sound, cancel func()){
			"Close of the sound":  func(_ *room, s audio.Sound, _ func()) { s.Close() },
			"Close of the stream": func(r *room, _ audio.Sound, _ func()) { r.Close() },
			"Drop":                func(r *room, _ audio.Sound, _ func()) { r.Drop() },
			"Stop":                func(r *room, _ audio.Sound, _ func()) { r.Stop() },
			"Start":               func(r *room, _ audio.Sound, _ func()) { r.Start() },
			"the context":         func(_ *room, _ audio.Sound, cancel func()) { cancel() },
		} {
			for _, opening := range []bool{false, true} {
				if opening && name != "the context" && name != "Close of the sound" {
					continue
				}
				r := newRoom()
				if opening {
					r.Open = func(ctx context.Context) (Decoder, error) { <-ctx.Done(); return nil, ctx.Err() }
				}
				r.Start()
				ctx, cancel := context.WithCancel(t.Context())
				s := r.Sound()
				ended := make(chan error)
				go func() { _, err := s.Read(ctx, pcm); ended <- err }()
				synctest.Wait()
				end(r, s, cancel)
				if err := <-ended; err == nil {
					t.Errorf("%s: no error", name)
				}
				cancel()
				s.Close()
				s.Close()
			}
		}
	})
}

// A day (two hours unless LINTOD_FULL) of a bad network does not need more memory
// than its first minutes.
func TestMemoryOverADay(t *testing.T) {
	minutes := uint32(2 * 60)
	if os.Getenv("LINTOD_FULL") != "" {
		minutes = 24 * 60
	}
	synctest.Test(t, func(t *testing.T) {
		r := newRoom()
		w := network{rnd: seeded(1), loss: 0.02, jitter: 100 * time.Millisecond, reorder: 0.02, double: 0.02}
		size := func() uint64 {
			r.mu.Lock()
			r.frames = nil
			r.mu.Unlock()
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			return m.HeapAlloc
		}
		r.Start()
		r.listen()
		var early uint64
		for minute := range minutes {
			r.deliver(w.carry(time.Now(), 1+minute*1000, 1001+minute*1000, 0, sentences))
			r.mu.Lock()
			r.frames = r.frames[:0]
			r.mu.Unlock()
			if minute == 10 {
				early = size()
			}
		}
		late := size()
		r.Stop()
		r.finish(t)
		st := r.Stats()
		t.Logf("%d bytes after 10 minutes, %d after %d; %+v", early, late, minutes, st)
		if late > early+256<<10 || st.Delay > maxTarget+100*time.Millisecond {
			t.Errorf("%d bytes became %d: %+v", early, late, st)
		}
	})
}

func TestSteadyPathDoesNotAllocate(t *testing.T) {
	r := &Stream{Rate: 48000, Open: func(context.Context) (Decoder, error) { return &silentDecoder{}, nil }}
	r.Start()
	s := r.Sound()
	defer s.Close()
	packet, pcm := sent(1, time.Now(), true), make([]int16, 5760)
	number := uint32(0)
	once := func() {
		number++
		r.Put(number, packet)
		if number > 3 {
			if _, err := s.Read(t.Context(), pcm); err != nil {
				t.Fatal(err)
			}
		}
	}
	for range 2 * window {
		once()
	}
	if n := testing.AllocsPerRun(500, once); n != 0 {
		t.Errorf("%v allocations a packet", n)
	}
}

type silentDecoder struct{}

func (*silentDecoder) Write(context.Context, []byte) error        { return nil }
func (*silentDecoder) Read(context.Context, []int16) (int, error) { return 2880, nil }
func (*silentDecoder) Close() error                               { return nil }

// FuzzStream puts arbitrary packets in arbitrary order. Nothing panics, the buffers stay within
// their limits, and packets are played in order.
func FuzzStream(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9})
	f.Add([]byte{0, 250, 1, 250, 2, 250, 3, 128, 4})
	f.Fuzz(func(t *testing.T, script []byte) {
		var b buffer
		now, sequence := time.Unix(1000, 0), uint32(0xfffffff0)
		b.begin()
		for _, c := range script {
			switch {
			case c < 64:
				sequence += uint32(c % 8)
				b.put(now, sequence, sent(sequence, now, c%16 != 0))
			case c < 96:
				b.put(now, sequence-uint32(c%32)*7, sent(0, now, true))
			case c < 104:
				sequence += uint32(c) * 100
				b.put(now, sequence, []byte{c})
			case c < 112:
				b.ignore(sequence + uint32(c%8))
			case c < 120:
				b.put(now, sequence+uint32(c%8), make([]byte, int(c)*20))
			case c == 120:
				b.begin()
			case c == 121:
				b.ended = true
			case c < 192:
				now = now.Add(time.Duration(c) * time.Millisecond)
			default:
				b.take(now)
				b.quiet(frameTime)
			}
			count, total := 0, time.Duration(0)
			for i := range b.slots {
				if b.slots[i].fate == held {
					count++
					total += b.slots[i].duration
					if int32(b.slots[i].sequence-b.next) < 0 && b.began {
						t.Fatalf("%d is held, and %d is next", b.slots[i].sequence, b.next)
					}
				}
			}
			if count != b.count || total != b.held || total > maxHeld {
				t.Fatalf("%d of %d held, %v of %v", count, b.count, total, b.held)
			}
			if target := b.lateness.target(); target < minTarget || target > maxTarget {
				t.Fatal(target)
			}
		}
	})
}

func BenchmarkStream(b *testing.B) {
	r := &Stream{Rate: 48000, Open: func(context.Context) (Decoder, error) { return &silentDecoder{}, nil }}
	r.Start()
	s := r.Sound()
	defer s.Close()
	packet, pcm := sent(1, time.Now(), true), make([]int16, 5760)
	for number := range uint32(4) {
		r.Put(number, packet)
	}
	number := uint32(4)
	b.ReportAllocs()
	for b.Loop() {
		r.Put(number, packet)
		number++
		if _, err := s.Read(b.Context(), pcm); err != nil {
			b.Fatal(err)
		}
	}
}
