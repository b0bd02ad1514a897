// Package jitter turns Opus packets that a network delivers late, twice, out of order, or not at
// all into continuous sound.
//
// The buffer (buffer.go) orders packets and decides when each is played; the lateness of packets
// (lateness.go) determines how long they must wait; packets that are not Opus are detected before
// they are played (trust.go). All three are pure: time is an argument. Stream adds a lock and a
// decoder.
//
// The network, encryption, and the decoder, which is in the sound process (audio/native), do not
// belong here.
package jitter

import (
	"time"

	"lintod/audio/opus"
)

const (
	// maxHeld is how much sound may be held; beyond it, silence is dropped, or otherwise the
	// oldest.
	maxHeld = 2400 * time.Millisecond
	// window is how many packets may be held, and the maximum distance of a sequence number from
	// the newest within one stream.
	window = 128
	// maxPacket is the maximum size of a packet in bytes. Gateways whose encoder fails send PCM,
	// which is longer.
	maxPacket = 1500
	// maxConcealed is the maximum number of consecutive concealed frames. By then, libopus has
	// faded the concealment out.
	maxConcealed = 3
)

// step is the next action.
type step uint8

const (
	silence step = iota // nothing to play, or not enough yet
	packet              // decode a packet
	conceal             // conceal a missing one
)

// fate is the state of a sequence number.
type fate uint8

const (
	unseen fate = iota
	held
	taken // or dropped
	bad   // it was rejected
	lost  // it has not arrived in time
)

type slot struct {
	sequence uint32
	fate     fate
	opus     []byte
	duration time.Duration
	silent   bool // it is so short that it can only be silence
}

// buffer holds received packets that have not been played. The zero value is empty.
type buffer struct {
	stats    Stats
	lateness lateness
	trust    trust

	slots  [window]slot // by sequence % window
	count  int          // held slots
	held   time.Duration
	newest uint32 // the highest received
	next   uint32 // to be played
	known  bool   // both are valid
	began  bool   // everything before next has been played, or skipped
	stray  uint32 // the number that would confirm a jump of the sequence
	astray bool   // stray is valid
	shift  uint32 // offset of arriving numbers, so that they continue after a jump

	playing   bool // otherwise silence is played, until enough is held
	started   bool // part of this answer has been played
	ended     bool // no more packets are expected: play what is held
	came      int  // packets of this answer
	concealed int  // consecutive frames
	dropped   bool // the last quiet frame was dropped
}

// begin starts an answer: the sequence continues, the time does not.
func (b *buffer) begin() {
	b.clear()
	b.playing, b.started, b.ended, b.came = false, false, false, 0
	b.lateness.pause(false)
}

// clear drops all held packets, and returns their number.
func (b *buffer) clear() uint64 {
	n := b.count
	for i := range b.slots {
		if b.slots[i].fate == held {
			b.slots[i].fate = taken
		}
	}
	b.count, b.held = 0, 0
	if b.known {
		b.next, b.began = b.newest+1, true
	}
	return uint64(n)
}

// ignore records a received packet that is not to be played.
func (b *buffer) ignore(sequence uint32) {
	b.stats.Dropped++
	if sequence, ok := b.place(sequence); ok {
		b.mark(sequence, taken)
	}
}

// mark records the fate of a sequence number, unless a later one already has its slot.
func (b *buffer) mark(sequence uint32, f fate) {
	s := &b.slots[sequence%window]
	if s.fate != held && !before(sequence, s.sequence) || s.fate == unseen {
		s.sequence, s.fate = sequence, f
	}
}

// put adds a packet that arrived at now.
func (b *buffer) put(now time.Time, sequence uint32, data []byte) {
	head, err := opus.Parse(data)
	valid := err == nil && len(data) <= maxPacket
	sequence, ok := b.place(sequence)
	if !ok {
		b.stats.Dropped++
		return
	}
	b.came++
	s := &b.slots[sequence%window]
	switch {
	case s.sequence == sequence && s.fate != unseen && s.fate != lost:
		b.stats.Duplicate++
		return
	case b.began && before(sequence, b.next):
		b.stats.Late++
		if s.sequence == sequence && s.fate == lost {
			b.stats.Lost--
		}
		b.mark(sequence, taken)
		if valid {
			b.lateness.add(now, sequence, head.Duration)
		}
		return
	}
	fits, broken := b.trust.take(head, valid)
	if broken {
		b.stats.Refused += b.clear()
		b.lateness.pause(false)
		b.next, b.began = sequence, false
	}
	if !fits {
		b.stats.Refused++
		b.mark(sequence, bad)
		return
	}
	if !b.began && before(sequence, b.next) {
		b.next = sequence
	}
	*s = slot{
		sequence: sequence, fate: held, opus: append(s.opus[:0], data...), duration: head.Duration,
		silent: head.Payload <= 3*head.Frames,
	}
	b.count++
	b.held += s.duration
	b.lateness.add(now, sequence, head.Duration)
	for b.held > maxHeld {
		b.shed()
	}
}

