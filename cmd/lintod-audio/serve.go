//go:build cgo

package main

import (
	"errors"
	"fmt"
	"io"
	"time"

	"lintod/audio"
	"lintod/audio/native/wire"
)

const (
	maxCards    = 16
	maxRequests = 64
	// nativeLimit is the time limit for one operation on a card. If it is exceeded, the driver
	// hangs, and only a new process helps.
	nativeLimit = 8 * time.Second
)

// server has two goroutines: the reader of standard input, which never blocks, and the owner of the
// cards, which does. In addition, each card and each codec has one. The reader itself opens and
// closes codecs, so that they do not wait for a card.
type server struct {
	cards    *cards
	out      *wire.Writer
	requests chan request // from the reader to the owner
	played   *reference   // from the speaker to the microphone
	filters  *filters     // of its echo canceller

	queues  map[uint16]*queue   // owned by the reader
	paces   map[uint16]*pace    // owned by the reader
	codecs  map[uint16]*codec   // owned by the reader
	running map[uint16]*running // used by the owner
}

type request struct {
	kind   wire.Type
	stream uint16
	open   wire.Open
	queue  *queue // for an output
	pace   *pace  // for an input
}

// running is an open card and its goroutine.
type running struct {
	stop func()        // stops the goroutine
	done chan struct{} // closed when it has ended and the card is free
}

// serve answers requests until in ends, or until an error occurs that requires a new process.
func serve(c *cards, in io.Reader, out io.Writer) error {
	played := newReference()
	s := &server{
		cards:    c,
		out:      wire.NewWriter(out),
		requests: make(chan request, maxRequests),
		played:   played,
		filters:  &filters{played: played},
		queues:   map[uint16]*queue{},
		paces:    map[uint16]*pace{},
		codecs:   map[uint16]*codec{},
		running:  map[uint16]*running{},
	}
	if err := s.out.SendHello(); err != nil {
		return err
	}
	ended := make(chan error, 2)
	go func() { ended <- s.own() }()
	go func() { ended <- s.read(wire.NewReader(in)) }()
	err := <-ended
	if err != nil {
		_ = s.out.SendBytes(wire.Failed, 0, []byte(err.Error()))
	}
	return err // the caller exits, which ends the other goroutines
}

