package linto

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"lintod/agent/base/loop"
	"lintod/audio"
)

// dictationMemory bounds the recording of a dictation, in samples: half a minute.
// Sent samples are dropped first; if there are none, recording pauses, and the
// microphone's own queue drops what does not fit.
const dictationMemory = 30 * audio.CaptureRate

// recording is the sound of one live transcription. One goroutine records it,
// while another one sends it and may have to send it again.
type recording struct {
	*live
	limit   int          // samples; 0 for an utterance, whose length is limited by the turn
	more    loop.Signal  // holds a token when there may be more
	room    loop.Signal  // holds a token when something was sent
	missing atomic.Int64 // samples

	mu   sync.Mutex
	pcm  []int16
	sent int  // samples of pcm
	over bool // recording has ended
	err  error
}

func newRecording(l *live, limit int) *recording {
	return &recording{live: l, limit: limit, more: loop.NewSignal(), room: loop.NewSignal()}
}

// record records from read until it fails or returns io.EOF. After stop is
// closed it no longer waits for room.
func (r *recording) record(stop <-chan struct{}, read func(*audio.Frame) error) {
	var f audio.Frame
	for {
		r.awaitRoom(stop)
		err := read(&f)
		if err == nil && f.Lost > 0 {
			r.miss(int(f.Lost))
		}
		r.mu.Lock()
		switch {
		case err == nil:
			r.add(f.PCM[:])
		case errors.Is(err, io.EOF):
			r.over = true
		default:
			r.over, r.err = true, err
		}
		r.mu.Unlock()
		r.more.Set()
		if err != nil {
			return
		}
	}
}

func (r *recording) awaitRoom(stop <-chan struct{}) {
	for {
		r.mu.Lock()
		full := r.limit > 0 && len(r.pcm)-r.sent >= r.limit
		r.mu.Unlock()
		if !full {
			return
		}
		select {
		case <-r.room:
		case <-stop:
			return
		}
	}
}

// add drops a second at a time, so that the rest need not be moved for each frame.
func (r *recording) add(pcm []int16) {
	r.pcm = append(r.pcm, pcm...)
	if r.limit > 0 && len(r.pcm) > r.limit {
		n := min(r.sent, audio.CaptureRate)
		r.pcm, r.sent = slices.Delete(r.pcm, 0, n), r.sent-n
	}
}

// miss counts sound that will not be transcribed.
func (r *recording) miss(samples int) {
	r.lost.Add(int64(samples))
	if r.missing.Add(int64(samples)) == int64(samples) {
		r.log.Warn("the live transcription is missing sound: the link is too slow, or the microphone paused")
	}
}

func (r *recording) tellMissing() {
	if n := r.missing.Load(); n > 0 {
		gap := time.Duration(n) * time.Second / audio.CaptureRate
		r.log.Warn("the live transcription ended with missing sound", "duration", gap.Round(time.Millisecond))
	}
}

// chunk appends the next samples to buf, as 16-bit little-endian: as many as fit,
// or the rest of a recording that has ended. It returns io.EOF after the last
// ones. If it appends nothing, there are not enough samples yet.
func (r *recording) chunk(buf []byte) ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	next := r.pcm[r.sent:]
	switch n := (cap(buf) - len(buf)) / 2; {
	case len(next) >= n:
		next = next[:n]
	case !r.over:
		return buf, nil
	case r.err != nil:
		return buf, r.err
	case len(next) == 0:
		return buf, io.EOF
	}
	for _, v := range next {
		buf = binary.LittleEndian.AppendUint16(buf, uint16(v))
	}
	r.sent += len(next)
	r.room.Set()
	return buf, nil
}

// back returns the last bytes of a chunk that could not be sent to the recording,
// to be sent again.
func (r *recording) back(bytes int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sent = max(0, r.sent-bytes/2)
}

// rewind makes chunk start again from the first sample.
func (r *recording) rewind() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sent = 0
}

// forget drops the samples that were sent.
func (r *recording) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pcm = slices.Delete(r.pcm, 0, r.sent)
	r.sent = 0
}

// whole waits for the end of the recording and returns all of it.
func (r *recording) whole(ctx context.Context) ([]int16, error) {
	for {
		r.mu.Lock()
		over, pcm, err := r.over, r.pcm, r.err
		r.mu.Unlock()
		if over {
			return pcm, err
		}
		select {
		case <-r.more:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}
