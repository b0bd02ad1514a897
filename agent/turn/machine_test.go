package turn

import (
	"slices"
	"testing"
)

func TestMachine(t *testing.T) {
	clear := Flags{}
	muted, deaf, dictating := Flags{Muted: true}, Flags{Deaf: true}, Flags{Dictating: true}
	away := Flags{Offline: true} // as is the link of the trigger
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
		{"the second tap ends the utterance", clear, Listening, Tap, Thinking, []Effect{EndSpeech}},
		{"pressing again ends the utterance", clear, Listening, Press, Thinking, []Effect{EndSpeech}},
		{"after a press that was a tap, silence ends the utterance", clear, Listening, LetGo, Listening, []Effect{Unhold}},
		{"releasing after the second tap has no effect", clear, Thinking, LetGo, Thinking, nil},
		{"releasing the button ends the utterance", clear, Listening, Release, Thinking, []Effect{EndSpeech}},
		{"silence after speech ends the utterance", clear, Listening, Finished, Thinking, []Effect{EndSpeech}},
		{"the platform may end the utterance", clear, Listening, Answered, Speaking, []Effect{EndSpeech}},
		{"the platform may have no answer immediately", clear, Listening, Silent, Idle, []Effect{Drop}},
		{"the link is done while the user speaks", clear, Listening, Spoken, Idle, []Effect{Drop}},
		{"the platform wants another utterance", clear, Listening, SpokenAsk, Listening, []Effect{Drop, Listen}},
		{"no speech", clear, Listening, Nothing, Idle, []Effect{Drop, CueNothing}},
		{"the link fails while listening", clear, Listening, Failed, Idle, []Effect{Drop, CueError}},
		{"stop while listening", clear, Listening, Stop, Idle, []Effect{Drop, Hush}},
		{"mute while listening", clear, Listening, Muted, Idle, []Effect{Drop}},
		{"the microphone fails while listening", clear, Listening, WentDeaf, Idle, []Effect{Drop, CueError}},
		{"listening forever", clear, Listening, TimedOut, Idle, []Effect{Drop, CueError}},

		{"an accidental trigger is ignored", clear, Thinking, TooShort, Idle, []Effect{Drop, CueNothing}},
		{"the answer is spoken", clear, Thinking, Answered, Speaking, nil},
		{"the answer is empty", clear, Thinking, Silent, Idle, []Effect{Drop}},
		{"nothing follows after a pause", clear, Thinking, Spoken, Idle, []Effect{Drop}},
		{"the platform called to hear the user", clear, Thinking, SpokenAsk, Listening, []Effect{Drop, Listen}},
		{"the platform called and the microphone is muted", muted, Thinking, SpokenAsk, Idle, []Effect{Drop}},
		{"no answer", clear, Thinking, Failed, Idle, []Effect{Drop, CueError}},
		{"thinking forever", clear, Thinking, TimedOut, Idle, []Effect{Drop, CueError}},
		{"stop while thinking", clear, Thinking, Stop, Idle, []Effect{Drop, Hush}},
		{"a tap while thinking asks a new question", clear, Thinking, Tap, Listening, []Effect{Drop, Listen}},
		{"a press while thinking asks a new question", clear, Thinking, Press, Listening, []Effect{Drop, ListenHeld}},
		{"mute while thinking does not stop the answer", clear, Thinking, Muted, Thinking, nil},

		{"the answer has been spoken", clear, Speaking, Spoken, Idle, []Effect{Drop}},
		{"the question has been spoken", clear, Speaking, SpokenAsk, Listening, []Effect{Drop, Listen}},
		{"the platform cancels its only sentence", clear, Speaking, Silent, Idle, []Effect{Drop}},
		{"a sentence has been spoken", clear, Speaking, Quiet, Speaking, []Effect{Rest}},
		{"the next sentence", clear, Speaking, Answered, Speaking, []Effect{GoOn}},
		{"the next sentence takes its time", clear, Speaking, Paused, Thinking, nil},
		{"the speech fails", clear, Speaking, Failed, Idle, []Effect{Drop, CueError}},
		{"speaking forever", clear, Speaking, TimedOut, Idle, []Effect{Drop, CueError}},
		{"another sound is to be played", clear, Idle, MakeRoom, Idle, []Effect{Hush}},
		{"another sound is to be played, after the utterance", clear, Listening, MakeRoom, Listening, []Effect{Hush}},
		{"another sound is to be played, after the answer", clear, Thinking, MakeRoom, Thinking, []Effect{Hush}},
		{"another sound is to be played instead of the answer", clear, Speaking, MakeRoom, Idle, []Effect{Drop, Hush}},
		{"full duplex: another sound is to be played", clear, Conversing, MakeRoom, Idle, []Effect{Drop, Hush}},
		{"stop while speaking", clear, Speaking, Stop, Idle, []Effect{Drop, Hush}},
		{"barge-in by a tap", clear, Speaking, Tap, Listening, []Effect{Drop, Listen}},
		{"barge-in by a press", clear, Speaking, Press, Listening, []Effect{Drop, ListenHeld}},
		{"mute while speaking does not stop the answer", clear, Speaking, Muted, Speaking, nil},

		{"full duplex: the platform speaks and continues to listen", clear, Listening, Interjected, Conversing, nil},
		{"full duplex: a sentence has been spoken", clear, Conversing, Quiet, Conversing, []Effect{Rest}},
		{"full duplex: the next sentence", clear, Conversing, Interjected, Conversing, []Effect{GoOn}},
		{"full duplex: the user's turn", clear, Conversing, Paused, Listening, nil},
		{"full duplex: the platform ends the utterance", clear, Conversing, Finished, Speaking, []Effect{EndSpeech}},
		{"full duplex: the platform ends the turn", clear, Conversing, Spoken, Idle, []Effect{Drop}},
		{"full duplex: the platform ends the turn without a complete sound", clear, Conversing, Silent, Idle, []Effect{Drop}},
		{"full duplex: the platform starts again", clear, Conversing, SpokenAsk, Listening, []Effect{Drop, Listen}},
		{"full duplex: the link fails", clear, Conversing, Failed, Idle, []Effect{Drop, CueError}},
		{"full duplex: time limit", clear, Conversing, TimedOut, Idle, []Effect{Drop, CueError}},
		{"full duplex: stop", clear, Conversing, Stop, Idle, []Effect{Drop, Hush}},
		{"full duplex: mute ends the turn, because it closes the microphone", clear, Conversing, Muted, Idle, []Effect{Drop}},
		{"full duplex: the microphone fails", clear, Conversing, WentDeaf, Idle, []Effect{Drop, CueError}},
		{"full duplex: barge-in by a tap", clear, Conversing, Tap, Listening, []Effect{Drop, Listen}},
		{"full duplex: barge-in by a press", clear, Conversing, Press, Listening, []Effect{Drop, ListenHeld}},
		{"full duplex: a tap while offline stops the sound", away, Conversing, Tap, Idle, []Effect{Drop, CueError}},
		{"full duplex: a wake word is part of the utterance", clear, Conversing, Wake, Conversing, nil},
		{"full duplex: a written question is refused", clear, Conversing, Ask, Conversing, nil},

		{"the platform calls", clear, Idle, Call, Thinking, []Effect{Send}},
		{"the platform may call and speak while muted", muted, Idle, Call, Thinking, []Effect{Send}},
		{"the platform calls while the user speaks", clear, Listening, Call, Listening, nil},
		{"the platform calls while another one thinks", clear, Thinking, Call, Thinking, nil},
		{"the platform calls while another one speaks", clear, Speaking, Call, Speaking, nil},

		{"a tap while dictating", dictating, Idle, Tap, Idle, []Effect{Hush, CueError}},
		{"a wake word while dictating", dictating, Idle, Wake, Idle, []Effect{Hush, CueError}},
		{"a tap while thinking and dictating", dictating, Thinking, Tap, Thinking, []Effect{CueError}},
		{"a tap while speaking and dictating stops the sound", dictating, Speaking, Tap, Idle, []Effect{Drop, CueError}},
		{"no listening after a question while dictating", dictating, Speaking, SpokenAsk, Idle, []Effect{Drop}},

		{"a written question", clear, Idle, Ask, Thinking, []Effect{Send}},
		{"a written question needs no microphone", muted, Idle, Ask, Thinking, []Effect{Send}},
		{"a written question interrupts the speech", clear, Speaking, Ask, Thinking, []Effect{Drop, Send}},
		{"a written question does not end the utterance", clear, Listening, Ask, Listening, nil},
		{"one question at a time", clear, Thinking, Ask, Thinking, nil},

		{"a wake word opens a turn", clear, Idle, Wake, Listening, []Effect{Listen}},
		{"a wake word within a request is part of it", clear, Listening, Wake, Listening, nil},
		{"a wake word while thinking asks a new question", clear, Thinking, Wake, Listening, []Effect{Drop, Listen}},
		{"barge-in by a wake word", clear, Speaking, Wake, Listening, []Effect{Drop, Listen}},
		{"a wake word while offline", away, Idle, Wake, Idle, []Effect{Hush, CueError}},
		{"a wake word that was detected before muting", muted, Idle, Wake, Idle, []Effect{Hush, CueMuted}},

		{"a tap while muted", muted, Idle, Tap, Idle, []Effect{Hush, CueMuted}},
		{"a press while muted", muted, Idle, Press, Idle, []Effect{Hush, CueMuted}},
		{"a tap while deaf", deaf, Idle, Tap, Idle, []Effect{Hush, CueError}},
		{"a tap while offline", away, Idle, Tap, Idle, []Effect{Hush, CueError}},
		{"a tap while thinking and muted", muted, Thinking, Tap, Thinking, []Effect{CueMuted}},
		{"a tap while thinking and deaf", deaf, Thinking, Tap, Thinking, []Effect{CueError}},
		{"a tap while thinking and offline", away, Thinking, Tap, Thinking, []Effect{CueError}},
		{"a tap while speaking and muted stops the sound", muted, Speaking, Tap, Idle, []Effect{Drop, CueMuted}},
		{"a press while speaking and deaf stops the sound", deaf, Speaking, Press, Idle, []Effect{Drop, CueError}},
		{"a tap while speaking and offline stops the sound", away, Speaking, Tap, Idle, []Effect{Drop, CueError}},
		{"no listening after a question while muted", muted, Speaking, SpokenAsk, Idle, []Effect{Drop}},
		{"no listening after a question while offline", away, Speaking, SpokenAsk, Idle, []Effect{Drop}},
		{"offline while listening: the utterance may still arrive", clear, Listening, WentOffline, Listening, nil},
		{"the second tap while offline ends the speech", away, Listening, Tap, Thinking, []Effect{EndSpeech}},
	}
	covered := map[when]bool{}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, do := Step(Snapshot{tt.from, tt.flags}, tt.event, tt.flags.Offline)
			if got.State != tt.to || !slices.Equal(do, tt.do) {
				t.Errorf("%s with %v, want %s with %v",
					describe(tt.from, tt.event, got.State), do, describe(tt.from, tt.event, tt.to), tt.do)
			}
		})
		covered[when{tt.from, Snapshot{tt.from, tt.flags}.admit(tt.event, tt.flags.Offline)}] = true
	}
	for row := range table {
		if !covered[row] {
			t.Errorf("no test covers the row %v, %v", row.state, row.event)
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
		{DictationBegan, Flags{Dictating: true}},
		{DictationBegan, Flags{Dictating: true}}, // refused
		{DictationEnded, Flags{}},
		{DictationBegan, Flags{Dictating: true}},
		{Muted, Flags{Muted: true}}, // mute ends a dictation
		{DictationBegan, Flags{Muted: true}},
		{Unmuted, Flags{}},
	} {
		if s, _ = Step(s, step.event, false); s.Flags != step.want {
			t.Errorf("after %v: %+v, want %+v", step.event, s.Flags, step.want)
		}
	}
}

