package wake

import (
	"bufio"
	"bytes"
	"context"
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

	"lintod/agent/base/process"
)

const (
	program      = "pocketsphinx_continuous"
	englishModel = "/usr/share/pocketsphinx/model/en-us"

	// startLimit is how long pocketsphinx may take to load its model, takeLimit how long it may
	// then accept no sound.
	startLimit = 30 * time.Second
	takeLimit  = 5 * time.Second
	// endLimit is how long it may take to exit.
	endLimit = time.Second
)

var (
	errEnded      = errors.New("pocketsphinx exited")
	errDictionary = errors.New("is not in its English dictionary")
)

// pocketsphinx is the engine that needs only a Debian package.
type pocketsphinx struct {
	words   []Word
	program string
	model   string // directory of the acoustic model and the dictionary

	startLimit, takeLimit time.Duration
}

func (p *pocketsphinx) run(ctx context.Context, mic *capture) error {
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
	err = p.serve(ctx, child, phrases, mic)
	if text := said.text(); text != "" {
		err = fmt.Errorf("%w: %s", err, text)
	}
	return err
}

// serve sends sound to the child and reads its detections, until either ends.
func (p *pocketsphinx) serve(ctx context.Context, child *process.Child, phrases map[string]Word, mic *capture) error {
	feeding, stop := context.WithCancel(ctx)
	defer stop()
	input := &sphinxInput{to: child.Stdin, mic: mic, startLimit: p.startLimit, takeLimit: p.takeLimit}
	var others sync.WaitGroup
	others.Go(func() {
		defer stop()
		p.find(child.Stdout, phrases, input)
	})
	others.Go(func() { watchCPU(feeding, child, mic) })
	err := input.play(feeding)
	hangs := feeding.Err() == nil && errors.Is(err, os.ErrDeadlineExceeded)
	child.Stdin.Close()
	stop()
	defer time.AfterFunc(endLimit, child.Kill).Stop()
	others.Wait()
	switch waited := child.Wait(); {
	case ctx.Err() != nil || hangs:
		return err
	case waited != nil: // more informative than a broken pipe
		return waited
	}
	return errEnded
}

// find reads detections until pocketsphinx exits: "hey computer 0.840 1.680 0.891533", the phrase,
// its start and end in seconds of the input, and the confidence. Other lines are ignored.
func (p *pocketsphinx) find(out io.Reader, phrases map[string]Word, input *sphinxInput) {
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		phrase, over, score, ok := parse(lines.Text())
		if word, known := phrases[phrase]; ok && known {
			input.mic.heard(word, score, input.when(over))
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

// complaint keeps the last error that pocketsphinx logs.
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
