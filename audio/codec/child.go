package codec

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"

	"golang.org/x/sys/unix"

	"lintod/agent/base/process"
	"lintod/audio"
	"lintod/audio/wav"
)

const (
	program = "lintod-audio"
	// hangLimit is how long a decoder may have input without producing output. lintod-audio itself
	// exits after a second of CPU time.
	hangLimit = 20 * time.Second
	// foreignMemory is ffmpeg's memory limit, in bytes, of which it uses 30 MB before it reads
	// anything.
	foreignMemory = 128 << 20
	// crashed is the exit status of a Go program that was out of memory, or panicked.
	crashed = 2
	// maxSaid is how much of a decoder's messages is kept.
	maxSaid = 1 << 10
)

var errHangs = fmt.Errorf("the decoder produced nothing for %v and was stopped", hangLimit)

// child is a process that decodes. One goroutine feeds it.
type child struct {
	form   Form
	from   io.ReadCloser
	cancel context.CancelCauseFunc
	ctx    context.Context
	proc   *process.Child
	said   said
	wav    *wav.Reader
	hang   *time.Timer // runs while output of the child is due, and ends it

	waits atomic.Bool   // the feeder waits for more of the file
	fed   chan struct{} // closed when the feeder has ended
	lost  error         // why the file could not be read to its end; valid when fed is closed

	reader context.Context // of the latest read
	unbind func() bool     // cancels the action at the end of reader
	over   atomic.Bool     // the child has closed its output
	once   sync.Once
	result error // valid after once
}

// openChild returns when the child has decoded the first samples.
func openChild(f Form, head io.Reader, from io.ReadCloser) (source, error) {
	argv := []string{process.Sibling(program), "-decode", string(f)}
	name, isForeign := foreign[f]
	if isForeign {
		argv = []string{
			"ffmpeg", "-nostdin", "-hide_banner", "-loglevel", "error", "-threads", "1", "-protocol_whitelist", "pipe",
			"-probesize", "64k", "-analyzeduration", "500000", "-f", string(f), "-i", "pipe:0",
			"-map", "0:a:0", "-ac", "1", "-c:a", "pcm_s16le", "-flush_packets", "1", "-f", "wav", "pipe:1",
		}
	}
	c := &child{form: f, from: from, fed: make(chan struct{}), unbind: func() bool { return true }}
	c.ctx, c.cancel = context.WithCancelCause(context.Background())
	var err error
	c.proc, err = process.Start(c.ctx, process.Command{Argv: argv, Stderr: &c.said})
	switch {
	case isForeign && errors.Is(err, fs.ErrNotExist):
		err = fmt.Errorf("it is %s, %w", name, errNeedsFFmpeg)
	case err == nil && isForeign:
		err = c.limit()
	}
	if err != nil {
		c.cancel(nil)
		if c.proc != nil {
			_ = c.proc.Wait()
		}
		return nil, err
	}
	c.hang = time.AfterFunc(hangLimit, c.hangs)
	go c.feed(head)
	w, err := wav.NewReader(output{c})
	if err != nil {
		c.end(err)
		return nil, c.result
	}
	c.wav = w
	return c, nil
}

// limit sets limits of a program that does not limit itself. It has not read anything yet.
func (c *child) limit() error {
	for what, limit := range map[int]uint64{unix.RLIMIT_DATA: foreignMemory, unix.RLIMIT_FSIZE: 0, unix.RLIMIT_CORE: 0} {
		if err := unix.Prlimit(c.proc.Pid, what, &unix.Rlimit{Cur: limit, Max: limit}, nil); err != nil {
			return fmt.Errorf("limit ffmpeg: %w", err)
		}
	}
	return nil
}

// feed writes the file to the child.
func (c *child) feed(head io.Reader) {
	defer close(c.fed)
	defer c.proc.Stdin.Close()
	b := make([]byte, 16<<10)
	for {
		c.waits.Store(true)
		n, err := head.Read(b)
		c.waits.Store(false)
		if _, gone := c.proc.Stdin.Write(b[:n]); gone != nil {
			return // its exit status is the reason
		}
		if err != nil {
			if !errors.Is(err, io.EOF) {
				c.lost = err
			}
			return
		}
	}
}

// hangs is called when the child has produced nothing for hangLimit.
func (c *child) hangs() {
	if c.waits.Load() { // so it is not the child that is slow
		c.hang.Reset(hangLimit)
		return
	}
	c.cancel(errHangs)
}

// output reads the child's output. While nothing reads, the child has to wait.
type output struct{ *child }

func (o output) Read(b []byte) (int, error) {
	o.hang.Reset(hangLimit)
	defer o.hang.Stop()
	n, err := o.proc.Stdout.Read(b)
	if err != nil {
		o.over.Store(true)
	}
	return n, err
}

func (c *child) rate() int { return c.wav.Rate() }

func (c *child) read(ctx context.Context, pcm []int16) (int, error) {
	if ctx != c.reader { // the same for a whole sound, mostly
		c.unbind()
		c.reader = ctx
		c.unbind = context.AfterFunc(ctx, func() { c.cancel(context.Cause(ctx)) })
	}
	n, err := c.wav.Read(pcm)
	if err != nil {
		c.end(err)
		return n, c.result
	}
	return n, nil
}

func (c *child) close() error {
	c.unbind()
	c.cancel(audio.ErrClosed)
	c.end(audio.ErrClosed)
	return nil
}

// end waits until the child's processes have ended, closes the file, and returns how the sound
// ended; io.EOF on success.
func (c *child) end(found error) {
	c.once.Do(func() {
		if !c.over.Load() {
			c.cancel(found)
		}
		c.hang.Reset(hangLimit)
		exit := c.proc.Wait()
		c.hang.Stop()
		c.from.Close()
		<-c.fed
		c.result = c.verdict(exit)
		c.cancel(nil)
	})
}

func (c *child) verdict(exit error) error {
	var status interface{ ExitCode() int }
	said := c.said.String()
	switch {
	case c.ctx.Err() != nil:
		return context.Cause(c.ctx)
	case c.lost != nil:
		return c.lost
	case c.form == MPEG && c.wav == nil && (exit == nil || errors.As(exit, &status) && status.ExitCode() == 1):
		return ErrUnknown // a file of an unrecognised format is tried as MPEG
	case exit == nil && c.wav == nil:
		return errNoSound
	case exit == nil:
		return io.EOF
	case strings.Contains(said, "moov atom not found"):
		return errors.New("this MP4 has its index at the end and cannot be streamed; ffmpeg -movflags faststart moves it to the front")
	case errors.As(exit, &status) && status.ExitCode() > 0 && status.ExitCode() != crashed && said != "":
		return errors.New(said)
	}
	return fmt.Errorf("the decoder failed; the file is damaged or malicious (%w)", exit)
}

// said keeps the beginning of a program's messages, which may contain text from the file.
type said struct {
	mu   sync.Mutex
	text []byte
}

func (s *said) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text = append(s.text, b[:min(len(b), maxSaid-len(s.text))]...)
	return len(b), nil
}

// String returns the first line as printable text.
func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	line, _, _ := bytes.Cut(bytes.TrimSpace(s.text), []byte("\n"))
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, string(bytes.TrimPrefix(line, []byte(program+": "))))
}
