// Package turn is one exchange between a person and a platform: trigger,
// listening, thinking, speaking, and listening again if the platform asked.
//
// Three things live here: the machine, a pure table without clock or I/O
// (machine.go); the contracts between a turn and a link (talker.go), and between
// a turn and sound (sound.go); and the Runner, which feeds the machine with
// events (inbox.go) and carries out its effects (runner.go, exchange.go).
//
// What must not live here: any protocol, and any decision that depends on which
// link is talking.
package turn

import (
	"fmt"
	"slices"
)

// State is where the device stands in a turn.
type State uint8

const (
	Idle      State = iota
	Listening       // the user speaks
	Thinking        // the platform has the request
	Speaking        // the loudspeaker says something
)

var stateNames = [...]string{"idle", "listening", "thinking", "speaking"}

func (s State) String() string { return stateNames[s] }

// MarshalText writes the state as a word.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (s *State) UnmarshalText(text []byte) error {
	for i, name := range stateNames {
		if name == string(text) {
			*s = State(i)
			return nil
		}
	}
	return fmt.Errorf("%q is no state", text)
}

// Flags are what is true of the device whatever the turn does.
type Flags struct {
	Muted   bool `json:"muted"`   // the microphone is closed on purpose
	Offline bool `json:"offline"` // no link reaches its platform
	Deaf    bool `json:"deaf"`    // the microphone should give sound and does not
	Silent  bool `json:"silent"`  // it gives frames, of zeros: deaf, but worth a try
	Meeting bool `json:"meeting"` // what is said is recorded
}

// Snapshot is the whole state of the machine.
type Snapshot struct {
	State State `json:"state"`
	Flags Flags `json:"flags"`
}

// Event is something that happened.
type Event uint8

const (
	// Triggers, from the user.
	Tap     Event = iota // open a turn; while listening: that was all
	Press                // the talk button went down: listen until Release
	Release              // the talk button came up after it was held
	LetGo                // the talk button came up soon: it was a tap, so silence ends the turn
	Stop                 // be quiet and forget it
	Ask                  // the user asks in writing
	Wake                 // the user said a wake word

	// From the ear.
	Finished // the user has finished: silence after speech, or the limit
	Nothing  // nobody spoke
	TooShort // the user ended the turn at once, and no voice was heard

	// From the link.
	Answered // there is something to say
	Silent   // the platform had nothing to say
	Failed   // no answer: offline, timeout, refused; or the speech failed

	// From the mouth.
	Spoken       // the last sample has been played
	SpokenAsk    // the same, and the platform waits for an answer
	TimedOut     // the state has lasted longer than it ever should
	Muted        // flag events: they hold in every state
	Unmuted      //
	WentOffline  //
	CameOnline   //
	WentDeaf     // no frame comes
	WentSilent   // frames of zeros come
	Hears        //
	MeetingBegan //
	MeetingEnded //

	// What a trigger becomes when a flag forbids it. Only the machine makes these.
	refusedMuted
	refusedDeaf
	refusedOffline
	numEvents
)

var eventNames = [...]string{
	"tap", "press", "release", "let-go", "stop", "ask", "wake", "finished", "nothing", "too-short", "answered", "silent", "failed",
	"spoken", "spoken-ask", "timed-out", "muted", "unmuted", "went-offline", "came-online",
	"went-deaf", "went-silent", "hears", "meeting-began", "meeting-ended", "refused-muted", "refused-deaf", "refused-offline",
}

func (e Event) String() string { return eventNames[e] }

// Effect is something that the Runner must do.
type Effect uint8

const (
	Listen     Effect = iota // open a turn: frames and a Talker; ends by itself after speech
	ListenHeld               // the same, but only Release or the limit ends it
	Unhold                   // silence may end the utterance now
	EndSpeech                // the user has finished: the Talker's reader ends
	Send                     // hand a written question to a Talker
	Drop                     // forget the turn: the Talker is cancelled, its sound falls silent within one frame
	Speak                    // play the answer
	Hush                     // end what is said outside a turn, too
	CueMuted                 // tell the user why nothing happens
	CueError                 //
	CueNothing               // a soft cue: nothing was heard, nothing was sent
)

