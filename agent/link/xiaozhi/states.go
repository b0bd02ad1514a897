package xiaozhi

import "fmt"

// state is the state of the link. The protocol's names for its states, which
// servers and other devices use, are in protocolState.
type state uint8

const (
	offline    state = iota // no server can be reached
	idle                    // a server can be reached; no session is open
	preparing               // a session is requested, and hello may not be sent yet
	connecting              // hello was sent
	open                    // a session is open and unused
	listening               // the microphone is sent to the server
	waiting                 // the server works on the request
	announced               // it announced its answer; no sound has arrived yet
	speaking                // the answer plays
	draining                // the server has sent all of it; the rest plays
	leaving                 // as draining, and the server has ended the session
	closing                 // our goodbye was sent, and the server may echo it
	numStates
)

var stateNames = [...]string{
	"offline", "idle", "preparing", "connecting", "open", "listening", "waiting", "announced", "speaking", "draining", "leaving", "closing",
}

func (s state) String() string { return stateNames[s] }

// protocolState is the protocol's name of a state.
func (s state) protocolState() string {
	switch s {
	case offline:
		return "starting"
	case preparing, connecting:
		return "connecting"
	case listening:
		return "listening"
	case announced, speaking, draining, leaving:
		return "speaking"
	}
	return "idle"
}

// inSession reports whether the server has a session for the device.
func (s state) inSession() bool { return s >= open && s <= draining }

// eventKind is the kind of an event.
type eventKind uint8

const (
	// The connection.
	up      eventKind = iota // a server can be reached
	down                     // no server can be reached
	ready                    // hello may be sent
	refused                  // the server opens no session

	// An exchange of the device.
	wantListen // the user speaks
	wantAnswer // a question without the microphone
	join       // the device accepts the server's call
	finished   // the user has finished
	unheard    // as finished, but no speech was detected
	nothing    // no speech was detected for so long that the conversation ends
	played     // an answer was played to its last sample
	heardPart  // as played, and another answer has started
	heardOut   // as played, and the microphone is still open
	voiceless  // no sound of the answer arrived
	unplayed   // the speaker failed during the answer, and may recover
	dropped    // the exchange has ended on the device
	unwanted   // the device refuses the server's call
	warm       // a card starts a conversation: a session is opened before the button is pressed
	cool       // that card was removed before that

	// The server.
	hello    // the session is open
	ttsStart // an answer starts
	firstOpus
	ttsStop
	stopMic // the server ends the utterance
	goodbye // the server has ended the session
	lapsed  // goodbye in answer to our first message: the server did not know the session
	request // the server requests to speak

	due     // the time limit of the state has passed
	dead    // UDP does not work: announced sound does not arrive, or the port is closed
	garbled // sound arrives but is not Opus: a new key may help
	numEvents
)

var eventNames = [...]string{
	"up", "down", "ready", "refused", "want-listen", "want-answer", "join", "finished", "unheard", "nothing", "played", "heard-part", "heard-out", "voiceless", "unplayed",
	"dropped", "unwanted", "warm", "cool",
	"hello", "tts-start", "first-opus", "tts-stop", "stop-mic", "goodbye", "lapsed", "request", "due", "dead", "garbled",
}

func (e eventKind) String() string { return eventNames[e] }

// step is an action to perform.
type step uint8

const (
	setOnline      step = iota // report the link as online
	setOffline                 // report the link as offline
	prepare                    // prepare hello: posts ready or refused
	sendHello                  //
	openSound                  // to the address in the server's hello
	proceed                    // with the request of the waiting exchange
	startMic                   // send listen start, and open the gate
	ask                        // send a question without the microphone
	stopMicrophone             // send listen stop or speech_end
	cutMic                     // the server has ended the utterance
	startSound                 // start an answer; pass it to the exchange, if there is one
	giveSound                  // pass the started answer to the exchange
	stopSound                  // mark the end of the answer
	dropSound                  // discard the answer
	again                      // another answer follows the current one
	call                       // open an exchange for speech without a request
	suspect                    // no sound has arrived in time
	trust                      // sound has arrived
	abort                      // send abort for the current answer
	sayTimeout                 // report missing sound to the server
	sayGoodbye                 //
	endSession                 // close the session
	over                       // the exchange has succeeded
	fail                       // the exchange has failed
)

// limit is the time limit of a state.
type limit uint8

const (
	unlimited  limit = iota
	unchanged        // the timer continues
	forPrepare       // the tools are being listed
	forHello         // 10 s
	forIdle          // 120 s without a message from the server, after which it may have forgotten the session
	forVoice         // silence_timeout without a voice or a message from the server
	forAnswer        // 20 s without a message from the server
	forOpus          // 3 s to the first sound
	forMore          // 35 s without one; a tool may take 30 s
	forTail          // 8 s for the rest of the sound
	forEcho          // 1 s
)

