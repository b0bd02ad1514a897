package settings

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"lintod/agent/base/state"
)

type loudness struct{ atomic.Int32 }

func (l *loudness) SetVolume(percent int) { l.Store(int32(percent)) }
func (l *loudness) Volume() int           { return int(l.Load()) }

// microphone is one that can be closed.
type microphone struct {
	mu     sync.Mutex
	muted  bool
	inside int
	most   int // that closed or opened it at once
	fails  error
}

func (m *microphone) mute(_ context.Context, muted bool) error {
	m.mu.Lock()
	m.inside++
	m.most = max(m.most, m.inside)
	m.mu.Unlock()
	defer func() { m.mu.Lock(); m.inside--; m.mu.Unlock() }()
	if m.fails == nil {
		m.mu.Lock()
		m.muted = muted
		m.mu.Unlock()
	}
	return m.fails
}

func open(t *testing.T, dir string) (*Settings, *microphone, *atomic.Int32) {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	store, err := state.Open(dir, state.Saved{Volume: 80, Language: "en-US"}, log)
	if err != nil {
		t.Log(err)
	}
	mic, told := &microphone{}, &atomic.Int32{}
	s := &Settings{Store: store, Loudness: &loudness{}, Mute: mic.mute, Log: log, Find: func(tag string) (string, error) {
		if tag == "tlh" {
			return "", errors.New("not spoken")
		}
		return tag, nil
	}}
	s.SetVolume(80)
	s.Follow(func() { told.Add(1) })
	return s, mic, told
}

// Who follows is told of each change, whoever makes it, and finds the new value.
func TestWhoFollowsIsTold(t *testing.T) {
	dir := t.TempDir()
	s, mic, told := open(t, dir)
	var last Values
	s.Follow(func() { last = s.Get() })
	for i, c := range []struct {
		change func() error
		want   Values
	}{
		{func() error { s.SetVolume(30); return nil }, Values{30, 80, "en-US", false}},
		{func() error { return s.KeepVolume(40) }, Values{30, 40, "en-US", false}},
		{func() error { return s.ChangeVolume(-50) }, Values{0, 0, "en-US", false}},
		{func() error { return s.ChangeVolume(10) }, Values{10, 10, "en-US", false}},
		{func() error { return s.SetLanguage("fr-FR") }, Values{10, 10, "fr-FR", false}},
		{func() error { return s.SetMuted(t.Context(), true) }, Values{10, 10, "fr-FR", true}},
	} {
		before := told.Load()
		if err := c.change(); err != nil {
			t.Fatal(err)
		}
		if told.Load() == before || last != c.want {
			t.Errorf("change %d: told %d times of %+v, want %+v", i, told.Load()-before, last, c.want)
		}
	}
	if !mic.muted {
		t.Error("the microphone is open")
	}
	before := told.Load()
	if s.SetLanguage("tlh") == nil || told.Load() != before {
		t.Error("a language that is not spoken is set, or told of")
	}
	if err := s.Store.Flush(); err != nil {
		t.Fatal(err)
	}
	again, _, _ := open(t, dir)
	if got := again.Get(); got != (Values{80, 10, "fr-FR", true}) { // the loudness is the agent's to set
		t.Errorf("after a restart: %+v", got)
	}
}

// A setting that cannot be saved is in force, who follows is told, and so is who
// asked.
func TestUnsavedIsReportedToWhoAsked(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s, mic, told := open(t, dir)
	if s.KeepVolume(11) == nil || s.SetLanguage("fr-FR") == nil || s.ChangeVolume(5) == nil {
		t.Error("a setting that is not saved is not reported")
	}
	if err := s.SetMuted(t.Context(), true); err != nil || !mic.muted {
		t.Errorf("the microphone is not closed without a disk: %v", err)
	}
	if got := s.Get(); told.Load() < 4 || got != (Values{85, 85, "fr-FR", true}) {
		t.Errorf("told %d times, %+v", told.Load(), got)
	}
}

// A microphone that cannot be closed does not count as closed.
func TestFailedMuteChangesNothing(t *testing.T) {
	s, mic, told := open(t, t.TempDir())
	mic.fails = errors.New("stuck")
	if err := s.SetMuted(t.Context(), true); !errors.Is(err, mic.fails) || s.Get().Muted || told.Load() != 0 {
		t.Errorf("%v, %+v", err, s.Get())
	}
}

// Buttons and platforms set at once: what is remembered is what the microphone
// does, and no step of the volume is lost.
func TestManyAtOnce(t *testing.T) {
	s, mic, _ := open(t, t.TempDir())
	s.SetVolume(0)
	var all sync.WaitGroup
	for i := range 50 {
		all.Go(func() { _ = s.SetMuted(t.Context(), i%2 == 0) })
		all.Go(func() { _ = s.ChangeVolume(1) })
	}
	all.Wait()
	if mic.most != 1 || mic.muted != s.Get().Muted {
		t.Errorf("%d at once; the microphone is muted: %v, remembered: %v", mic.most, mic.muted, s.Get().Muted)
	}
	if got := s.Get(); got.Volume != 50 || got.StartVolume != 50 {
		t.Errorf("%+v after 50 steps", got)
	}
}
