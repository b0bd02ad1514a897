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

// Ear listens to the loudspeaker until it is stopped or the test ends.
type Ear struct {
	t      testing.TB
	cmd    *exec.Cmd
	cancel context.CancelFunc
	done   chan struct{} // closed when nothing more comes

	mu   sync.Mutex
	more chan struct{} // closed and replaced when sound arrives
	pcm  []int16
	at   []time.Time // when each block of blockSize samples was complete
}

const blockSize = 80 // 5 ms

// Hear starts to listen to what the program under test plays. It returns when
// the first sound, or silence, has arrived.
func (r *Rig) Hear() *Ear {
	r.t.Helper()
	e := r.listen(context.Background(), "speaker.monitor")
	e.await(1)
	return e
}

// Overhear listens to what reaches the microphone of the program under test. It
// returns when the first sound, or silence, has arrived.
func (r *Rig) Overhear() *Ear {
	r.t.Helper()
	e := r.listen(context.Background(), "mic")
	e.await(1)
	return e
}

func (r *Rig) listen(ctx context.Context, device string) *Ear {
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
	e := &Ear{t: r.t, cmd: cmd, cancel: cancel, done: make(chan struct{}), more: make(chan struct{})}
	go e.read(out)
	r.t.Cleanup(func() { e.Stop() })
	return e
}

func (e *Ear) read(from io.Reader) {
	defer close(e.done)
	var b [2 * blockSize]byte
	for {
		if _, err := io.ReadFull(from, b[:]); err != nil {
			return
		}
		e.mu.Lock()
		for i := range blockSize {
			e.pcm = append(e.pcm, int16(binary.LittleEndian.Uint16(b[2*i:])))
		}
		e.at = append(e.at, time.Now())
		close(e.more)
		e.more = make(chan struct{})
		e.mu.Unlock()
	}
}

// Stop ends the listening and returns all that was heard.
func (e *Ear) Stop() []int16 {
	e.cancel()
	<-e.done
	_ = e.cmd.Wait() // it was killed
	return e.PCM()
}

// PCM is what was heard so far.
func (e *Ear) PCM() []int16 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.pcm[:len(e.pcm):len(e.pcm)]
}

// At is when sample i arrived, to 5 ms.
func (e *Ear) At(i int) time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.at[i/blockSize]
}

// WaitFor blocks until what was heard satisfies ok, and fails the test when it
// does not within some seconds.
func (e *Ear) WaitFor(what string, ok func(pcm []int16) bool) {
	e.t.Helper()
	limit := time.After(limit)
	for {
		e.mu.Lock()
		pcm, more := e.pcm[:len(e.pcm):len(e.pcm)], e.more
		e.mu.Unlock()
		if ok(pcm) {
			return
		}
		select {
		case <-more:
		case <-e.done:
			e.t.Fatalf("the loudspeaker fell silent before %s", what)
		case <-limit:
			e.t.Fatalf("%s was not heard", what)
		}
	}
}

// await waits for n samples, of whatever kind, or the end.
func (e *Ear) await(n int) {
	for {
		e.mu.Lock()
		have, more := len(e.pcm), e.more
		e.mu.Unlock()
		if have >= n {
			return
		}
		select {
		case <-more:
		case <-e.done:
			return
		case <-time.After(limit):
			return
		}
	}
}
