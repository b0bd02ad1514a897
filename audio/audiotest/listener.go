package audiotest

import (
	"context"
	"encoding/binary"
	"io"
	"os/exec"
	"sync"
	"testing"
	"time"
)

// Listener records the speaker until it is stopped or the test ends.
type Listener struct {
	t      testing.TB
	cmd    *exec.Cmd
	cancel context.CancelFunc
	done   chan struct{} // closed when the recording has ended

	mu   sync.Mutex
	more chan struct{} // closed and replaced when sound arrives
	pcm  []int16
	at   []time.Time // when each block of blockSize samples was complete
}

const blockSize = 80 // 5 ms

// Hear starts recording what the program under test plays. It returns when the first sound, or
// silence, has arrived.
func (r *Rig) Hear() *Listener {
	r.t.Helper()
	l := r.listen(context.Background(), "speaker.monitor")
	l.await(1)
	return l
}

// Overhear starts recording the input of the microphone of the program under test. It returns when
// the first sound, or silence, has arrived.
func (r *Rig) Overhear() *Listener {
	r.t.Helper()
	l := r.listen(context.Background(), "mic")
	l.await(1)
	return l
}

func (r *Rig) listen(ctx context.Context, device string) *Listener {
	r.t.Helper()
	ctx, cancel := context.WithCancel(ctx)
	cmd := r.command(ctx, "parec", "--device="+device, "--raw", "--format=s16le",
		"--rate=16000", "--channels=1", "--latency-msec=10")
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		cancel()
		r.t.Fatalf("listen to %s: %v", device, err)
	}
	l := &Listener{t: r.t, cmd: cmd, cancel: cancel, done: make(chan struct{}), more: make(chan struct{})}
	go l.read(out)
	r.t.Cleanup(func() { l.Stop() })
	return l
}

func (l *Listener) read(from io.Reader) {
	defer close(l.done)
	var b [2 * blockSize]byte
	for {
		if _, err := io.ReadFull(from, b[:]); err != nil {
			return
		}
		l.mu.Lock()
		for i := range blockSize {
			l.pcm = append(l.pcm, int16(binary.LittleEndian.Uint16(b[2*i:])))
		}
		l.at = append(l.at, time.Now())
		close(l.more)
		l.more = make(chan struct{})
		l.mu.Unlock()
	}
}

// Stop ends the recording and returns it.
func (l *Listener) Stop() []int16 {
	l.cancel()
	<-l.done
	_ = l.cmd.Wait() // it was killed
	return l.PCM()
}

// PCM returns the recording so far.
func (l *Listener) PCM() []int16 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.pcm[:len(l.pcm):len(l.pcm)]
}

// At returns when sample i arrived, to 5 ms.
func (l *Listener) At(i int) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.at[i/blockSize]
}

// WaitFor blocks until the recording satisfies ok, and fails the test if that takes more than some
// seconds.
func (l *Listener) WaitFor(what string, ok func(pcm []int16) bool) {
	l.t.Helper()
	limit := time.After(limit)
	for {
		l.mu.Lock()
		pcm, more := l.pcm[:len(l.pcm):len(l.pcm)], l.more
		l.mu.Unlock()
		if ok(pcm) {
			return
		}
		select {
		case <-more:
		case <-l.done:
			l.t.Fatalf("the speaker became silent before %s", what)
		case <-limit:
			l.t.Fatalf("%s was not heard", what)
		}
	}
}

// await waits for n samples, or the end.
func (l *Listener) await(n int) {
	for {
		l.mu.Lock()
		have, more := len(l.pcm), l.more
		l.mu.Unlock()
		if have >= n {
			return
		}
		select {
		case <-more:
		case <-l.done:
			return
		case <-time.After(limit):
			return
		}
	}
}
