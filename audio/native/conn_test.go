package native

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"lintod/audio"
	"lintod/audio/native/wire"
)

// fake is the other end of a conn, played by a test.
type fake struct {
	*wire.Reader
	*wire.Writer
	up   chan struct{}
	over chan error
	hang func()
}

// talk connects a conn to a fake. In a bubble, both ends meet without delay.
func talk(t *testing.T) (*conn, *fake) {
	t.Helper()
	childIn, toChild := io.Pipe()
	fromChild, childOut := io.Pipe()
	c := newConn(fromChild, toChild, new(counters), func(audio.Direction, wire.Choice) {})
	f := &fake{
		Reader: wire.NewReader(childIn),
		Writer: wire.NewWriter(childOut),
		up:     make(chan struct{}),
		over:   make(chan error, 1),
	}
	go func() {
		err := c.read(func() { close(f.up) })
		c.fail(err)
		f.over <- err
	}()
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		watch(c)
		fromChild.CloseWithError(io.ErrClosedPipe) // like killing the child
		toChild.CloseWithError(io.ErrClosedPipe)
	}()
	f.hang = func() { childOut.Close() }
	t.Cleanup(func() {
		childOut.Close()
		<-watched
	})
	return c, f
}

// hello makes the fake send its hello.
func (f *fake) hello(t *testing.T) {
	t.Helper()
	f.expect(t, wire.Hello)
	if err := f.SendHello(); err != nil {
		t.Fatal(err)
	}
	<-f.up
}

func (f *fake) expect(t *testing.T, want wire.Type) wire.Message {
	t.Helper()
	m, err := f.Reader.Read()
	if err != nil || m.Type != want {
		t.Errorf("got %v, %v; want %v", m.Type, err, want)
	}
	return m
}

// opens answers one request to open, and one to close.
func (f *fake) opens(t *testing.T, want wire.Type) (id uint16) {
	id = f.expect(t, want).Stream
	_ = f.Send(wire.Opened, id)
	return id
}

func (f *fake) closes(t *testing.T, id uint16) {
	f.expect(t, wire.Close)
	_ = f.Send(wire.Closed, id)
}

// inBubble runs test with a conn and the fake at its other end.
func inBubble(t *testing.T, test func(t *testing.T, c *conn, f *fake)) {
	synctest.Test(t, func(t *testing.T) {
		c, f := talk(t)
		f.hello(t)
		test(t, c, f)
	})
}

func TestNoHello(t *testing.T) {
	for name, say := range map[string]func(f *fake){
		"another message": func(f *fake) { _ = f.Send(wire.Opened, 1) },
		"another version": func(f *fake) { _ = f.SendBytes(wire.Hello, 0, []byte("lintod-audio\xff\xff")) },
		"end":             func(f *fake) { f.hang() },
		"nothing":         func(*fake) { time.Sleep(2 * helloLimit) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, f := talk(t)
				f.expect(t, wire.Hello)
				say(f)
				synctest.Wait()
				if c.err() == nil {
					t.Error("the connection continues")
				}
				if _, err := c.openInput(t.Context(), wire.Open{Rate: 16000, Devices: []string{"default"}}); err == nil {
					t.Error("an input was opened nevertheless")
				}
			})
		})
	}
}

func TestInputDeliversAndCloses(t *testing.T) {
	inBubble(t, func(t *testing.T, c *conn, f *fake) {
		go func() {
			m := f.expect(t, wire.OpenInput)
			if o, err := wire.ParseOpen(m.Payload); err != nil || o.Rate != 16000 || !slices.Equal(o.Devices, []string{"USB"}) {
				t.Errorf("asked for %v, %v", o, err)
			}
			_ = f.Send(wire.Opened, m.Stream)
			pcm := [audio.FrameSamples]int16{1, 2, 3}
			_ = f.SendCapture(m.Stream, []wire.Captured{{At: wire.Monotonic(), Lost: 7, PCM: pcm}})
			f.closes(t, m.Stream)
		}()
		in, err := c.openInput(t.Context(), wire.Open{Rate: 16000, Devices: []string{"USB"}})
		if err != nil {
			t.Fatal(err)
		}
		var frame audio.Frame
		if err := readFrame(t.Context(), in, &frame); err != nil || frame.PCM[2] != 3 || frame.Lost != 7 {
			t.Errorf("got %v, lost %d, %v", frame.PCM[:3], frame.Lost, err)
		}
		if c.counters.snapshot().Lost != 7 {
			t.Error("the loss was not counted")
		}
		in.Close()
		if err := readFrame(t.Context(), in, &frame); !errors.Is(err, audio.ErrClosed) {
			t.Errorf("Read after Close: %v", err)
		}
		in.Close()
	})
}

