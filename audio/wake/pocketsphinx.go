package wake

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"lintod/agent/process"
	"lintod/audio"
)

const (
	program      = "pocketsphinx_continuous"
	englishModel = "/usr/share/pocketsphinx/model/en-us"

	// startLimit is how long pocketsphinx may take to load its model, takeLimit how
	// long it may then take no sound.
	startLimit = 30 * time.Second
	takeLimit  = 5 * time.Second
	// endLimit is how long it may live on when it is done with.
	endLimit = time.Second
	// pipeSize keeps little sound between us and the child, in bytes.
	pipeSize = 4096
	// cpuTime is how often the child's use of the processor is looked at.
	cpuTime = 10 * time.Second
)

// pocketsphinx tells of a phrase only when the speaker pauses, and in a room
// where the radio is on nobody ever does. So while something is heard, a pause
// is put into the sound every chapter; what was heard last is then repeated, so
// that no phrase is cut in two. What is found twice is one word said once, which
// the refractory time sees to.
const (
	chapter = 1500 * time.Millisecond
	pause   = 600 * time.Millisecond
	repeat  = 1500 * time.Millisecond
	// postspeech is what pocketsphinx takes for the end of speech; words hold
	// silences of 200 ms.
	postspeech = 300 * time.Millisecond
)

// pocketsphinx is the engine that needs nothing but a Debian package.
type pocketsphinx struct {
	words   []Word
	program string
	model   string // directory of the acoustic model and the dictionary

	startLimit, takeLimit time.Duration
}

func (p *pocketsphinx) run(ctx context.Context, ear *ear) error {
	dir, err := os.MkdirTemp("", "lintod-wake-")
	if err != nil {
		return fmt.Errorf("write the key phrases for pocketsphinx: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }() // a temporary directory
	phrases, err := p.prepare(dir)
	if err != nil {
		return err
	}
	var said complaint
	child, err := process.Start(ctx, process.Command{
		Argv: []string{
			p.program, "-infile", "/dev/stdin", "-time", "yes",
			"-hmm", filepath.Join(p.model, "en-us"), "-dict", filepath.Join(dir, "words"), "-kws", filepath.Join(dir, "phrases"),
			"-vad_postspeech", strconv.Itoa(int(postspeech / (10 * time.Millisecond))),
		},
		Stderr: &said,
	})
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("pocketsphinx is not installed (apt install pocketsphinx pocketsphinx-en-us): %w", err)
	}
	if err != nil {
		return err
	}
	err = p.serve(ctx, child, phrases, ear)
	if text := said.text(); text != "" {
		err = fmt.Errorf("%w: %s", err, text)
	}
	return err
}

// serve gives the child its sound and takes what it finds, until either ends.
func (p *pocketsphinx) serve(ctx context.Context, child *process.Child, phrases map[string]Word, ear *ear) error {
	feeding, stop := context.WithCancel(ctx)
	defer stop()
	tape := &tape{to: child.Stdin, ear: ear, startLimit: p.startLimit, takeLimit: p.takeLimit}
	var others sync.WaitGroup
	others.Go(func() {
		defer stop()
		p.find(child.Stdout, phrases, tape)
	})
	others.Go(func() { watchCPU(feeding, child.Pid, ear) })
	err := tape.play(feeding)
	hangs := feeding.Err() == nil && errors.Is(err, os.ErrDeadlineExceeded)
	child.Stdin.Close()
	stop()
	defer time.AfterFunc(endLimit, child.Kill).Stop()
	others.Wait()
	switch waited := child.Wait(); {
	case ctx.Err() != nil || hangs:
		return err
	case waited != nil: // which says more than a broken pipe
		return waited
	}
	return errors.New("pocketsphinx has ended")
}

// prepare writes the phrases and their pronunciation into dir, and returns the
// phrases as pocketsphinx will tell them.
func (p *pocketsphinx) prepare(dir string) (map[string]Word, error) {
	dict, err := p.pronounce()
	if err != nil {
		return nil, err
	}
	phrases := map[string]Word{}
	var list strings.Builder
	for _, w := range p.words {
		spoken := w.spoken()
		sounds := 0
		for _, word := range spoken {
			sounds += dict.sounds[word]
		}
		phrase := strings.Join(spoken, " ")
		phrases[phrase] = w
		fmt.Fprintf(&list, "%s /1e-%d/\n", phrase, threshold(sounds, w.sensitivity()))
	}
	for name, text := range map[string]string{"phrases": list.String(), "words": dict.text} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return nil, fmt.Errorf("write the key phrases for pocketsphinx: %w", err)
		}
	}
	return phrases, nil
}

