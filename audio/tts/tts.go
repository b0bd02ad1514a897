// Package tts synthesises speech with the configured engine: a child process for each text, or for
// each of its sentences, or a Wyoming service. Repeated texts are played from memory.
//
// Playback (player), and the choice of texts, do not belong here.
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

// Failures of a started engine.
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
	Texts    uint64 `json:"texts"`       // requested texts
	Cached   uint64 `json:"cached"`      // of them, those played from memory
	Failures uint64 `json:"failures"`    // texts that could not be spoken at all
	Bytes    int    `json:"cache_bytes"` // size of the cache
}

// Stats returns the counters.
func (s *Speaker) Stats() Stats {
	s.cache.mu.Lock()
	defer s.cache.mu.Unlock()
	return Stats{s.spoken.Load(), s.cache.hits, s.failures.Load(), s.cache.bytes}
}

// errCut is returned for a text of which Speak speaks only the beginning.
var errCut = fmt.Errorf("the text is too long: only its first %d bytes are spoken", maxText)

// Check returns an error if text exceeds the limit of Speak.
func (s *Speaker) Check(text string) error {
	if _, cut := prepare(text, s.Config.Markdown, s.Config.engine().notation); cut {
		return errCut
	}
	return nil
}

// Speak starts the engine and returns as soon as there is sound, or with an error. An empty lang
// means Config.Language; a text of more than 5,000 bytes is truncated at the end of a sentence.
// SSML and [[phonemes]] are passed to engines that support them; for others the markup is removed.
//
// ctx applies until the end of the sound: when it ends, the engine is stopped and Read fails with
// the cause. Read also fails if the engine hangs or crashes. The caller must Close the sound.
func (s *Speaker) Speak(ctx context.Context, text, lang string) (audio.Sound, error) {
	return s.SpeakAs(ctx, text, lang, "")
}

// SpeakAs is Speak with a given voice: name is the engine's name of the voice, "" for that of the
// language. It must not start with a dash.
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