// captured is a frame of silence for stream 1.
func captured(t *testing.T) wire.Message {
	t.Helper()
	var b bytes.Buffer
	_ = wire.NewWriter(&b).SendCapture(1, make([]wire.Captured, 1))
	m, err := wire.NewReader(&b).Read()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// The frames of one message are delivered at once.
func TestBatchIsReadAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, c *conn, f *fake) {
		const size = int(audio.IdleDelay / audio.FrameTime)
		begin := make(chan struct{})
		go func() {
			id := f.opens(t, wire.OpenInput)
			<-begin
			batch := make([]wire.Captured, size)
			for i := range batch {
				batch[i].PCM[0] = int16(i)
			}
			_ = f.SendCapture(id, batch)
			f.closes(t, id)
		}()
		in, err := c.openInput(t.Context(), wire.Open{Rate: 16000, Devices: []string{"default"}})
		if err != nil {
			t.Fatal(err)
		}
		defer in.Close()
		frames := make([]audio.Frame, inputQueue)
		go func() {
			synctest.Wait() // Read waits
			close(begin)
		}()
		n, err := in.Read(t.Context(), frames)
		if n != size || err != nil {
			t.Fatalf("%d frames, %v; want %d", n, err, size)
		}
		for i := range size {
			if frames[i].PCM[0] != int16(i) {
				t.Fatalf("frame %d is %d", i, frames[i].PCM[0])
			}
		}
	})
}

func TestSlowReaderLosesTheNewestAndGetsTheLoss(t *testing.T) {
	inBubble(t, func(t *testing.T, c *conn, f *fake) {
		go func() {
			id := f.opens(t, wire.OpenInput)
			for i := range inputQueue + 3 {
				_ = f.SendCapture(id, []wire.Captured{{PCM: [audio.FrameSamples]int16{int16(i)}}})
			}
			f.closes(t, id)
		}()
		in, err := c.openInput(t.Context(), wire.Open{Rate: 16000, Devices: []string{"default"}})
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		var frame audio.Frame
		for i := range inputQueue {
			if err := readFrame(t.Context(), in, &frame); err != nil || frame.PCM[0] != int16(i) || frame.Lost != 0 {
				t.Fatalf("frame %d is %d, lost %d, %v", i, frame.PCM[0], frame.Lost, err)
			}
		}
		_ = c.handle(captured(t))
		if err := readFrame(t.Context(), in, &frame); err != nil || frame.Lost != 3*uint32(audio.FrameSamples) {
			t.Errorf("the next frame reports %d lost samples, %v", frame.Lost, err)
		}
		in.Close()
	})
}

// A process that delivers sound faster than real time would fill the disk.
func TestInputFasterThanTimeEndsTheProcess(t *testing.T) {
	for pace, ends := range map[float64]bool{0.98: false, 1.09: false, 10: true} {
		inBubble(t, func(t *testing.T, c *conn, f *fake) {
			sent := make(chan struct{})
			go func() {
				defer close(sent)
				id := f.opens(t, wire.OpenInput)
				for began, n := time.Now(), 0; time.Since(began) < time.Minute && c.err() == nil; n++ {
					_ = f.SendCapture(id, make([]wire.Captured, 1))
					time.Sleep(time.Duration(float64(audio.FrameTime) / pace))
				}
				f.hang()
			}()
			in, err := c.openInput(t.Context(), wire.Open{Rate: 16000, Devices: []string{"default"}})
			if err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			var frame audio.Frame
			for readFrame(t.Context(), in, &frame) == nil {
				continue
			}
			if ended := time.Since(began) < 3*time.Second; ended != ends {
				t.Errorf("at %v times the pace: %v after %v", pace, c.err(), time.Since(began))
			}
			<-sent
		})
	}
}

// The limits run in the bubble's time, so the test knows them exactly.
func TestSilentInputEndsTheProcess(t *testing.T) {
	inBubble(t, func(t *testing.T, c *conn, f *fake) {
		go func() {
			id := f.opens(t, wire.OpenInput)
			for range 100 {
				time.Sleep(audio.FrameTime)
				_ = f.SendCapture(id, make([]wire.Captured, 1))
			}
			_, _ = f.Reader.Read()
		}()
		in, err := c.openInput(t.Context(), wire.Open{Rate: 16000, Devices: []string{"default"}})
		if err != nil {
			t.Fatal(err)
		}
		defer in.Close()
		start := time.Now()
		var frame audio.Frame
		for err == nil {
			err = readFrame(t.Context(), in, &frame)
		}
		if !errors.As(err, new(stallError)) {
			t.Errorf("got %v", err)
		}
		if took := time.Since(start) - 100*audio.FrameTime; took < moveLimit || took > moveLimit+2*catchUp {
			t.Errorf("silence was noticed after %v", took)
		}
		if reason, _ := verdict(c.err(), nil); reason != "stalled" {
			t.Errorf("counted as %q", reason)
		}
	})
}

