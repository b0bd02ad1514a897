//go:build cgo

package main

import (
	"bytes"
	"errors"
	"flag"
	"io"
	"math"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"lintod/audio"
	"lintod/audio/audiotest"
	"lintod/audio/native/wire"
)

func TestLayouts(t *testing.T) {
	server := func(rate int) audio.Device { return audio.Device{Name: "default", Rate: rate} }
	hat := audio.Device{Name: "hat", Card: "hat", Rate: 48000}
	for name, tt := range map[string]struct {
		got, want []layout
	}{
		"stereo":            {layouts(16000, 0, server(44100), 2), []layout{{16000, 1}, {16000, 2}, {44100, 1}, {44100, 2}, {48000, 1}, {48000, 2}}},
		"mono":              {layouts(16000, 0, server(16000), 1)[:2], []layout{{16000, 1}, {48000, 1}}},
		"left of stereo":    {layouts(16000, 1, server(16000), 2)[:2], []layout{{16000, 2}, {48000, 2}}},
		"third of eight":    {layouts(16000, 3, server(16000), 8)[:3], []layout{{16000, 3}, {16000, 8}, {48000, 3}}},
		"the only channel":  {layouts(16000, 1, server(16000), 1)[:2], []layout{{16000, 1}, {48000, 1}}},
		"a mixing desk":     {layouts(16000, 8, server(16000), 32)[:2], []layout{{16000, 8}, {48000, 8}}},
		"rate unknown":      {layouts(16000, 0, server(0), 1), []layout{{16000, 1}, {48000, 1}, {44100, 1}}},
		"a card, mixed":     {layouts(16000, 0, hat, 4)[:3], []layout{{16000, 4}, {16000, 2}, {16000, 1}}},
		"one channel of it": {layouts(16000, 1, hat, 4)[:3], []layout{{16000, 4}, {16000, 2}, {48000, 4}}},
		"a mono card":       {layouts(16000, 1, hat, 1)[:2], []layout{{16000, 1}, {48000, 1}}},
	} {
		if !slices.Equal(tt.got, tt.want) {
			t.Errorf("%s: %v, want %v", name, tt.got, tt.want)
		}
	}
}

func TestSampleClock(t *testing.T) {
	const ms, frame = int64(time.Millisecond), int64(audio.FrameTime)
	var c sampleClock
	at, _ := c.next(100*ms, false)
	if at != 100*ms {
		t.Fatalf("the first frame is at %d", at)
	}
	// Reads come in bursts, up to 25 ms late; the timestamps must not.
	for i := int64(1); i < 500; i++ {
		late := (i % 6) * 5 * ms
		at, lost := c.next(100*ms+i*frame+late, false)
		if off := at - (100*ms + i*frame); off < -25*ms || off > 25*ms || lost != 0 {
			t.Fatalf("frame %d is stamped %d ns off, lost %d", i, off, lost)
		}
	}
	// A second of sound is missing.
	before := c.due
	at, lost := c.next(before+1000*ms, true)
	if at != before+1000*ms || lost != audio.CaptureRate {
		t.Errorf("after a gap of 1 s: %d ns later, %d lost", at-before, lost)
	}
	// The card reports a gap, but the clock shows none.
	if _, lost := c.next(c.due-ms, true); lost != 1 {
		t.Errorf("%d lost", lost)
	}
}

func TestPick(t *testing.T) {
	for channel, want := range [][]int16{{150, -32768, 32767}, {100, -32768, 32767}, {200, -32768, 32767}} {
		got := pick([]int16{100, 200, -32768, -32768, 32767, 32767}, 2, channel)
		if !slices.Equal(got, want) {
			t.Errorf("channel %d: %v", channel, got)
		}
	}
	if got := pick([]int16{1, 2, 3, 4, 5, 6, 7, 8, 9}, 3, 3); !slices.Equal(got, []int16{3, 6, 9}) {
		t.Errorf("the third of three: %v", got)
	}
}

