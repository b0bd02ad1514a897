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
	// tail is how long after Stop packets still belong to the answer: servers say that
	// they have sent it before they have.
	tail = 300 * time.Millisecond
	// earlyTime and earlySound bound what comes before Start and is heard all the same.
	earlyTime  = 500 * time.Millisecond
	earlySound = 600 * time.Millisecond
	// maxDecoders is how many decoders in a row may fail without a frame.
	maxDecoders = 3
	// quietPeak is how loud a sample of a pause between words may be.
	quietPeak = 250
	// fade is how long sound takes to begin or end beside silence that was not sent.
	fade = 5 * time.Millisecond
)

// ErrNotOpus is how an answer ends of which packets came and none could be
// trusted to be Opus.
var ErrNotOpus = errors.New("the received data is not Opus: key, protocol version, or format differ from the server's")

// Decoder makes sound of Opus packets, at the rate of the Stream, mono;
// *native.Decoder is one. An empty packet conceals one that was lost. Each packet
// that Write has taken gives one frame, or a native.RefusedError; after any other
// error the Decoder is of no more use.
type Decoder interface {
	Write(ctx context.Context, packet []byte) error
	Read(ctx context.Context, frame []int16) (int, error)
	Close() error
}

var _ Decoder = (*native.Decoder)(nil)

// Stream is the sound that one session receives. Packets are put in as they come
// from the network; each answer is read from Sound.
//
// It begins with holding: of what comes the newest 600 ms are kept, none for longer
// than 500 ms, until Start. No method blocks; any goroutine may call them.
type Stream struct {
	// Open opens a decoder.
	Open func(ctx context.Context) (Decoder, error)
	// Rate is that of the decoder and of Sound in samples a second: 8000, 12000,
	// 16000, 24000 or 48000.
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

// early is a packet that came outside an answer.
type early struct {
	at       time.Time
	sequence uint32
	opus     []byte
	duration time.Duration
}

const maxEarly = 64

// Rate is the rate to decode at for a loudspeaker that is opened with so many samples
// a second: the same where Opus has it, or else 48000, which the player converts.
func Rate(loudspeaker int) int {
	switch loudspeaker {
	case 8000, 12000, 16000, 24000:
		return loudspeaker
	}
	return 48000
}

// Put takes a packet from the network; opus may be changed when it returns. Where
// the transport keeps the order and loses nothing, sequence counts up by one for
// each packet.
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

// hold keeps an early packet in place of those that are too old.
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

// Start says that an answer begins. What is held belongs to it. An answer before it
// that still plays ends.
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

// Stop says that the server has sent the answer. What is there, and what comes
// within 300 ms, is played to the end; then its Sound ends. What comes later is held.
func (s *Stream) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state == running {
		s.state, s.until = stopping, time.Now().Add(tail)
		s.buffer.ended = true
		s.wake()
	}
}

// Drop throws away what has not been played, ends the answer, and then drops all
// packets until the next Start: the user has interrupted the server, which goes on
// for a while.
func (s *Stream) Drop() { s.end(dropping) }

// Close ends Sound, and every packet is ignored from now on.
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

// leave ends the Sound that there is. It needs the mutex, as wake does.
func (s *Stream) leave() {
	s.wake()
	s.current = nil
}

// wake makes the Sound look again at what there is.
func (s *Stream) wake() {
	if s.current != nil {
		s.current.news.Set()
	}
}

// Sound is the answer that Start began: it waits for the first packets, then is
// sound or silence without a pause. It ends with io.EOF after Stop or Drop, or with
// ErrNotOpus. Whoever calls Sound again, after the loudspeaker has failed, gets the
// rest of the answer, and the earlier Sound ends.
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

// Stats returns counters since the session began, and how it is now.
func (s *Stream) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.buffer.stats
	st.Jitter, st.Target = s.buffer.lateness.jitter, s.buffer.lateness.target()
	st.Playing = s.state == running || s.state == stopping
	return st
}

// Stats is what a Stream has seen. All counts are packets.
type Stats struct {
	Packets   uint64 `json:"packets"`   // received
	Lost      uint64 `json:"lost"`      // never came
	Late      uint64 `json:"late"`      // came when their time was over
	Duplicate uint64 `json:"duplicate"` // came before
	Refused   uint64 `json:"refused"`   // were not Opus, or not of this stream
	Dropped   uint64 `json:"dropped"`   // outside an answer, far out of sequence, or more than may wait
	Concealed uint64 `json:"concealed"` // frames that the decoder made up
	Decoders  uint64 `json:"decoders"`  // times that a decoder failed and another took its place
	// Jitter is the mean deviation of the distance between packets (RFC 3550, 6.4.1).
	Jitter time.Duration `json:"jitter"`
	// Target is the delay that the buffer aims at, Delay the one that it has: how
	// long the fastest packets wait before they are decoded.
	Target time.Duration `json:"target"`
	Delay  time.Duration `json:"delay"`
	// Playing says that an answer is being received or played.
	Playing bool `json:"playing"`
}

// next is what the Sound n is to play now, or with what it ends. Before anything is
// heard, and after Stop, there is nothing for so long or until something comes.
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

	// The reader's.
	frame    []int16 // as long as the longest packet; its capacity is for padding, too
	out      []int16 // of frame, what is left to read
	packet   []byte
	last     int16 // sample
	apart    bool  // silence that was not sent came last
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

// fill makes out what is to be heard next, if anything.
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

// decode makes a frame of the packet. One that the decoder refuses is concealed.
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

// hear makes a frame the next to be read, unless it is a part of a pause that is to
// be shortened.
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

// silence makes so many samples of it the next to be read. The sound before it fades.
func (n *sound) silence(samples int) {
	n.out = n.frame[:samples]
	clear(n.out)
	for i, ramp := 0, n.samples(fade); i < ramp; i++ {
		n.out[i] = int16(int(n.last) * (ramp - i) / ramp)
	}
	n.last, n.apart = 0, true
}

// decoding returns the decoder, a new one where there is none.
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

// failed closes a decoder that is of no more use. What it had is lost; the next takes
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
