//go:build cgo

package main

import (
	"fmt"
	"io"
	"runtime"
	"time"

	"lintod/audio"
	"lintod/audio/soundproc/wire"
)

const (
	maxStreams  = 16
	maxRequests = 64
	// nativeLimit is how long a card may take for one step. One that takes
	// longer hangs, and only a new process gets rid of it.
	nativeLimit = 8 * time.Second
)

// server has two goroutines of its own: the reader of standard input, which
// never blocks for long, and the owner of PortAudio, which does. Beside them
// each open stream has one.
type server struct {
	out      *wire.Writer
	requests chan request // from the reader to the owner

	queues map[uint16]*queue // the reader's

	cards   *cards // the owner's, as what follows
	streams map[uint16]*stream
}

type request struct {
	kind   wire.Type
	stream uint16
	open   wire.Open
	queue  *queue
}

// stream is an open card and the goroutine that feeds or empties it.
type stream struct {
	stop  func()        // asks the goroutine to end
	done  chan struct{} // closed when it has
	close func() error
}

// serve answers requests until in ends, or something is wrong that only a new
// process can cure.
func serve(c *cards, in io.Reader, out io.Writer) error {
	s := &server{
		out:      wire.NewWriter(out),
		requests: make(chan request, maxRequests),
		queues:   map[uint16]*queue{},
		cards:    c,
		streams:  map[uint16]*stream{},
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
	return err // the caller ends the process, and with it the other goroutines
}

// read takes messages apart. Sound goes straight to its queue, the rest to the
// owner.
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
	if err == io.EOF {
		return nil
	}
	return err
}

func (s *server) accept(m wire.Message) error {
	req := request{kind: m.Type, stream: m.Stream}
	q := s.queues[m.Stream]
	switch m.Type {
	case wire.Play, wire.Flush, wire.Drain:
		if q == nil {
			return fmt.Errorf("%s for an output that is not open", m.Type)
		}
		return feed(q, m)
	case wire.OpenInput, wire.OpenOutput:
		if len(s.queues) >= maxStreams {
			return fmt.Errorf("more than %d outputs", maxStreams)
		}
		var err error
		if req.open, err = wire.ParseOpen(m.Payload); err != nil {
			return err
		}
		if m.Type == wire.OpenOutput {
			req.queue = newQueue(req.open.Rate)
			s.queues[m.Stream] = req.queue
		}
	case wire.Close:
		delete(s.queues, m.Stream)
	case wire.List:
	default:
		return fmt.Errorf("%s is not for lintod-audio", m.Type)
	}
	select {
	case s.requests <- req:
		return nil
	default:
		return fmt.Errorf("more than %d requests wait", maxRequests)
	}
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

// own is the goroutine that opens, closes and lists, always on one thread.
func (s *server) own() error {
	runtime.LockOSThread()
	if err := s.within("start PortAudio", s.cards.refresh); err != nil {
		return err
	}
	for req := range s.requests {
		if err := s.within(req.kind.String(), func() error { return s.handle(req) }); err != nil {
			return err
		}
	}
	return nil
}

// within ends the process when step hangs. There is nobody to hand an error to:
// the thread is lost, and PortAudio with it.
func (s *server) within(what string, step func() error) error {
	t := time.AfterFunc(nativeLimit, func() {
		err := fmt.Errorf("%s: the sound driver hangs for %v", what, nativeLimit)
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
		return s.openStream(req, input, s.newInput)
	case wire.OpenOutput:
		return s.openStream(req, output, s.newOutput)
	case wire.Close:
		if err := s.closeStream(req.stream); err != nil {
			return err
		}
		return s.out.Send(wire.Closed, req.stream)
	}
	return nil
}

func (s *server) list(stream uint16) error {
	if err := s.refresh(); err != nil {
		return err
	}
	devices, err := s.cards.list()
	if err != nil {
		return s.fail(stream, err)
	}
	return s.out.SendBytes(wire.Devices, stream, wire.FormatDevices(devices))
}

// refresh looks for devices anew, if no stream is in the way.
func (s *server) refresh() error {
	for id, st := range s.streams {
		select {
		case <-st.done:
			if err := s.closeStream(id); err != nil {
				return err
			}
		default:
			return nil
		}
	}
	return s.cards.refresh()
}

func (s *server) fail(stream uint16, err error) error {
	return s.out.SendBytes(wire.Failed, stream, []byte(err.Error()))
}

// openStream tries once more with a new list of devices: the card may have been
// plugged in, or the sound server started, since the last.
func (s *server) openStream(req request, d direction, open func(request) (*stream, error)) error {
	if s.streams[req.stream] != nil {
		return fmt.Errorf("stream %d is open already", req.stream)
	}
	st, err := open(req)
	if err != nil {
		if err := s.refresh(); err != nil {
			return err
		}
		st, err = open(req)
	}
	if err != nil {
		return s.fail(req.stream, fmt.Errorf("the %s %q does not open: %w", d.noun, req.open.Device, explain(err)))
	}
	s.streams[req.stream] = st
	return nil
}

// closeStream frees a card; one that is not open is closed already.
func (s *server) closeStream(id uint16) error {
	st := s.streams[id]
	if st == nil {
		return nil
	}
	st.stop()
	<-st.done // within's limit watches
	delete(s.streams, id)
	_ = st.close() // an unplugged card cannot be closed without an error
	return nil
}

func (s *server) newInput(req request) (*stream, error) {
	if req.open.Rate != audio.CaptureRate {
		return nil, fmt.Errorf("capture at %d samples a second is not supported", req.open.Rate)
	}
	mic, err := openMicrophone(s.cards, req.open.Device)
	if err != nil {
		return nil, err
	}
	stop := make(chan struct{})
	send := func(c wire.Captured, pcm *[audio.FrameSamples]int16) error {
		return s.out.SendCapture(req.stream, c, pcm)
	}
	run := func() error { return mic.run(stop, send) }
	return s.start(req, run, func() { close(stop) }, mic.close)
}

func (s *server) newOutput(req request) (*stream, error) {
	speaker, err := openLoudspeaker(s.cards, req.open.Device, req.open.Rate)
	if err != nil {
		return nil, err
	}
	p := &playback{speaker: speaker, queue: req.queue, report: func(t wire.Type, progress wire.Progress) error {
		return s.out.SendProgress(t, req.stream, progress)
	}}
	return s.start(req, p.run, req.queue.close, speaker.close)
}

// start runs an opened stream, and tells lintod of its beginning and its end.
func (s *server) start(req request, run func() error, stop func(), close_ func() error) (*stream, error) {
	if err := s.out.Send(wire.Opened, req.stream); err != nil {
		return nil, err
	}
	st := &stream{stop: stop, done: make(chan struct{}), close: close_}
	go func() {
		defer close(st.done)
		if err := run(); err != nil {
			_ = s.fail(req.stream, fmt.Errorf("the sound card %q failed: %w", req.open.Device, explain(err)))
		}
	}()
	return st, nil
}
