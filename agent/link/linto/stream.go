package linto

import "fmt"

// This is a live transcription as a table: in which state which event leads
// where, after which steps. It has no clock and no I/O; transcription.go feeds it
// and carries out its steps.

// streamState is where a live transcription stands (protocol 1.5).
type streamState uint8

const (
	connecting streamState = iota // waits for the broker
	starting                      // the platform was asked to start
	held                          // the platform still holds an earlier stream of this device
	opening                       // it has started, but may not have reached its recogniser
	sending                       // sound goes out as it comes
	stopping                      // all sound is out, and the platform was asked to stop
	closing                       // the platform has stopped; its last words are on their way
	pausing                       // before the next attempt, after an interruption
	over
	numStates
)

var stateNames = [...]string{"connecting", "starting", "held", "opening", "sending", "stopping", "closing", "pausing", "over"}

func (s streamState) String() string { return stateNames[s] }

// streamKind is something that happens to a live transcription.
type streamKind uint8

const (
	// From the platform.
	streamStarted streamKind = iota
	streamAlready            // refused: there is a stream of this serial
	streamPartial            // what was understood of an utterance that goes on
	streamText               // an utterance that is over
	streamStopped            // by us or by the platform
	streamFinal              // the rest, after a stop
	streamMissing            // refused: there is no stream
	streamFailed             // anything else

	// From the connection.
	streamConnected
	streamLost

	// From the microphone.
	streamSound    // enough for one message, or the last of it
	streamFinished // the last of it is out
	streamBroken   // it failed
	streamQuit     // no more is wanted, although not all of it is out

	// From the clock.
	streamDue     // the time of the state is over
	streamExpired // the platform has held an earlier stream for too long

	// streamSetback is what an error becomes from which a dictation recovers. Only
	// the machine makes it.
	streamSetback
	numKinds
)

var kindNames = [...]string{
	"started", "already", "partial", "text", "stopped", "final", "missing", "failed", "connected", "lost",
	"sound", "finished", "broken", "quit", "due", "expired", "setback",
}

func (k streamKind) String() string { return kindNames[k] }

// streamStep is something that must be done.
type streamStep uint8

const (
	askStart    streamStep = iota // publish streaming/start
	askStop                       // publish streaming/stop
	release                       // the same, for an earlier stream, unless it was stopped just now
	rewind                        // the new stream gets what the one before it was not asked to understand
	send                          // publish streaming/chunk
	begun                         // tell that the platform listens
	enough                        // tell the turn that the platform has heard enough
	interrupted                   // count it, tell of it
	hear                          // these words are of this stream
	hearOld                       // these words are of an earlier stream
	conclude                      // what was understood by now must do
	fail                          // say why
)

var stepNames = [...]string{
	"ask-start", "ask-stop", "release", "rewind", "send", "begun", "enough", "interrupted", "hear", "hear-old", "conclude", "fail",
}

func (s streamStep) String() string { return stepNames[s] }

// streamLimit is how long a state may last.
type streamLimit uint8

const (
	unchanged   streamLimit = iota // the time goes on
	unlimited                      //
	forBroker                      // as long as the platform may take for an answer; a dictation waits until it is stopped
	forStart                       // for the answer to a start
	forRelease                     // until a start may be tried again
	forOpening                     // for the platform to reach its recogniser
	forLastWord                    // for the rest of what was understood
	forMore                        // for a final result after a last word
	forPause                       // the longer, the more attempts there were
)

type streamWhen struct {
	state streamState
	kind  streamKind
}

type streamThen struct {
	state streamState
	limit streamLimit
	do    []streamStep
}

