//go:build cgo

package main

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	libopus "gopkg.in/hraban/opus.v2"

	"lintod/audio"
	"lintod/audio/native/wire"
	"lintod/audio/opus"
)

func mustOpus(t testing.TB, c wire.Codec) converter {
	t.Helper()
	c.Kind, c.Channels = opus.Kind, max(1, c.Channels)
	conv, err := openOpus(c)
	if err != nil {
		t.Fatal(err)
	}
	return conv
}

// packets encodes whole frames of pcm.
func packets(t testing.TB, pcm []int16, c wire.Codec) (list [][]byte) {
	t.Helper()
	c.Encode = true
	e := mustOpus(t, c)
	for frame := range slices.Chunk(pcm, c.Rate*c.FrameMS/1000) {
		if len(frame) < c.Rate*c.FrameMS/1000 {
			break
		}
		b, err := e.convert(nil, encode(frame))
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, b)
	}
	return list
}

func TestOpusLengthsAndRates(t *testing.T) {
	for _, from := range []int{8000, 12000, 16000, 24000, 48000} {
		for _, ms := range []int{5, 10, 20, 40, 60, 80, 100, 120} {
			sent := packets(t, tone(from, 440, 600*time.Millisecond), wire.Codec{Rate: from, FrameMS: ms, Channels: 1})
			for _, to := range []int{8000, 12000, 16000, 24000, 48000} {
				d := mustOpus(t, wire.Codec{Rate: to, FrameMS: 60})
				for i, p := range sent {
					head, err := opus.Parse(p)
					if err != nil || head.Duration != time.Duration(ms)*time.Millisecond || head.Stereo {
						t.Fatalf("%d Hz, %d ms: %+v, %v", from, ms, head, err)
					}
					if b, err := d.convert(nil, p); err != nil || len(b) != 2*to*ms/1000 {
						t.Fatalf("%d Hz to %d Hz, %d ms: %d bytes, %v", from, to, ms, len(b), err)
					}
					// A lost packet has the same length, and in the middle of a tone
					// it is not silent.
					b, err := d.convert(nil, nil)
					if err != nil || len(b) != 2*to*ms/1000 {
						t.Fatalf("%d Hz, %d ms: concealed %d bytes, %v", to, ms, len(b), err)
					}
					if i == 3 && loudest(b) < 300 {
						t.Errorf("%d Hz to %d Hz, %d ms: the concealed frame peaks at %d", from, to, ms, loudest(b))
					}
				}
			}
		}
	}
}

func loudest(b []byte) (peak int16) {
	pcm := make([]int16, len(b)/2)
	wire.Samples(pcm, b)
	for _, s := range pcm {
		peak = max(peak, s, -s)
	}
	return peak
}

// Silence is one byte in most packets, as servers expect from these devices.
func TestOpusSilence(t *testing.T) {
	for complexity := range 11 {
		sent := packets(t, make([]int16, 10*audio.CaptureRate), wire.Codec{Rate: audio.CaptureRate, FrameMS: 60, Channels: 1, Complexity: complexity})
		short := 0
		for _, p := range sent {
			if len(p) == 1 {
				short++
			}
		}
		if short < len(sent)*3/4 {
			t.Errorf("complexity %d: %d of %d packets are one byte", complexity, short, len(sent))
		}
	}
}

