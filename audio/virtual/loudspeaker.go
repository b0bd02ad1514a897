package virtual

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"sync"
	"time"

	"lintod/audio/wav"
)

// loudspeaker plays at the pace of the clock. It needs no goroutine: what was
// played by now follows from the time, and the silence between two sounds is
// written when the second begins.
type loudspeaker struct {
	rate   int
	began  time.Time
	tape   *tape // nil for null
	closed chan struct{}
	once   sync.Once

	mu  sync.Mutex
	end int64 // samples queued since it began, silence included
}

// Write implements audio.Output.
func (l *loudspeaker) Write(ctx context.Context, pcm []int16) error {
	until, err := l.queue(pcm)
	if err != nil {
		return err
	}
	return pause(ctx, until.Add(-queueTime), l.closed)
}

func (l *loudspeaker) queue(pcm []int16) (until time.Time, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := max(l.end, l.played())
	l.end = at + int64(len(pcm))
	if l.tape != nil {
		err = l.tape.write(at, pcm)
	}
	return l.moment(l.end), err
}

// played is how many samples have been played by now.
func (l *loudspeaker) played() int64 { return int64(time.Since(l.began).Seconds() * float64(l.rate)) }

// moment is when a sample is played.
func (l *loudspeaker) moment(sample int64) time.Time {
	return l.began.Add(time.Duration(float64(sample) / float64(l.rate) * float64(time.Second)))
}

// Drain implements audio.Output.
func (l *loudspeaker) Drain(ctx context.Context) error {
	l.mu.Lock()
	until := l.moment(l.end)
	l.mu.Unlock()
	return pause(ctx, until, l.closed)
}

// Flush implements audio.Output: what was queued and not yet played is taken
// back from the file.
func (l *loudspeaker) Flush() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.played()
	if now >= l.end {
		return nil
	}
	l.end = now
	if l.tape == nil {
		return nil
	}
	return l.tape.cut(now)
}

// Close implements audio.Output.
func (l *loudspeaker) Close() (err error) {
	l.once.Do(func() {
		close(l.closed)
		err = l.Flush()
		if l.tape != nil {
			err = errors.Join(err, l.tape.file.Close())
		}
	})
	return err
}

// tape is a WAV file that is whole after each write.
type tape struct {
	file   *os.File
	header int64 // bytes before the first sample
	start  int64 // samples that were there when it was opened
	buf    []byte
}

// maxData is the most that a WAV file can hold.
const maxData = math.MaxUint32 - 1024

func openTape(path string, rate int, keep bool) (*tape, error) {
	flags := os.O_RDWR | os.O_CREATE
	if !keep {
		flags |= os.O_TRUNC
	}
	f, err := os.OpenFile(path, flags, 0o600)
	if err != nil {
		return nil, err
	}
	header := wav.Encode(nil, rate)
	t := &tape{file: f, header: int64(len(header))}
	if info, err := f.Stat(); err == nil && info.Size() > t.header {
		t.start = (info.Size() - t.header) / 2
		return t, nil
	}
	if _, err := f.WriteAt(header, 0); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return t, nil
}

// write puts samples at a place; what lies between the old end and there is
// silence, and takes no room on the disk.
func (t *tape) write(at int64, pcm []int16) error {
	offset := t.offset(at)
	if offset+2*int64(len(pcm)) > maxData {
		return fmt.Errorf("loudspeaker file %s is full: a WAV file holds 4 GB", t.file.Name())
	}
	t.buf = t.buf[:0]
	for _, s := range pcm {
		t.buf = binary.LittleEndian.AppendUint16(t.buf, uint16(s))
	}
	if _, err := t.file.WriteAt(t.buf, offset); err != nil {
		return fmt.Errorf("loudspeaker file: %w", err)
	}
	return t.resize(offset + int64(len(t.buf)))
}

func (t *tape) offset(sample int64) int64 { return t.header + 2*(t.start+sample) }

// cut ends the file before a sample.
func (t *tape) cut(sample int64) error {
	size := t.offset(sample)
	return errors.Join(t.resize(size), t.file.Truncate(size))
}

// resize corrects the two sizes in the header: of the RIFF chunk at byte 4, of
// the data chunk in the header's last four bytes.
func (t *tape) resize(size int64) error {
	var field [4]byte
	binary.LittleEndian.PutUint32(field[:], uint32(size-8))
	_, err1 := t.file.WriteAt(field[:], 4)
	binary.LittleEndian.PutUint32(field[:], uint32(size-t.header))
	_, err2 := t.file.WriteAt(field[:], t.header-4)
	return errors.Join(err1, err2)
}