func TestGain(t *testing.T) {
	for _, tt := range []struct {
		decibels float64
		in, want []int16
		clipped  uint32
	}{
		{0, []int16{1, -5, 32766}, []int16{1, -5, 32766}, 0},
		{0, []int16{32767, -32768}, []int16{32767, -32768}, 2}, // clipped by the card
		{20, []int16{10, -3276, 3277, -3277}, []int16{100, -32760, 32767, -32768}, 2},
		{-20, []int16{32767, -1000}, []int16{3276, -100}, 0},
	} {
		got := slices.Clone(tt.in)
		if n := newGain(tt.decibels).apply(got); n != tt.clipped || !slices.Equal(got, tt.want) {
			t.Errorf("%v dB of %v: %v, clipped %d", tt.decibels, tt.in, got, n)
		}
	}
}

func tone(rate, hz int, d time.Duration) []int16 {
	pcm := make([]int16, samples(rate, d))
	for i := range pcm {
		pcm[i] = int16(12000 * math.Sin(2*math.Pi*float64(hz)*float64(i)/float64(rate)))
	}
	return pcm
}

// level returns the share of the tone at hz in the power of pcm, 0 to 1.
func level(pcm []int16, rate, hz int) float64 {
	var re, im, all float64
	for i, s := range pcm {
		sin, cos := math.Sincos(2 * math.Pi * float64(hz) * float64(i) / float64(rate))
		re, im, all = re+float64(s)*cos, im+float64(s)*sin, all+float64(s)*float64(s)
	}
	return 2 * (re*re + im*im) / (all * float64(len(pcm)))
}

func TestResampler(t *testing.T) {
	for _, c := range [][2]int{{48000, 16000}, {44100, 16000}, {16000, 48000}, {22050, 44100}} {
		r, err := newResampler(c[0], c[1], c[0]/100)
		if err != nil {
			t.Fatal(err)
		}
		var out []int16
		for block := range slices.Chunk(tone(c[0], 1000, time.Second), c[0]/100) {
			out = append(out, r.process(block)...)
		}
		if missing := c[1] - len(out); missing < 0 || missing > c[1]/100 {
			t.Errorf("%v: a second has become %d samples", c, len(out))
		}
		if l := level(out, c[1], 1000); l < 0.9999 {
			t.Errorf("%v: the tone is only %f of the power", c, l)
		}
		r.close()
	}
	if _, err := newResampler(0, 16000, 100); err == nil {
		t.Error("resampled from a rate of 0")
	}
}

// card is a speaker that plays in the bubble's time.
type card struct {
	room   int
	began  time.Time // when it was last started
	held   int       // written since then
	played []int16   // everything written, including silence
	halts  int
	fails  error
}

const cardRate = 16000

func (c *card) start() error { c.began, c.held = time.Now(), 0; return c.fails }

func (c *card) holding() (int, error) {
	return max(0, c.held-samples(cardRate, time.Since(c.began))), nil
}

func (c *card) write(pcm []int16) (bool, error) {
	for {
		held, _ := c.holding()
		if held+len(pcm) <= c.room {
			break
		}
		time.Sleep(time.Millisecond)
	}
	c.held += len(pcm)
	c.played = append(c.played, pcm...)
	return false, c.fails
}

func (c *card) halt() error { c.halts++; return c.fails }

type progress struct {
	wire.Type
	wire.Progress
	at time.Duration
}

// playing runs a playback on a card, and collects its reports.
func playing(t *testing.T, test func(t *testing.T, c *card, q *queue, reports func() []progress)) {
	synctest.Test(t, func(t *testing.T) {
		c, q := &card{room: 1280}, newQueue(cardRate)
		begin := time.Now()
		reports := make(chan progress, 10000)
		p := &playback{speaker: c, queue: q, report: func(t wire.Type, p wire.Progress) error {
			reports <- progress{t, p, time.Since(begin)}
			return nil
		}}
		ended := make(chan error, 1)
		go func() { ended <- p.run() }()
		test(t, c, q, func() (all []progress) {
			for len(reports) > 0 {
				all = append(all, <-reports)
			}
			return all
		})
		q.close()
		if err := <-ended; !errors.Is(err, c.fails) {
			t.Errorf("playback ended with %v", err)
		}
	})
}

