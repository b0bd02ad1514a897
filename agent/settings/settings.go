// Package settings owns what users and platforms may set: how loud the device
// is, which language it speaks, whether its microphone is closed. It applies a
// setting, keeps it over restarts, and tells who follows that it has changed.
//
// What must not live here: who may set what (behaviors, gpio), and what a
// platform is told of it (links).
package settings

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"sync"

	"lintod/agent/base/state"
)

// Loudness is what sets the volume, in percent. Its methods do not block.
type Loudness interface {
	SetVolume(percent int)
	Volume() int
}

// Settings are the present ones. Its exported fields are set before use; its
// methods may be called from any goroutine.
type Settings struct {
	Store    *state.Store
	Loudness Loudness
	// Find returns the language of speech that a tag stands for, or says that it is
	// not spoken.
	Find func(tag string) (string, error)
	// Mute closes or opens the microphone for real. It returns when that is so.
	Mute func(ctx context.Context, muted bool) error
	// Muted, if set, is called when the microphone was open and is closed now, or the
	// other way round.
	Muted func(muted bool)
	Log   *slog.Logger

	one       sync.Once
	muting    chan struct{} // holds a token while the microphone is being closed or opened
	volume    sync.Mutex    // held while the volume is changed by what it was
	before    int           // the loudness before the loudspeaker was turned off; volume guards it
	mu        sync.Mutex
	followers []func()
}

// Values are the settings at one moment.
type Values struct {
	Volume      int    // percent, now
	StartVolume int    // percent, after a restart
	Language    string // of speech: "fr-FR"
	Muted       bool   // the microphone is closed
}

// Get returns the present values. It does not wait for the disk.
func (s *Settings) Get() Values {
	saved := s.Store.Get()
	return Values{Volume: s.Loudness.Volume(), StartVolume: saved.Volume, Language: saved.Language, Muted: saved.Muted}
}

// Follow has changed called after each change of a setting. It must not block.
func (s *Settings) Follow(changed func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.followers = append(s.followers, changed)
}

func (s *Settings) changed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.followers {
		f()
	}
}

// SetMuted closes or opens the microphone and remembers it. It returns when that
// is so, also where it cannot be saved; of two at once, the later one counts.
func (s *Settings) SetMuted(ctx context.Context, muted bool) error {
	s.one.Do(func() { s.muting = make(chan struct{}, 1) })
	select {
	case s.muting <- struct{}{}:
		defer func() { <-s.muting }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if err := s.Mute(ctx, muted); err != nil {
		return err
	}
	if muted != s.Store.Get().Muted && s.Muted != nil { // platforms repeat themselves
		s.Muted(muted)
	}
	if err := s.keep(func(saved *state.Saved) { saved.Muted = muted }); err != nil {
		s.Log.Warn("mute", "error", err) // it is done all the same
	}
	return nil
}

// ToggleMuted closes an open microphone, and opens a closed one, as SetMuted does.
func (s *Settings) ToggleMuted(ctx context.Context) error { return s.SetMuted(ctx, !s.Get().Muted) }

// SetVolume sets the loudness now, in percent, until the next start.
func (s *Settings) SetVolume(percent int) {
	s.Loudness.SetVolume(percent)
	s.changed()
}

// SetSilent turns the loudspeaker off, or restores the loudness from before.
func (s *Settings) SetSilent(silent bool) {
	s.volume.Lock()
	defer s.volume.Unlock()
	switch now := s.Loudness.Volume(); {
	case silent && now > 0:
		s.before = now
		s.SetVolume(0)
	case !silent && now == 0:
		s.SetVolume(cmp.Or(s.before, s.Store.Get().Volume))
	}
}

// KeepVolume sets the loudness that the device starts with, in percent.
func (s *Settings) KeepVolume(percent int) error {
	return s.keep(func(saved *state.Saved) { saved.Volume = percent })
}

// ChangeVolume makes the device louder, or softer, by so many percent, now and
// after a restart.
func (s *Settings) ChangeVolume(by int) error {
	s.volume.Lock()
	defer s.volume.Unlock()
	percent := max(0, min(s.Loudness.Volume()+by, 100))
	s.Loudness.SetVolume(percent)
	return s.KeepVolume(percent)
}

// SetLanguage sets the language of speech. It refuses one that is not spoken.
func (s *Settings) SetLanguage(tag string) error {
	tag, err := s.Find(tag)
	if err != nil {
		return err
	}
	return s.keep(func(saved *state.Saved) { saved.Language = tag })
}

// CheckLanguage puts the configured language in the place of a saved one that
// the engine, which may be another by now, does not speak.
func (s *Settings) CheckLanguage(configured string) {
	saved := s.Store.Get().Language
	speaks, err := s.Find(saved)
	if err != nil {
		s.Log.Warn("the saved language is not available; using the configured one", "error", err, "language", configured)
		speaks = configured
	}
	if speaks == saved {
		return
	}
	if err := s.keep(func(saved *state.Saved) { saved.Language = speaks }); err != nil {
		s.Log.Warn("language", "error", err)
	}
}

// keep sets what survives a restart. When it fails because it cannot be saved,
// the setting holds until the next start.
func (s *Settings) keep(change func(*state.Saved)) error {
	err := s.Store.Update(change)
	s.changed()
	if err != nil {
		return fmt.Errorf("the setting is not saved and is lost at the next start: %w", err)
	}
	return nil
}
