package jitter

import (
	"context"
	"errors"
	"time"

	"lintod/audio"
)

// ErrNotOpus is how an answer ends of which packets came and none could be
// trusted to be Opus.
var ErrNotOpus = errors.New("what was received is not Opus: the key, the version of the protocol or the format is not that of the server")

// Decoder makes sound of Opus packets, at the rate of the Stream, mono;
// *native.Decoder is one. An empty packet conceals one that was lost. Each packet
// that Write has taken gives one frame, or a native.RefusedError; after any other
// error the Decoder is of no more use.
type Decoder interface {
	Write(ctx context.Context, packet []byte) error
	Read(ctx context.Context, frame []int16) (int, error)
	Close() error
}

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
}

// Put takes a packet from the network; opus may be changed when it returns. Where
// the transport keeps the order and loses nothing, sequence counts up by one for
// each packet.
func (s *Stream) Put(sequence uint32, opus []byte) {}

// Start says that an answer begins. What is held belongs to it. An answer before it
// that still plays ends.
func (s *Stream) Start() {}

// Stop says that the server has sent the answer. What is there, and what comes
// within 300 ms, is played to the end; then its Sound ends. What comes later is held.
func (s *Stream) Stop() {}

// Drop throws away what has not been played, ends the answer, and then drops all
// packets until the next Start: the user has interrupted the server, which goes on
// for a while.
func (s *Stream) Drop() {}

// Sound is the answer that Start began: it waits for the first packets, then is
// sound or silence without a pause. It ends with io.EOF after Stop or Drop, or with
// ErrNotOpus. Whoever calls Sound again, after the loudspeaker has failed, gets the
// rest of the answer, and the earlier Sound ends.
func (s *Stream) Sound() audio.Sound { return nil }

// Close ends Sound, and every packet is ignored from now on.
func (s *Stream) Close() error { return nil }

// Stats returns counters since the session began, and how it is now.
func (s *Stream) Stats() Stats { return Stats{} }

// Stats is what a Stream has seen. All counts are packets.
type Stats struct {
	Packets   uint64 `json:"packets"`   // received
	Lost      uint64 `json:"lost"`      // never came
	Late      uint64 `json:"late"`      // came when their time was over
	Duplicate uint64 `json:"duplicate"` // came before
	Refused   uint64 `json:"refused"`   // were not Opus, or not of this stream
	Dropped   uint64 `json:"dropped"`   // outside an answer, or more than may wait
	Concealed uint64 `json:"concealed"` // gaps that the decoder filled
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
