package filecard

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"lintod/audio"
	"lintod/audio/wav"
)

func tone(rate int, d time.Duration) []int16 {
	pcm := make([]int16, int(d.Seconds()*float64(rate)))
	for i := range pcm {
		pcm[i] = int16(1 + 8000*math.Abs(math.Sin(2*math.Pi*440*float64(i)/float64(rate)))) // never 0
	}
	return pcm
}

func writeFile(t *testing.T, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sound.wav")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func readFile(t *testing.T, path string) ([]int16, int) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	pcm, rate, err := wav.Read(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if want := (len(data) - headerSize) / 2; len(pcm) != want {
		t.Errorf("the header gives %d samples, the file has %d", len(pcm), want)
	}
	return pcm, rate
}

func openInput(t *testing.T, name string) audio.Input {
	t.Helper()
	in, err := Card(name).OpenInput(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return in
}

func openOutput(t *testing.T, c audio.Card, rate int) audio.Output {
	t.Helper()
	out, err := c.OpenOutput(t.Context(), rate)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// hear reads for d, and checks that the frames arrive on time.
func hear(t *testing.T, in audio.Input, d time.Duration) (pcm []int16) {
	t.Helper()
	for range d / audio.FrameTime {
		var frames [1]audio.Frame
		if _, err := in.Read(t.Context(), frames[:]); err != nil {
			t.Fatal(err)
		}
		f := &frames[0]
		if age := time.Since(f.At); age != audio.FrameTime || f.Lost != 0 {
			t.Fatalf("a frame is stamped %v ago, with %d lost", age, f.Lost)
		}
		pcm = append(pcm, f.PCM[:]...)
	}
	return pcm
}

func silent(pcm []int16) bool { return !slices.ContainsFunc(pcm, func(s int16) bool { return s != 0 }) }

func TestOtherNamesAreNotVirtualCards(t *testing.T) {
	for _, name := range []string{"default", "", "nullable", "USB file:"} {
		if Card(name) != nil {
			t.Errorf("%q was accepted as a virtual card", name)
		}
	}
}

// The bubble's clock moves only when Read waits, so every frame is on time.
func TestFileMicrophone(t *testing.T) {
	said := tone(16000, 110*time.Millisecond) // five frames and a half
	path := writeFile(t, wav.Encode(said, 16000))
	synctest.Test(t, func(t *testing.T) {
		in := openInput(t, "file:"+path)
		start := time.Now()
		if !silent(hear(t, in, time.Second)) {
			t.Error("it plays before Cue")
		}
		for range 2 {
			in.(audio.Cuer).Cue()
			heard := hear(t, in, time.Second)
			if !slices.Equal(heard[:len(said)], said) || !silent(heard[len(said):]) {
				t.Error("after Cue, the sound is not the file and silence")
			}
		}
		// A Cue while the file plays restarts it.
		in.(audio.Cuer).Cue()
		hear(t, in, 40*time.Millisecond)
		in.(audio.Cuer).Cue()
		if heard := hear(t, in, time.Second); !slices.Equal(heard[:len(said)], said) {
			t.Error("a second Cue did not restart the file")
		}
		if took := time.Since(start); took != 4040*time.Millisecond {
			t.Errorf("4.04 s of sound took %v", took)
		}
	})
}

func TestMicrophoneConverts(t *testing.T) {
	path := writeFile(t, wav.Encode(tone(44100, time.Second), 44100))
	synctest.Test(t, func(t *testing.T) {
		in := openInput(t, "file:"+path)
		in.(audio.Cuer).Cue()
		heard := hear(t, in, 2*time.Second)
		if silent(heard[15900:16000]) || !silent(heard[16000:]) {
			t.Error("a second at 44.1 kHz was not converted to a second at 16 kHz")
		}
	})
}

func TestLateReaderGetsTheLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := openInput(t, "null")
		f := make([]audio.Frame, 1)
		time.Sleep(900 * time.Millisecond) // within the buffer of a card
		if _, err := in.Read(t.Context(), f); err != nil || f[0].Lost != 0 {
			t.Errorf("lost %d, %v", f[0].Lost, err)
		}
		time.Sleep(10 * time.Second)
		if _, err := in.Read(t.Context(), f); err != nil || f[0].Lost < 10*16000 || f[0].Lost > 11*16000 {
			t.Errorf("after 10.9 s: lost %d, %v", f[0].Lost, err)
		}
		hear(t, in, time.Second)
	})
}

func TestReadEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := openInput(t, "null")
		cause := errors.New("enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(cause)
		f := make([]audio.Frame, 1)
		if _, err := in.Read(ctx, f); err != cause {
			t.Errorf("cancelled: %v", err)
		}
		time.AfterFunc(5*time.Millisecond, func() { in.Close() })
		if _, err := in.Read(t.Context(), f); !errors.Is(err, audio.ErrClosed) {
			t.Errorf("closed: %v", err)
		}
		in.Close()
	})
}