type when struct {
	state state
	event eventKind
}

type then struct {
	state state
	limit limit
	do    []step
}

// table is the protocol. A missing pair changes nothing and has no effect;
// states_test.go walks every pair and lists those.
var table = map[when]then{
	{offline, up}:         {idle, unlimited, []step{setOnline, proceed}},
	{offline, wantListen}: {offline, unlimited, []step{fail}},
	{offline, wantAnswer}: {offline, unlimited, []step{fail}},
	{offline, join}:       {offline, unlimited, []step{over}},

	{idle, down}:       {offline, unlimited, []step{setOffline}},
	{idle, wantListen}: {preparing, forPrepare, []step{prepare}},
	{idle, wantAnswer}: {preparing, forPrepare, []step{prepare}},
	{idle, warm}:       {preparing, forPrepare, []step{prepare}},
	{idle, request}:    {idle, unlimited, []step{call}},
	{idle, join}:       {idle, unlimited, []step{over}},

	{preparing, ready}:   {connecting, forHello, []step{sendHello}},
	{preparing, due}:     {connecting, forHello, []step{sendHello}},
	{preparing, refused}: {idle, unlimited, []step{endSession, fail}},
	{preparing, cool}:    {idle, unlimited, []step{endSession}},
	{preparing, dropped}: {idle, unlimited, []step{endSession}},
	{preparing, down}:    {offline, unlimited, []step{endSession, setOffline, fail}},

	{connecting, hello}:   {open, forIdle, []step{openSound, proceed}},
	{connecting, refused}: {idle, unlimited, []step{endSession, fail}},
	{connecting, cool}:    {idle, unlimited, []step{endSession}},
	{connecting, due}:     {idle, unlimited, []step{endSession, fail}},
	{connecting, down}:    {offline, unlimited, []step{endSession, setOffline, fail}},

	{open, wantListen}: {listening, forVoice, []step{startMic}},
	{open, wantAnswer}: {waiting, forAnswer, []step{ask}},
	{open, dead}:       {closing, forEcho, []step{sayTimeout, endSession, fail}},
	{open, join}:       {open, unchanged, []step{over}},
	{open, request}:    {open, unchanged, []step{call}},
	{open, ttsStart}:   {announced, forOpus, []step{startSound, call}},
	{open, refused}:    {idle, unlimited, []step{endSession, fail}}, // its hello cannot be used
	{open, goodbye}:    {idle, unlimited, []step{endSession}},
	{open, lapsed}:     {idle, unlimited, []step{endSession}},
	{open, cool}:       {closing, forEcho, []step{sayGoodbye, endSession}},
	{open, due}:        {closing, forEcho, []step{sayGoodbye, endSession}},
	{open, down}:       {offline, unlimited, []step{endSession, setOffline}},

	{listening, finished}: {waiting, forAnswer, []step{stopMicrophone}},
	{listening, unheard}:  {open, forIdle, []step{stopMicrophone, over}}, // servers do not answer silence
	{listening, nothing}:  {closing, forEcho, []step{sayGoodbye, endSession, over}},
	{listening, stopMic}:  {waiting, forAnswer, []step{cutMic}},
	{listening, ttsStart}: {announced, forOpus, []step{startSound}},
	{listening, goodbye}:  {idle, unlimited, []step{endSession, fail}},
	{listening, refused}:  {idle, unlimited, []step{endSession, fail}},
	{listening, dead}:     {closing, forEcho, []step{sayTimeout, endSession, fail}},
	{listening, lapsed}:   {preparing, forPrepare, []step{endSession, prepare}},
	{listening, dropped}:  {closing, forEcho, []step{sayGoodbye, endSession}},
	{listening, due}:      {closing, forEcho, []step{sayGoodbye, endSession, over}},
	{listening, down}:     {offline, unlimited, []step{endSession, setOffline, fail}},

	{waiting, ttsStart}: {announced, forOpus, []step{startSound}},
	{waiting, goodbye}:  {idle, unlimited, []step{endSession, fail}},
	{waiting, refused}:  {idle, unlimited, []step{endSession, fail}},
	{waiting, dead}:     {closing, forEcho, []step{sayTimeout, endSession, fail}},
	{waiting, lapsed}:   {preparing, forPrepare, []step{endSession, prepare}},
	{waiting, dropped}:  {open, forIdle, []step{abort}},
	{waiting, due}:      {closing, forEcho, []step{sayGoodbye, endSession, fail}},
	{waiting, down}:     {offline, unlimited, []step{endSession, setOffline, fail}},

	{announced, firstOpus}:  {speaking, forMore, []step{trust}},
	{announced, unplayed}:   {announced, unchanged, []step{giveSound}},
	{announced, join}:       {announced, unchanged, []step{giveSound}},
	{announced, wantListen}: {listening, forVoice, []step{dropSound, abort, startMic}}, // before the call was accepted
	{announced, wantAnswer}: {waiting, forAnswer, []step{dropSound, abort, ask}},
	{announced, ttsStop}:    {draining, forTail, []step{stopSound}},
	{announced, goodbye}:    {leaving, forTail, []step{stopSound, endSession}},
	{announced, refused}:    {leaving, forTail, []step{stopSound, endSession}},
	{announced, unwanted}:   {open, forIdle, []step{dropSound, abort}},
	{announced, dropped}:    {open, forIdle, []step{dropSound, abort}},
	{announced, due}:        {announced, forOpus, []step{suspect}},
	{announced, dead}:       {closing, forEcho, []step{sayTimeout, endSession, fail}},
	{announced, garbled}:    {closing, forEcho, []step{dropSound, sayGoodbye, endSession, fail}},
	{announced, down}:       {offline, unlimited, []step{endSession, setOffline, fail}},

	{speaking, unplayed}:   {speaking, unchanged, []step{giveSound}},
	{speaking, join}:       {speaking, unchanged, []step{giveSound}},
	{speaking, wantListen}: {listening, forVoice, []step{dropSound, abort, startMic}},
	{speaking, wantAnswer}: {waiting, forAnswer, []step{dropSound, abort, ask}},
	{speaking, ttsStop}:    {draining, forTail, []step{stopSound}},
	{speaking, due}:        {draining, forTail, []step{stopSound}},
	{speaking, goodbye}:    {leaving, forTail, []step{stopSound, endSession}},
	{speaking, refused}:    {leaving, forTail, []step{stopSound, endSession}},
	{speaking, unwanted}:   {open, forIdle, []step{dropSound, abort}},
	{speaking, dropped}:    {open, forIdle, []step{dropSound, abort}},
	{speaking, garbled}:    {closing, forEcho, []step{dropSound, sayGoodbye, endSession, fail}},
	{speaking, down}:       {offline, unlimited, []step{endSession, setOffline, fail}},

	{draining, played}:     {open, forIdle, []step{over}},
	{draining, due}:        {open, forIdle, []step{dropSound, over}},
	{draining, dead}:       {closing, forEcho, []step{sayTimeout, endSession, fail}},
	{draining, voiceless}:  {open, forIdle, []step{fail}},
	{draining, heardPart}:  {announced, forOpus, []step{startSound}},
	{draining, heardOut}:   {listening, forVoice, []step{startMic}},
	{draining, unplayed}:   {draining, unchanged, []step{giveSound}},
	{draining, join}:       {draining, unchanged, []step{giveSound}},
	{draining, wantListen}: {listening, forVoice, []step{dropSound, startMic}},
	{draining, wantAnswer}: {waiting, forAnswer, []step{dropSound, ask}},
	{draining, ttsStart}:   {draining, unchanged, []step{again}},
	{draining, goodbye}:    {leaving, unchanged, []step{endSession}},
	{draining, refused}:    {leaving, unchanged, []step{endSession}},
	{draining, unwanted}:   {open, forIdle, []step{dropSound}},
	{draining, dropped}:    {open, forIdle, []step{dropSound}},
	{draining, garbled}:    {closing, forEcho, []step{dropSound, sayGoodbye, endSession, fail}},
	{draining, down}:       {offline, unlimited, []step{endSession, setOffline, fail}},

	{leaving, played}:     {idle, unlimited, []step{over}},
	{leaving, due}:        {idle, unlimited, []step{dropSound, over}},
	{leaving, voiceless}:  {idle, unlimited, []step{fail}},
	{leaving, heardPart}:  {idle, unlimited, []step{over}},
	{leaving, heardOut}:   {idle, unlimited, []step{over}},
	{leaving, unplayed}:   {leaving, unchanged, []step{giveSound}},
	{leaving, join}:       {leaving, unchanged, []step{giveSound}},
	{leaving, wantListen}: {idle, unlimited, []step{dropSound, proceed}},
	{leaving, wantAnswer}: {idle, unlimited, []step{dropSound, proceed}},
	{leaving, unwanted}:   {idle, unlimited, []step{dropSound}},
	{leaving, dropped}:    {idle, unlimited, []step{dropSound}},
	{leaving, garbled}:    {idle, unlimited, []step{dropSound, fail}},
	{leaving, down}:       {offline, unlimited, []step{setOffline, fail}},

	{closing, goodbye}: {idle, unlimited, []step{proceed}},
	{closing, refused}: {idle, unlimited, []step{proceed}},
	{closing, due}:     {idle, unlimited, []step{proceed}},
	{closing, down}:    {offline, unlimited, []step{setOffline, fail}},
}

// describe formats a transition for logs and tests.
func describe(from state, e eventKind, to state) string {
	return fmt.Sprintf("%v --%v--> %v", from, e, to)
}