// A link whose platform is offline does not affect the others.
func TestTriggerIsRefusedForItsOwnLink(t *testing.T) {
	for _, tt := range []struct {
		offline, away bool // the flag, and that of the trigger's link
		want          State
	}{{false, false, Listening}, {false, true, Idle}, {true, true, Idle}} {
		if got, _ := Step(Snapshot{Flags: Flags{Offline: tt.offline}}, Tap, tt.away); got.State != tt.want {
			t.Errorf("%+v: %v", tt, got.State)
		}
	}
}

// TestEveryPair checks the invariants of all rows, including future ones.
func TestEveryPair(t *testing.T) {
	for bits := range 16 {
		f := Flags{Muted: bits&1 != 0, Deaf: bits&2 != 0, Dictating: bits&4 != 0}
		away := bits&8 != 0
		for from := Idle; from <= Conversing; from++ {
			if from.Hears() && (f.Muted || f.Dictating) {
				continue // unreachable, as the checks below ensure
			}
			for e := Tap; e < refusedMuted; e++ {
				after, do := Step(Snapshot{from, f}, e, away)
				has := func(effects ...Effect) bool {
					return slices.ContainsFunc(effects, func(x Effect) bool { return slices.Contains(do, x) })
				}
				step := describe(from, e, after.State)
				listens := has(Listen, ListenHeld)
				if listens && (after.Flags.Muted || after.Flags.Deaf || after.Flags.Dictating || away) {
					t.Errorf("%s opens the microphone with %+v, away %v", step, after.Flags, away)
				}
				if after.State.Hears() && (after.Flags.Muted || after.Flags.Dictating) {
					t.Errorf("%s: the microphone is open with %+v", step, after.Flags)
				}
				if listens != (after.State.Hears() && (!from.Hears() || has(Drop))) {
					t.Errorf("%s: listening and the microphone do not match: %v", step, do)
				}
				if from.Hears() && !after.State.Hears() && !has(EndSpeech, Drop) {
					t.Errorf("%s leaves the microphone open", step)
				}
				if from != Idle && after.State == Idle && !has(Drop) {
					t.Errorf("%s does not close the turn", step)
				}
				if from == Idle && has(Drop, EndSpeech, Rest, GoOn, Unhold) {
					t.Errorf("%s: %v needs a turn", step, do)
				}
				if i := slices.Index(do, Drop); i > 0 {
					t.Errorf("%s: Drop comes after %v", step, do[:i])
				}
				if (e == Stop || e == TimedOut) && after.State != Idle {
					t.Errorf("%s does not end in idle", step)
				}
				done := e == Spoken || e == SpokenAsk || e == Silent || e == Failed
				if done && from != Idle && !has(Drop) {
					t.Errorf("%s: the link is done and the turn continues", step)
				}
			}
		}
	}
}
