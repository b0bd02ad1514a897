package native

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"lintod/audio"
	"lintod/audio/audiotest"
	"lintod/audio/native/wire"
)

var identity = CodecFormat{Kind: "identity", Rate: 16000, Channels: 1, Frame: 60 * time.Millisecond}

// realProcess runs lintod-audio without a card and a sound server.
func realProcess(t *testing.T) *running {
	t.Helper()
	path := audiotest.Build(t, soundProgram)
	t.Setenv("ALSA_CONFIG_PATH", "/nonexistent")
	return run(t, path)
}

func (r *running) encoder() *Encoder {
	r.t.Helper()
	e, err := r.OpenEncoder(r.t.Context(), identity)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { e.Close() })
	return e
}

func (r *running) decoder() *Decoder {
	r.t.Helper()
	d, err := r.OpenDecoder(r.t.Context(), identity)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { d.Close() })
	return d
}

func inTime(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	return ctx
}

// Sound goes through an encoder and a decoder while others do the same.
func TestCodecsConvert(t *testing.T) {
	p := realProcess(t)
	ctx := inTime(t)
	said := audiotest.Chirp(3 * time.Second)
	size := identity.Rate * 60 / 1000
	var all sync.WaitGroup
	for range 4 {
		e, d := p.encoder(), p.decoder()
		all.Go(func() {
			for frame := range slices.Chunk(said, size) {
				if err := e.Write(ctx, frame); err != nil {
					t.Error(err)
					return
				}
			}
		})
		all.Go(func() {
			packet := make([]byte, wire.MaxPacket)
			for range len(said) / size {
				n, err := e.Read(ctx, packet)
				if err == nil {
					err = d.Write(ctx, packet[:n])
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
		all.Go(func() {
			frame := make([]int16, size)
			for want := range slices.Chunk(said, size) {
				if n, err := d.Read(ctx, frame); err != nil || !slices.Equal(frame[:n], want) {
					t.Errorf("%d samples, %v", n, err)
					return
				}
			}
		})
	}
	all.Wait()
	if n := p.Status().Codecs.Converted; n != uint64(4*2*len(said)/size) {
		t.Errorf("counted %d", n)
	}
}

func TestCodecRejectsOnePacket(t *testing.T) {
	p := realProcess(t)
	d, ctx := p.decoder(), inTime(t)
	good := binary.LittleEndian.AppendUint16(nil, 0xfffe)
	for name, bad := range map[string][]byte{
		"nothing":       nil,
		"half a sample": {1, 2, 3},
		"too long":      make([]byte, wire.MaxPacket),
	} {
		if err := errors.Join(d.Write(ctx, bad), d.Write(ctx, good)); err != nil {
			t.Fatal(err)
		}
		frame := make([]int16, 1)
		if _, err := d.Read(ctx, frame); !errors.As(err, new(RefusedError)) {
			t.Errorf("%s: %v", name, err)
		}
		if n, err := d.Read(ctx, frame); err != nil || n != 1 || frame[0] != -2 {
			t.Errorf("after %s: %d, %v", name, frame[:n], err)
		}
	}
	if err := d.Write(ctx, make([]byte, wire.MaxPacket+1)); err == nil || d.err() != nil {
		t.Errorf("a packet that does not fit: %v, and then %v", err, d.err())
	}
	if err := p.encoder().Write(ctx, make([]int16, 1)); err == nil {
		t.Error("the encoder accepted half a frame")
	}
	_ = d.Write(ctx, []byte{1, 0, 2, 0})
	if _, err := d.Read(ctx, make([]int16, 1)); !errors.Is(err, io.ErrShortBuffer) {
		t.Errorf("a frame that does not fit: %v", err)
	}
	if n := p.Status().Codecs.Refused; n != 3 {
		t.Errorf("counted %d", n)
	}
}

func TestUnknownCodec(t *testing.T) {
	p := realProcess(t)
	other := identity
	other.Kind = "smoke signals"
	if _, err := p.OpenEncoder(inTime(t), other); !errors.Is(err, ErrNoCodec) {
		t.Errorf("got %v", err)
	}
	other = identity
	other.Frame = 2500 * time.Microsecond
	if _, err := p.OpenEncoder(inTime(t), other); err == nil {
		t.Error("opened a codec with frames of half a millisecond")
	}
	p.encoder() // the process continues
	if n := len(p.Status().Restarts); n != 0 {
		t.Errorf("%v", p.Status().Restarts)
	}
}

func TestCodecsAreBounded(t *testing.T) {
	p := realProcess(t)
	for range wire.MaxCodecs - 1 {
		p.encoder()
	}
	last := p.decoder()
	if _, err := p.OpenEncoder(inTime(t), identity); !errors.Is(err, ErrCodecsInUse) {
		t.Errorf("one more: %v", err)
	}
	last.Close()
	p.encoder()
}

func TestClosedCodec(t *testing.T) {
	p := realProcess(t)
	e, ctx := p.encoder(), inTime(t)
	read := make(chan error)
	go func() {
		_, err := e.Read(ctx, nil)
		read <- err
	}()
	e.Close()
	e.Close()
	if err := <-read; !errors.Is(err, audio.ErrClosed) {
		t.Errorf("Read: %v", err)
	}
	if err := e.Write(ctx, make([]int16, 960)); !errors.Is(err, audio.ErrClosed) {
		t.Errorf("Write: %v", err)
	}
	// Concurrent writes from another goroutine arrive after the end, and are
	// harmless.
	d := p.decoder()
	_ = e.conn.w.SendSamples(wire.Convert, e.id, make([]int16, 960))
	if err := d.Write(ctx, []byte{1, 0}); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Read(ctx, make([]int16, 1)); err != nil {
		t.Error(err)
	}
}

func TestKillWithOpenCodecs(t *testing.T) {
	p := realProcess(t)
	for range 3 {
		e, ctx := p.encoder(), inTime(t)
		written := make(chan error)
		go func() {
			var err error
			for err == nil {
				err = e.Write(ctx, make([]int16, 960))
			}
			written <- err
		}()
		packet := make([]byte, wire.MaxPacket)
		if _, err := e.Read(ctx, packet); err != nil {
			t.Fatal(err)
		}
		_ = syscall.Kill(p.pid(), syscall.SIGKILL)
		var err error
		for err == nil {
			_, err = e.Read(ctx, packet)
		}
		if w := <-written; ctx.Err() != nil || errors.Is(err, io.EOF) || errors.Is(w, io.EOF) {
			t.Errorf("Read: %v, Write: %v", err, w)
		}
		e.Close()
		_ = p.fails() // it has been counted at that point
	}
	if p.Status().Restarts["ended"] != 3 {
		t.Errorf("counted %v", p.Status().Restarts)
	}
}

// Without real cards, no process runs until a codec is opened.
func TestProcessOnDemand(t *testing.T) {
	p := &Process{Path: audiotest.Build(t, soundProgram), OnDemand: true, Log: slog.New(slog.DiscardHandler)}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	select {
	case err := <-ended:
		t.Fatal(err)
	case <-time.After(200 * time.Millisecond): // enough for a start by mistake to show
	}
	p.mu.Lock()
	early := p.conn != nil
	p.mu.Unlock()
	if early {
		t.Error("the process was started without a codec")
	}
	e, err := p.OpenEncoder(inTime(t), identity)
	if err != nil {
		t.Fatal(err)
	}
	e.Close()
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("Run: %v", err)
	}
}

func openFake(t *testing.T, c *conn, f *fake) (e *Encoder, id uint16) {
	t.Helper()
	opened := make(chan uint16, 1)
	go func() { opened <- f.opens(t, wire.OpenCodec) }()
	want, err := identity.wire(true)
	if err != nil {
		t.Fatal(err)
	}
	k, err := c.openCodec(t.Context(), want)
	if err != nil {
		t.Fatal(err)
	}
	return &Encoder{k}, <-opened
}

func TestCodecWindow(t *testing.T) {
	inBubble(t, func(t *testing.T, c *conn, f *fake) {
		e, id := openFake(t, c, f)
		got := make(chan struct{})
		go func() {
			defer close(got)
			for range wire.CodecWindow {
				f.expect(t, wire.Convert)
				_ = f.SendBytes(wire.Converted, id, nil)
			}
		}()
		frame := make([]int16, e.want.FrameSamples())
		for range wire.CodecWindow {
			if err := e.Write(t.Context(), frame); err != nil {
				t.Fatal(err)
			}
		}
		<-got
		cause := errors.New("without a reader")
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Hour, cause)
		defer cancel()
		if err := e.Write(ctx, frame); !errors.Is(err, cause) {
			t.Errorf("one more: %v", err)
		}
		if err := c.err(); err != nil {
			t.Errorf("a codec without a reader: %v", err)
		}
		if n := c.counters.snapshot().Codecs.Waits; n != 1 {
			t.Errorf("%d waits counted", n)
		}
		go f.closes(t, id)
		e.Close()
	})
}

func TestCodecThatHangsEndsTheProcess(t *testing.T) {
	inBubble(t, func(t *testing.T, c *conn, f *fake) {
		e, _ := openFake(t, c, f)
		go func() {
			for err := error(nil); err == nil; {
				_, err = f.Reader.Read()
			}
		}()
		began := time.Now()
		if err := e.Write(t.Context(), make([]int16, e.want.FrameSamples())); err != nil {
			t.Fatal(err)
		}
		if _, err := e.Read(t.Context(), nil); !errors.As(err, new(stallError)) || time.Since(began) > codecLimit+catchUp {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		e.Close()
	})
}

func TestCodecNonsense(t *testing.T) {
	for name, say := range map[string]func(f *fake, id uint16){
		"an excess answer":    func(f *fake, id uint16) { _ = f.SendBytes(wire.Converted, id, nil) },
		"an excess rejection": func(f *fake, id uint16) { _ = f.SendBytes(wire.Refused, id, nil) },
		"sound of a card":     func(f *fake, id uint16) { _ = f.SendProgress(wire.Played, id, wire.Progress{}) },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, c *conn, f *fake) {
				e, id := openFake(t, c, f)
				say(f, id)
				synctest.Wait()
				if reason, _ := verdict(c.err(), nil); reason != "garbage" {
					t.Errorf("counted as %q: %v", reason, c.err())
				}
				e.Close()
			})
		})
	}
}

