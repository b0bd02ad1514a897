package turn

import (
	"slices"
	"testing"
)

func TestMachine(t *testing.T) {
	clear := Flags{}
	muted, deaf, away := Flags{Muted: true}, Flags{Deaf: true}, Flags{Offline: true}
	tests := []struct {
		name  string
		flags Flags
		from  State
		event Event
		to    State
		do    []Effect
	}{
		{"stop while idle ends announcements", clear, Idle, Stop, Idle, []Effect{Hush}},
		{"a tap opens a turn", clear, Idle, Tap, Listening, []Effect{Listen}},
		{"a held button opens a turn", clear, Idle, Press, Listening, []Effect{ListenHeld}},
		{"the second tap says that was all", clear, Listening, Tap, Thinking, []Effect{EndSpeech}},
		{"pressing again says that was all", clear, Listening, Press, Thinking, []Effect{EndSpeech}},
		{"a press that was a tap goes on until silence", clear, Listening, LetGo, Listening, []Effect{Unhold}},
		{"the end of the second tap says nothing more", clear, Thinking, LetGo, Thinking, nil},
		{"letting go says that was all", clear, Listening, Release, Thinking, []Effect{EndSpeech}},
		{"silence after speech says that was all", clear, Listening, Finished, Thinking, []Effect{EndSpeech}},
		{"the platform may say that was all", clear, Listening, Answered, Speaking, []Effect{EndSpeech, Speak}},
		{"the platform may have nothing to say at once", clear, Listening, Silent, Idle, []Effect{Drop}},
		{"nobody spoke", clear, Listening, Nothing, Idle, []Effect{Drop, CueNothing}},
		{"the link fails while listening", clear, Listening, Failed, Idle, []Effect{Drop, CueError}},
		{"stop while listening", clear, Listening, Stop, Idle, []Effect{Drop, Hush}},
		{"mute while listening", clear, Listening, Muted, Idle, []Effect{Drop}},
		{"the microphone dies while listening", clear, Listening, WentDeaf, Idle, []Effect{Drop, CueError}},
		{"listening for ever", clear, Listening, TimedOut, Idle, []Effect{Drop, CueError}},

		{"a trigger by mistake is forgiven", clear, Thinking, TooShort, Idle, []Effect{Drop, CueNothing}},
		{"the answer is spoken", clear, Thinking, Answered, Speaking, []Effect{Speak}},
		{"the answer is empty", clear, Thinking, Silent, Idle, []Effect{Drop}},
		{"no answer", clear, Thinking, Failed, Idle, []Effect{Drop, CueError}},
		{"thinking for ever", clear, Thinking, TimedOut, Idle, []Effect{Drop, CueError}},
		{"stop while thinking", clear, Thinking, Stop, Idle, []Effect{Drop, Hush}},
		{"a tap while thinking asks anew", clear, Thinking, Tap, Listening, []Effect{Drop, Listen}},
		{"a press while thinking asks anew", clear, Thinking, Press, Listening, []Effect{Drop, ListenHeld}},
		{"mute while thinking lets the answer come", clear, Thinking, Muted, Thinking, nil},

		{"the answer has been spoken", clear, Speaking, Spoken, Idle, []Effect{Drop}},
		{"the question has been spoken", clear, Speaking, SpokenAsk, Listening, []Effect{Drop, Listen}},
		{"the speech fails", clear, Speaking, Failed, Idle, []Effect{Drop, CueError}},
		{"speaking for ever", clear, Speaking, TimedOut, Idle, []Effect{Drop, CueError}},
		{"stop while speaking", clear, Speaking, Stop, Idle, []Effect{Drop, Hush}},
		{"barge-in by a tap", clear, Speaking, Tap, Listening, []Effect{Drop, Listen}},
		{"barge-in by a press", clear, Speaking, Press, Listening, []Effect{Drop, ListenHeld}},
		{"mute while speaking lets it end", clear, Speaking, Muted, Speaking, nil},

		{"a written question", clear, Idle, Ask, Thinking, []Effect{Send}},
		{"a written question needs no microphone", muted, Idle, Ask, Thinking, []Effect{Send}},
		{"a written question interrupts the speech", clear, Speaking, Ask, Thinking, []Effect{Drop, Send}},
		{"a written question does not cut off the listener", clear, Listening, Ask, Listening, nil},
		{"one question at a time", clear, Thinking, Ask, Thinking, nil},

		{"a wake word opens a turn", clear, Idle, Wake, Listening, []Effect{Listen}},
		{"a wake word within a request is part of it", clear, Listening, Wake, Listening, nil},
		{"a wake word while thinking asks anew", clear, Thinking, Wake, Listening, []Effect{Drop, Listen}},
		{"barge-in by a wake word", clear, Speaking, Wake, Listening, []Effect{Drop, Listen}},
		{"a wake word while offline", away, Idle, Wake, Idle, []Effect{Hush, CueError}},
		{"a wake word that was on its way while muted", muted, Idle, Wake, Idle, []Effect{Hush, CueMuted}},

		{"a tap while muted", muted, Idle, Tap, Idle, []Effect{Hush, CueMuted}},
		{"a press while muted", muted, Idle, Press, Idle, []Effect{Hush, CueMuted}},
		{"a tap while deaf", deaf, Idle, Tap, Idle, []Effect{Hush, CueError}},
		{"a tap while offline", away, Idle, Tap, Idle, []Effect{Hush, CueError}},
		{"a tap while thinking and muted", muted, Thinking, Tap, Thinking, []Effect{CueMuted}},
		{"a tap while thinking and deaf", deaf, Thinking, Tap, Thinking, []Effect{CueError}},
		{"a tap while thinking and offline", away, Thinking, Tap, Thinking, []Effect{CueError}},
		{"a tap while speaking and muted is quiet", muted, Speaking, Tap, Idle, []Effect{Drop, CueMuted}},
		{"a tap while speaking and deaf is quiet", deaf, Speaking, Press, Idle, []Effect{Drop, CueError}},
		{"a tap while speaking and offline is quiet", away, Speaking, Tap, Idle, []Effect{Drop, CueError}},
		{"a question while muted is not waited for", muted, Speaking, SpokenAsk, Idle, []Effect{Drop}},
		{"a question while offline is not waited for", away, Speaking, SpokenAsk, Idle, []Effect{Drop}},
		{"offline while listening: the utterance may still arrive", clear, Listening, WentOffline, Listening, nil},
		{"the second tap while offline ends the speech", away, Listening, Tap, Thinking, []Effect{EndSpeech}},
	}
	covered := map[when]bool{}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, do := Next(Snapshot{tt.from, tt.flags}, tt.event)
			if got.State != tt.to || !slices.Equal(do, tt.do) {
				t.Errorf("%s with %v, want %s with %v",
					describe(tt.from, tt.event, got.State), do, describe(tt.from, tt.event, tt.to), tt.do)
			}
		})
		covered[when{tt.from, tt.flags.admit(tt.from, tt.event)}] = true
	}
	for row := range table {
		if !covered[row] {
			t.Errorf("no test has the row %v, %v", row.state, row.event)
		}
	}
}

