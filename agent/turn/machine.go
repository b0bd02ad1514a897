// Package turn is one exchange between a person and a platform: trigger,
// listening, thinking, speaking, and listening again if the platform asked.
//
// Three things live here: the machine, a pure table without clock or I/O, which
// also decides who has the microphone (machine.go); the contracts between a turn
// and a link (talker.go, exchange.go), and between a turn and sound (sound.go);
// and the Runner, which feeds the machine with events (inbox.go), carries out its
// effects (runner.go), hears what is said (microphone.go) and lends the
// microphone to dictations (hold.go).
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
	Idle       State = iota
	Listening        // the user speaks
	Thinking         // the platform has the request
	Speaking         // the loudspeaker says something
	Conversing       // it does, and the microphone is open: full duplex
)

var stateNames = [...]string{"idle", "listening", "thinking", "speaking", "conversing"}

func (s State) String() string { return stateNames[s] }

// Hears tells whether an exchange has the microphone.
func (s State) Hears() bool { return s == Listening || s == Conversing }

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
	return fmt.Errorf("unknown state %q", text)
}

// Flags are what is true of the device whatever the turn does.
type Flags struct {
	Muted     bool `json:"muted"`     // the microphone is closed on purpose
	Offline   bool `json:"offline"`   // no link that talks reaches its platform
	Deaf      bool `json:"deaf"`      // the microphone should give sound and does not
	Silent    bool `json:"silent"`    // it gives frames, of zeros: deaf, but worth a try
	Meeting   bool `json:"meeting"`   // what is said is recorded
	Dictating bool `json:"dictating"` // a dictation has the microphone
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
	Tap      Event = iota // open a turn; while listening: that was all
	Press                 // the talk button went down: listen until Release
	Release               // the talk button came up after it was held
	LetGo                 // the talk button came up soon: it was a tap, so silence ends the turn
	Stop                  // be quiet and forget it
	MakeRoom              // something else is to be heard now: what is heard ends, and nobody is cut off
	Ask                   // the user asks in writing
	Wake                  // the user said a wake word
	Call                  // a platform opens a turn

	// From the microphone.
	Finished // the user has finished: silence after speech, the limit, or the platform has heard enough
	Nothing  // nobody spoke
	TooShort // the user ended the turn at once, and no speech was heard

	// From the link, by way of its exchange.
	Answered    // there is something to be heard
	Interjected // the same, and the microphone stays open
	Quiet       // that was heard to its last sample; more may come
	Paused      // no more came soon
	Silent      // the link is done, and nothing was to be heard
	Spoken      // the link is done, after its last sample
	SpokenAsk   // the link is done, and waits for what the user says next
	Failed      // no answer: offline, timeout, refused; or the speech failed

	TimedOut // the state has lasted longer than it ever should

	// Flag events: they hold in every state.
	Muted
	Unmuted
	WentOffline
	CameOnline
	WentDeaf   // no frame comes
	WentSilent // frames of zeros come
	Hears
	MeetingBegan
	MeetingEnded
	DictationBegan
	DictationEnded

	// What an event becomes that may not open the microphone. Only the machine
	// makes these.
	refusedMuted
	refusedDeaf
	refusedOffline
	refusedDictating // a dictation has the microphone
	refusedDictation // the dictation may not have it
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

// Effect is something that the Runner must do.
type Effect uint8

const (
	Listen     Effect = iota // open a turn with the microphone; it ends by itself after speech
	ListenHeld               // the same, but only Release or the limit ends it
	Unhold                   // silence may end the utterance now
	EndSpeech                // the user has finished: the link's reader comes to the end
	Send                     // open a turn without the microphone
	Drop                     // forget the turn: its context ends, its sound falls silent within one frame
	Rest                     // nothing is heard now; Paused comes soon
	GoOn                     // something is heard again
	Hush                     // end what is said outside a turn, too
	CueMuted                 // tell the user why nothing happens
	CueError                 //
	CueNothing               // a soft cue: nothing was heard, nothing was sent
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

// table is the machine. A pair that is missing changes nothing and does
// nothing; machine_test.go walks every pair and says which those are.
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
	// A platform may decide by itself that it has heard enough.
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

	// A trigger by mistake is forgiven.
	{Thinking, TooShort}:  {Idle, []Effect{Drop, CueNothing}},
	{Thinking, Answered}:  {Speaking, nil},
	{Thinking, Silent}:    {Idle, []Effect{Drop}},
	{Thinking, Spoken}:    {Idle, []Effect{Drop}},
	{Thinking, SpokenAsk}: {Listening, []Effect{Drop, Listen}},
	{Thinking, Failed}:    {Idle, []Effect{Drop, CueError}},
	{Thinking, TimedOut}:  {Idle, []Effect{Drop, CueError}},
	{Thinking, Stop}:      {Idle, []Effect{Drop, Hush}},
	{Thinking, MakeRoom}:  {Thinking, []Effect{Hush}},
	// The user has thought of something better to ask.
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
	{Speaking, Silent}:    {Idle, []Effect{Drop}}, // nothing was heard to its end
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
	// A trigger that cannot be served still means: be quiet.
	{Speaking, refusedMuted}:     {Idle, []Effect{Drop, CueMuted}},
	{Speaking, refusedDeaf}:      {Idle, []Effect{Drop, CueError}},
	{Speaking, refusedOffline}:   {Idle, []Effect{Drop, CueError}},
	{Speaking, refusedDictating}: {Idle, []Effect{Drop, CueError}},

	// Full duplex: as Speaking, but the platform hears the user and may stop by
	// itself, and what closes the microphone ends the turn.
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

// Step is the machine: a pure function. away says that the link that e is for
// does not reach its platform.
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
// and may not. An utterance and a dictation exclude each other; who has begun
// goes on.
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
		return Spoken // nobody triggered anything, so there is nothing to refuse
	}
	return refusal
}

// deaf tells that the microphone is not worth a try.
func (f Flags) deaf() bool { return f.Deaf && !f.Silent }

// flag tells whether an event sets a flag.
func (e Event) flag() bool { return e >= Muted && e <= DictationEnded }

// changes are the events that lead from now to f. None begins a dictation: that
// has to be asked for.
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
			list = slices.Insert(list, 0, c.clear) // one kind of deafness before the other
		}
	}
	return list
}

func (f Flags) after(e Event) Flags {
	switch e {
	case Muted, Unmuted:
		f.Muted = e == Muted
		f.Dictating = f.Dictating && !f.Muted // or unmuting would go on with it
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

// describe is for logs and tests: "listening --finished--> thinking".
func describe(from State, e Event, to State) string {
	return fmt.Sprintf("%v --%v--> %v", from, e, to)
}
