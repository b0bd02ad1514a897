// Package turn is one exchange between a person and a platform: trigger,
// listening, thinking, speaking, and listening again if the platform asked a
// question.
//
// Three things live here: the machine, a pure table without clock or I/O, which
// also decides who has the microphone (machine.go); the contracts between a turn
// and a link (talker.go, exchange.go), and between a turn and sound (audio.go);
// and the Runner, which feeds events to the machine (inbox.go), carries out its
// effects (runner.go), reads the microphone (microphone.go) and lends it to
// dictations (hold.go).
//
// What must not live here: any protocol, and any decision that depends on which
// link is talking.
package turn

import (
	"fmt"
	"slices"
)

// State is the state of a turn.
type State uint8

const (
	Idle       State = iota
	Listening        // the user speaks
	Thinking         // the platform works on the request
	Speaking         // the speaker plays the answer
	Conversing       // it does, with an open microphone: full duplex
)

var stateNames = [...]string{"idle", "listening", "thinking", "speaking", "conversing"}

func (s State) String() string { return stateNames[s] }

// Hears reports whether an exchange has the microphone.
func (s State) Hears() bool { return s == Listening || s == Conversing }

// MarshalText writes the state as a word.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText parses what MarshalText writes.
func (s *State) UnmarshalText(text []byte) error {
	for i, name := range stateNames {
		if name == string(text) {
			*s = State(i)
			return nil
		}
	}
	return fmt.Errorf("unknown state %q", text)
}

// Flags are conditions of the device that are independent of the turn.
type Flags struct {
	Muted     bool `json:"muted"`     // the user has closed the microphone
	Offline   bool `json:"offline"`   // all links that talk are offline
	Deaf      bool `json:"deaf"`      // the microphone should deliver sound and does not
	Silent    bool `json:"silent"`    // it delivers only zeros: deaf, but turns are still opened
	Meeting   bool `json:"meeting"`   // a recording is running
	Dictating bool `json:"dictating"` // a dictation has the microphone
}

// Snapshot is the whole state of the machine.
type Snapshot struct {
	State State `json:"state"`
	Flags Flags `json:"flags"`
}

// Event is an input of the machine.
type Event uint8

const (
	// Triggers, from the user.
	Tap      Event = iota // open a turn; while listening: end the utterance
	Press                 // the talk button was pressed: listen until Release
	Release               // the talk button was released after it was held
	LetGo                 // the talk button was released soon: it was a tap, so silence ends the utterance
	Stop                  // stop all sound and drop the turn
	MakeRoom              // another sound is to be played: what is playing ends, but no utterance
	Ask                   // a written question
	Wake                  // the user said a wake word
	Call                  // a platform opens a turn

	// From the microphone.
	Finished // the user has finished: silence after speech, the limit, or the platform called Enough
	Nothing  // no speech was detected
	TooShort // the user ended the turn soon, without speech

	// From the link, through its exchange.
	Answered    // a sound of the answer starts
	Interjected // the same, with the microphone staying open
	Quiet       // the sound was played to its last sample; more may follow
	Paused      // no more followed soon
	Silent      // the link is done, and nothing was played
	Spoken      // the link is done, after its last sample
	SpokenAsk   // the link is done, and the user may speak next
	Failed      // no answer: offline, timeout, refused; or the speech failed

	TimedOut // the state has exceeded its time limit

	// Flag events: they apply in every state.
	Muted
	Unmuted
	WentOffline
	CameOnline
	WentDeaf   // no frames arrive
	WentSilent // only frames of zeros arrive
	Hears
	MeetingBegan
	MeetingEnded
	DictationBegan
	DictationEnded

	// What replaces an event that may not open the microphone. Only the
	// machine makes these.
	refusedMuted
	refusedDeaf
	refusedOffline
	refusedDictating // a dictation has the microphone
	refusedDictation // a dictation was refused
	numEvents
)

