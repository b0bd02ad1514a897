// Package jitter makes steady sound of Opus packets that a network delivers late,
// twice, in another order, or not at all.
//
// The buffer (buffer.go) orders packets and decides when each is played; how late
// packets come (lateness.go) says how long they must wait; packets that are not Opus
// are found out before they are heard (trust.go). All three are pure: time is an
// argument. Stream puts a lock and a decoder around them.
//
// What must not live here: the network, encryption, and the decoder, which is in the
// sound process (audio/native).
package jitter

import (
	"time"

	"lintod/audio/opus"
)

const (
	// maxHeld is how much sound may wait; then silence is dropped, or else the oldest.
	maxHeld = 2400 * time.Millisecond
	// window is how many packets may wait, and how far from the newest a sequence
	// number may be without looking like that of another stream.
	window = 128
	// maxPacket is the longest packet in bytes. Gateways that cannot encode send PCM,
	// which is longer.
	maxPacket = 1500
	// maxConcealed is how many frames in a row are concealed. What libopus makes up
	// fades by then.
	maxConcealed = 3
)

// step is what is to be heard next.
type step uint8

const (
	silence step = iota // there is nothing, or not yet enough
	packet              // a packet is to be decoded
	conceal             // one that is missing is to be concealed
)

// fate is what became of a sequence number.
type fate uint8

const (
	unseen fate = iota
	held
	taken // or dropped
	bad   // it was refused
	lost  // its time is over, and it has not come
)

type slot struct {
	sequence uint32
	fate     fate
	opus     []byte
	duration time.Duration
	silent   bool // it is so short that it can only be silence
}

// buffer holds what was received and not yet played. The zero value is empty.
type buffer struct {
	stats    Stats
	lateness lateness
	trust    trust

	slots  [window]slot // by sequence % window
	count  int          // slots that are held
	held   time.Duration
	newest uint32 // the highest that has come
	next   uint32 // to be played
	known  bool   // both mean something
	began  bool   // what is before next has been played, or given up
	stray  uint32 // what would confirm that the sequence has jumped
	astray bool   // stray means something
	shift  uint32 // of what comes, so that after a jump it goes on as before

	playing   bool // else silence is heard, until enough is held
	started   bool // something of this answer has been heard
	ended     bool // nothing more is awaited: what is held is enough
	came      int  // packets of this answer
	concealed int  // frames in a row
	dropped   bool // the latest quiet frame was dropped
}

// begin starts an answer: the sequence goes on, the time does not.
func (b *buffer) begin() {
	b.clear()
	b.playing, b.started, b.ended, b.came = false, false, false, 0
	b.lateness.pause(false)
}

// clear drops what is held, and returns how many packets that were.
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

// ignore notes a packet that came and is not to be heard.
func (b *buffer) ignore(sequence uint32) {
	b.stats.Dropped++
	if sequence, ok := b.place(sequence); ok {
		b.mark(sequence, taken)
	}
}

// mark notes the fate of a sequence number, unless a later one has its slot already.
func (b *buffer) mark(sequence uint32, f fate) {
	s := &b.slots[sequence%window]
	if s.fate != held && !before(sequence, s.sequence) || s.fate == unseen {
		s.sequence, s.fate = sequence, f
	}
}

// put takes a packet that came at now.
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

// before compares sequence numbers, which may wrap round.
func before(a, b uint32) bool { return int32(a-b) < 0 }

// place makes room for a sequence number, and returns what it is here. It reports
// false for one that is far from all others; when the number after it comes too, the
// sequence has jumped (as RFC 3550, A.1, has it).
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
	for int32(sequence-b.next) >= window { // nobody plays, or the gap is that long
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

// lowest is the sequence number of the oldest that is held; there must be one.
func (b *buffer) lowest() uint32 {
	for i := range uint32(window) {
		if s := &b.slots[(b.next+i)%window]; s.fate == held && s.sequence == b.next+i {
			return b.next + i
		}
	}
	return b.next
}

// shed drops the oldest silence that is held, or else the oldest.
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

// skip makes sequence the next to be played. What has not come before it is lost.
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

// delay is how much later than the fastest possible a packet is when it is played
// now.
func (b *buffer) delay(now time.Time, sequence uint32) time.Duration {
	return b.lateness.since(now, sequence)
}

// due is when the silence is over if nothing more comes; false while nothing is held,
// or nothing that can be trusted.
func (b *buffer) due(now time.Time) (wait time.Duration, ok bool) {
	if b.count == 0 || !b.trust.ok {
		return 0, false
	}
	if b.ended {
		return 0, true
	}
	target := b.lateness.target()
	if !b.started { // the loudspeaker fetches some in advance
		target = max(target, startTarget)
	}
	return target - b.delay(now, b.lowest()), true
}

// take returns what is to be heard at now. The packet is valid until the next put.
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
		// While the delay is too short, the one that is missing gets more time.
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

// quiet says what to do about a frame that was just taken and turned out to be next
// to silent: drop it, or play so much silence after it. So the delay follows its
// target where it does not hurt.
func (b *buffer) quiet(duration time.Duration) (drop bool, pad time.Duration) {
	over := b.stats.Delay - b.lateness.target()
	// Every other one, so that a pause stays one, unless the loudspeaker has stood still: then
	// far more waits than the network explains.
	b.dropped = over >= duration && (!b.dropped || b.stats.Delay > maxTarget) && !b.ended
	if over <= -bucket && !b.ended {
		pad = min(-over, maxTarget)
	}
	return b.dropped, pad
}
