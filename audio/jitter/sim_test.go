package jitter

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"lintod/audio/opus"
)

const (
	testRate  = 8000
	frameTime = 60 * time.Millisecond
)

// sent is a packet of the simulated server: one frame of 60 ms, SILK wideband, with
// its number, its sending time, and whether it is speech.
func sent(number uint32, at time.Time, speech bool) []byte {
	b := []byte{0x58}
	b = binary.BigEndian.AppendUint32(b, number)
	b = binary.BigEndian.AppendUint64(b, uint64(at.UnixNano()))
	if !speech {
		return append(b, 0)
	}
	return append(b, make([]byte, 100)...)[:113]
}

// A fake decoder that records its input.
type fakeDecoder struct {
	room *room
	out  []heard
	fail func(packet []byte) error
}

// heard is a frame that has left the decoder.
type heard struct {
	number    uint32
	concealed bool
	sent      time.Time
	at        time.Time // decoded
	loud      bool
	duration  time.Duration
}

func (d *fakeDecoder) Write(_ context.Context, packet []byte) error {
	if d.fail != nil {
		if err := d.fail(packet); err != nil {
			return err
		}
	}
	h := heard{concealed: true, at: time.Now(), duration: frameTime, loud: true}
	if len(packet) > 0 {
		head, err := opus.Parse(packet)
		if err != nil {
			return err
		}
		h.duration, h.concealed = head.Duration, false
		if len(packet) >= 13 {
			h.number = binary.BigEndian.Uint32(packet[1:])
			h.sent = time.Unix(0, int64(binary.BigEndian.Uint64(packet[5:])))
			h.loud = len(packet) > 20
		}
	}
	d.out = append(d.out, h)
	return nil
}

func (d *fakeDecoder) Read(_ context.Context, frame []int16) (int, error) {
	h := d.out[0]
	d.out = d.out[1:]
	d.room.heard(h)
	n := int(h.duration * testRate / time.Second)
	level := int16(0)
	if h.loud {
		level = 1000
	}
	for i := range frame[:n] {
		frame[i] = level
	}
	return n, nil
}

func (d *fakeDecoder) Close() error { return nil }

// room is a listener of a Stream: a loudspeaker that buffers 60 ms, and is fed like
// by the player.
type room struct {
	Stream
	all sync.WaitGroup
	err error // the result of the latest sound

	mu      sync.Mutex
	frames  []heard
	dry     int           // number of underruns of the loudspeaker
	stalled time.Duration // duration of a stall of the loudspeaker, two seconds after its first sound
	fail    func(packet []byte) error
	opened  int
}

func newRoom() *room {
	r := &room{}
	r.Rate = testRate
	r.Open = func(context.Context) (Decoder, error) {
		r.opened++
		return &fakeDecoder{room: r, fail: r.fail}, nil
	}
	return r
}

func (r *room) heard(h heard) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.frames = append(r.frames, h)
}

// listen plays the answer in another goroutine.
func (r *room) listen() {
	n := r.Sound()
	r.all.Go(func() {
		defer n.Close()
		var until time.Time // when the loudspeaker's buffer is empty
		pcm := make([]int16, testRate/50)
		still := time.Now().Add(2 * time.Second)
		for {
			if r.stalled > 0 && time.Now().After(still) {
				time.Sleep(r.stalled)
				r.stalled = 0
			}
			read, err := n.Read(context.Background(), pcm)
			if now := time.Now(); until.Before(now) {
				if !until.IsZero() && read > 0 {
					r.dry++
				}
				until = now
			}
			until = until.Add(time.Duration(read) * time.Second / testRate)
			time.Sleep(time.Until(until) - frameTime)
			if err != nil {
				r.err = err
				time.Sleep(time.Until(until))
				return
			}
		}
	})
}

// numbers returns those of the frames that were played and not concealed.
func (r *room) numbers() (list []uint32) {
	for _, h := range r.frames {
		if !h.concealed {
			list = append(list, h.number)
		}
	}
	return list
}

// network describes how packets are delivered.
type network struct {
	rnd     *rand.Rand
	loss    float64
	jitter  time.Duration // maximum additional delay
	reorder float64       // share that arrives after the next packet, or the one after that
	double  float64
	stall   func(at time.Duration) time.Duration // packets sent during an outage are this much later
	ordered bool                                 // like TCP: no reordering and no loss
}

type arrival struct {
	number uint32
	sent   time.Time
	at     time.Time
	speech bool
}

// carry returns the packets from..to that arrive, one each 60 ms, the first ahead at
// once; speech reports which are not silence.
func (w *network) carry(start time.Time, from, to uint32, ahead int, speech func(uint32) bool) (list []arrival) {
	var last time.Time
	for number := from; number != to; number++ {
		at := start.Add(time.Duration(max(0, int(number-from)-ahead)) * frameTime)
		a := arrival{number, at, at, speech(number)}
		if w.stall != nil {
			a.at = a.at.Add(w.stall(at.Sub(start)))
		}
		if w.jitter > 0 {
			a.at = a.at.Add(time.Duration(w.rnd.Int64N(int64(w.jitter))))
		}
		if w.ordered {
			if a.at.Before(last) {
				a.at = last
			}
			last = a.at
			list = append(list, a)
			continue
		}
		if w.rnd.Float64() < w.loss {
			continue
		}
		if w.rnd.Float64() < w.reorder {
			a.at = a.at.Add(frameTime + time.Duration(w.rnd.Int64N(int64(frameTime))))
		}
		list = append(list, a)
		if w.rnd.Float64() < w.double {
			a.at = a.at.Add(time.Duration(w.rnd.Int64N(int64(2 * frameTime))))
			list = append(list, a)
		}
	}
	slices.SortStableFunc(list, func(a, b arrival) int { return cmp.Compare(a.at.UnixNano(), b.at.UnixNano()) })
	return list
}

// deliver puts each packet at its arrival time.
func (r *room) deliver(list []arrival) {
	for _, a := range list {
		time.Sleep(time.Until(a.at))
		r.Put(a.number, sent(a.number, a.sent, a.speech))
	}
}

func always(uint32) bool { return true }

// sentences is typical speech: two seconds, then a pause of 300 ms.
func sentences(number uint32) bool { return number%38 < 33 }

func (r *room) finish(t *testing.T) {
	t.Helper()
	r.all.Wait()
	if !errors.Is(r.err, io.EOF) {
		t.Errorf("the sound ended with %v", r.err)
	}
}
