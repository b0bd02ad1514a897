// Package speech is the speech recognition and the answers of lintosim's platforms: pocketsphinx
// recognises words, and a few sentences have an answer.
//
// Protocols do not belong here. Of the device's code, it uses only the process starter.
package speech

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"lintod/agent/base/process"
)

const (
	// Rate is the sample rate of the acoustic model, in Hz.
	Rate = 16000
	// recogniseLimit is far more than pocketsphinx takes for the longest utterance.
	recogniseLimit = 30 * time.Second
	// margin of silence around an utterance, for the recogniser's voice detector.
	margin = 300 * time.Millisecond
	// A sentence of the grammar is accepted if its words cover this fraction of the sound, because
	// the grammar matches some sentence to any sound.
	minCoverage = 0.5
)

// Rules of the grammar: what an utterance can be.
const (
	Opening  = "opening"
	Answer   = "answer" // to a question of the dialogue
	Anything = "anything"
)

//go:embed speech.jsgf
var grammar string

// Grammar contains all sentences that can be recognised, in JSGF.
func Grammar() string { return grammar }

// By is how an utterance was recognised.
type By string

// How an utterance can be recognised.
const (
	ByPocketsphinx By = "pocketsphinx"
	ByLevel        By = "level" // not recognised: only its length and level are known
	ByScript       By = "script"
)

// Heard is the result of recognising an utterance.
type Heard struct {
	Text   string // empty if nothing was recognised
	Words  []Word
	By     By
	Length time.Duration
	Level  float64 // dB below full scale
	Took   time.Duration
}

// Word is one recognised word; times are seconds from the start of the sound.
type Word struct {
	Word  string  `json:"word"`
	Start float64 `json:"start"`
	End   float64 `json:"end"`
	Conf  float64 `json:"conf"`
}

// Recogniser converts speech to text.
type Recogniser struct {
	script  Script
	grammar string        // file name
	slots   chan struct{} // one for each running child
}

// Script replaces pocketsphinx in tests. It must be safe for concurrent use; fs.ErrNotExist means
// that there is no recogniser.
type Script func(ctx context.Context, pcm []int16, rate int) (string, error)

// NewRecogniser returns a recogniser that uses script or, if that is nil, pocketsphinx. Open and
// Close must be called.
func NewRecogniser(script Script) *Recogniser {
	return &Recogniser{script: script, slots: make(chan struct{}, runtime.NumCPU())}
}

// Open writes the grammar to a temporary file, which Close removes.
func (s *Recogniser) Open() error {
	f, err := os.CreateTemp("", "lintosim-*.jsgf")
	if err != nil {
		return fmt.Errorf("write the grammar for pocketsphinx: %w", err)
	}
	s.grammar = f.Name()
	_, err = f.WriteString(grammar)
	return errors.Join(err, f.Close())
}

// Close removes the grammar.
func (s *Recogniser) Close() error {
	if s.grammar == "" {
		return nil
	}
	if err := os.Remove(s.grammar); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Hear recognises pcm, at Rate, as a sentence of rule. It blocks for the recogniser.
func (s *Recogniser) Hear(ctx context.Context, pcm []int16, rule string) (Heard, error) {
	h := Heard{By: ByPocketsphinx, Length: Duration(len(pcm), Rate), Level: Level(pcm)}
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	case <-ctx.Done():
		return h, context.Cause(ctx)
	}
	begun := time.Now()
	var err error
	if s.script != nil {
		h.By = ByScript
		h.Text, err = s.script(ctx, pcm, Rate)
	} else {
		h.Words, err = s.pocketsphinx(ctx, pcm, rule)
		h.Text = sentence(h.Words)
	}
	if errors.Is(err, fs.ErrNotExist) {
		h.By, err = ByLevel, nil
	}
	h.Took = time.Since(begun)
	return h, err
}

// pocketsphinx runs Debian's pocketsphinx_continuous (0.8+5prealpha) with its default US English
// model. It fails with fs.ErrNotExist if that is not installed.
func (s *Recogniser) pocketsphinx(ctx context.Context, pcm []int16, rule string) ([]Word, error) {
	ctx, cancel := context.WithTimeout(ctx, recogniseLimit)
	defer cancel()
	child, err := process.Start(ctx, process.Command{
		Argv: []string{
			"pocketsphinx_continuous", "-infile", "/dev/stdin", "-jsgf", s.grammar,
			"-toprule", "lintosim." + rule, "-time", "yes", "-logfn", "/dev/null",
		},
		Stdin: bytes.NewReader(raw(pcm)),
	})
	if err != nil {
		return nil, err
	}
	out, readErr := io.ReadAll(io.LimitReader(child.Stdout, 64<<10))
	if readErr != nil {
		child.Kill()
	}
	if err := errors.Join(child.Wait(), readErr); err != nil {
		return nil, fmt.Errorf("recognise with pocketsphinx; is pocketsphinx-en-us installed? %w", err)
	}
	words := parseWords(string(out))
	if !believable(words, pcm) {
		return nil, nil
	}
	return words, nil
}

// raw returns pcm as little-endian bytes between two margins of silence.
func raw(pcm []int16) []byte {
	pad := make([]byte, 2*Rate*margin/time.Second)
	b := make([]byte, 0, 2*len(pcm)+2*len(pad))
	b = append(b, pad...)
	for _, s := range pcm {
		b = binary.LittleEndian.AppendUint16(b, uint16(s))
	}
	return append(b, pad...)
}

// parseWords parses lines "volume 0.700 1.140 1.000000"; a line without three numbers is the whole
// sentence, <sil> is a pause, to(3) a variant.
func parseWords(out string) []Word {
	var words []Word
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		if len(f) != 4 || strings.HasPrefix(f[0], "<") {
			continue
		}
		start, err1 := strconv.ParseFloat(f[1], 64)
		end, err2 := strconv.ParseFloat(f[2], 64)
		conf, err3 := strconv.ParseFloat(f[3], 64)
		if errors.Join(err1, err2, err3) != nil {
			continue
		}
		word, _, _ := strings.Cut(f[0], "(")
		words = append(words, Word{word, Hundredths(start - margin.Seconds()), Hundredths(end - margin.Seconds()), conf})
	}
	return words
}

// Hundredths rounds a time to the recogniser's resolution, 10 ms.
func Hundredths(t float64) float64 { return math.Round(100*t) / 100 }

func sentence(words []Word) string {
	text := make([]string, len(words))
	for i, w := range words {
		text[i] = w.Word
	}
	return strings.Join(text, " ")
}

func believable(words []Word, pcm []int16) bool {
	var spoken float64
	for _, w := range words {
		spoken += w.End - w.Start
	}
	return spoken >= minCoverage*Voiced(pcm).Seconds()
}