func encode(pcm []int16) []byte {
	var b bytes.Buffer
	_ = wire.NewWriter(&b).SendSamples(wire.Play, 0, pcm)
	return b.Bytes()[8:]
}

func TestPlaybackDrainsThenRests(t *testing.T) {
	playing(t, func(t *testing.T, c *card, q *queue, reports func() []progress) {
		said := tone(cardRate, 440, 100*time.Millisecond)
		if err := q.push(encode(said)); err != nil {
			t.Fatal(err)
		}
		q.askDrain()
		time.Sleep(time.Second)
		synctest.Wait()
		all := reports()
		last := all[len(all)-1]
		if last.Type != wire.Drained || last.Samples != uint64(len(said)) || last.Underruns != 0 {
			t.Errorf("the last report is %+v", last)
		}
		if last.at < 100*time.Millisecond || last.at > 200*time.Millisecond {
			t.Errorf("100 ms of sound were played after %v", last.at)
		}
		if !slices.Equal(c.played[:len(said)], said) || audiotest.Loud(c.played[len(said):]) {
			t.Error("something else was played")
		}
		if c.halts != 1 {
			t.Errorf("the card was stopped %d times", c.halts)
		}
		// At rest it is already drained.
		q.askDrain()
		synctest.Wait()
		if all := reports(); len(all) != 1 || all[0].Type != wire.Drained {
			t.Errorf("at rest: %+v", all)
		}
	})
}

func TestPlaybackCountsPauses(t *testing.T) {
	playing(t, func(t *testing.T, c *card, q *queue, reports func() []progress) {
		block := encode(tone(cardRate, 440, 40*time.Millisecond))
		_ = q.push(block)
		time.Sleep(120 * time.Millisecond) // too late: the card needed silence
		_ = q.push(block)
		q.askDrain()
		time.Sleep(120 * time.Millisecond) // the end of a sound
		_ = q.push(block)
		time.Sleep(time.Second) // the card is at rest
		_ = q.push(block)
		time.Sleep(time.Second)
		synctest.Wait()
		all := reports()
		if n := all[len(all)-1].Underruns; n != 1 {
			t.Errorf("%d underruns counted", n)
		}
	})
}

