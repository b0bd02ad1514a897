// Package tts makes sound of text with an engine that runs as a child process,
// one for each text: espeak-ng, or a program that the owner names.
//
// What must not live here: playing (player), and what is worth saying.
package tts

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"

	"lintod/agent/process"
	"lintod/audio"
)

// ErrNothing is returned for a text without anything to pronounce.
var ErrNothing = errors.New("there is nothing to say in the text")

// UnsupportedError is returned for a language that no voice is known for.
type UnsupportedError struct{ Language string }

func (e *UnsupportedError) Error() string {
	return fmt.Sprintf("language %q is not supported; want one of %s", e.Language, strings.Join(Languages(), ", "))
}

// Speaker speaks. It may be used by several goroutines.
type Speaker struct {
	Config Config
	Log    *slog.Logger
}

// Speak starts the engine on text and returns as soon as the sound begins, or
// with the reason why it does not. An empty lang is Config.Language; a text of
// more than 5,000 bytes is cut at the end of a sentence.
//
// ctx governs the sound to its end: when it ends, the engine is killed and Read
// fails with the cause. So it does when the engine hangs or crashes. The
// caller must Close the sound.
func (s *Speaker) Speak(ctx context.Context, text, lang string) (audio.Sound, error) {
	argv, err := s.argv(lang)
	if err != nil {
		return nil, err
	}
	text, cut := clean(text)
	if !speakable(text) {
		return nil, ErrNothing
	}
	if cut {
		s.Log.Warn("text is too long to be said, cutting it", "limit", maxText)
	}
	// The text goes through a pipe: an argument could be read by any process.
	snd, err := start(ctx, s.Config, process.Command{Argv: argv, Stdin: strings.NewReader(text)})
	if errors.Is(err, fs.ErrNotExist) && s.Config.Engine == EngineEspeak {
		return nil, fmt.Errorf("espeak-ng is not installed (apt install espeak-ng): %w", err)
	}
	if err != nil {
		return nil, fmt.Errorf("speak with %s: %w", argv[0], err)
	}
	return snd, nil
}

func (s *Speaker) argv(lang string) ([]string, error) {
	if lang == "" {
		lang = s.Config.Language
	}
	l, err := find(lang)
	if err != nil {
		return nil, err
	}
	if s.Config.Engine == EngineEspeak {
		return []string{"espeak-ng", "-v", l.voice, "-b", "1", "--stdin", "--stdout"}, nil // -b 1: UTF-8
	}
	var argv []string
	for _, a := range s.Config.Command {
		argv = append(argv, strings.ReplaceAll(a, "{language}", l.tag))
	}
	return argv, nil
}