func TestCodecDoesNotAllocate(t *testing.T) {
	c := newConn(nil, io.Discard, new(counters), func(audio.Direction, wire.Choice) {})
	want, err := identity.wire(true)
	if err != nil {
		t.Fatal(err)
	}
	e := &Encoder{newCodec(c, want)}
	frame, packet := make([]int16, want.FrameSamples()), make([]byte, wire.MaxPacket)
	answer := wire.Message{Type: wire.Converted, Payload: make([]byte, 2*len(frame))}
	ctx := t.Context()
	once := func() {
		if e.Write(ctx, frame) != nil || e.handle(answer) != nil {
			t.Fatal("failed")
		}
		if n, err := e.Read(ctx, packet); err != nil || n != len(answer.Payload) {
			t.Fatal(n, err)
		}
	}
	for range wire.CodecWindow {
		once() // each buffer grows once
	}
	if allocs := testing.AllocsPerRun(200, once); allocs != 0 {
		t.Errorf("%v allocations a frame", allocs)
	}
}

// BenchmarkCodec is a frame of 60 ms to the sound process and back.
func BenchmarkCodec(b *testing.B) {
	p := &Process{Path: audiotest.Build(b, soundProgram), Log: slog.New(slog.DiscardHandler)}
	err := p.Use(b.Context(), func(ctx context.Context) error {
		e, err := p.OpenEncoder(ctx, identity)
		if err != nil {
			return err
		}
		defer e.Close()
		frame, packet := make([]int16, 960), make([]byte, wire.MaxPacket)
		b.ReportAllocs()
		for b.Loop() {
			if err := e.Write(ctx, frame); err != nil {
				return err
			}
			if _, err := e.Read(ctx, packet); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
}
