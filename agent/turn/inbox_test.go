package turn

import (
	"testing"
	"testing/synctest"
)

// Tap returns why it was refused, and respects flags that were set before.
func TestTapReturnsTheRefusal(t *testing.T) {
	play(t, nil, func(s *stage) {
		for _, tt := range []struct {
			name    string
			set     []Event
			refused bool
		}{
			{"without flags", nil, false},
			{"muted", []Event{Muted}, true},
			{"deaf", []Event{Unmuted, WentDeaf}, true},
			{"a microphone of zeros", []Event{WentSilent}, false},
			{"deaf after zeros", []Event{WentDeaf}, true},
			{"recovered", []Event{Hears}, false},
		} {
			for _, e := range tt.set {
				s.Post(e)
			}
			if err := s.Tap(s.Context(), ""); (err != nil) != tt.refused {
				t.Errorf("%s: %v", tt.name, err)
			}
			s.expect(map[bool]State{true: Idle, false: Listening}[tt.refused])
			s.Post(Stop)
			s.expect(Idle)
		}
		s.SetOnline("platform", false)
		if err := s.Tap(s.Context(), ""); err == nil {
			t.Error("offline, and not refused")
		}
		s.SetOnline("platform", true)
		for range 200 { // flags and triggers reach the loop by different queues
			s.SetOnline("platform", false)
			synctest.Wait()
			s.SetOnline("platform", true)
			if err := s.Tap(s.Context(), ""); err != nil {
				t.Fatalf("online, and refused: %v", err)
			}
			s.Post(Stop)
		}
		if err := s.Tap(s.Context(), "nobody"); err == nil {
			t.Error("an unknown link was accepted")
		}
	})
}

// For all pairs of flags, the events of changes lead from the one to the other.
func TestChangesLeadToTheFlags(t *testing.T) {
	var all []Flags
	for i := range 32 {
		f := Flags{Muted: i&1 > 0, Offline: i&2 > 0, Deaf: i&4 > 0, Silent: i&8 > 0, Meeting: i&16 > 0}
		if f.Deaf || !f.Silent {
			all = append(all, f)
		}
	}
	for _, from := range all {
		for _, to := range all {
			got := from
			for _, e := range to.changes(from) {
				got = got.after(e)
			}
			if got != to {
				t.Errorf("from %+v by %v to %+v, want %+v", from, to.changes(from), got, to)
			}
		}
	}
}
