//go:build cgo

package main

import (
	"bytes"
	"io"
	"testing"
	"time"

	"lintod/audio"
	"lintod/audio/native/wire"
)

var identityCodec = wire.Codec{Kind: "identity", Encode: true, Rate: audio.CaptureRate, Channels: 1, FrameMS: 60}

// serving runs a server without working cards. Its answers are read from the Reader;
// it blocks until they are.
func serving(t *testing.T) (send *wire.Writer, answers *wire.Reader) {
	t.Helper()
	in, toServer := io.Pipe()
	fromServer, out := io.Pipe()
	s := &server{
		out:      wire.NewWriter(out),
		requests: make(chan request, maxRequests),
		queues:   map[uint16]*queue{},
		paces:    map[uint16]*pace{},
		codecs:   map[uint16]*codec{},
	}
	ended := make(chan error, 1)
	go func() { ended <- s.read(wire.NewReader(in)) }()
	t.Cleanup(func() {
		toServer.Close()
		fromServer.Close()
		if err := <-ended; err != nil {
			t.Errorf("the reader ended with %v", err)
		}
	})
	send = wire.NewWriter(toServer)
	_ = send.SendHello()
	return send, wire.NewReader(fromServer)
}

func next(t *testing.T, r *wire.Reader) wire.Message {
	t.Helper()
	m, err := r.Read()
	if err != nil {
		t.Fatal(err)
	}
	m.Payload = bytes.Clone(m.Payload)
	return m
}

func TestCodecDoesNotWaitForACard(t *testing.T) {
	send, answers := serving(t)
	_ = send.SendOpen(wire.OpenInput, 1, wire.Open{Rate: audio.CaptureRate, Devices: []string{"default"}})
	_ = send.SendOpenCodec(2, identityCodec)
	frame := tone(audio.CaptureRate, 440, 60*time.Millisecond)
	_ = send.SendSamples(wire.Convert, 2, frame)
	if m := next(t, answers); m.Type != wire.Opened || m.Stream != 2 {
		t.Fatalf("%v", m)
	}
	if m := next(t, answers); m.Type != wire.Converted || !bytes.Equal(m.Payload, encode(frame)) {
		t.Errorf("%v", m.Type)
	}
	_ = send.Send(wire.Close, 2)
	if m := next(t, answers); m.Type != wire.Closed || m.Stream != 2 {
		t.Errorf("%v", m)
	}
}

// A codec with too much input fails alone.
func TestFloodOfACodec(t *testing.T) {
	send, answers := serving(t)
	_ = send.SendOpenCodec(1, identityCodec)
	_ = send.SendOpenCodec(2, identityCodec)
	opened := map[uint16]bool{}
	for range 2 {
		m := next(t, answers)
		opened[m.Stream] = m.Type == wire.Opened
	}
	if !opened[1] || !opened[2] {
		t.Fatal(opened)
	}
	for range 3 * wire.CodecWindow { // without a reader, at most one is converted
		if err := send.SendSamples(wire.Convert, 1, make([]int16, identityCodec.FrameSamples())); err != nil {
			t.Fatal(err)
		}
	}
	m := next(t, answers)
	for m.Type == wire.Converted {
		m = next(t, answers)
	}
	if m.Type != wire.Failed || m.Stream != 1 {
		t.Errorf("%v %d", m.Type, m.Stream)
	}
	_ = send.SendSamples(wire.Convert, 2, make([]int16, identityCodec.FrameSamples()))
	if m := next(t, answers); m.Type != wire.Converted || m.Stream != 2 {
		t.Errorf("the other one: %v %d", m.Type, m.Stream)
	}
	_ = send.Send(wire.Close, 1)
	if m := next(t, answers); m.Type != wire.Closed || m.Stream != 1 {
		t.Errorf("%v %d", m.Type, m.Stream)
	}
}

func TestCodecProtocol(t *testing.T) {
	var b bytes.Buffer
	_ = wire.NewWriter(&b).SendOpenCodec(1, identityCodec)
	open, err := wire.NewReader(&b).Read()
	if err != nil {
		t.Fatal(err)
	}
	open.Stream = 1
	for name, bad := range map[string]wire.Message{
		"opened twice":     open,
		"a long packet":    {Type: wire.Convert, Stream: 1, Payload: make([]byte, wire.MaxPacket+1)},
		"played":           {Type: wire.Play, Stream: 1},
		"opened as a card": {Type: wire.OpenInput, Stream: 1},
	} {
		s := &server{out: wire.NewWriter(io.Discard), requests: make(chan request, maxRequests), queues: map[uint16]*queue{}, paces: map[uint16]*pace{}, codecs: map[uint16]*codec{}}
		if err := s.accept(open); err != nil {
			t.Fatal(err)
		}
		if err := s.accept(bad); err == nil {
			t.Errorf("%s: accepted", name)
		}
		if err := s.accept(wire.Message{Type: wire.Close, Stream: 1}); err != nil {
			t.Error(err)
		}
		if err := s.accept(wire.Message{Type: wire.Convert, Stream: 1}); err != nil {
			t.Errorf("%s: late: %v", name, err)
		}
	}
	s := &server{out: wire.NewWriter(io.Discard), queues: map[uint16]*queue{}, paces: map[uint16]*pace{}, codecs: map[uint16]*codec{}}
	for i := range uint16(wire.MaxCodecs + 1) {
		open.Stream = i + 1
		if err := s.accept(open); (err != nil) != (i == wire.MaxCodecs) {
			t.Errorf("codec %d: %v", i+1, err)
		}
	}
}

func TestCodecDoesNotAllocate(t *testing.T) {
	in, out := io.Pipe()
	c := newCodec(wire.NewWriter(out), 1, identityCodec)
	go c.run()
	answers, payload := wire.NewReader(in), make([]byte, 2*identityCodec.FrameSamples())
	_ = next(t, answers)
	once := func() {
		c.push(payload)
		if m, err := answers.Read(); err != nil || m.Type != wire.Converted {
			t.Fatal(m.Type, err)
		}
	}
	for range 2 * wire.CodecWindow {
		once() // each buffer grows once
	}
	if allocs := testing.AllocsPerRun(200, once); allocs != 0 {
		t.Errorf("%v allocations a frame", allocs)
	}
	close(c.closed)
	_ = next(t, answers)
}
