package native

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"lintod/audio"
	"lintod/audio/audiotest"
)

// These tests run the real lintod-audio with a real sound server.

// limit bounds operations that should take a moment.
const limit = time.Minute

// running is a Process under a supervisor that calls Run again, like the agent's.
type running struct {
	*Process
	t      *testing.T
	failed chan error // the results of Run, in order
}

func run(t *testing.T, path string) *running {
	t.Helper()
	r := &running{
		Process: &Process{Path: path, Input: []string{"default"}, Output: []string{"default"}, Log: slog.New(slog.DiscardHandler)},
		t:       t,
		failed:  make(chan error, 100),
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			err := r.Run(ctx)
			select {
			case r.failed <- err:
			default: // not needed by the test
			}
			select {
			case <-time.After(50 * time.Millisecond):
			case <-ctx.Done():
			}
		}
	}()
	t.Cleanup(func() {
		cancel()
		select {
		case <-done:
		case <-time.After(limit):
			t.Error("Run does not end with its context")
		}
	})
	return r
}

func (r *running) fails() error {
	r.t.Helper()
	select {
	case err := <-r.failed:
		return err
	case <-time.After(limit):
		r.t.Fatal("Run did not return")
		return nil
	}
}

func (r *running) openInput() audio.Input {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	in, err := r.OpenInput(ctx)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { in.Close() })
	return in
}