func TestIdleOutputIsNotAStall(t *testing.T) {
	inBubble(t, func(t *testing.T, c *conn, f *fake) {
		go func() {
			id := f.opens(t, wire.OpenOutput)
			f.expect(t, wire.Play)
			_ = f.SendProgress(wire.Played, id, wire.Progress{Samples: 160})
			f.closes(t, id)
		}()
		out, err := c.openOutput(t.Context(), wire.Open{Rate: 16000, Devices: []string{"default"}})
		if err != nil {
			t.Fatal(err)
		}
		if err := out.Write(t.Context(), make([]int16, 160)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if err := c.err(); err != nil {
			t.Error(err)
		}
		out.Close()
	})
}

func TestOutputThatDoesNotPlayEndsTheProcess(t *testing.T) {
	for name, use := range map[string]func(audio.Output, context.Context) error{
		"write": func(o audio.Output, ctx context.Context) error { return o.Write(ctx, make([]int16, 16000)) },
		"drain": func(o audio.Output, ctx context.Context) error { return o.Drain(ctx) },
		"close": func(o audio.Output, _ context.Context) error { return o.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, c *conn, f *fake) {
				go func() {
					f.opens(t, wire.OpenOutput)
					for err := error(nil); err == nil; {
						_, err = f.Reader.Read()
					}
				}()
				out, err := c.openOutput(t.Context(), wire.Open{Rate: 16000, Devices: []string{"default"}})
				if err != nil {
					t.Fatal(err)
				}
				if err := use(out, t.Context()); name == "drain" {
					// Nothing was written, so nothing has to be played; but an
					// answer is expected.
					time.Sleep(2 * moveLimit)
				} else if name == "write" && !errors.As(err, new(stallError)) {
					t.Errorf("got %v", err)
				}
				if !errors.As(c.err(), new(stallError)) {
					t.Errorf("the process continues: %v", c.err())
				}
				out.Close()
			})
		})
	}
}

func TestWriteKeepsTheWindow(t *testing.T) {
	inBubble(t, func(t *testing.T, c *conn, f *fake) {
		const total = 16000
		var waiting, most int
		go func() {
			id := f.opens(t, wire.OpenOutput)
			played := 0
			for played < total {
				// The fake reads everything before it plays 10 ms.
				synctest.Wait()
				for waiting < 640 && played+waiting < total {
					m := f.expect(t, wire.Play)
					waiting += len(m.Payload) / 2
				}
				most = max(most, waiting)
				n := min(160, waiting)
				time.Sleep(10 * time.Millisecond)
				played, waiting = played+n, waiting-n
				_ = f.SendProgress(wire.Played, id, wire.Progress{Samples: uint64(played)})
			}
			f.expect(t, wire.Drain)
			_ = f.SendProgress(wire.Drained, id, wire.Progress{Samples: total, Underruns: 2})
			f.closes(t, id)
		}()
		out, err := c.openOutput(t.Context(), wire.Open{Rate: 16000, Devices: []string{"default"}})
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if err := out.Write(t.Context(), make([]int16, total)); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took != time.Second-window {
			t.Errorf("Write of 1 s returned after %v", took)
		}
		if err := out.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		out.Close()
		if most != 640 {
			t.Errorf("%d samples waited in the process", most)
		}
		if n := c.counters.snapshot().Underran; n != 2 {
			t.Errorf("%d underruns counted", n)
		}
	})
}

func TestContextEndsBlockedCalls(t *testing.T) {
	inBubble(t, func(t *testing.T, c *conn, f *fake) {
		go func() {
			in, out := f.opens(t, wire.OpenInput), f.opens(t, wire.OpenOutput)
			for {
				m, err := f.Reader.Read()
				if err != nil {
					return
				}
				if m.Type == wire.Close {
					_ = f.Send(wire.Closed, m.Stream)
				}
				if m.Type == wire.Drain {
					_ = f.SendProgress(wire.Played, out, wire.Progress{})
				}
				_ = f.SendCapture(in, make([]wire.Captured, 1))
			}
		}()
		in, err := c.openInput(t.Context(), wire.Open{Rate: 16000, Devices: []string{"default"}})
		if err != nil {
			t.Fatal(err)
		}
		out, err := c.openOutput(t.Context(), wire.Open{Rate: 16000, Devices: []string{"default"}})
		if err != nil {
			t.Fatal(err)
		}
		cause := errors.New("requested by another reader")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(cause) })
		if err := out.Write(ctx, make([]int16, 16000)); err != cause {
			t.Errorf("Write: %v", err)
		}
		if err := out.Drain(ctx); err != cause {
			t.Errorf("Drain: %v", err)
		}
		if err := readFrame(ctx, in, new(audio.Frame)); err != cause && err != nil {
			t.Errorf("Read: %v", err)
		}
		if _, err := c.openInput(ctx, wire.Open{Rate: 16000, Devices: []string{"default"}}); err != cause {
			t.Errorf("open: %v", err)
		}
		if _, err := c.devices(ctx); err != cause {
			t.Errorf("devices: %v", err)
		}
		in.Close()
		out.Close()
	})
}

