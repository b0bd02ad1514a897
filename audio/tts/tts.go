// Package tts makes sound of text with an engine of the owner's choice: a child
// process for each text, or for each of its sentences, or a Wyoming service.
// What is said again comes from memory.
//
// What must not live here: playing (player), and what is worth saying.
package tts

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"

	"lintod/audio"
	"lintod/audio/player"
)

// ErrNothing is returned for a text without anything to pronounce.
var ErrNothing = errors.New("there is nothing to say in the text")

// How an engine fails that has started.
var (
	errHung    = errors.New("the engine hung and was stopped")
	errHungUp  = errors.New("the Wyoming service closed the connection before the end of the sound")
	errNoSound = errors.New("the engine produced no sound")
	errChanged = errors.New("the engine changed its sound format")
	errTooLong = errors.New("the engine produced too much sound")
)

// Speaker speaks. It may be used by several goroutines.
type Speaker struct {
	Config Config
	Log    *slog.Logger

	cache            cache
	spoken, failures atomic.Uint64
}

// Stats are counters since the start.
type Stats struct {
	Texts    uint64 `json:"texts"`       // that were to be spoken
	Cached   uint64 `json:"cached"`      // of them, those that came from memory
	Failures uint64 `json:"failures"`    // texts of which nothing was heard
	Bytes    int    `json:"cache_bytes"` // of memory that the cache takes
}

// Stats returns the counters.
func (s *Speaker) Stats() Stats {
	s.cache.mu.Lock()
	defer s.cache.mu.Unlock()
	return Stats{s.spoken.Load(), s.cache.hits, s.failures.Load(), s.cache.bytes}
}

// errCut is returned for a text of which Speak speaks the beginning alone.
var errCut = fmt.Errorf("the text is too long: only its first %d bytes are spoken", maxText)

// Check returns an error when text is longer than what Speak speaks at once.
func (s *Speaker) Check(text string) error {
	if _, cut := prepare(text, s.Config.Markdown, s.Config.engine().notation); cut {
		return errCut
	}
	return nil
}

// Speak starts the engine on text and returns as soon as the sound begins, or
// with the reason why it does not. An empty lang is Config.Language; a text of
// more than 5,000 bytes is cut at the end of a sentence. SSML and [[phonemes]]
// are for the engines that know them; of others nobody hears the markup.
//
// ctx governs the sound to its end: when it ends, the engine is stopped and Read
// fails with the cause. So it does when the engine hangs or crashes. The
// caller must Close the sound.
func (s *Speaker) Speak(ctx context.Context, text, lang string) (audio.Sound, error) {
	return s.SpeakAs(ctx, text, lang, "")
}

// SpeakAs is Speak in another voice than that of the language: name is what the engine
// calls it, "" for the usual one. It must not begin with a dash.
func (s *Speaker) SpeakAs(ctx context.Context, text, lang, name string) (audio.Sound, error) {
	s.spoken.Add(1)
	snd, err := s.speak(ctx, text, lang, name)
	if err != nil && ctx.Err() == nil {
		s.failures.Add(1)
	}
	return snd, err
}

func (s *Speaker) speak(ctx context.Context, text, lang, name string) (audio.Sound, error) {
	if lang == "" {
		lang = s.Config.Language
	}
	v, err := s.Config.find(lang)
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(name, "-") {
		return nil, fmt.Errorf("voice %.40q looks like an option of %s", name, s.Config.Engine)
	}
	v.name = cmp.Or(name, v.name)
	e := s.Config.engine()
	text, cut := prepare(text, s.Config.Markdown, e.notation)
	if !speakable(text) {
		return nil, ErrNothing
	}
	if cut {
		s.Log.Warn("text too long; truncating it", "limit", maxText)
	}
	key := spoken{v.language, v.name, text}
	if pcm, rate, ok := s.cache.get(key); ok {
		return player.PCM(pcm, rate), nil
	}
	pieces := []string{text}
	if !e.streams {
		pieces = sentences(text)
	}
	keep := &kept{cache: &s.cache, key: key, limit: int(s.Config.Cache)}
	snd, err := start(ctx, s.Config.Timeout.Std(), pieces, keep, func(ctx context.Context, piece string) (source, error) {
		return e.begin(ctx, v, piece)
	})
	if err != nil {
		return nil, fmt.Errorf("speak with %s: %w", s.Config.Engine, err)
	}
	return snd, nil
}