func TestFlagsFollowTheirEvents(t *testing.T) {
	var s Snapshot
	for _, step := range []struct {
		event Event
		want  Flags
	}{
		{Muted, Flags{Muted: true}},
		{WentDeaf, Flags{Muted: true, Deaf: true}},
		{WentOffline, Flags{Muted: true, Deaf: true, Offline: true}},
		{Unmuted, Flags{Deaf: true, Offline: true}},
		{CameOnline, Flags{Deaf: true}},
		{MeetingBegan, Flags{Deaf: true, Meeting: true}},
		{MeetingEnded, Flags{Deaf: true}},
		{Hears, Flags{}},
	} {
		if s, _ = Next(s, step.event); s.Flags != step.want {
			t.Errorf("after %v: %+v, want %+v", step.event, s.Flags, step.want)
		}
	}
}

// TestEveryPair holds what must be true of any row, also of one added later.
func TestEveryPair(t *testing.T) {
	for flags := range 8 {
		f := Flags{Muted: flags&1 != 0, Offline: flags&2 != 0, Deaf: flags&4 != 0}
		for from := Idle; from <= Speaking; from++ {
			for e := Tap; e < numEvents; e++ {
				after, do := Next(Snapshot{from, f}, e)
				has := func(effects ...Effect) bool {
					return slices.ContainsFunc(effects, func(x Effect) bool { return slices.Contains(do, x) })
				}
				step := describe(from, e, after.State)
				listens := has(Listen, ListenHeld)
				if listens && (after.Flags.Muted || after.Flags.Deaf || after.Flags.Offline) {
					t.Errorf("%s opens the microphone with %+v", step, after.Flags)
				}
				if listens != (after.State == Listening && (from != Listening || has(Drop))) {
					t.Errorf("%s: listening without opening the microphone, or the reverse: %v", step, do)
				}
				if from == Listening && after.State != Listening && !has(EndSpeech, Drop) {
					t.Errorf("%s leaves the microphone open", step)
				}
				if from != Idle && after.State == Idle && !has(Drop) {
					t.Errorf("%s forgets to close the turn", step)
				}
				if from == Idle && has(Drop, EndSpeech, Speak) {
					t.Errorf("%s: %v needs a turn", step, do)
				}
				if i := slices.Index(do, Drop); i > 0 {
					t.Errorf("%s: Drop comes after %v", step, do[:i])
				}
				if (e == Stop || e == TimedOut) && after.State != Idle {
					t.Errorf("%s does not end in idle", step)
				}
			}
		}
	}
}