// Each sound is in the file at the time at which it was played.
func TestFileLoudspeaker(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out.wav")
	synctest.Test(t, func(t *testing.T) {
		card := Card("file:" + path)
		out := openOutput(t, card, 16000)
		said := tone(16000, 500*time.Millisecond)
		ms := func(n int) int { return n * 16 }
		check := func(when string, total int, sounds ...int) {
			t.Helper()
			synctest.Wait()
			pcm, rate := readFile(t, path)
			if rate != 16000 || len(pcm) > ms(total) || len(pcm) < ms(total-100) {
				t.Errorf("%s: %d ms are in the file, not %d", when, len(pcm)/16, total)
			}
			for _, at := range sounds {
				if end := ms(at) + len(said); len(pcm) < end || !slices.Equal(pcm[ms(at):end], said) {
					t.Errorf("%s: the sound is not at %d ms", when, at)
					continue
				}
				clear(pcm[ms(at) : ms(at)+len(said)])
			}
			if !silent(pcm) {
				t.Errorf("%s: the file contains more than the sound", when)
			}
		}
		check("at the beginning", 0)
		time.Sleep(time.Second)
		check("after 1 s of nothing", 1000)

		start := time.Now()
		if err := out.Write(t.Context(), said); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took != 500*time.Millisecond-queueTime {
			t.Errorf("Write of 500 ms took %v", took)
		}
		if err := out.Drain(t.Context()); err != nil || time.Since(start) != 500*time.Millisecond {
			t.Errorf("played after %v, %v", time.Since(start), err)
		}
		check("after the first sound", 1500, 1000)

		// The next opening continues the same file.
		out.Close()
		time.Sleep(2500 * time.Millisecond)
		out = openOutput(t, card, 16000)
		if err := out.Write(t.Context(), said); err != nil {
			t.Fatal(err)
		}
		if err := out.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		check("after the second sound", 4500, 1000, 4000)
		out.Close()
		if err := out.Write(t.Context(), said); !errors.Is(err, audio.ErrClosed) {
			t.Errorf("Write after Close: %v", err)
		}
	})
}

func TestFlushDiscards(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out.wav")
	synctest.Test(t, func(t *testing.T) {
		out := openOutput(t, Card("file:"+path), 16000)
		defer out.Close()
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(100*time.Millisecond, cancel)
		if err := out.Write(ctx, tone(16000, time.Second)); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		if err := out.Flush(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		pcm, _ := readFile(t, path)
		if !silent(pcm[1600:]) || silent(pcm[1200:1280]) {
			t.Error("the sound does not end where it was flushed")
		}
	})
}

func TestLoudspeakerConverts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out.wav")
	synctest.Test(t, func(t *testing.T) {
		card := Card("file:" + path)
		openOutput(t, card, 16000).Close()
		out := openOutput(t, card, 48000)
		defer out.Close()
		if err := out.Write(t.Context(), tone(48000, time.Second)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		pcm, rate := readFile(t, path)
		if rate != 16000 || silent(pcm[15800:15990]) || !silent(pcm[16010:]) {
			t.Error("a second at 48 kHz was not converted to a second at 16 kHz")
		}
	})
}

func TestFileIsFull(t *testing.T) {
	born := time.Now()
	file, err := create(filepath.Join(t.TempDir(), "out.wav"), 192000, born)
	if err != nil {
		t.Fatal(err)
	}
	// All of that is silence, and takes no disk space.
	almost := born.Add((maxData/2/192000 - 1) * time.Second)
	if err := file.play(nil, true, almost); err != nil {
		t.Fatal(err)
	}
	if err := file.play(nil, true, almost.Add(2*time.Second)); !errors.Is(err, errFileFull) {
		t.Errorf("silence: %v", err)
	}
	if err := file.play(tone(192000, 2*time.Second), false, almost); !errors.Is(err, errFileFull) {
		t.Errorf("sound: %v", err)
	}
}

func TestNullLoudspeaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := openOutput(t, Card("null"), 48000)
		defer out.Close()
		start := time.Now()
		if err := out.Write(t.Context(), make([]int16, 48000)); err != nil {
			t.Fatal(err)
		}
		if err := out.Drain(t.Context()); err != nil || time.Since(start) != time.Second {
			t.Errorf("a second took %v, %v", time.Since(start), err)
		}
	})
}

func TestErrorsContainTheReason(t *testing.T) {
	dir := t.TempDir()
	text := writeFile(t, []byte("this is not sound, despite its name"))
	for name, want := range map[string]error{
		filepath.Join(dir, "none.wav"): fs.ErrNotExist,
		dir:                            errNotRegular,
		text:                           nil, // any
		"/dev/zero":                    errNotRegular,
	} {
		if _, err := Card("file:" + name).OpenInput(t.Context()); err == nil || want != nil && !errors.Is(err, want) || !strings.Contains(err.Error(), name) {
			t.Errorf("microphone %s: %v", name, err)
		}
	}
	for name, want := range map[string]error{
		filepath.Join(dir, "none", "out.wav"): fs.ErrNotExist,
		dir:                                   errNotRegular,
		"/proc/version":                       nil, // any
	} {
		if _, err := Card("file:"+name).OpenOutput(t.Context(), 16000); err == nil || want != nil && !errors.Is(err, want) || !strings.Contains(err.Error(), name) {
			t.Errorf("loudspeaker %s: %v", name, err)
		}
	}
	card := Card("file:" + filepath.Join(dir, "out.wav"))
	out := openOutput(t, card, 16000)
	if _, err := card.OpenOutput(t.Context(), 16000); !errors.Is(err, errInUse) {
		t.Errorf("opened twice: %v", err)
	}
	out.Close()
}

func TestSteadyPathDoesNotAllocate(t *testing.T) {
	in := newInput(tone(16000, time.Second))
	path := filepath.Join(t.TempDir(), "out.wav")
	file, err := create(path, 16000, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	file.begin(48000, func() {})
	f := make([]audio.Frame, 1)
	pcm := make([]int16, 960)
	now, ctx := time.Now(), t.Context()
	allocs := testing.AllocsPerRun(100, func() {
		in.due = time.Now() // so that Write does not block
		if _, err := in.Read(ctx, f); err != nil || file.play(pcm, false, now) != nil {
			t.Fatal("failed")
		}
	})
	if allocs > 0 {
		t.Errorf("%v allocations a frame", allocs)
	}
}
