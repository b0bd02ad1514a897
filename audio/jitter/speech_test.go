package jitter

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"lintod/audio"
	"lintod/audio/audiotest"
	"lintod/audio/native"
	"lintod/audio/opus"
	"lintod/audio/player"
)

// soundProcess runs the real lintod-audio, and restarts it when it has ended. Its
// cards are those of the rig, if any.
func soundProcess(t *testing.T, rig *audiotest.Rig) (*native.Process, string) {
	t.Helper()
	path := audiotest.Build(t, "lintod/cmd/lintod-audio")
	if rig != nil {
		rig.Setenv()
	} else {
		t.Setenv("ALSA_CONFIG_PATH", "/nonexistent")
	}
	p := &native.Process{Path: path, Input: []string{"default"}, Output: []string{"default"}, Log: slog.New(slog.DiscardHandler)}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			_ = p.Run(ctx)
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	return p, path
}

// realStream returns one with the decoder of lintod-audio.
func realStream(p *native.Process, rate int) *Stream {
	return &Stream{Rate: rate, Open: func(ctx context.Context) (Decoder, error) {
		return p.OpenDecoder(ctx, native.CodecFormat{Kind: opus.Kind, Rate: rate, Channels: 1, Frame: frameTime})
	}}
}

// encoded returns pcm as a device or a server sends it.
func encoded(t testing.TB, p *native.Process, pcm []int16) (packets [][]byte) {
	t.Helper()
	e, err := p.OpenEncoder(t.Context(), native.CodecFormat{Kind: opus.Kind, Rate: audiotest.Rate, Channels: 1, Frame: frameTime})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	b := make([]byte, 1500)
	for frame := range slices.Chunk(pcm, audiotest.Rate*60/1000) {
		frame = append(slices.Clone(frame), make([]int16, audiotest.Rate*60/1000-len(frame))...)
		if err := e.Write(t.Context(), frame); err != nil {
			t.Fatal(err)
		}
		n, err := e.Read(t.Context(), b)
		if err != nil {
			t.Fatal(err)
		}
		packets = append(packets, bytes.Clone(b[:n]))
	}
	return packets
}

// play reads a sound at the pace of a loudspeaker.
func play(t testing.TB, s audio.Sound) (pcm []int16, err error) {
	t.Helper()
	defer s.Close()
	chunk := make([]int16, s.Rate()/50)
	var until time.Time
	for {
		n, err := s.Read(t.Context(), chunk)
		pcm = append(pcm, chunk[:n]...)
		if err != nil {
			return pcm, err
		}
		if now := time.Now(); until.Before(now) {
			until = now
		}
		until = until.Add(time.Duration(n) * time.Second / time.Duration(s.Rate()))
		time.Sleep(time.Until(until) - frameTime)
	}
}

const grammar = `#JSGF V1.0;
grammar test;
public <any> = turn on the light in the kitchen please | turn off the light in the garden please |
  play some music in the living room now | what is the weather like in london today |
  set an alarm for seven tomorrow morning | call my brother when the train arrives |
  how many people live in this city | tell me a story about a little bear ;
`