// threshold is the exponent of how improbable a phrase may be, against any other
// sound, and still be believed: the longer, the more so.
func threshold(sounds int, sensitivity float64) int {
	return int(float64(sounds) * 4 * sensitivity)
}

// dictionary holds the few words that are listened for: the whole takes a
// second to load, and memory.
type dictionary struct {
	text   string
	sounds map[string]int // how many a word has
}

// pronounce looks the words up.
func (p *pocketsphinx) pronounce() (dictionary, error) {
	d := dictionary{sounds: map[string]int{}}
	for _, w := range p.words {
		for _, word := range w.spoken() {
			d.sounds[word] = 0
		}
	}
	file, err := os.Open(filepath.Join(p.model, "cmudict-en-us.dict"))
	if err != nil {
		return d, fmt.Errorf("pocketsphinx has no dictionary (apt install pocketsphinx-en-us): %w", err)
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for lines.Scan() { // "word PH ON ES", and "word(2) PH ON ES"
		entry, phones, _ := strings.Cut(lines.Text(), " ")
		word, _, variant := strings.Cut(entry, "(")
		n, wanted := d.sounds[word]
		if !wanted || variant && n == 0 {
			continue
		}
		d.text += lines.Text() + "\n"
		if !variant {
			d.sounds[word] = len(strings.Fields(phones))
		}
	}
	if err := lines.Err(); err != nil {
		return d, fmt.Errorf("read pocketsphinx's dictionary: %w", err)
	}
	for _, w := range p.words {
		for _, word := range w.spoken() {
			if d.sounds[word] == 0 {
				return d, fmt.Errorf("pocketsphinx cannot listen for %q: the word %q is not in its English dictionary (%s); say it with other words in wake.word.phrase", w.Name, word, file.Name())
			}
		}
	}
	return d, nil
}

// find reads what was found, until pocketsphinx ends: "hey computer 0.840 1.680
// 0.891533", the phrase, its begin and its end in seconds of the tape, how sure
// it is. Other lines say nothing new.
func (p *pocketsphinx) find(out io.Reader, phrases map[string]Word, tape *tape) {
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		phrase, over, score, ok := parse(lines.Text())
		if word, known := phrases[phrase]; ok && known {
			tape.ear.heard(word, score, tape.when(over))
		}
	}
}

func parse(line string) (phrase string, over, score float64, ok bool) {
	fields := strings.Fields(line)
	n := len(fields) - 3
	if n < 1 {
		return "", 0, 0, false
	}
	over, err := strconv.ParseFloat(fields[n+1], 64)
	if err != nil || !(over >= 0 && over < 1e9) {
		return "", 0, 0, false
	}
	score, err = strconv.ParseFloat(fields[n+2], 64)
	if err != nil || !(score >= 0) {
		return "", 0, 0, false
	}
	return strings.Join(fields[:n], " "), over, min(score, 1), true
}

// tape is all the sound that pocketsphinx gets. One goroutine plays it, another
// asks when something on it was.
type tape struct {
	to  io.WriteCloser
	ear *ear

	startLimit, takeLimit time.Duration

	buf     []byte
	history []audio.Frame // what would be repeated
	rest    time.Duration // how much of the chapter is left
	voice   voice

	mu     sync.Mutex
	length int64 // samples so far
	marks  []mark
	next   int // the oldest of marks, when they are full
}

// mark says when a frame on the tape was captured.
type mark struct {
	at      int64 // samples from the begin
	capture time.Time
}

// keptMarks are enough for 20 s.
const keptMarks = 1024

// play feeds the child until ctx ends or the child takes no more.
func (t *tape) play(ctx context.Context) error {
	shrink(t.to)
	defer context.AfterFunc(ctx, func() { t.to.Close() })() // ends a Write that blocks
	t.history = make([]audio.Frame, 0, repeat/audio.FrameTime)
	t.rest = chapter
	// More than the pipe holds: once it is written, the child has begun to read.
	t.pause()
	if err := t.flush(t.startLimit); err != nil {
		return fmt.Errorf("pocketsphinx does not start: %w", err)
	}
	t.ear.open()
	var f audio.Frame
	for n := 1; ; n++ {
		gap, err := t.ear.read(ctx, &f)
		if err != nil {
			return err
		}
		if gap {
			t.pause()
			t.history, t.rest = t.history[:0], chapter
		}
		t.frame(&f)
		t.turnPage(&f)
		if n%chunkFrames != 0 {
			continue
		}
		if err := t.flush(t.takeLimit); err != nil {
			return fmt.Errorf("pocketsphinx takes no sound any more: %w", err)
		}
	}
}

