package turn

import (
	"testing"
	"testing/synctest"
)

// Who taps is told why nothing came of it; a flag that was set before is known.
func TestTapTellsItsVerdict(t *testing.T) {
	play(t, nil, func(s *stage) {
		for _, tt := range []struct {
			name    string
			set     []Event
			refused bool
		}{
			{"as it is", nil, false},
			{"muted", []Event{Muted}, true},
			{"deaf", []Event{Unmuted, WentDeaf}, true},
			{"a microphone of zeros", []Event{WentSilent}, false},
			{"deaf after zeros", []Event{WentDeaf}, true},
			{"well again", []Event{Hears}, false},
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
		for range 200 { // the two reach the loop by different ways
			s.SetOnline("platform", false)
			synctest.Wait()
			s.SetOnline("platform", true)
			if err := s.Tap(s.Context(), ""); err != nil {
				t.Fatalf("online, and refused: %v", err)
			}
			s.Post(Stop)
		}
		if err := s.Tap(s.Context(), "nobody"); err == nil {
			t.Error("a link of that name")
		}
	})
}

// Whatever the flags are and should be, the events lead there.
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
