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

// microphone is a microphone that can be muted.
type microphone struct {
	mu     sync.Mutex
	muted  bool
	inside int
	most   int // maximum number of concurrent calls
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
	mic, notified := &microphone{}, &atomic.Int32{}
	s := &Settings{Store: store, Loudness: &loudness{}, Mute: mic.mute, Log: log, Find: func(tag string) (string, error) {
		if tag == "tlh" {
			return "", errors.New("not spoken")
		}
		return tag, nil
	}}
	s.SetVolume(80)
	s.Follow(func() { notified.Add(1) })
	return s, mic, notified
}

// Followers are notified of each change from any source, and get the new value.
func TestFollowersAreNotified(t *testing.T) {
	dir := t.TempDir()
	s, mic, notified := open(t, dir)
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
		before := notified.Load()
		if err := c.change(); err != nil {
			t.Fatal(err)
		}
		if notified.Load() == before || last != c.want {
			t.Errorf("change %d: notified %d times with %+v, want %+v", i, notified.Load()-before, last, c.want)
		}
	}
	if !mic.muted {
		t.Error("the microphone is open")
	}
	before := notified.Load()
	if s.SetLanguage("tlh") == nil || notified.Load() != before {
		t.Error("an unsupported language was set, or followers were notified")
	}
	if err := s.Store.Flush(); err != nil {
		t.Fatal(err)
	}
	again, _, _ := open(t, dir)
	if got := again.Get(); got != (Values{80, 10, "fr-FR", true}) { // the agent sets the volume
		t.Errorf("after a restart: %+v", got)
	}
}

// A setting that cannot be saved is applied, followers are notified, and the
// caller gets an error.
func TestUnsavedSettingIsReportedToTheCaller(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s, mic, notified := open(t, dir)
	if s.KeepVolume(11) == nil || s.SetLanguage("fr-FR") == nil || s.ChangeVolume(5) == nil {
		t.Error("an unsaved setting is not reported")
	}
	if err := s.SetMuted(t.Context(), true); err != nil || !mic.muted {
		t.Errorf("the microphone is not closed without a disk: %v", err)
	}
	if got := s.Get(); notified.Load() < 4 || got != (Values{85, 85, "fr-FR", true}) {
		t.Errorf("notified %d times, %+v", notified.Load(), got)
	}
}

// If the microphone cannot be closed, it does not count as muted.
func TestFailedMuteChangesNothing(t *testing.T) {
	s, mic, notified := open(t, t.TempDir())
	mic.fails = errors.New("stuck")
	if err := s.SetMuted(t.Context(), true); !errors.Is(err, mic.fails) || s.Get().Muted || notified.Load() != 0 {
		t.Errorf("%v, %+v", err, s.Get())
	}
}

// Concurrent changes by buttons and platforms: the saved state is that of the
// microphone, and no step of the volume is lost.
func TestConcurrentChanges(t *testing.T) {
	s, mic, _ := open(t, t.TempDir())
	s.SetVolume(0)
	var all sync.WaitGroup
	for i := range 50 {
		all.Go(func() { _ = s.SetMuted(t.Context(), i%2 == 0) })
		all.Go(func() { _ = s.ChangeVolume(1) })
	}
	all.Wait()
	if mic.most != 1 || mic.muted != s.Get().Muted {
		t.Errorf("%d concurrent calls; the microphone is muted: %v, remembered: %v", mic.most, mic.muted, s.Get().Muted)
	}
	if got := s.Get(); got.Volume != 50 || got.StartVolume != 50 {
		t.Errorf("%+v after 50 steps", got)
	}
}
