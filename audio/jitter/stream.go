package jitter

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"lintod/agent/base/loop"
	"lintod/audio"
	"lintod/audio/native"
	"lintod/audio/opus"
)

const (
	// tail is how long after Stop packets still belong to the answer: servers report its end before
	// they have sent all of it.
	tail = 300 * time.Millisecond
	// earlyTime and earlySound limit the sound that arrives before Start and is played anyway.
	earlyTime  = 500 * time.Millisecond
	earlySound = 600 * time.Millisecond
	// maxDecoders is how many consecutive decoders may fail without a frame.
	maxDecoders = 3
	// quietPeak is the maximum amplitude of a pause between words.
	quietPeak = 250
	// fade is the length of a fade between sound and inserted silence.
	fade = 5 * time.Millisecond
)

// ErrNotOpus is the error of an answer whose packets were all not recognisable as Opus.
var ErrNotOpus = errors.New("the received data is not Opus: key, protocol version, or format differ from the server's")

// Decoder decodes Opus packets, at the rate of the Stream, mono; *native.Decoder is one. An empty
// packet conceals a lost one. Each written packet yields one frame, or a native.RefusedError; after
// any other error the Decoder is unusable.
type Decoder interface {
	Write(ctx context.Context, packet []byte) error
	Read(ctx context.Context, frame []int16) (int, error)
	Close() error
}

var _ Decoder = (*native.Decoder)(nil)

// Stream is the received sound of one session. Put adds packets as they arrive from the network;
// each answer is read from Sound.
//
// Initially it holds packets until Start: the newest 600 ms, each for at most 500 ms. No method
// blocks; any goroutine may call them.
type Stream struct {
	// Open opens a decoder.
	Open func(ctx context.Context) (Decoder, error)
	// Rate is the sample rate of the decoder and of Sound, in Hz: 8000, 12000, 16000, 24000, or
	// 48000.
	Rate int

	mu      sync.Mutex
	state   state
	until   time.Time // end of the tail
	early   []early   // at most maxEarly
	buffer  buffer
	current *sound
}

type state uint8

const (
	holding  state = iota // no answer
	running               // since Start
	stopping              // since Stop, until the last sample is read
	dropping              // since Drop
	closed
)

// early is a packet that arrived outside an answer.
type early struct {
	at       time.Time
	sequence uint32
	opus     []byte
	duration time.Duration
}

const maxEarly = 64

// Rate returns the decoding rate for a speaker with the given rate: the same if Opus supports it,
// otherwise 48000, which the player converts.
func Rate(loudspeaker int) int {
	switch loudspeaker {
	case 8000, 12000, 16000, 24000:
		return loudspeaker
	}
	return 48000
}

// Put adds a packet from the network; opus may be modified after it returns. If the transport is
// ordered and lossless, sequence increases by one for each packet.
func (s *Stream) Put(sequence uint32, opus []byte) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state == closed {
		return
	}
	s.buffer.stats.Packets++
	switch {
	case s.state == running, s.state == stopping && now.Before(s.until):
		s.buffer.put(now, sequence, opus)
		s.wake()
	case s.state == dropping:
		s.buffer.ignore(sequence)
	default:
		s.hold(now, sequence, opus)
	}
}

// hold stores an early packet, and discards those that are too old.
func (s *Stream) hold(now time.Time, sequence uint32, data []byte) {
	head, err := opus.Parse(data)
	if err != nil || len(data) > maxPacket {
		s.buffer.stats.Refused++
		return
	}
	total := head.Duration
	for i := range s.early {
		total += s.early[i].duration
	}
	for len(s.early) > 0 && (total > earlySound || len(s.early) == maxEarly || now.Sub(s.early[0].at) > earlyTime) {
		first := s.early[0]
		s.buffer.ignore(first.sequence)
		total -= first.duration
		s.early = append(s.early[:0], s.early[1:]...)
	}
	s.early = append(s.early, early{now, sequence, append([]byte(nil), data...), head.Duration})
}

// Start starts an answer, which includes the held packets. It ends an earlier answer that is still
// playing.
func (s *Stream) Start() {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state == closed {
		return
	}
	s.leave()
	s.buffer.begin()
	s.state = running
	for _, e := range s.early {
		if now.Sub(e.at) > earlyTime {
			s.buffer.ignore(e.sequence)
		} else {
			s.buffer.put(e.at, e.sequence, e.opus)
		}
	}
	s.early = nil
}

// Stop reports that the server has sent the answer. Packets received so far, and within 300 ms, are
// played to the end; then its Sound ends. Later packets are held.
func (s *Stream) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state == running {
		s.state, s.until = stopping, time.Now().Add(tail)
		s.buffer.ended = true
		s.wake()
	}
}