// openOutput opens the output like a supervisor: repeatedly, because a sound server
// that ends may end the sound process, too.
func (r *running) openOutput() audio.Output {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	for {
		out, err := r.OpenOutput(ctx, audiotest.Rate)
		if err == nil {
			r.t.Cleanup(func() { out.Close() })
			return out
		}
		if ctx.Err() != nil {
			r.t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// pid returns the child's pid, found as the only process that runs our program's
// file.
func (r *running) pid() int {
	r.t.Helper()
	links, _ := filepath.Glob("/proc/[0-9]*/exe")
	for _, link := range links {
		if exe, err := os.Readlink(link); err == nil && exe == r.Path {
			pid := 0
			for _, digit := range strings.Split(link, "/")[2] {
				pid = 10*pid + int(digit-'0')
			}
			return pid
		}
	}
	r.t.Fatal("the sound process is not running")
	return 0
}

func read(t *testing.T, in audio.Input) audio.Frame {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	var f audio.Frame
	if err := readFrame(ctx, in, &f); err != nil {
		t.Fatal(err)
	}
	return f
}

// readUntilError returns the error that ends the input, which must not be the test's
// own or a timeout.
func readUntilError(t *testing.T, in audio.Input) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	for {
		var f audio.Frame
		if err := readFrame(ctx, in, &f); err != nil {
			if errors.Is(err, context.DeadlineExceeded) {
				t.Fatal("the input continued, or blocked")
			}
			return err
		}
	}
}

const soundProgram = "lintod/cmd/lintod-audio"

func startReal(t *testing.T) (*audiotest.Rig, *running) {
	t.Helper()
	path := audiotest.Build(t, soundProgram)
	rig := audiotest.Start(t)
	rig.Setenv()
	return rig, run(t, path)
}

func TestCaptureIsExact(t *testing.T) {
	rig, p := startReal(t)
	p.Processing = audio.Processing{VoiceDetection: audio.SimpleDetection} // must not change a sample
	in := p.openInput()
	if f := read(t, in); f.Speech == audio.SpeechUnknown {
		t.Error("the card has no opinion")
	}

	said := audiotest.Chirp(3 * time.Second)
	enough, fed := make(chan struct{}), make(chan struct{})
	defer func() { close(enough); <-fed }()
	go func() {
		defer close(fed)
		// On a busy machine the feeder may cause gaps: it repeats the chirp.
		for range 4 {
			rig.Feed(said)
			select {
			case <-enough:
				return
			default:
			}
		}
	}()
	var heard []int16
	var last audio.Frame
	youngest := limit // most frames wait while the chirp is looked for
	for audiotest.Find(tail(heard, 2*len(said)), said) < 0 {
		if len(heard) > 20*audiotest.Rate {
			t.Fatalf("the chirp did not arrive unchanged; its later part is at %d", audiotest.Find(heard, said[1600:]))
		}
		for range 25 {
			f := read(t, in)
			youngest = min(youngest, time.Since(f.At))
			heard = append(heard, f.PCM[:]...)
			if step := f.At.Sub(last.At); !last.At.IsZero() && f.Lost == 0 && (step <= 0 || step > 2*audio.FrameTime) {
				t.Errorf("two frames in a row are stamped %v apart", step)
			}
			last = f
		}
	}
	if youngest < 0 || youngest > 2*time.Second {
		t.Errorf("no frame was younger than %v", youngest)
	}
	t.Logf("exact after %.1f s; %d samples lost", float64(len(heard))/audiotest.Rate, p.Status().Lost)
}

func tail(pcm []int16, n int) []int16 { return pcm[max(0, len(pcm)-n):] }

// On a busy machine the sound server may interrupt the sound. It is then silent for
// a while, and drops the first few samples afterwards, as at the start of a stream.
func TestPlaybackIsExact(t *testing.T) {
	rig, p := startReal(t)
	out := p.openOutput()
	ctx, cancel := context.WithTimeout(context.Background(), 3*limit)
	defer cancel()
	said := audiotest.Chirp(2 * time.Second)
	for range 2 { // the card was stopped before the second
		listener := rig.Hear()
		start := time.Now()
		if err := out.Write(ctx, said); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took < time.Second {
			t.Errorf("Write of 2 s of sound took %v: it does not wait for the card", took)
		}
		if err := out.Drain(ctx); err != nil {
			t.Fatal(err)
		}
		played := int(time.Since(start).Seconds() * audiotest.Rate)
		listener.WaitFor("all until Drain", func(pcm []int16) bool {
			return len(pcm) > played+audiotest.Rate && !audiotest.Loud(tail(pcm, audiotest.Rate/5))
		})
		pieces, other := piecesOf(said, listener.Stop())
		t.Logf("heard as %v, and %d samples of other sound; underruns: %d", pieces, other, p.Status().Underran)
		const swallowed = audiotest.Rate / 100
		end, missing := 0, 0
		for _, piece := range append(pieces, span{from: len(said)}) {
			if lost := piece.from - end; lost < 0 || lost > swallowed {
				t.Errorf("%d samples are missing before sample %d", lost, piece.from)
			}
			missing += piece.from - end
			end = piece.to
		}
		if missing > len(said)/10 || other > len(said)/100 {
			t.Errorf("%d samples are missing, and %d are different", missing, other)
		}
	}
}

type span struct{ from, to int }

// piecesOf returns the parts of said that are in heard, in order, and the number of
// samples that are neither that nor silence.
func piecesOf(said, heard []int16) (pieces []span, other int) {
	const window = 16 // all parts of a chirp differ
	where := map[[window]int16]int{}
	for i := range len(said) - window + 1 {
		where[[window]int16(said[i:])] = i
	}
	for i := 0; i < len(heard); {
		if i+window <= len(heard) {
			if at, ok := where[[window]int16(heard[i:])]; ok {
				n := window
				for i+n < len(heard) && at+n < len(said) && heard[i+n] == said[at+n] {
					n++
				}
				pieces = append(pieces, span{at, at + n})
				i += n
				continue
			}
		}
		if audiotest.Loud(heard[i : i+1]) {
			other++
		}
		i++
	}
	return pieces, other
}

func TestFlushIsSilence(t *testing.T) {
	rig, p := startReal(t)
	out := p.openOutput()
	listener := rig.Hear()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	for range 3 {
		speaking, stop := context.WithCancel(ctx)
		written := make(chan error, 1)
		go func() { written <- out.Write(speaking, audiotest.Chirp(10*time.Second)) }()
		from := len(listener.PCM())
		listener.WaitFor("the chirp", func(pcm []int16) bool { return len(pcm) > from+8000 && audiotest.Loud(tail(pcm, 800)) })
		flushed := time.Now()
		stop()
		if err := out.Flush(); err != nil {
			t.Fatal(err)
		}
		if err := <-written; !errors.Is(err, context.Canceled) {
			t.Fatalf("Write: %v", err)
		}
		listener.WaitFor("silence", func(pcm []int16) bool { return !audiotest.Loud(tail(pcm, 3200)) })
		t.Logf("silence is heard %v after the flush", listener.At(lastLoud(listener.PCM())).Sub(flushed))
		// The stream is still usable.
		if err := out.Write(ctx, audiotest.Chirp(200*time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		if err := out.Drain(ctx); err != nil {
			t.Fatal(err)
		}
		listener.WaitFor("the next sound", func(pcm []int16) bool { return audiotest.Loud(tail(pcm, 8000)) })
		listener.WaitFor("silence", func(pcm []int16) bool { return !audiotest.Loud(tail(pcm, 3200)) })
	}
}

func lastLoud(pcm []int16) int {
	for i := len(pcm) - 1; i > 0; i-- {
		if audiotest.Loud(pcm[i : i+1]) {
			return i
		}
	}
	return 0
}

func TestServerRestarts(t *testing.T) {
	rig, p := startReal(t)
	in, out, idle := p.openInput(), p.openOutput(), p.openOutput()
	read(t, in)
	play := func(o audio.Output) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		if err := o.Write(ctx, audiotest.Chirp(100*time.Millisecond)); err != nil {
			t.Error(err)
		}
		if err := o.Drain(ctx); err != nil {
			t.Error(err)
		}
	}
	play(idle)
	listener := rig.Hear()
	listener.WaitFor("the card at rest", func(pcm []int16) bool { return len(pcm) > audiotest.Rate/2 })
	listener.Stop()
	rig.Kill()
	start := time.Now()
	err := readUntilError(t, in)
	t.Logf("after %v: %v", time.Since(start), err)
	in.Close()
	out.Close()

	if in, err := p.OpenInput(t.Context()); err == nil {
		// Some servers' sockets take a moment to disappear.
		readUntilError(t, in)
		in.Close()
	} else if !strings.Contains(err.Error(), "default") {
		t.Errorf("the error does not contain the device: %v", err)
	}
	rig.Restart()
	start = time.Now()
	in = reopen(t, p)
	read(t, in)
	t.Logf("frames again %v after the server was back", time.Since(start))

	// An output at rest has not noticed the failure.
	listener = rig.Hear()
	play(idle)
	listener.WaitFor("the output that was idle", audiotest.Loud)
}

// reopen opens the input like a supervisor: repeatedly.
func reopen(t *testing.T, p *running) audio.Input {
	t.Helper()
	deadline := time.Now().Add(limit)
	for {
		in, err := p.OpenInput(t.Context())
		if err == nil {
			t.Cleanup(func() { in.Close() })
			return in
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func TestProcessKilledOrStopped(t *testing.T) {
	_, p := startReal(t)
	for _, c := range []struct {
		signal syscall.Signal
		reason string
	}{{syscall.SIGKILL, "ended"}, {syscall.SIGSTOP, "stalled"}} {
		in := reopen(t, p)
		read(t, in)
		out := p.openOutput()
		start := time.Now()
		if err := syscall.Kill(p.pid(), c.signal); err != nil {
			t.Fatal(err)
		}
		err := readUntilError(t, in)
		t.Logf("%v: after %v: %v", c.signal, time.Since(start), err)
		t.Logf("Run returned: %v", p.fails())
		if err := out.Write(t.Context(), make([]int16, 100)); err == nil {
			t.Errorf("%v: Write succeeded on a failed stream", c.signal)
		}
		out.Close()
		in.Close()
		in = reopen(t, p)
		read(t, in)
		in.Close()
		t.Logf("frames again %v after %v", time.Since(start), c.signal)
		if n := p.Status().Restarts[c.reason]; n != 1 {
			t.Errorf("%v: counted %v", c.signal, p.Status().Restarts)
		}
	}
}

func TestDevices(t *testing.T) {
	_, p := startReal(t)
	ds, err := p.Devices(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(ds) != 1 || ds[0].Name != "default" || !ds[0].DefaultInput || !ds[0].DefaultOutput || ds[0].Inputs == 0 || ds[0].Outputs == 0 {
		t.Errorf("got %+v", ds)
	}
}

// Two sound servers act as a headset and a fallback device. The headset is
// unplugged, and plugged in again.
func TestFallsBackAndReturns(t *testing.T) {
	path := audiotest.Build(t, soundProgram)
	headset, spare := audiotest.Start(t), audiotest.Start(t)
	audiotest.SetenvNamed(t, map[string]*audiotest.Rig{"headset": headset, "spare": spare})
	p := run(t, path)
	p.Input, p.Output = []string{"usb:1-1.2", "head*", "spare"}, []string{"headset", "spare"}
	in, out := p.openInput(), p.openOutput()
	read(t, in)
	if s := p.Status(); s.Input.Device != "headset" || s.Output.Device != "headset" || s.Output.Fallback {
		t.Errorf("at first: %+v", s)
	}
	p.Input = []string{"headset", "spare"}

	headset.Kill()
	t.Logf("the microphone ends: %v", readUntilError(t, in))
	in.Close()
	in = reopen(t, p)
	read(t, in)
	listener := spare.Hear()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	_ = out.Write(ctx, audiotest.Chirp(100*time.Millisecond)) // it may notice only now
	out.Close()
	out = p.openOutput()
	if err := out.Write(ctx, audiotest.Chirp(300*time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	listener.WaitFor("the fall-back", audiotest.Loud)
	listener.Stop()
	s := p.Status()
	if s.Input.Device != "spare" || !s.Input.Fallback || s.Output.Device != "spare" || !s.Output.Fallback || !strings.Contains(s.Input.Why, `"headset"`) {
		t.Errorf("without the headset: %+v", s)
	}
	t.Logf("%+v", s.Input)

	headset.Restart()
	out.Close()
	for deadline := time.Now().Add(3 * limit); p.Status().Input.Fallback; {
		in.Close() // the list of devices is renewed some seconds after the last time
		time.Sleep(200 * time.Millisecond)
		if in = reopen(t, p); time.Now().After(deadline) {
			t.Fatalf("did not return to the headset: %+v", p.Status())
		}
	}
	read(t, in)
	if s := p.Status(); s.Input.Device != "headset" || s.Input.Why != "" {
		t.Errorf("after its return: %+v", s)
	}
}

// playOn plays until that fails, and returns the error.
func playOn(ctx context.Context, out audio.Output) <-chan error {
	written := make(chan error, 1)
	go func() {
		var err error
		for err == nil {
			err = out.Write(ctx, audiotest.Chirp(time.Second))
		}
		written <- err
	}()
	return written
}

// A sound server that is stopped counts as failed, like one that has ended.
func TestServerStopped(t *testing.T) {
	rig, p := startReal(t)
	in, out := p.openInput(), p.openOutput()
	read(t, in)
	ctx, cancel := context.WithTimeout(t.Context(), 3*limit)
	defer cancel()
	written := playOn(ctx, out)
	read(t, in)
	rig.Stop()
	start := time.Now()
	err := readUntilError(t, in)
	t.Logf("capture ends after %v: %v", time.Since(start), err)
	if err := <-written; ctx.Err() != nil {
		t.Fatalf("playback hangs: %v", err)
	} else {
		t.Logf("playback ends after %v: %v", time.Since(start), err)
	}
	in.Close()
	out.Close()
	t.Logf("Run returned: %v", p.fails())
	if n := p.Status().Restarts["stalled"]; n == 0 {
		t.Errorf("counted %v", p.Status().Restarts)
	}
	rig.Continue()
	in = reopen(t, p)
	read(t, in)
}

// Playback alone also detects it.
func TestServerStoppedWhilePlaying(t *testing.T) {
	rig, p := startReal(t)
	out := p.openOutput()
	ctx, cancel := context.WithTimeout(t.Context(), 3*limit)
	defer cancel()
	listener := rig.Hear()
	written := playOn(ctx, out)
	listener.WaitFor("the chirp", audiotest.Loud)
	rig.Stop()
	start := time.Now()
	err := <-written
	if ctx.Err() != nil {
		t.Fatalf("playback hangs: %v", err)
	}
	t.Logf("playback ends after %v: %v", time.Since(start), err)
	rig.Continue()
	out.Close()
	out = p.openOutput()
	if err := out.Write(ctx, audiotest.Chirp(100*time.Millisecond)); err != nil {
		t.Error(err)
	}
}

func TestUnknownDevice(t *testing.T) {
	_, p := startReal(t)
	p.Input, p.Output = []string{"Jabra"}, []string{"plughw:CARD=Jabra"}
	_, err := p.OpenInput(t.Context())
	if err == nil || !strings.Contains(err.Error(), `"Jabra"`) || !strings.Contains(err.Error(), `"default"`) {
		t.Errorf("got %v", err)
	}
	if _, err = p.OpenOutput(t.Context(), 16000); err == nil {
		t.Error("opened an unknown card")
	}
	t.Log(err)
}

// TestLateMicrophone: without listeners, sound waits in the card without a loss; on
// request it is delivered at once.
func TestLateMicrophone(t *testing.T) {
	rig := audiotest.Start(t)
	rig.Setenv()
	in := run(t, audiotest.Build(t, "lintod/cmd/lintod-audio")).openInput()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	var f audio.Frame
	var end time.Time // of the last frame
	next := func() (age time.Duration) {
		t.Helper()
		if err := readFrame(ctx, in, &f); err != nil {
			t.Fatal(err)
		}
		if gap := f.At.Sub(end); !end.IsZero() && (f.Lost > 0 || gap.Abs() > audio.FrameTime) {
			t.Errorf("%v are missing; the card lost %d samples", gap, f.Lost)
		}
		end = f.At.Add(audio.FrameTime)
		return time.Since(f.At)
	}
	next()
	in.(audio.Pacer).SetDelay(audio.IdleDelay)
	for next() < audio.IdleDelay*3/4 {
	}
	for range 3 { // batches
		for next() < audio.IdleDelay*3/4 {
		}
		for next() > audio.IdleDelay/4 {
		}
	}
	in.(audio.Pacer).SetDelay(0)
	for prompt := 0; prompt < 50; prompt++ {
		if next() > audio.IdleDelay/4 {
			prompt = 0
		}
	}
}

// TestPrerollOfALateMicrophone: speech before a trigger is available although most
// of it was still in the card, without a gap between it and the following sound.
func TestPrerollOfALateMicrophone(t *testing.T) {
	rig := audiotest.Start(t)
	rig.Setenv()
	p := run(t, audiotest.Build(t, "lintod/cmd/lintod-audio"))
	const preroll = 500 * time.Millisecond
	hub := &audio.Hub{Open: p.OpenInput, Preroll: preroll, Log: slog.New(slog.DiscardHandler)}
	ctx, cancel := context.WithTimeout(t.Context(), 2*limit)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- hub.Run(ctx) }()
	for beats := hub.Beat(); hub.Health().Frames < 100; {
		select {
		case <-beats:
		case err := <-ended:
			t.Fatal(err)
		}
	}
	for range 5 {
		trigger := time.Now()
		s := hub.Listen(true)
		var f audio.Frame
		var first, end time.Time
		for end.Before(trigger) {
			if err := s.Read(ctx, &f); err != nil {
				t.Fatal(err)
			}
			if first.IsZero() {
				first = f.At
			} else if gap := f.At.Sub(end); f.Lost > 0 || gap > audio.FrameTime { // a late clock is corrected
				t.Errorf("%v are missing, %d samples lost", gap, f.Lost)
			}
			end = f.At.Add(audio.FrameTime)
		}
		t.Logf("%v before the trigger were available %v after it", trigger.Sub(first), time.Since(trigger))
		if early := trigger.Sub(first); early < preroll-audio.FrameTime {
			t.Errorf("the sound begins %v before the trigger, want %v", early, preroll)
		}
		s.Close()
		for n := hub.Health().Frames; hub.Health().Frames < n+50; { // without listeners
			<-hub.Beat()
		}
	}
	cancel()
	<-ended
}

// TestPaceOfAClosedMicrophone: a turn that ends because of a mute requests another
// delay from a microphone that is being closed, which must not end the process.
func TestPaceOfAClosedMicrophone(t *testing.T) {
	_, p := startReal(t)
	in := p.openInput()
	read(t, in)
	in.Close()
	in.(audio.Pacer).SetDelay(audio.IdleDelay)
	in = p.openInput()
	read(t, in)
	if n := p.Status().Restarts; len(n) > 0 {
		t.Errorf("restarted: %v", n)
	}
}