// streamTable is the machine. A pair that is missing changes nothing and does
// nothing; stream_test.go walks every pair and says which those are.
var streamTable = map[streamWhen]streamThen{
	{connecting, streamConnected}: {starting, forStart, []streamStep{askStart}},
	{connecting, streamDue}:       {over, unlimited, []streamStep{fail}},
	{connecting, streamQuit}:      {over, unlimited, []streamStep{conclude}},

	{starting, streamStarted}: {opening, forOpening, []streamStep{rewind}},
	{starting, streamAlready}: {held, forRelease, []streamStep{release}},
	{starting, streamFailed}:  {over, unlimited, []streamStep{fail}},
	{starting, streamDue}:     {over, unlimited, []streamStep{fail}},
	{starting, streamSetback}: {pausing, forPause, nil},
	{starting, streamLost}:    {pausing, forPause, nil},
	{starting, streamPartial}: {starting, unchanged, []streamStep{hearOld}},
	{starting, streamText}:    {starting, unchanged, []streamStep{hearOld}},
	{starting, streamFinal}:   {starting, unchanged, []streamStep{hearOld}},
	{starting, streamQuit}:    {over, unlimited, []streamStep{askStop, conclude}},

	// Only "started" starts: what the platform holds is not ours.
	{held, streamDue}:     {starting, forStart, []streamStep{askStart}},
	{held, streamExpired}: {over, unlimited, []streamStep{fail}},
	{held, streamSetback}: {pausing, forPause, nil},
	{held, streamStarted}: {opening, forOpening, []streamStep{rewind}}, // an answer that came late
	{held, streamLost}:    {pausing, forPause, nil},
	{held, streamPartial}: {held, unchanged, []streamStep{hearOld}},
	{held, streamText}:    {held, unchanged, []streamStep{hearOld}},
	{held, streamFinal}:   {held, unchanged, []streamStep{hearOld}},
	{held, streamQuit}:    {over, unlimited, []streamStep{conclude}},

	// What was understood before any sound is out was said to an earlier stream.
	// The answers to an earlier start and stop may be late, too.
	{opening, streamDue}:     {sending, unlimited, []streamStep{begun}},
	{opening, streamStarted}: {opening, forOpening, []streamStep{rewind}},
	{opening, streamAlready}: {held, forRelease, []streamStep{release}},
	{opening, streamFailed}:  {over, unlimited, []streamStep{fail}},
	{opening, streamSetback}: {pausing, forPause, nil},
	{opening, streamLost}:    {pausing, forPause, []streamStep{interrupted}},
	{opening, streamPartial}: {opening, unchanged, []streamStep{hearOld}},
	{opening, streamText}:    {opening, unchanged, []streamStep{hearOld}},
	{opening, streamFinal}:   {opening, unchanged, []streamStep{hearOld}},

	{sending, streamSound}:    {sending, unchanged, []streamStep{send}},
	{sending, streamFinished}: {stopping, forLastWord, []streamStep{askStop}},
	{sending, streamBroken}:   {over, unlimited, []streamStep{fail}},
	{sending, streamPartial}:  {sending, unchanged, []streamStep{hear}},
	{sending, streamText}:     {sending, unchanged, []streamStep{hear}},
	{sending, streamStopped}:  {closing, forLastWord, []streamStep{enough}},
	{sending, streamFinal}:    {over, unlimited, []streamStep{enough, hear}},
	{sending, streamAlready}:  {held, forRelease, []streamStep{interrupted, release}},
	{sending, streamMissing}:  {pausing, forPause, []streamStep{interrupted}},
	{sending, streamLost}:     {pausing, forPause, []streamStep{interrupted}},
	{sending, streamSetback}:  {pausing, forPause, []streamStep{interrupted}},
	{sending, streamFailed}:   {over, unlimited, []streamStep{fail}},

	// A text may be that of the utterance before the last until the platform has
	// taken note of the stop.
	{stopping, streamPartial}: {stopping, unchanged, []streamStep{hear}},
	{stopping, streamText}:    {stopping, unchanged, []streamStep{hear}},
	{stopping, streamStopped}: {closing, forLastWord, nil},
	{stopping, streamFinal}:   {over, unlimited, []streamStep{hear}},
	{stopping, streamMissing}: {pausing, forPause, []streamStep{interrupted}},
	{stopping, streamLost}:    {pausing, forPause, []streamStep{interrupted}},
	{stopping, streamFailed}:  {over, unlimited, []streamStep{conclude}},
	{stopping, streamDue}:     {over, unlimited, []streamStep{conclude}},

	{closing, streamText}:    {closing, forMore, []streamStep{hear}},
	{closing, streamPartial}: {closing, forLastWord, []streamStep{hear}},
	{closing, streamFinal}:   {over, unlimited, []streamStep{hear}},
	{closing, streamLost}:    {pausing, forPause, []streamStep{interrupted}},
	{closing, streamFailed}:  {over, unlimited, []streamStep{conclude}},
	{closing, streamDue}:     {over, unlimited, []streamStep{conclude}},

	{pausing, streamDue}:     {connecting, forBroker, nil},
	{pausing, streamPartial}: {pausing, unchanged, []streamStep{hearOld}},
	{pausing, streamText}:    {pausing, unchanged, []streamStep{hearOld}},
	{pausing, streamFinal}:   {pausing, unchanged, []streamStep{hearOld}},
	{pausing, streamQuit}:    {over, unlimited, []streamStep{conclude}},
}

// streamNature is what makes one transcription differ from another.
type streamNature struct {
	dictated  bool // of a dictation: it goes on until it is stopped
	listened  bool // the platform has listened to it
	forgotten bool // the platform did not know it any more, once
}

// admit replaces an event that means something else to this transcription.
func (n streamNature) admit(state streamState, k streamKind) streamKind {
	tail := state == stopping || state == closing
	switch {
	case n.dictated && (tail && k == streamLost || state == stopping && k == streamMissing):
		return streamDue // nobody waits for a dictation that was stopped
	case n.dictated && n.listened && !tail && k == streamFailed,
		n.dictated && n.listened && state == starting && k == streamDue,
		n.dictated && n.listened && k == streamExpired:
		return streamSetback
	case !n.dictated && n.forgotten && k == streamMissing && (state == sending || state == stopping):
		return streamFailed // once is a restart of the platform, twice is a fault
	}
	return k
}

// next is the machine: a pure function. known is false where the event means
// nothing.
func (n streamNature) next(state streamState, k streamKind) (then streamThen, known bool) {
	then, known = streamTable[streamWhen{state, n.admit(state, k)}]
	if !known {
		return streamThen{state: state}, false
	}
	return then, true
}

// describe is for logs and tests: "opening --due--> sending".
func describe(from streamState, k streamKind, to streamState) string {
	return fmt.Sprintf("%v --%v--> %v", from, k, to)
}