var effectNames = [...]string{
	"listen", "listen-held", "unhold", "end-speech", "send", "drop", "speak", "hush", "cue-muted", "cue-error", "cue-nothing",
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

// table is the machine. A pair that is missing changes nothing and does
// nothing; machine_test.go walks every pair and says which those are.
var table = map[when]then{
	{Idle, Tap}:            {Listening, []Effect{Listen}},
	{Idle, Press}:          {Listening, []Effect{ListenHeld}},
	{Idle, Wake}:           {Listening, []Effect{Listen}},
	{Idle, Ask}:            {Thinking, []Effect{Send}},
	{Idle, Stop}:           {Idle, []Effect{Hush}},
	{Idle, refusedMuted}:   {Idle, []Effect{Hush, CueMuted}},
	{Idle, refusedDeaf}:    {Idle, []Effect{Hush, CueError}},
	{Idle, refusedOffline}: {Idle, []Effect{Hush, CueError}},

	{Listening, Tap}:      {Thinking, []Effect{EndSpeech}},
	{Listening, Press}:    {Thinking, []Effect{EndSpeech}},
	{Listening, Release}:  {Thinking, []Effect{EndSpeech}},
	{Listening, LetGo}:    {Listening, []Effect{Unhold}},
	{Listening, Finished}: {Thinking, []Effect{EndSpeech}},
	// A platform may decide by itself that it has heard enough.
	{Listening, Answered}: {Speaking, []Effect{EndSpeech, Speak}},
	{Listening, Silent}:   {Idle, []Effect{Drop}},
	{Listening, Nothing}:  {Idle, []Effect{Drop, CueNothing}},
	{Listening, Failed}:   {Idle, []Effect{Drop, CueError}},
	{Listening, Stop}:     {Idle, []Effect{Drop, Hush}},
	{Listening, Muted}:    {Idle, []Effect{Drop}},
	{Listening, WentDeaf}: {Idle, []Effect{Drop, CueError}},
	{Listening, TimedOut}: {Idle, []Effect{Drop, CueError}},

	// A trigger by mistake is forgiven.
	{Thinking, TooShort}: {Idle, []Effect{Drop, CueNothing}},
	{Thinking, Answered}: {Speaking, []Effect{Speak}},
	{Thinking, Silent}:   {Idle, []Effect{Drop}},
	{Thinking, Failed}:   {Idle, []Effect{Drop, CueError}},
	{Thinking, TimedOut}: {Idle, []Effect{Drop, CueError}},
	{Thinking, Stop}:     {Idle, []Effect{Drop, Hush}},
	// The user has thought of something better to ask.
	{Thinking, Tap}:            {Listening, []Effect{Drop, Listen}},
	{Thinking, Press}:          {Listening, []Effect{Drop, ListenHeld}},
	{Thinking, Wake}:           {Listening, []Effect{Drop, Listen}},
	{Thinking, refusedMuted}:   {Thinking, []Effect{CueMuted}},
	{Thinking, refusedDeaf}:    {Thinking, []Effect{CueError}},
	{Thinking, refusedOffline}: {Thinking, []Effect{CueError}},

	{Speaking, Spoken}:    {Idle, []Effect{Drop}},
	{Speaking, SpokenAsk}: {Listening, []Effect{Drop, Listen}},
	{Speaking, Failed}:    {Idle, []Effect{Drop, CueError}},
	{Speaking, TimedOut}:  {Idle, []Effect{Drop, CueError}},
	{Speaking, Stop}:      {Idle, []Effect{Drop, Hush}},
	// Barge-in.
	{Speaking, Tap}:   {Listening, []Effect{Drop, Listen}},
	{Speaking, Press}: {Listening, []Effect{Drop, ListenHeld}},
	{Speaking, Wake}:  {Listening, []Effect{Drop, Listen}},
	{Speaking, Ask}:   {Thinking, []Effect{Drop, Send}},
	// A trigger that cannot be served still means: be quiet.
	{Speaking, refusedMuted}:   {Idle, []Effect{Drop, CueMuted}},
	{Speaking, refusedDeaf}:    {Idle, []Effect{Drop, CueError}},
	{Speaking, refusedOffline}: {Idle, []Effect{Drop, CueError}},
}

// Next is the machine: a pure function.
func Next(now Snapshot, e Event) (Snapshot, []Effect) {
	now.Flags = now.Flags.after(e)
	row, ok := table[when{now.State, now.Flags.admit(now.State, e)}]
	if !ok {
		return now, nil
	}
	now.State = row.state
	return now, row.do
}

// flag tells whether an event sets a flag.
func (e Event) flag() bool { return e >= Muted && e <= MeetingEnded }

// changes are the events that lead from now to f.
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
	} {
		switch {
		case c.want && !c.have:
			list = append(list, c.set)
		case !c.want && c.have:
			list = slices.Insert(list, 0, c.clear) // one kind of deafness before the other
		}
	}
	return list
}

func (f Flags) after(e Event) Flags {
	switch e {
	case Muted, Unmuted:
		f.Muted = e == Muted
	case WentOffline, CameOnline:
		f.Offline = e == WentOffline
	case WentDeaf, WentSilent, Hears:
		f.Deaf, f.Silent = e != Hears, e == WentSilent
	case MeetingBegan, MeetingEnded:
		f.Meeting = e == MeetingBegan
	}
	return f
}

// admit replaces an event that would open the microphone by its refusal.
func (f Flags) admit(s State, e Event) Event {
	opens := s != Listening && (e == Press || e == Tap || e == Wake) || e == SpokenAsk
	if !opens {
		return e
	}
	refusal := e
	switch {
	case f.Muted:
		refusal = refusedMuted
	case f.Deaf && !f.Silent:
		refusal = refusedDeaf
	case f.Offline:
		refusal = refusedOffline
	}
	if refusal != e && e == SpokenAsk {
		return Spoken // nobody triggered anything, so there is nothing to refuse
	}
	return refusal
}

// describe is for logs and tests: "listening --finished--> thinking".
func describe(from State, e Event, to State) string {
	return fmt.Sprintf("%v --%v--> %v", from, e, to)
}
