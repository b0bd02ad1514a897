//go:build cgo

package main

import (
	"bytes"
	"errors"
	"io"
	"iter"
	"os"
	"os/exec"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/gordonklaus/portaudio"

	"lintod/audio"
	"lintod/audio/audiotest"
	"lintod/audio/native/wire"
)

// insideRig runs the test again in its own process, and reports whether this is that
// process: the binding passes PortAudio a number as a pointer, which the pointer
// checks of the race detector reject.
func insideRig(t *testing.T) bool {
	t.Helper()
	const inside = "LINTOD_TEST_WITHOUT_RACE"
	if os.Getenv(inside) != "" {
		return true
	}
	cmd := exec.Command("go", "test", "-count=1", "-v", "-run=^"+t.Name()+"$", ".")
	cmd.Env = append(os.Environ(), inside+"=1")
	out, err := cmd.CombinedOutput()
	switch {
	case err != nil:
		t.Fatalf("%v: %s", err, out)
	case bytes.Contains(out, []byte("--- SKIP")):
		t.Skipf("%s", out)
	case !bytes.Contains(out, []byte("--- PASS: "+t.Name())):
		t.Fatalf("the test did not run: %s", out)
	}
	return false
}

// onRig starts PortAudio on a rig, with a fake kernel without cards.
func onRig(t *testing.T) (*audiotest.Rig, *cards) {
	t.Helper()
	rig := audiotest.Start(t)
	rig.Setenv()
	c := &cards{quiet: true, root: t.TempDir()}
	if err := c.refresh(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = portaudio.Terminate() })
	return rig, c
}

// repeated returns the frames of pcm, repeated until stop is closed.
func repeated(pcm []int16, stop <-chan struct{}) iter.Seq[[]int16] {
	return func(yield func([]int16) bool) {
		for {
			for block := range slices.Chunk(pcm, 160) {
				select {
				case <-stop:
					return
				default:
				}
				if !yield(block) {
					return
				}
			}
		}
	}
}

// A card that supports only 48 kHz stereo: the same PulseAudio, opened that way.
func TestConversionOnACard(t *testing.T) {
	if !insideRig(t) {
		return
	}
	rig, c := onRig(t)
	way := layout{48000, 2}

	l := &loudspeaker{cards: c, want: wire.Open{Rate: 16000}, opened: opened{layout: way}}
	dev, err := portaudio.DefaultOutputDevice()
	if err != nil {
		t.Fatal(err)
	}
	if l.stream, err = output.openAs(dev, way, &l.buf); err != nil {
		t.Fatal(err)
	}
	if err := l.prepare(); err != nil {
		t.Fatal(err)
	}
	defer l.close()
	listener := rig.Hear()
	if err := l.start(); err != nil {
		t.Fatal(err)
	}
	// On a busy machine the tone has gaps: it is played, and checked below, until
	// half a second of it has arrived without one.
	enough, played := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(played)
		for block := range repeated(tone(16000, 1000, time.Second), enough) {
			if _, err := l.write(block); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	silence := sync.OnceFunc(func() { close(enough); <-played })
	defer silence()
	listener.WaitFor("half a second of the tone", func(pcm []int16) bool {
		return len(pcm) > 8000 && level(pcm[len(pcm)-8000:], 16000, 1000) > 0.999
	})
	silence()

	m := &microphone{cards: c, opened: opened{layout: way}, gain: 1, pipeline: new(pipeline)}
	if m.stream, err = input.openAs(dev, way, &m.buf); err != nil {
		t.Fatal(err)
	}
	if err := m.prepare(); err != nil {
		t.Fatal(err)
	}
	said, fed := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(fed)
		for range 10 {
			rig.Feed(tone(16000, 1000, 3*time.Second))
			select {
			case <-said:
				return
			default:
			}
		}
	}()
	var heard []int16
	stop := make(chan struct{})
	err = m.run(stop, newPace(), func(batch []wire.Captured) error {
		for _, c := range batch {
			heard = append(heard, c.PCM[:]...)
		}
		n := len(heard)
		if n > 40*16000 || n > 8000 && level(heard[n-8000:], 16000, 1000) > 0.999 {
			return io.EOF
		}
		return nil
	})
	close(said)
	if err != io.EOF || len(heard) > 40*16000 {
		t.Errorf("the tone did not arrive: %v", err)
	}
	m.close()
	<-fed
}

// A late reader or writer loses sound, and continues.
func TestXrunsAreNotFatal(t *testing.T) {
	if !insideRig(t) {
		return
	}
	_, c := onRig(t)
	want := wire.Open{Rate: audio.CaptureRate, Devices: []string{"default"}}
	m, err := openMicrophone(c, want)
	if err != nil {
		t.Fatal(err)
	}
	defer m.close()
	var lost uint32
	frames := 0
	err = m.run(nil, newPace(), func(batch []wire.Captured) error {
		if before := frames < 25; before && frames+len(batch) >= 25 {
			time.Sleep(time.Second) // far more than the card's buffer; the server may buffer the rest
		}
		frames += len(batch)
		for _, c := range batch {
			lost += c.Lost
		}
		if frames >= 100 {
			return io.EOF
		}
		return nil
	})
	t.Logf("%d samples lost in the pause", lost)
	if err != io.EOF {
		t.Errorf("after %d frames: %v", frames, err)
	}

	l := &loudspeaker{cards: c, want: want, chosen: func(wire.Choice) {}}
	if err := l.start(); err != nil {
		t.Fatal(err)
	}
	defer l.close()
	dry := 0
	for i := range 100 {
		if i%25 == 24 {
			time.Sleep(500 * time.Millisecond)
		}
		ran, err := l.write(make([]int16, 160))
		if err != nil {
			t.Fatal(err)
		}
		if ran {
			dry++
		}
	}
	t.Logf("the card ran dry %d times", dry)
	if dry == 0 {
		t.Error("no xrun was noticed")
	}
}

func TestMicrophoneIsReleased(t *testing.T) {
	if !insideRig(t) {
		return
	}
	_, c := onRig(t)
	m, err := openMicrophone(c, wire.Open{Rate: audio.CaptureRate, Devices: []string{"usb", "default"}})
	if err != nil {
		t.Fatal(err)
	}
	defer m.close()
	kernel(t, c.root, oneCard)
	frames := 0
	err = m.run(nil, newPace(), func(batch []wire.Captured) error {
		if frames += len(batch); frames > 10*lookEvery {
			return io.EOF
		}
		return nil
	})
	if !errors.Is(err, errChanged) || frames < 2*lookEvery-10 {
		t.Errorf("after %d frames: %v", frames, err)
	}
	if m.choice.Rank != 1 || m.broken(err).Error() != errChanged.Error() {
		t.Errorf("%+v: %v", m.choice, m.broken(err))
	}
}
