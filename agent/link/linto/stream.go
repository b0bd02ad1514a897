package linto

import "fmt"

// This is a live transcription as a table: state, event, next state and steps. It
// has no clock and no I/O; transcription.go feeds events to it and carries out
// its steps.

// streamState is the state of a live transcription (protocol 1.5).
type streamState uint8

const (
	connecting streamState = iota // waits for the broker
	starting                      // the platform was asked to start
	held                          // the platform has not released an earlier stream of this device
	opening                       // it has started, but may not have reached its recogniser
	sending                       // sound is sent as it is recorded
	stopping                      // all sound was sent, and the platform was asked to stop
	closing                       // the platform has stopped; the last text is expected
	pausing                       // before the next attempt, after an interruption
	over
	numStates
)

var stateNames = [...]string{"connecting", "starting", "held", "opening", "sending", "stopping", "closing", "pausing", "over"}

func (s streamState) String() string { return stateNames[s] }

// streamKind is an event of a live transcription.
type streamKind uint8

const (
	// From the platform.
	streamStarted streamKind = iota
	streamAlready            // refused: there is a stream of this serial
	streamPartial            // the text so far of an unfinished utterance
	streamText               // the text of a finished utterance
	streamStopped            // by us or by the platform
	streamFinal              // the rest, after a stop
	streamMissing            // refused: there is no stream
	streamFailed             // anything else

	// From the connection.
	streamConnected
	streamLost

	// From the microphone.
	streamSound    // enough for one message, or the rest
	streamFinished // all of it was sent
	streamBroken   // it failed
	streamQuit     // stopped by the user before all of it was sent

	// From the clock.
	streamDue     // the time limit of the state has passed
	streamExpired // the platform has held an earlier stream for too long

	// streamSetback replaces an error from which a dictation recovers. Only the
	// machine makes it.
	streamSetback
	numKinds
)

var kindNames = [...]string{
	"started", "already", "partial", "text", "stopped", "final", "missing", "failed", "connected", "lost",
	"sound", "finished", "broken", "quit", "due", "expired", "setback",
}

func (k streamKind) String() string { return kindNames[k] }

// streamStep is an action to perform.
type streamStep uint8

const (
	askStart    streamStep = iota // publish streaming/start
	askStop                       // publish streaming/stop
	release                       // stop an earlier stream, unless that was just done
	rewind                        // resend to the new stream what the previous one did not transcribe
	send                          // publish streaming/chunk
	begun                         // report that the platform is ready
	enough                        // report to the turn that the platform has ended the stream
	interrupted                   // count and publish the interruption
	hear                          // text of this stream
	hearOld                       // text of an earlier stream
	conclude                      // the transcript so far is the result
	fail                          // return the reason
)

var stepNames = [...]string{
	"ask-start", "ask-stop", "release", "rewind", "send", "begun", "enough", "interrupted", "hear", "hear-old", "conclude", "fail",
}

func (s streamStep) String() string { return stepNames[s] }

// streamLimit is the time limit of a state.
type streamLimit uint8

const (
	unchanged   streamLimit = iota // the timer continues
	unlimited                      //
	forBroker                      // the platform's answer timeout; a dictation waits until it is stopped
	forStart                       // for the answer to a start
	forRelease                     // until the next start
	forOpening                     // for the platform to reach its recogniser
	forLastWord                    // for the rest of the transcript
	forMore                        // for a final result after a last word
	forPause                       // grows with the number of attempts
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

// streamTable is the machine. A missing pair changes nothing and has no
// effect; machine_test.go walks every pair and lists those.
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

	// Only "started" starts a stream: the one that the platform still has is not ours.
	{held, streamDue}:     {starting, forStart, []streamStep{askStart}},
	{held, streamExpired}: {over, unlimited, []streamStep{fail}},
	{held, streamSetback}: {pausing, forPause, nil},
	{held, streamStarted}: {opening, forOpening, []streamStep{rewind}}, // a late answer
	{held, streamLost}:    {pausing, forPause, nil},
	{held, streamPartial}: {held, unchanged, []streamStep{hearOld}},
	{held, streamText}:    {held, unchanged, []streamStep{hearOld}},
	{held, streamFinal}:   {held, unchanged, []streamStep{hearOld}},
	{held, streamQuit}:    {over, unlimited, []streamStep{conclude}},

	// Text that arrives before any sound was sent belongs to an earlier stream.
	// Answers to an earlier start and stop may also be late.
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

	// Until the platform has handled the stop, a text may be that of the
	// utterance before the last.
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

// streamNature is what distinguishes one transcription from another.
type streamNature struct {
	dictated  bool // of a dictation, which continues until it is stopped
	listened  bool // the platform was ready for it
	forgotten bool // the platform has reported it as unknown once
}

// admit replaces an event that has a different meaning for this transcription.
func (n streamNature) admit(state streamState, k streamKind) streamKind {
	tail := state == stopping || state == closing
	switch {
	case n.dictated && (tail && k == streamLost || state == stopping && k == streamMissing):
		return streamDue // a stopped dictation does not wait
	case n.dictated && n.listened && !tail && k == streamFailed,
		n.dictated && n.listened && state == starting && k == streamDue,
		n.dictated && n.listened && k == streamExpired:
		return streamSetback
	case !n.dictated && n.forgotten && k == streamMissing && (state == sending || state == stopping):
		return streamFailed // once means a restart of the platform, twice an error
	}
	return k
}

// next is the machine: a pure function. known is false if the event has no
// meaning in the state.
func (n streamNature) next(state streamState, k streamKind) (then streamThen, known bool) {
	then, known = streamTable[streamWhen{state, n.admit(state, k)}]
	if !known {
		return streamThen{state: state}, false
	}
	return then, true
}

// describe formats a transition for logs and tests: "opening --due--> sending".
func describe(from streamState, k streamKind, to streamState) string {
	return fmt.Sprintf("%v --%v--> %v", from, k, to)
}