var eventNames = [...]string{
	"tap", "press", "release", "let-go", "stop", "make-room", "ask", "wake", "call", "finished", "nothing", "too-short",
	"answered", "interjected", "quiet", "paused", "silent", "spoken", "spoken-ask", "failed", "timed-out",
	"muted", "unmuted", "went-offline", "came-online", "went-deaf", "went-silent", "hears", "meeting-began", "meeting-ended",
	"dictation-began", "dictation-ended",
	"refused-muted", "refused-deaf", "refused-offline", "refused-dictating", "refused-dictation",
}

func (e Event) String() string { return eventNames[e] }

// Effect is an action that the Runner must perform.
type Effect uint8

const (
	Listen     Effect = iota // open a turn with the microphone; it ends by itself after speech
	ListenHeld               // the same, but only Release or the limit ends it
	Unhold                   // silence may end the utterance now
	EndSpeech                // the user has finished: the link reads io.EOF
	Send                     // open a turn without the microphone
	Drop                     // end the turn: its context ends, its sound stops within one frame
	Rest                     // nothing is playing now; Paused follows soon
	GoOn                     // a sound is playing again
	Hush                     // also stop sounds outside of turns
	CueMuted                 // signal why nothing happens
	CueError                 //
	CueNothing               // a soft cue: no speech was detected, nothing was sent
)

var effectNames = [...]string{
	"listen", "listen-held", "unhold", "end-speech", "send", "drop", "rest", "go-on", "hush", "cue-muted", "cue-error", "cue-nothing",
}

func (e Effect) String() string { return effectNames[e] }

type when struct {
	state State
	event Event
}

type then struct {
	state State
	do    []Effect
}