// turnPage ends the chapter when it is long enough, if there was a voice in it.
func (t *tape) turnPage(f *audio.Frame) {
	t.voice.hear(f)
	if len(t.history) == cap(t.history) {
		copy(t.history, t.history[1:])
		t.history = t.history[:len(t.history)-1]
	}
	t.history = append(t.history, *f)
	if t.rest -= audio.FrameTime; t.rest > 0 {
		return
	}
	t.rest = chapter
	if !t.voice.heard() {
		return
	}
	t.pause()
	for i := range t.history {
		t.frame(&t.history[i])
	}
}

// frame puts a frame on the tape.
func (t *tape) frame(f *audio.Frame) {
	for _, sample := range f.PCM {
		t.buf = binary.LittleEndian.AppendUint16(t.buf, uint16(sample))
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	m := mark{t.length, f.At}
	if len(t.marks) < keptMarks {
		t.marks = append(t.marks, m)
	} else {
		t.marks[t.next] = m
		t.next = (t.next + 1) % keptMarks
	}
	t.length += int64(audio.FrameSamples)
}

// pause puts a pause on the tape.
func (t *tape) pause() {
	const samples = int64(pause * audio.CaptureRate / time.Second)
	t.buf = append(t.buf, make([]byte, 2*samples)...)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.length += samples
}

func (t *tape) flush(limit time.Duration) error {
	if w, ok := t.to.(interface{ SetWriteDeadline(time.Time) error }); ok {
		_ = w.SetWriteDeadline(time.Now().Add(limit)) // the next error tells
	}
	_, err := t.to.Write(t.buf)
	t.buf = t.buf[:0]
	return err
}

// when is the moment that is so many seconds from the begin of the tape; now,
// when that is not remembered.
func (t *tape) when(seconds float64) time.Time {
	at := int64(seconds * audio.CaptureRate)
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range t.marks {
		// From the newest to the oldest.
		m := t.marks[(t.next+len(t.marks)-1-i)%len(t.marks)]
		if m.at <= at {
			offset := time.Duration(at-m.at) * time.Second / audio.CaptureRate
			return m.capture.Add(min(offset, audio.FrameTime))
		}
	}
	return time.Now()
}

// shrink makes a pipe small, so that a child that is behind is seen to be.
func shrink(w io.Writer) {
	pipe, ok := w.(*os.File)
	if !ok {
		return
	}
	conn, err := pipe.SyscallConn()
	if err != nil {
		return
	}
	_ = conn.Control(func(fd uintptr) { _, _ = unix.FcntlInt(fd, unix.F_SETPIPE_SZ, pipeSize) })
}

// watchCPU measures the child until ctx ends.
func watchCPU(ctx context.Context, pid int, ear *ear) {
	beat := time.NewTicker(cpuTime)
	defer beat.Stop()
	last, at := cpuUsed(pid), time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-beat.C:
			used := cpuUsed(pid)
			percent := 100 * float64(used-last) / float64(now.Sub(at))
			ear.listener.update(func(s *Status) { s.CPU = float64(int(10*percent+0.5)) / 10 })
			last, at = used, now
		}
	}
}

// cpuUsed is the processor time of a process so far, proc_pid_stat(5). The
// kernel counts it in USER_HZ, which is 100 on all that Debian runs on.
func cpuUsed(pid int) time.Duration {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.ParseInt(string(fields[11]), 10, 64)
	system, _ := strconv.ParseInt(string(fields[12]), 10, 64)
	return time.Duration(user+system) * 10 * time.Millisecond
}

// complaint keeps the last error of all that pocketsphinx logs.
type complaint struct {
	mu   sync.Mutex
	line []byte // unfinished
	last string
}

func (c *complaint) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for part := range bytes.Lines(b) {
		c.line = append(c.line, part[:min(len(part), 300)]...)
		if !bytes.HasSuffix(part, []byte("\n")) {
			c.line = c.line[:min(len(c.line), 300)]
			continue
		}
		text := strings.ToValidUTF8(strings.TrimSpace(string(c.line[:min(len(c.line), 300)])), "?")
		if strings.HasPrefix(text, "ERROR") || strings.HasPrefix(text, "FATAL") {
			c.last = text
		}
		c.line = c.line[:0]
	}
	return len(b), nil
}

func (c *complaint) text() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last
}