func TestOpusRejectsFormats(t *testing.T) {
	for name, c := range map[string]wire.Codec{
		"44100 Hz":       {Rate: 44100, FrameMS: 60, Channels: 1},
		"a frame of 50":  {Rate: 16000, FrameMS: 50, Channels: 1, Encode: true},
		"44100 Hz, sent": {Rate: 44100, FrameMS: 60, Channels: 1, Encode: true},
	} {
		if _, err := openOpus(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// A rejected packet does not affect the next one.
func TestOpusRejectsAPacket(t *testing.T) {
	sent := packets(t, tone(16000, 440, time.Second), wire.Codec{Rate: 16000, FrameMS: 60, Channels: 1})
	clean, dirty := mustOpus(t, wire.Codec{Rate: 48000, FrameMS: 60}), mustOpus(t, wire.Codec{Rate: 48000, FrameMS: 60})
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, p := range sent {
		refused := 0
		for refused < 3 {
			bad := make([]byte, 1+rnd.IntN(2000))
			for i := range bad {
				bad[i] = byte(rnd.Uint32())
			}
			if _, err := opus.Parse(bad); err == nil {
				continue // it may be valid, and then it is decoded
			}
			if b, err := dirty.convert(nil, bad); err == nil || len(b) != 0 {
				t.Fatalf("accepted % x", bad)
			}
			refused++
		}
		want, _ := clean.convert(nil, p)
		if got, err := dirty.convert(nil, p); err != nil || !slices.Equal(got, want) {
			t.Fatalf("after rejected packets: %v", err)
		}
	}
}

func TestOpusDoesNotAllocate(t *testing.T) {
	frame := encode(tone(16000, 440, 60*time.Millisecond))
	e, d := mustOpus(t, wire.Codec{Rate: 16000, FrameMS: 60, Encode: true}), mustOpus(t, wire.Codec{Rate: 48000, FrameMS: 60})
	packet, pcm := make([]byte, 0, wire.MaxPacket), make([]byte, 0, wire.MaxPacket)
	once := func() {
		var err error
		if packet, err = e.convert(packet[:0], frame); err != nil {
			t.Fatal(err)
		}
		if pcm, err = d.convert(pcm[:0], packet); err != nil {
			t.Fatal(err)
		}
		if pcm, err = d.convert(pcm[:0], nil); err != nil {
			t.Fatal(err)
		}
	}
	if n := testing.AllocsPerRun(100, once); n != 0 {
		t.Errorf("%v allocations a frame", n)
	}
}

// FuzzOpus: libopus decodes every packet that Parse accepts, with the duration that
// Parse returns, and rejects the same packets.
func FuzzOpus(f *testing.F) {
	for _, ms := range []int{5, 20, 60, 120} {
		for _, p := range packets(f, tone(16000, 440, 200*time.Millisecond), wire.Codec{Rate: 16000, FrameMS: ms, Channels: 1}) {
			f.Add(p, p)
		}
	}
	f.Add([]byte{0xfb, 3, 0xff, 0xfe, 0xff, 0xfe, 0xff, 0xfe}, []byte{})
	f.Add([]byte{0x58}, []byte{0x5a, 3, 1, 2, 3, 4})
	f.Add([]byte{0x5f, 0xc3, 2, 1, 1, 1, 2, 3, 0, 0}, []byte{0x5b, 0x43, 255, 0})
	f.Fuzz(func(t *testing.T, first, second []byte) {
		d := mustOpus(t, wire.Codec{Rate: 48000, FrameMS: 60}).(*opusDecoder)
		for _, b := range [][]byte{first, second, nil, second, first} {
			head, malformed := opus.Parse(b)
			pcm, err := d.convert(nil, b)
			switch {
			case len(b) == 0 && (err != nil || len(pcm) == 0):
				t.Fatalf("concealed %d bytes, %v", len(pcm), err)
			case len(b) == 0:
			case err == nil && time.Duration(len(pcm)/2)*time.Second/48000 != head.Duration:
				t.Fatalf("% x: %v, and libopus made %d samples", b, head.Duration, len(pcm)/2)
			case malformed != nil:
				raw, err := libopus.NewDecoder(48000, 1)
				if err != nil {
					t.Fatal(err)
				}
				if n, err := raw.Decode(b, make([]int16, 5760)); err == nil {
					t.Fatalf("% x: rejected, but libopus decodes %d samples", b, n)
				}
			}
		}
	})
}

func BenchmarkOpus(b *testing.B) {
	frame := encode(tone(16000, 440, 60*time.Millisecond))
	packet := packets(b, tone(16000, 440, 60*time.Millisecond), wire.Codec{Rate: 16000, FrameMS: 60, Channels: 1})[0]
	for name, c := range map[string]struct {
		conv converter
		src  []byte
	}{
		"encode":  {mustOpus(b, wire.Codec{Rate: 16000, FrameMS: 60, Encode: true}), frame},
		"decode":  {mustOpus(b, wire.Codec{Rate: 48000, FrameMS: 60}), packet},
		"conceal": {mustOpus(b, wire.Codec{Rate: 48000, FrameMS: 60}), nil},
	} {
		b.Run(name, func(b *testing.B) {
			dst := make([]byte, 0, wire.MaxPacket)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.conv.convert(dst, c.src); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