// recognise returns the words recognised by pocketsphinx.
func recognise(t *testing.T, pcm []int16) string {
	t.Helper()
	dir := t.TempDir()
	rules, raw := filepath.Join(dir, "test.jsgf"), filepath.Join(dir, "raw")
	pad := make([]int16, audiotest.Rate/2)
	b, _ := binary.Append(nil, binary.LittleEndian, slices.Concat(pad, pcm, pad))
	if err := errors.Join(os.WriteFile(rules, []byte(grammar), 0o600), os.WriteFile(raw, b, 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := exec.LookPath("pocketsphinx_continuous"); err != nil {
		t.Skip("SKIPPED, NOT PASSED: pocketsphinx_continuous is missing (apt install pocketsphinx pocketsphinx-en-us)")
	}
	out, err := exec.Command("pocketsphinx_continuous", "-infile", raw, "-jsgf", rules, "-logfn", "/dev/null").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(strings.Fields(string(out)), " ")
}

// Sentences are encoded, sent through a bad network, played, and recognised.
func TestSpeechIsRecognised(t *testing.T) {
	p, _ := soundProcess(t, nil)
	for name, w := range map[string]network{
		"good":  {},
		"storm": {loss: 0.1, jitter: 100 * time.Millisecond, reorder: 0.05, double: 0.1},
		"stall": {ordered: true, stall: func(at time.Duration) time.Duration {
			return max(0, 300*time.Millisecond-at%(1500*time.Millisecond))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			understood := 0
			sentences := []string{
				"turn on the light in the kitchen please", "play some music in the living room now",
				"what is the weather like in london today", "tell me a story about a little bear",
			}
			for seed, text := range sentences {
				packets := encoded(t, p, audiotest.Speak(t, "en-us", text))
				r := realStream(p, audiotest.Rate)
				w.rnd = seeded(seed)
				r.Start()
				s := r.Sound()
				go func() {
					for _, a := range w.carry(time.Now(), 0, uint32(len(packets)), 2, always) {
						time.Sleep(time.Until(a.at))
						r.Put(a.number+1, packets[a.number])
					}
					r.Stop()
				}()
				pcm, err := play(t, s)
				if !errors.Is(err, io.EOF) {
					t.Fatal(err)
				}
				got := recognise(t, pcm)
				t.Logf("said %q, recognised %q; %v of %v; %+v", text, got, audiotest.Duration(pcm), time.Duration(len(packets))*frameTime, r.Stats())
				if got == text {
					understood++
				}
			}
			if understood < len(sentences)-1 {
				t.Errorf("%d of %d sentences were recognised", understood, len(sentences))
			}
		})
	}
}

// A sentence from the storm is recognised at a loudspeaker with a rate that Opus
// does not support, and the packets after tts stop are played to the end.
func TestSpeechAtTheLoudspeaker(t *testing.T) {
	rig := audiotest.Start(t)
	p, _ := soundProcess(t, rig)
	const text = "what is the weather like in london today"
	packets := encoded(t, p, audiotest.Speak(t, "en-us", text))
	const rate = 44100
	loudspeaker := &player.Player{Open: p.OpenOutput, Rate: rate, Log: slog.New(slog.DiscardHandler)}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- loudspeaker.Run(ctx) }()
	defer func() { cancel(); <-ended }()

	r := realStream(p, Rate(rate))
	w := network{rnd: seeded(5), loss: 0.1, jitter: 100 * time.Millisecond, reorder: 0.05, double: 0.1}
	hearing := rig.Hear()
	r.Start()
	var first, heard time.Time
	go func() {
		list := w.carry(time.Now(), 0, uint32(len(packets)), 2, always)
		for i, a := range list {
			time.Sleep(time.Until(a.at))
			if i == 0 {
				first = time.Now()
			}
			if i == len(list)-2 {
				r.Stop()
			}
			r.Put(a.number, packets[a.number])
		}
	}()
	err := loudspeaker.Play(ctx, player.Item{
		Class:   player.Answer,
		Open:    func(context.Context) (audio.Sound, error) { return r.Sound(), nil },
		Started: func() { heard = time.Now() },
	})
	if err != nil {
		t.Fatal(err)
	}
	got := recognise(t, hearing.Stop())
	t.Logf("recognised %q; %v from the first packet to the card; %+v, %+v", got, heard.Sub(first), r.Stats(), loudspeaker.Stats())
	if got != text {
		t.Errorf("said %q, recognised %q", text, got)
	}
}

// lintod-audio is killed during an answer; a new one plays the rest of it.
func TestSoundProcessIsKilledDuringAnAnswer(t *testing.T) {
	p, path := soundProcess(t, nil)
	packets := encoded(t, p, audiotest.Chirp(3*time.Second))
	r := realStream(p, audiotest.Rate)
	r.Start()
	s := r.Sound()
	go func() {
		for i, b := range packets {
			time.Sleep(frameTime)
			r.Put(uint32(i), b)
			if i == 20 {
				kill(t, path)
			}
		}
		r.Stop()
	}()
	pcm, err := play(t, s)
	if st := r.Stats(); !errors.Is(err, io.EOF) || st.Decoders == 0 || st.Lost > 0 {
		t.Errorf("%v, %+v", err, st)
	}
	if !audiotest.Loud(pcm[len(pcm)-audiotest.Rate/5:]) {
		t.Error("the end of the answer was not played")
	}
}

// kill kills the process that runs the program at that path.
func kill(t *testing.T, path string) {
	exes, _ := filepath.Glob("/proc/[0-9]*/exe")
	for _, exe := range exes {
		if to, _ := os.Readlink(exe); to == path {
			var pid int
			for _, c := range filepath.Base(filepath.Dir(exe)) {
				pid = 10*pid + int(c-'0')
			}
			_ = syscall.Kill(pid, syscall.SIGKILL)
			return
		}
	}
	t.Error("lintod-audio is not running")
}