// read parses messages. It passes sound directly to its queue, and everything else to the owner.
func (s *server) read(r *wire.Reader) error {
	first, err := r.Read()
	if err == nil {
		err = wire.ParseHello(first.Payload)
	}
	for err == nil {
		var m wire.Message
		if m, err = r.Read(); err == nil {
			err = s.accept(m)
		}
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

func (s *server) accept(m wire.Message) error {
	req := request{kind: m.Type, stream: m.Stream}
	q := s.queues[m.Stream]
	if c := s.codecs[m.Stream]; c != nil || m.Type == wire.OpenCodec {
		return s.acceptCodec(c, m)
	}
	switch m.Type {
	case wire.Play, wire.Flush, wire.Drain:
		if q == nil {
			return nil // it was closed during a write
		}
		return feed(q, m)
	case wire.Delay:
		delay, err := wire.ParseDelay(m.Payload)
		if p := s.paces[m.Stream]; p != nil { // otherwise it was closed in the meantime
			p.set(delay)
		}
		return err
	case wire.OpenInput, wire.OpenOutput:
		if len(s.queues)+len(s.paces) >= maxCards {
			return fmt.Errorf("more than %d cards", maxCards)
		}
		var err error
		if req.open, err = wire.ParseOpen(m.Payload); err != nil {
			return err
		}
		if m.Type == wire.OpenOutput {
			req.queue = newQueue(req.open.Rate)
			s.queues[m.Stream] = req.queue
		} else {
			req.pace = newPace()
			s.paces[m.Stream] = req.pace
		}
	case wire.Convert: // as for Play
		return nil
	case wire.Close:
		delete(s.queues, m.Stream)
		delete(s.paces, m.Stream)
	case wire.List:
	default:
		return fmt.Errorf("unexpected message %s", m.Type)
	}
	select {
	case s.requests <- req:
		return nil
	default:
		return fmt.Errorf("more than %d requests are waiting", maxRequests)
	}
}

// acceptCodec handles a message for c, which is nil if it is to be opened.
func (s *server) acceptCodec(c *codec, m wire.Message) error {
	switch {
	case m.Type == wire.OpenCodec:
		want, err := wire.ParseCodec(m.Payload)
		switch {
		case err != nil:
			return err
		case c != nil || s.queues[m.Stream] != nil || s.paces[m.Stream] != nil:
			return fmt.Errorf("stream %d is already open", m.Stream)
		case len(s.codecs) >= wire.MaxCodecs:
			return fmt.Errorf("more than %d codecs", wire.MaxCodecs)
		}
		c = newCodec(s.out, m.Stream, want)
		s.codecs[m.Stream] = c
		go c.run()
	case m.Type == wire.Close:
		close(c.closed)
		delete(s.codecs, m.Stream)
	case m.Type == wire.Convert && len(m.Payload) <= wire.MaxPacket:
		c.push(m.Payload)
	default:
		return fmt.Errorf("unexpected message %s of %d bytes for a codec", m.Type, len(m.Payload))
	}
	return nil
}

func feed(q *queue, m wire.Message) error {
	switch m.Type {
	case wire.Play:
		return q.push(m.Payload)
	case wire.Flush:
		q.throwAway()
	case wire.Drain:
		q.askDrain()
	}
	return nil
}

// own answers requests one at a time.
func (s *server) own() error {
	for req := range s.requests {
		if err := s.within(req.kind.String(), func() error { return s.handle(req) }); err != nil {
			return err
		}
	}
	return nil
}

// within ends the process if step hangs. Returning an error would not help: the thread is lost, and
// so is PortAudio.
func (s *server) within(what string, step func() error) error {
	t := time.AfterFunc(nativeLimit, func() {
		err := fmt.Errorf("%s: the sound driver has been hanging for %v", what, nativeLimit)
		_ = s.out.SendBytes(wire.Failed, 0, []byte(err.Error()))
		fatal(err)
	})
	defer t.Stop()
	return step()
}

func (s *server) handle(req request) error {
	switch req.kind {
	case wire.List:
		return s.list(req.stream)
	case wire.OpenInput:
		return s.openCard(req, s.newInput)
	case wire.OpenOutput:
		return s.openCard(req, s.newOutput)
	case wire.Close:
		s.closeCard(req.stream)
		return s.out.Send(wire.Closed, req.stream)
	}
	return nil
}

func (s *server) list(stream uint16) error {
	devices, err := s.cards.list()
	if err != nil {
		return s.fail(stream, err)
	}
	return s.out.SendBytes(wire.Devices, stream, wire.FormatDevices(devices))
}

func (s *server) fail(stream uint16, err error) error {
	return s.out.SendBytes(wire.Failed, stream, []byte(err.Error()))
}

func (s *server) openCard(req request, open func(request) (*running, error)) error {
	if s.running[req.stream] != nil {
		return fmt.Errorf("stream %d is already open", req.stream)
	}
	st, err := open(req)
	if err != nil {
		return s.fail(req.stream, err)
	}
	s.running[req.stream] = st
	return nil
}

// closeCard frees a card, unless it is not open.
func (s *server) closeCard(id uint16) {
	st := s.running[id]
	if st == nil {
		return
	}
	st.stop()
	<-st.done // limited by within
	delete(s.running, id)
}

func (s *server) newInput(req request) (*running, error) {
	if req.open.Rate != audio.CaptureRate {
		return nil, fmt.Errorf("capture at %d samples a second is not supported", req.open.Rate)
	}
	mic, err := openMicrophone(s.cards, req.open)
	if err != nil {
		return nil, err
	}
	release, err := s.process(mic)
	if err != nil {
		mic.close()
		return nil, err
	}
	_ = s.out.SendChoice(req.stream, mic.choice) // else nobody hears us any more
	stop := make(chan struct{})
	send := func(batch []wire.Captured) error { return s.out.SendCapture(req.stream, batch) }
	run := func() error {
		defer release()
		defer mic.close()
		return mic.broken(mic.run(stop, req.pace, send))
	}
	return s.start(req, run, func() { close(stop) }), nil
}

// process creates the pipeline of a microphone; release ends it.
func (s *server) process(mic *microphone) (release func(), err error) {
	want, way := mic.want.Processing, path{input: mic.choice.Device, layout: mic.layout, channel: mic.want.Channel, gain: mic.want.Gain}
	free := func() {}
	var c *canceller
	if want.EchoCancelling {
		if c, err = s.filters.take(way); err != nil {
			return nil, err
		}
		free = func() { s.filters.put(way, c) }
	}
	if mic.pipeline, err = newPipeline(want, c); err != nil {
		free()
		return nil, err
	}
	return func() { mic.pipeline.close(); free() }, nil
}

func (s *server) newOutput(req request) (*running, error) {
	l := &loudspeaker{
		cards: s.cards,
		want:  req.open,
		chosen: func(c wire.Choice) {
			s.filters.plays(c.Device)
			_ = s.out.SendChoice(req.stream, c) // else nobody hears us any more
		},
	}
	if err := l.open(); err != nil {
		l.close()
		return nil, err
	}
	tapped, err := newTap(l, req.open.Rate, s.played)
	if err != nil {
		l.close()
		return nil, err
	}
	report := func(t wire.Type, p wire.Progress) error { return s.out.SendProgress(t, req.stream, p) }
	p := &playback{speaker: tapped, queue: req.queue, report: report}
	run := func() error {
		defer tapped.close()
		defer l.close()
		return l.broken(p.run())
	}
	return s.start(req, run, req.queue.close), nil
}

// start runs an opened card, and reports its start and its end to lintod.
func (s *server) start(req request, run func() error, stop func()) *running {
	_ = s.out.Send(wire.Opened, req.stream) // else nobody hears us any more
	st := &running{stop: stop, done: make(chan struct{})}
	go func() {
		defer close(st.done)
		if err := run(); err != nil {
			_ = s.fail(req.stream, err)
		}
	}()
	return st
}