// before compares sequence numbers, which may wrap around.
func before(a, b uint32) bool { return int32(a-b) < 0 }

// place makes room for a sequence number, and returns its local number. It returns false for one
// that is far from all others; if the next number arrives too, the sequence has jumped (as in RFC
// 3550, A.1).
func (b *buffer) place(sequence uint32) (uint32, bool) {
	sequence += b.shift
	ahead := int32(sequence - b.newest)
	switch {
	case !b.known:
		b.known, b.newest, b.next = true, sequence, sequence
		return sequence, true
	case ahead > -window && ahead < window:
	case b.astray && sequence-b.stray < 3:
		ahead = 1
		b.shift += b.newest + 1 - sequence
		sequence = b.newest + 1
	default:
		b.stray, b.astray = sequence+1, true
		return sequence, false
	}
	b.astray = false
	if ahead <= 0 {
		return sequence, true
	}
	b.newest = sequence
	for int32(sequence-b.next) >= window { // nothing is playing, or the gap is that long
		to := sequence
		if b.count > 0 {
			to = b.lowest()
			b.drop(&b.slots[to%window])
			to++
		}
		b.skip(to)
	}
	return sequence, true
}

// lowest returns the sequence number of the oldest held packet, which must exist.
func (b *buffer) lowest() uint32 {
	for i := range uint32(window) {
		if s := &b.slots[(b.next+i)%window]; s.fate == held && s.sequence == b.next+i {
			return b.next + i
		}
	}
	return b.next
}

// shed drops the oldest held silence, or otherwise the oldest packet.
func (b *buffer) shed() {
	for i := range uint32(window) {
		if s := &b.slots[(b.next+i)%window]; s.fate == held && s.silent && s.sequence == b.next+i {
			b.drop(s)
			return
		}
	}
	b.drop(&b.slots[b.lowest()%window])
}

func (b *buffer) drop(s *slot) {
	if s.fate == held {
		s.fate = taken
		b.count--
		b.held -= s.duration
		b.stats.Dropped++
	}
}

// skip makes sequence the next to be played. Earlier packets that have not arrived count as lost.
func (b *buffer) skip(sequence uint32) {
	for ; b.next != sequence; b.next++ {
		s := &b.slots[b.next%window]
		if s.sequence != b.next || s.fate == unseen {
			b.stats.Lost++
			*s = slot{sequence: b.next, fate: lost, opus: s.opus}
		}
	}
	b.began = true
}

// delay returns the delay, relative to the fastest packet, of a packet that is played now.
func (b *buffer) delay(now time.Time, sequence uint32) time.Duration {
	return b.lateness.since(now, sequence)
}

// due returns when the silence ends if no more packets arrive; false while nothing is held, or
// nothing trusted.
func (b *buffer) due(now time.Time) (wait time.Duration, ok bool) {
	if b.count == 0 || !b.trust.ok {
		return 0, false
	}
	if b.ended {
		return 0, true
	}
	target := b.lateness.target()
	if !b.started { // the speaker reads some in advance
		target = max(target, startTarget)
	}
	return target - b.delay(now, b.lowest()), true
}

// take returns what is to be played at now. The packet is valid until the next put.
func (b *buffer) take(now time.Time) (step, []byte) {
	if !b.playing {
		if wait, ok := b.due(now); !ok || wait > 0 {
			return silence, nil
		}
		b.playing, b.started = true, true
		if first := b.lowest(); b.began {
			b.skip(first)
		} else {
			b.next = first
		}
		b.concealed = 0
	}
	for b.count > 0 {
		s := &b.slots[b.next%window]
		if s.sequence == b.next && s.fate == held {
			b.stats.Delay = b.delay(now, b.next)
			s.fate = taken
			b.count--
			b.held -= s.duration
			b.next++
			b.began = true
			b.concealed = 0
			return packet, s.opus
		}
		if s.sequence == b.next && s.fate == taken { // it was dropped
			b.next++
			continue
		}
		if b.concealed == maxConcealed {
			break
		}
		b.concealed++
		b.stats.Concealed++
		// While the delay is too short, a missing packet gets more time.
		if b.delay(now, b.next) >= b.lateness.target() {
			b.skip(b.next + 1)
		}
		return conceal, nil
	}
	b.playing = false
	if b.count == 0 {
		b.lateness.pause(true)
	}
	return silence, nil
}

// quiet decides what to do with a nearly silent frame: drop it, or play additional silence after
// it. This adapts the delay to its target where it is inaudible.
func (b *buffer) quiet(duration time.Duration) (drop bool, pad time.Duration) {
	over := b.stats.Delay - b.lateness.target()
	// Every other one, so that pauses remain, unless the speaker has stalled: then much more is
	// held than the network explains.
	b.dropped = over >= duration && (!b.dropped || b.stats.Delay > maxTarget) && !b.ended
	if over <= -bucket && !b.ended {
		pad = min(-over, maxTarget)
	}
	return b.dropped, pad
}