// Drop discards unplayed packets, ends the answer, and then drops all packets until the next Start:
// the user has interrupted the server, which continues to send for a while.
func (s *Stream) Drop() { s.end(dropping) }

// Close ends Sound; packets are then ignored.
func (s *Stream) Close() error {
	s.end(closed)
	return nil
}

func (s *Stream) end(to state) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state == closed {
		return
	}
	s.leave()
	s.state = to
	for _, e := range s.early {
		s.buffer.ignore(e.sequence)
	}
	s.early = nil
	s.buffer.stats.Dropped += s.buffer.clear()
}

// leave ends the current Sound. It needs the mutex, as does wake.
func (s *Stream) leave() {
	s.wake()
	s.current = nil
}

// wake makes the Sound check the buffer again.
func (s *Stream) wake() {
	if s.current != nil {
		s.current.news.Set()
	}
}

// Sound returns the answer that Start has started: it waits for the first packets, then is
// continuous sound or silence. It ends with io.EOF after Stop or Drop, or with ErrNotOpus. Another
// call, for example after the speaker has failed, returns the rest of the answer, and ends the
// earlier Sound.
func (s *Stream) Sound() audio.Sound {
	longest := s.Rate * int(opus.MaxDuration/time.Millisecond) / 1000
	n := &sound{
		stream: s,
		news:   loop.NewSignal(),
		frame:  make([]int16, longest, longest+s.Rate*int(maxTarget/time.Millisecond)/1000),
		packet: make([]byte, 0, maxPacket),
	}
	n.open, n.close = context.WithCancel(context.Background())
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leave()
	if s.state == running || s.state == stopping {
		s.current = n
	}
	return n
}

// Stats returns the counters of the session, and its current state.
func (s *Stream) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.buffer.stats
	st.Jitter, st.Target = s.buffer.lateness.jitter, s.buffer.lateness.target()
	st.Playing = s.state == running || s.state == stopping
	return st
}

// Stats are the counters of a Stream, in packets.
type Stats struct {
	Packets   uint64 `json:"packets"`   // received
	Lost      uint64 `json:"lost"`      // never arrived
	Late      uint64 `json:"late"`      // arrived too late
	Duplicate uint64 `json:"duplicate"` // duplicates
	Refused   uint64 `json:"refused"`   // were not Opus, or not of this stream
	Dropped   uint64 `json:"dropped"`   // outside an answer, far out of sequence, or above the limit
	Concealed uint64 `json:"concealed"` // concealed frames
	Decoders  uint64 `json:"decoders"`  // how often a decoder failed and was replaced
	// Jitter is the mean deviation of the interval between packets (RFC 3550, 6.4.1).
	Jitter time.Duration `json:"jitter"`
	// Target is the buffer's target delay, Delay the actual one: how long the fastest packets wait
	// before they are decoded.
	Target time.Duration `json:"target"`
	Delay  time.Duration `json:"delay"`
	// Playing reports whether an answer is being received or played.
	Playing bool `json:"playing"`
}

// next returns what the Sound n is to play now, or its final error. Before anything is played, and
// after Stop, it may return a time to wait, or until a packet arrives.
func (s *Stream) next(n *sound) (what step, wait time.Duration, err error) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current != n {
		return silence, 0, io.EOF
	}
	what, data := s.buffer.take(now)
	n.packet = append(n.packet[:0], data...)
	b := &s.buffer
	switch {
	case what != silence:
		return what, 0, nil
	case s.state == stopping && (b.count == 0 || !b.trust.ok):
		if wait = s.until.Sub(now); wait > 0 {
			return silence, wait, nil
		}
		s.current, s.state = nil, holding
		b.stats.Refused += b.clear()
		if !b.started && b.came >= enoughSame {
			return silence, 0, ErrNotOpus
		}
		return silence, 0, io.EOF
	case !b.started:
		if wait, ok := b.due(now); ok {
			return silence, wait, nil
		}
		return silence, time.Hour, nil // no packet, no sound
	}
	return silence, 0, nil
}

// sound is one reading of an answer.
type sound struct {
	stream *Stream
	news   loop.Signal // holds a token when there may be more to play
	open   context.Context
	close  context.CancelFunc

	// Owned by the reader.
	frame    []int16 // of the maximum packet size; its capacity includes padding
	out      []int16 // unread part of frame
	packet   []byte
	last     int16 // sample
	apart    bool  // the last samples were inserted silence
	failures int

	mu      sync.Mutex
	decoder Decoder // nil before the first, after one has failed, and after Close
}

func (n *sound) Rate() int { return n.stream.Rate }

