// Package settings owns the settings that users and platforms can change: the
// volume, the language, and whether the microphone is muted. It applies a
// setting, saves it, and notifies followers that it has changed.
//
// What must not live here: who may change what (behaviors, gpio), and what is
// published to platforms (links).
package settings

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"sync"

	"lintod/agent/base/state"
)

// Loudness sets the volume in percent. Its methods do not block.
type Loudness interface {
	SetVolume(percent int)
	Volume() int
}

// Settings are the current settings. Its exported fields are set before use;
// its methods may be called from any goroutine.
type Settings struct {
	Store    *state.Store
	Loudness Loudness
	// Find returns the supported language for a tag, or an error.
	Find func(tag string) (string, error)
	// Mute closes or opens the microphone itself. It returns when that is done.
	Mute func(ctx context.Context, muted bool) error
	// Muted, if set, is called when the microphone was closed or opened.
	Muted func(muted bool)
	Log   *slog.Logger

	one       sync.Once
	muting    chan struct{} // holds a token while the microphone is being closed or opened
	volume    sync.Mutex    // held during relative changes of the volume
	before    int           // the volume before the speaker was silenced; guarded by volume
	mu        sync.Mutex
	followers []func()
}

// Values are the settings at one time.
type Values struct {
	Volume      int    // percent, current
	StartVolume int    // percent, after a restart
	Language    string // for example "fr-FR"
	Muted       bool   // the microphone is closed
}

// Get returns the current values. It does not wait for the disk.
func (s *Settings) Get() Values {
	saved := s.Store.Get()
	return Values{Volume: s.Loudness.Volume(), StartVolume: saved.Volume, Language: saved.Language, Muted: saved.Muted}
}

// Follow calls changed after each change of a setting. changed must not block.
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

// SetMuted closes or opens the microphone and saves that. It returns when that
// is done, even if it cannot be saved; of two concurrent calls, the later one
// counts.
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
	if muted != s.Store.Get().Muted && s.Muted != nil { // platforms repeat commands
		s.Muted(muted)
	}
	if err := s.keep(func(saved *state.Saved) { saved.Muted = muted }); err != nil {
		s.Log.Warn("mute", "error", err) // the microphone was muted nevertheless
	}
	return nil
}

// ToggleMuted closes an open microphone, or opens a closed one, like SetMuted.
func (s *Settings) ToggleMuted(ctx context.Context) error { return s.SetMuted(ctx, !s.Get().Muted) }

// SetVolume sets the current volume in percent, until the next start.
func (s *Settings) SetVolume(percent int) {
	s.Loudness.SetVolume(percent)
	s.changed()
}

// SetSilent silences the speaker, or restores the volume from before.
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

// KeepVolume sets the initial volume of the next start, in percent.
func (s *Settings) KeepVolume(percent int) error {
	return s.keep(func(saved *state.Saved) { saved.Volume = percent })
}

// ChangeVolume changes the volume by the given number of percentage points,
// now and after a restart.
func (s *Settings) ChangeVolume(by int) error {
	s.volume.Lock()
	defer s.volume.Unlock()
	percent := max(0, min(s.Loudness.Volume()+by, 100))
	s.Loudness.SetVolume(percent)
	return s.KeepVolume(percent)
}

// SetLanguage sets the language. It refuses unsupported ones.
func (s *Settings) SetLanguage(tag string) error {
	tag, err := s.Find(tag)
	if err != nil {
		return err
	}
	return s.keep(func(saved *state.Saved) { saved.Language = tag })
}

// CheckLanguage replaces a saved language by the configured one if the
// engine, which may have changed, does not support it.
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

// keep changes settings that survive a restart. If it fails because they
// cannot be saved, they apply until the next start.
func (s *Settings) keep(change func(*state.Saved)) error {
	err := s.Store.Update(change)
	s.changed()
	if err != nil {
		return fmt.Errorf("the setting was not saved and will be lost at the next start: %w", err)
	}
	return nil
}
