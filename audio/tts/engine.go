package tts

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"lintod/agent/base/process"
	"lintod/audio/wav"
)

// engine is a speech engine: it creates sources for texts.
type engine struct {
	// streams reports whether the engine outputs the first words of a long text before it has
	// synthesised the last; other engines get one sentence at a time.
	streams bool
	// notation reports whether the engine supports SSML and [[phonemes]].
	notation bool
	// begin starts the synthesis of a text. ctx applies until the end of the source.
	begin func(ctx context.Context, v voice, text string) (source, error)
}

// source is the synthesis of a text.
type source interface {
	// open returns when the format of the sound is known. It is called once.
	open() (*wav.Reader, error)
	// end returns when the engine has ended, with its result. It is called once, after open,
	// whether or not all of the sound was read.
	end() error
}

func (c Config) engine() engine {
	switch c.Engine {
	case EnginePiper:
		return engine{streams: true, begin: c.piper}
	case EnginePico:
		return engine{begin: c.pico}
	case EngineWyoming:
		return engine{begin: c.wyoming}
	case EngineCommand:
		return engine{begin: c.command}
	}
	return engine{streams: true, notation: true, begin: c.espeak}
}

// absent returns how to install a missing program.
func (c Config) absent(err error) error {
	get := map[string]string{
		EngineEspeak: "espeak-ng is not installed (apt install espeak-ng)",
		EnginePiper:  "Piper is not installed; set [tts] command to its program",
		EnginePico:   "pico2wave is not installed (apt install libttspico-utils, from Debian's non-free section)",
	}[c.Engine]
	if get == "" || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return fmt.Errorf("%s: %w", get, err)
}

func (c Config) espeak(ctx context.Context, v voice, text string) (source, error) {
	argv := append(c.program(), "-v", v.name, "-b", "1", "--stdin", "--stdout") // -b 1: UTF-8
	if isSSML(text) {
		argv = append(argv, "-m")
	}
	return c.run(ctx, argv, text, rawFormat{})
}

func (c Config) command(ctx context.Context, v voice, text string) (source, error) {
	fill := strings.NewReplacer("{language}", v.language, "{voice}", v.name)
	var argv []string
	for _, a := range c.Command {
		argv = append(argv, fill.Replace(a))
	}
	return c.run(ctx, argv, text, rawFormat{c.Rate, c.Channels})
}

// piper speaks a line, sentence by sentence, and writes samples without a header: the rate is in
// the model's description.
func (c Config) piper(ctx context.Context, v voice, text string) (source, error) {
	argv := c.program()
	if file, err := process.Find(argv[0]); err == nil && forMice(file) {
		return nil, fmt.Errorf("%s is %w; set [tts] command to the program of Piper, the speech engine", file, errForMice)
	}
	rate, err := modelRate(v.name)
	if err != nil {
		return nil, err
	}
	return c.run(ctx, append(argv, "--model", v.name, "--output-raw"), text+"\n", rawFormat{rate, 1})
}

var errForMice = errors.New("a tool for gaming mice, from Debian's package piper")

// forMice recognises the program of Debian's package piper, a small script with a graphical
// interface.
func forMice(file string) bool {
	f, err := os.Open(file)
	if err != nil {
		return false
	}
	defer f.Close()
	head, _ := io.ReadAll(io.LimitReader(f, 4096))
	return bytes.HasPrefix(head, []byte("#!")) && bytes.Contains(head, []byte("piper.gresource"))
}

// maxDescription is the maximum size of a model's description; real ones have 5 to 10 kB.
const maxDescription = 1 << 20

// modelRate reads the sample rate of a piper voice from MODEL.json.
func modelRate(model string) (int, error) {
	f, err := os.Open(model + ".json")
	if err != nil {
		return 0, fmt.Errorf("read the description of the voice, which must be next to its model: %w", err)
	}
	defer f.Close()
	var d struct {
		Audio struct {
			Rate int `json:"sample_rate"`
		} `json:"audio"`
	}
	if err := json.NewDecoder(io.LimitReader(f, maxDescription)).Decode(&d); err != nil {
		return 0, fmt.Errorf("read the description of the voice %s.json: %w", model, err)
	}
	if d.Audio.Rate < 4000 || d.Audio.Rate > 192000 {
		return 0, fmt.Errorf("%s.json has no audio.sample_rate from 4000 to 192000", model)
	}
	return d.Audio.Rate, nil
}

// pico writes a file whose name must end in .wav, and gets the text as an argument.
func (c Config) pico(ctx context.Context, v voice, text string) (source, error) {
	dir, err := os.MkdirTemp("", "lintod-pico")
	if err != nil {
		return nil, err
	}
	w := &written{path: filepath.Join(dir, "speech.wav")}
	if strings.HasPrefix(text, "-") {
		text = " " + text // otherwise it would be an option
	}
	w.program, err = c.run(ctx, append(c.program(), "-l", v.name, "-w", w.path, text), "", rawFormat{})
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return w, nil
}

// program returns the path of the engine, with the owner's arguments.
func (c Config) program() []string {
	if len(c.Command) > 0 {
		return append([]string(nil), c.Command...)
	}
	return []string{c.Engine}
}

// run starts a program. The text goes through a pipe: an argument could be read
// by any process.
func (c Config) run(ctx context.Context, argv []string, text string, raw rawFormat) (*program, error) {
	child, err := process.Start(ctx, process.Command{Argv: argv, Stdin: strings.NewReader(text)})
	if err != nil {
		return nil, c.absent(err)
	}
	return &program{child, raw}, nil
}

// rawFormat is the format of samples without a header; the zero value means a WAV.
type rawFormat struct{ rate, channels int }

// program is a child process that writes sound to its standard output.
type program struct {
	child *process.Child
	raw   rawFormat
}

func (p *program) open() (*wav.Reader, error) {
	if p.raw.rate != 0 {
		return wav.NewRawReader(p.child.Stdout, p.raw.rate, p.raw.channels), nil
	}
	return wav.NewReader(p.child.Stdout)
}

// maxTrailer is the maximum size of data after the sound, such as tags.
const maxTrailer = 1 << 20

var errEndless = errors.New("the engine continues to write after the sound")

func (p *program) end() error {
	n, _ := io.CopyN(io.Discard, p.child.Stdout, maxTrailer)
	if n < maxTrailer {
		return p.child.Wait()
	}
	p.child.Kill()
	_ = p.child.Wait() // it was killed on purpose
	return errEndless
}

// written is a child process that writes its sound to a file.
type written struct {
	program *program
	path    string
	file    *os.File
}

func (w *written) open() (*wav.Reader, error) {
	err := w.program.end()
	if err != nil {
		return nil, err
	}
	if w.file, err = os.Open(w.path); err != nil {
		return nil, fmt.Errorf("the engine wrote no sound: %w", err)
	}
	return wav.NewReader(w.file)
}

func (w *written) end() error {
	if w.file != nil {
		w.file.Close()
	}
	return os.RemoveAll(filepath.Dir(w.path))
}