// table is the machine. A missing pair changes nothing and has no
// effect; machine_test.go walks every pair and lists those.
var table = map[when]then{
	{Idle, Tap}:              {Listening, []Effect{Listen}},
	{Idle, Press}:            {Listening, []Effect{ListenHeld}},
	{Idle, Wake}:             {Listening, []Effect{Listen}},
	{Idle, Ask}:              {Thinking, []Effect{Send}},
	{Idle, Call}:             {Thinking, []Effect{Send}},
	{Idle, Stop}:             {Idle, []Effect{Hush}},
	{Idle, MakeRoom}:         {Idle, []Effect{Hush}},
	{Idle, refusedMuted}:     {Idle, []Effect{Hush, CueMuted}},
	{Idle, refusedDeaf}:      {Idle, []Effect{Hush, CueError}},
	{Idle, refusedOffline}:   {Idle, []Effect{Hush, CueError}},
	{Idle, refusedDictating}: {Idle, []Effect{Hush, CueError}},

	{Listening, Tap}:      {Thinking, []Effect{EndSpeech}},
	{Listening, Press}:    {Thinking, []Effect{EndSpeech}},
	{Listening, Release}:  {Thinking, []Effect{EndSpeech}},
	{Listening, LetGo}:    {Listening, []Effect{Unhold}},
	{Listening, Finished}: {Thinking, []Effect{EndSpeech}},
	// A platform may decide by itself that the utterance has ended.
	{Listening, Answered}:    {Speaking, []Effect{EndSpeech}},
	{Listening, Interjected}: {Conversing, nil},
	{Listening, Silent}:      {Idle, []Effect{Drop}},
	{Listening, Spoken}:      {Idle, []Effect{Drop}},
	{Listening, SpokenAsk}:   {Listening, []Effect{Drop, Listen}},
	{Listening, Nothing}:     {Idle, []Effect{Drop, CueNothing}},
	{Listening, Failed}:      {Idle, []Effect{Drop, CueError}},
	{Listening, Stop}:        {Idle, []Effect{Drop, Hush}},
	{Listening, MakeRoom}:    {Listening, []Effect{Hush}},
	{Listening, Muted}:       {Idle, []Effect{Drop}},
	{Listening, WentDeaf}:    {Idle, []Effect{Drop, CueError}},
	{Listening, TimedOut}:    {Idle, []Effect{Drop, CueError}},

	// An accidental trigger is ignored.
	{Thinking, TooShort}:  {Idle, []Effect{Drop, CueNothing}},
	{Thinking, Answered}:  {Speaking, nil},
	{Thinking, Silent}:    {Idle, []Effect{Drop}},
	{Thinking, Spoken}:    {Idle, []Effect{Drop}},
	{Thinking, SpokenAsk}: {Listening, []Effect{Drop, Listen}},
	{Thinking, Failed}:    {Idle, []Effect{Drop, CueError}},
	{Thinking, TimedOut}:  {Idle, []Effect{Drop, CueError}},
	{Thinking, Stop}:      {Idle, []Effect{Drop, Hush}},
	{Thinking, MakeRoom}:  {Thinking, []Effect{Hush}},
	// The user asks a new question instead.
	{Thinking, Tap}:              {Listening, []Effect{Drop, Listen}},
	{Thinking, Press}:            {Listening, []Effect{Drop, ListenHeld}},
	{Thinking, Wake}:             {Listening, []Effect{Drop, Listen}},
	{Thinking, refusedMuted}:     {Thinking, []Effect{CueMuted}},
	{Thinking, refusedDeaf}:      {Thinking, []Effect{CueError}},
	{Thinking, refusedOffline}:   {Thinking, []Effect{CueError}},
	{Thinking, refusedDictating}: {Thinking, []Effect{CueError}},

	{Speaking, Answered}:  {Speaking, []Effect{GoOn}},
	{Speaking, Quiet}:     {Speaking, []Effect{Rest}},
	{Speaking, Paused}:    {Thinking, nil},
	{Speaking, Spoken}:    {Idle, []Effect{Drop}},
	{Speaking, Silent}:    {Idle, []Effect{Drop}}, // no sound was played to its end
	{Speaking, SpokenAsk}: {Listening, []Effect{Drop, Listen}},
	{Speaking, Failed}:    {Idle, []Effect{Drop, CueError}},
	{Speaking, TimedOut}:  {Idle, []Effect{Drop, CueError}},
	{Speaking, Stop}:      {Idle, []Effect{Drop, Hush}},
	{Speaking, MakeRoom}:  {Idle, []Effect{Drop, Hush}},
	// Barge-in.
	{Speaking, Tap}:   {Listening, []Effect{Drop, Listen}},
	{Speaking, Press}: {Listening, []Effect{Drop, ListenHeld}},
	{Speaking, Wake}:  {Listening, []Effect{Drop, Listen}},
	{Speaking, Ask}:   {Thinking, []Effect{Drop, Send}},
	// A trigger that is refused still stops the sound.
	{Speaking, refusedMuted}:     {Idle, []Effect{Drop, CueMuted}},
	{Speaking, refusedDeaf}:      {Idle, []Effect{Drop, CueError}},
	{Speaking, refusedOffline}:   {Idle, []Effect{Drop, CueError}},
	{Speaking, refusedDictating}: {Idle, []Effect{Drop, CueError}},

	// Full duplex: as Speaking, but the platform receives the user's voice and
	// may stop by itself, and whatever closes the microphone ends the turn.
	{Conversing, Interjected}:    {Conversing, []Effect{GoOn}},
	{Conversing, Quiet}:          {Conversing, []Effect{Rest}},
	{Conversing, Paused}:         {Listening, nil},
	{Conversing, Finished}:       {Speaking, []Effect{EndSpeech}},
	{Conversing, Spoken}:         {Idle, []Effect{Drop}},
	{Conversing, Silent}:         {Idle, []Effect{Drop}},
	{Conversing, SpokenAsk}:      {Listening, []Effect{Drop, Listen}},
	{Conversing, Failed}:         {Idle, []Effect{Drop, CueError}},
	{Conversing, TimedOut}:       {Idle, []Effect{Drop, CueError}},
	{Conversing, Stop}:           {Idle, []Effect{Drop, Hush}},
	{Conversing, MakeRoom}:       {Idle, []Effect{Drop, Hush}},
	{Conversing, Muted}:          {Idle, []Effect{Drop}},
	{Conversing, WentDeaf}:       {Idle, []Effect{Drop, CueError}},
	{Conversing, Tap}:            {Listening, []Effect{Drop, Listen}},
	{Conversing, Press}:          {Listening, []Effect{Drop, ListenHeld}},
	{Conversing, refusedOffline}: {Idle, []Effect{Drop, CueError}},
}