// Read implements audio.Sound.
func (n *sound) Read(ctx context.Context, pcm []int16) (int, error) {
	for len(n.out) == 0 {
		if err := n.fill(ctx); err != nil {
			return 0, err
		}
	}
	read := copy(pcm, n.out)
	n.out = n.out[read:]
	return read, nil
}

// fill determines what is to be played next, if anything.
func (n *sound) fill(ctx context.Context) error {
	decoder, err := n.decoding(ctx) // at the start, while the first packets are on their way
	if err != nil {
		return err
	}
	what, wait, err := n.stream.next(n)
	switch {
	case err != nil:
		return err
	case what == silence && wait > 0:
		return n.wait(ctx, wait)
	case what == silence:
		n.silence(n.samples(audio.FrameTime))
		return nil
	case what == conceal:
		n.packet = n.packet[:0]
	}
	made, err := n.decode(ctx, decoder)
	if err != nil {
		return n.failed(ctx, err)
	}
	n.failures = 0
	n.hear(n.frame[:made], what)
	return nil
}

func (n *sound) samples(d time.Duration) int {
	return int(time.Duration(n.stream.Rate) * d / time.Second)
}

func (n *sound) wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-n.news:
	case <-t.C:
	case <-n.open.Done():
		return audio.ErrClosed
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return nil
}

// decode decodes the packet. A packet that the decoder rejects is concealed.
func (n *sound) decode(ctx context.Context, d Decoder) (made int, err error) {
	for range 2 {
		if err = d.Write(ctx, n.packet); err == nil {
			made, err = d.Read(ctx, n.frame)
		}
		if err == nil || !errors.As(err, new(native.RefusedError)) {
			break
		}
		n.stream.count(func(s *Stats) { s.Refused, s.Concealed = s.Refused+1, s.Concealed+1 })
		n.packet = n.packet[:0]
	}
	return made, err
}

func (s *Stream) count(f func(*Stats)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(&s.buffer.stats)
}

// hear makes a frame the next to be read, unless it is part of a pause that is to be shortened.
func (n *sound) hear(frame []int16, what step) {
	n.out = frame
	peak := 0
	for _, v := range frame {
		peak = max(peak, int(v), -int(v))
	}
	if what == packet && peak < quietPeak {
		n.stream.mu.Lock()
		drop, pad := n.stream.buffer.quiet(time.Duration(len(frame)) * time.Second / time.Duration(n.Rate()))
		n.stream.mu.Unlock()
		if drop {
			n.out = nil
			return
		}
		n.out = frame[:len(frame)+n.samples(pad)]
		clear(n.out[len(frame):])
	}
	if n.apart {
		for i, ramp := 0, min(n.samples(fade), len(frame)); i < ramp; i++ {
			frame[i] = int16(int(frame[i]) * i / ramp)
		}
	}
	n.apart = false
	if len(n.out) > 0 {
		n.last = n.out[len(n.out)-1]
	}
}

// silence makes n samples of silence the next to be read. The sound before it fades out.
func (n *sound) silence(samples int) {
	n.out = n.frame[:samples]
	clear(n.out)
	for i, ramp := 0, n.samples(fade); i < ramp; i++ {
		n.out[i] = int16(int(n.last) * (ramp - i) / ramp)
	}
	n.last, n.apart = 0, true
}

// decoding returns the decoder, or opens one.
func (n *sound) decoding(ctx context.Context) (Decoder, error) {
	n.mu.Lock()
	d := n.decoder
	n.mu.Unlock()
	if d != nil {
		return d, nil
	}
	opening, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(n.open, cancel)()
	d, err := n.stream.Open(opening)
	if err != nil {
		if n.open.Err() != nil {
			return nil, audio.ErrClosed
		}
		return nil, fmt.Errorf("open a decoder: %w", err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.open.Err() != nil {
		_ = d.Close()
		return nil, audio.ErrClosed
	}
	n.decoder = d
	return d, nil
}

// failed closes an unusable decoder. Its pending packets are lost; the next decoder continues with
// the next packet.
func (n *sound) failed(ctx context.Context, err error) error {
	n.release()
	switch {
	case n.open.Err() != nil:
		return audio.ErrClosed
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	if n.failures++; n.failures == maxDecoders {
		return fmt.Errorf("decode: %w", err)
	}
	n.stream.count(func(s *Stats) { s.Decoders++ })
	return nil
}

func (n *sound) release() {
	n.mu.Lock()
	d := n.decoder
	n.decoder = nil
	n.mu.Unlock()
	if d != nil {
		_ = d.Close()
	}
}

// Close implements audio.Sound.
func (n *sound) Close() error {
	n.close()
	n.release()
	return nil
}
