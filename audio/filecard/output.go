package filecard

import (
	"context"
	"sync"
	"time"

	"lintod/agent/base/loop"
	"lintod/audio"
)

const (
	// tick is the interval at which a speaker plays what is due.
	tick = audio.FrameTime
	// queueTime is how much may be queued.
	queueTime = 60 * time.Millisecond
)

// sink is the destination of a speaker's sound. Only the output's goroutine uses it.
type sink interface {
	// play gets what was played since the last call. ended means that there was no more, and
	// silence until now.
	play(pcm []int16, ended bool, now time.Time) error
	close()
}

type hole struct{}

func (hole) play([]int16, bool, time.Time) error { return nil }
func (hole) close()                              {}

// output plays in real time, to a sink.
type output struct {
	rate int
	sink sink

	closing sync.Once
	quit    chan struct{} // closed to end the goroutine
	done    chan struct{} // closed when it has ended; then cause is set
	moved   loop.Signal   // holds a token when the queue has become shorter

	mu    sync.Mutex
	queue []int16 // not yet played
	cause error   // why nothing more is played
}

var _ audio.Output = (*output)(nil)

func newOutput(rate int, s sink) *output {
	o := &output{
		rate:  rate,
		sink:  s,
		quit:  make(chan struct{}),
		done:  make(chan struct{}),
		moved: loop.NewSignal(),
	}
	o.queue = make([]int16, 0, o.samples(queueTime))
	go o.run()
	return o
}

func (o *output) samples(d time.Duration) int { return int(d.Seconds() * float64(o.rate)) }

// run plays until Close, or until the sink fails.
func (o *output) run() {
	defer close(o.done)
	defer o.sink.close()
	t := time.NewTicker(tick)
	defer t.Stop()
	begin, played := time.Now(), 0
	block := make([]int16, 0, o.samples(queueTime))
	err := o.sink.play(nil, true, begin)
	for err == nil {
		select {
		case <-o.quit:
			o.stop(audio.ErrClosed)
			return
		case <-t.C:
		}
		now := time.Now()
		due := o.samples(now.Sub(begin)) - played
		played += due
		block = o.take(block[:0], due)
		err = o.sink.play(block, len(block) < due, now)
	}
	o.stop(err)
}

// take moves up to n samples from the queue to dst.
func (o *output) take(dst []int16, n int) []int16 {
	o.mu.Lock()
	defer o.mu.Unlock()
	n = min(n, len(o.queue))
	dst = append(dst, o.queue[:n]...)
	o.queue = o.queue[:copy(o.queue, o.queue[n:])]
	o.moved.Set()
	return dst
}

func (o *output) stop(cause error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.cause = cause
	o.moved.Set()
}

// Write implements audio.Output.
func (o *output) Write(ctx context.Context, pcm []int16) error {
	return o.await(ctx, func() bool {
		n := min(len(pcm), cap(o.queue)-len(o.queue))
		o.queue = append(o.queue, pcm[:n]...)
		pcm = pcm[n:]
		return len(pcm) == 0
	})
}

// Drain implements audio.Output.
func (o *output) Drain(ctx context.Context) error {
	return o.await(ctx, func() bool { return len(o.queue) == 0 })
}

// Flush implements audio.Output.
func (o *output) Flush() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.queue = o.queue[:0]
	o.moved.Set()
	return o.cause
}

// await calls done, under the lock, until it is true.
func (o *output) await(ctx context.Context, done func() bool) error {
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		o.mu.Lock()
		cause, ok := o.cause, o.cause == nil && done()
		o.mu.Unlock()
		if ok || cause != nil {
			return cause
		}
		select {
		case <-o.moved:
		case <-o.done:
		case <-ctx.Done():
		}
	}
}

// Close implements audio.Output.
func (o *output) Close() error {
	o.closing.Do(func() { close(o.quit) })
	<-o.done
	return nil
}