func TestOpenFails(t *testing.T) {
	inBubble(t, func(t *testing.T, c *conn, f *fake) {
		go func() {
			m := f.expect(t, wire.OpenInput)
			_ = f.SendBytes(wire.Failed, m.Stream, []byte("no such microphone"))
			f.closes(t, m.Stream)
		}()
		if _, err := c.openInput(t.Context(), wire.Open{Rate: 16000, Devices: []string{"x"}}); err == nil || err.Error() != "no such microphone" {
			t.Errorf("got %v", err)
		}
	})
}

// Invalid messages of a child must end the connection, and nothing else.
func TestInvalidMessages(t *testing.T) {
	for name, say := range map[string]func(f *fake, in, out uint16){
		"played more than was sent": func(f *fake, _, out uint16) { _ = f.SendProgress(wire.Played, out, wire.Progress{Samples: 1}) },
		"half a frame":              func(f *fake, in, _ uint16) { _ = f.SendBytes(wire.Capture, in, make([]byte, 100)) },
		"capture of a speaker":      func(f *fake, _, out uint16) { _ = f.SendCapture(out, make([]wire.Captured, 1)) },
		"opened twice":              func(f *fake, in, _ uint16) { _ = f.Send(wire.Opened, in) },
		"closed twice":              func(f *fake, in, _ uint16) { _ = f.Send(wire.Closed, in); _ = f.Send(wire.Closed, in) },
		"its own last words":        func(f *fake, _, _ uint16) { _ = f.SendBytes(wire.Failed, 0, []byte("it is too late")) },
		"a short progress":          func(f *fake, _, out uint16) { _ = f.SendBytes(wire.Drained, out, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, c *conn, f *fake) {
				opened := make(chan struct{}) // an invalid message before that would fail the opening
				go func() {
					in, out := f.opens(t, wire.OpenInput), f.opens(t, wire.OpenOutput)
					<-opened
					say(f, in, out)
					for err := error(nil); err == nil; {
						_, err = f.Reader.Read()
					}
				}()
				in, err := c.openInput(t.Context(), wire.Open{Rate: 16000, Devices: []string{"default"}})
				if err != nil {
					t.Fatal(err)
				}
				out, err := c.openOutput(t.Context(), wire.Open{Rate: 16000, Devices: []string{"default"}})
				if err != nil {
					t.Fatal(err)
				}
				close(opened)
				err = readFrame(t.Context(), in, new(audio.Frame))
				if err == nil || errors.As(err, new(stallError)) {
					t.Errorf("Read: %v", err)
				}
				if err := out.Flush(); err == nil {
					t.Error("the output continues")
				}
				in.Close()
				out.Close()
			})
		})
	}
}

func TestEnviron(t *testing.T) {
	ours := map[string]string{"PATH": "/bin", "PULSE_SERVER": "unix:/x", "NOTIFY_SOCKET": "@s", "LINTO_PASSWORD": "p"}
	got := environ(func(key string) (string, bool) { v, ok := ours[key]; return v, ok })
	slices.Sort(got)
	if s := strings.Join(got, " "); s != "PATH=/bin PULSE_SERVER=unix:/x" {
		t.Errorf("got %s", s)
	}
}

func TestSteadyPathDoesNotAllocate(t *testing.T) {
	c := newConn(nil, io.Discard, new(counters), func(audio.Direction, wire.Choice) {})
	in, out := newInput(c), newOutput(c, 16000)
	for _, s := range []stream{in, out} {
		if _, err := c.add(s); err != nil {
			t.Fatal(err)
		}
	}
	capture := captured(t)
	pcm := make([]int16, 320)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	frames := make([]audio.Frame, 1)
	allocs := testing.AllocsPerRun(200, func() {
		if c.handle(capture) != nil {
			t.Fatal("capture failed")
		}
		if _, err := in.Read(ctx, frames); err != nil {
			t.Fatal(err)
		}
		if out.Write(ctx, pcm) != nil || out.progress(wire.Progress{Samples: out.sent}, false) != nil {
			t.Fatal("playback failed")
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations a frame", allocs)
	}
}

// readFrame reads one frame.
func readFrame(ctx context.Context, in audio.Input, f *audio.Frame) error {
	var frames [1]audio.Frame
	_, err := in.Read(ctx, frames[:])
	*f = frames[0]
	return err
}