func TestPlaybackDoesNotPauseWhatComesInTime(t *testing.T) {
	playing(t, func(t *testing.T, c *card, q *queue, reports func() []progress) {
		said := tone(cardRate, 440, 400*time.Millisecond)
		_ = q.push(encode(said[:640])) // the first part early, the rest in time
		for block := range slices.Chunk(said[640:], 320) {
			time.Sleep(audio.FrameTime)
			_ = q.push(encode(block))
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if !slices.Equal(c.played[:len(said)], said) {
			t.Error("silence was put into the sound")
		}
	})
}

func TestPlaybackFlush(t *testing.T) {
	playing(t, func(t *testing.T, c *card, q *queue, reports func() []progress) {
		_ = q.push(encode(tone(cardRate, 440, 400*time.Millisecond)))
		time.Sleep(50 * time.Millisecond)
		q.throwAway()
		q.askDrain()
		time.Sleep(chunkTime + time.Millisecond)
		synctest.Wait()
		if c.halts != 1 || len(c.played) > samples(cardRate, 150*time.Millisecond) {
			t.Errorf("stopped %d times after %d samples", c.halts, len(c.played))
		}
		all := reports()
		if last := all[len(all)-1]; last.Type != wire.Drained || last.Samples != 6400 {
			t.Errorf("the last report is %+v", last)
		}
	})
}

func TestPlaybackFails(t *testing.T) {
	playing(t, func(t *testing.T, c *card, q *queue, reports func() []progress) {
		synctest.Wait()
		c.fails = io.ErrClosedPipe
		_ = q.push(make([]byte, 100))
		synctest.Wait()
	})
}

func TestQueueBound(t *testing.T) {
	q := newQueue(16000)
	if err := q.push(make([]byte, 2*8000)); err != nil {
		t.Error(err)
	}
	if err := q.push(make([]byte, 2)); !errors.Is(err, errQueueFull) {
		t.Errorf("one sample more: %v", err)
	}
	// At the wrap of the ring no sample is lost or reordered.
	q = newQueue(16000)
	said := tone(16000, 440, 2*time.Second)
	var got []int16
	buf := make([]int16, 333)
	for block := range slices.Chunk(said, 700) {
		if err := q.push(encode(block)); err != nil {
			t.Fatal(err)
		}
		for w := q.take(buf); w.samples > 0; w = q.take(buf) {
			got = append(got, buf[:w.samples]...)
		}
	}
	if !slices.Equal(got, said) {
		t.Error("the sound has changed")
	}
}

// Messages that lintod never sends must end the process with an error.
func TestServeRejectsInvalidMessages(t *testing.T) {
	for name, send := range map[string]func(w *wire.Writer){
		"no hello":        func(w *wire.Writer) { _ = w.Send(wire.List, 1) },
		"our own message": func(w *wire.Writer) { _ = w.SendHello(); _ = w.Send(wire.Opened, 1) },
		"bad codec":       func(w *wire.Writer) { _ = w.SendHello(); _ = w.Send(wire.OpenCodec, 1) },
		"bad open":        func(w *wire.Writer) { _ = w.SendHello(); _ = w.Send(wire.OpenInput, 1) },
	} {
		t.Run(name, func(t *testing.T) {
			var in bytes.Buffer
			send(wire.NewWriter(&in))
			s := &server{out: wire.NewWriter(io.Discard), requests: make(chan request, maxRequests), queues: map[uint16]*queue{}}
			if err := s.read(wire.NewReader(&in)); err == nil {
				t.Error("accepted")
			}
		})
	}
}

func TestFlags(t *testing.T) {
	var help bytes.Buffer
	if err := run([]string{"-help"}, nil, nil, &help); !errors.Is(err, flag.ErrHelp) || !strings.Contains(help.String(), "-list") {
		t.Errorf("-help: %v: %s", err, help.String())
	}
	if err := run([]string{"play"}, nil, nil, io.Discard); err == nil {
		t.Error("accepted an unknown argument")
	}
}

func TestSteadyPathDoesNotAllocate(t *testing.T) {
	m := &microphone{opened: opened{layout: layout{48000, 2}}, gain: newGain(6), pipeline: new(pipeline), buf: make([]int16, 0, 1920)}
	if err := m.prepare(); err != nil {
		t.Fatal(err)
	}
	out := wire.NewWriter(io.Discard)
	send := func(batch []wire.Captured) error { return out.SendCapture(1, batch) }
	q, payload, chunk := newQueue(16000), encode(make([]int16, 320)), make([]int16, 160)
	allocs := testing.AllocsPerRun(200, func() {
		m.buf = m.buf[:1920]
		if m.emit(wire.Monotonic(), false, send) != nil || q.push(payload) != nil {
			t.Fatal("failed")
		}
		for q.take(chunk).samples > 0 {
			_ = out.SendProgress(wire.Played, 1, wire.Progress{})
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations a frame", allocs)
	}
}

func TestEndOfInputEndsTheProcess(t *testing.T) {
	path := audiotest.Build(t, "lintod/cmd/lintod-audio")
	rig := audiotest.Start(t)
	cmd := exec.Command(path)
	cmd.Env = rig.Env()
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	w, r := wire.NewWriter(stdin), wire.NewReader(stdout)
	_ = w.SendHello()
	_ = w.SendOpen(wire.OpenInput, 1, wire.Open{Rate: audio.CaptureRate, Devices: []string{"default"}})
	for m, err := r.Read(); m.Type != wire.Capture; m, err = r.Read() {
		if err != nil {
			t.Fatal(err)
		}
	}
	// Its output is not read any longer either; it must still end.
	stdin.Close()
	if err := cmd.Wait(); err != nil {
		t.Errorf("it ended with %v", err)
	}
}