// Step is the machine: a pure function. away means that the link that e is
// for is offline.
func Step(now Snapshot, e Event, away bool) (Snapshot, []Effect) {
	e = now.admit(e, away)
	now.Flags = now.Flags.after(e)
	row, ok := table[when{now.State, e}]
	if !ok {
		return now, nil
	}
	now.State = row.state
	return now, row.do
}

// admit decides who has the microphone: it replaces an event that would open it
// and may not. An utterance and a dictation exclude each other; the one that
// started first continues.
func (s Snapshot) admit(e Event, away bool) Event {
	if e == DictationBegan {
		if s.State.Hears() || s.Flags.Muted || s.Flags.deaf() || s.Flags.Dictating {
			return refusedDictation
		}
		return e
	}
	trigger := e == Press || e == Tap || e == Wake && s.State != Conversing
	if !(trigger && s.State != Listening) && e != SpokenAsk {
		return e
	}
	refusal := e
	switch {
	case s.Flags.Muted:
		refusal = refusedMuted
	case s.Flags.deaf():
		refusal = refusedDeaf
	case away:
		refusal = refusedOffline
	case s.Flags.Dictating:
		refusal = refusedDictating
	}
	if refusal != e && e == SpokenAsk {
		return Spoken // there was no trigger to refuse
	}
	return refusal
}

// deaf reports whether opening the microphone is pointless.
func (f Flags) deaf() bool { return f.Deaf && !f.Silent }

// flag reports whether an event sets a flag.
func (e Event) flag() bool { return e >= Muted && e <= DictationEnded }

// changes returns the events that lead from now to f. None starts a dictation,
// which only Hold does.
func (f Flags) changes(now Flags) []Event {
	var list []Event
	for _, c := range []struct {
		want, have bool
		set, clear Event
	}{
		{f.Muted, now.Muted, Muted, Unmuted},
		{f.Offline, now.Offline, WentOffline, CameOnline},
		{f.Deaf && !f.Silent, now.Deaf && !now.Silent, WentDeaf, Hears},
		{f.Silent, now.Silent, WentSilent, Hears},
		{f.Meeting, now.Meeting, MeetingBegan, MeetingEnded},
		{f.Dictating && now.Dictating, now.Dictating, DictationBegan, DictationEnded},
	} {
		switch {
		case c.want && !c.have:
			list = append(list, c.set)
		case !c.want && c.have:
			list = slices.Insert(list, 0, c.clear) // clear one kind of deafness before setting the other
		}
	}
	return list
}

func (f Flags) after(e Event) Flags {
	switch e {
	case Muted, Unmuted:
		f.Muted = e == Muted
		f.Dictating = f.Dictating && !f.Muted // otherwise unmuting would resume it
	case WentOffline, CameOnline:
		f.Offline = e == WentOffline
	case WentDeaf, WentSilent, Hears:
		f.Deaf, f.Silent = e != Hears, e == WentSilent
	case MeetingBegan, MeetingEnded:
		f.Meeting = e == MeetingBegan
	case DictationBegan, DictationEnded:
		f.Dictating = e == DictationBegan
	}
	return f
}

// describe formats a transition for logs and tests: "listening --finished-->
// thinking".
func describe(from State, e Event, to State) string {
	return fmt.Sprintf("%v --%v--> %v", from, e, to)
}
