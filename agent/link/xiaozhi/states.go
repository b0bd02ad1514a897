package xiaozhi

import "fmt"

// state is where the link stands. The protocol's own names for its states, by which
// servers and other devices call them, are in protocolState.
type state uint8

const (
	offline    state = iota // no server can be reached yet, or any more
	idle                    // a server can be reached; no session is open
	preparing               // a session is wanted, and hello may not go out yet
	connecting              // hello is out
	open                    // a session is open, and nobody talks in it
	listening               // the server hears the microphone
	waiting                 // the server has the request
	announced               // it said that its answer begins; no sound has come yet
	speaking                // the answer is heard
	draining                // the server has sent all of it; the rest is heard
	leaving                 // the same, and the server has ended the session
	closing                 // our goodbye is out, and the server may echo it
	numStates
)

var stateNames = [...]string{
	"offline", "idle", "preparing", "connecting", "open", "listening", "waiting", "announced", "speaking", "draining", "leaving", "closing",
}

func (s state) String() string { return stateNames[s] }

// protocolState is the name of a state in the protocol.
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

// inSession tells whether a server has a session for the device.
func (s state) inSession() bool { return s >= open && s <= draining }

// eventKind is something that happened.
type eventKind uint8

const (
	// The connection.
	up      eventKind = iota // a server can be reached
	down                     // it cannot any more
	ready                    // hello may go out
	refused                  // no session is to be had

	// An exchange of the device.
	wantListen // the user speaks
	wantAnswer // the server is asked without the microphone
	join       // the device takes the server's call
	finished   // the user has finished
	nothing    // nobody spoke
	played     // an answer has been heard to its last sample
	heardPart  // the same, and another has begun
	heardOut   // the same, and the microphone is still open
	voiceless  // nothing of it came
	unplayed   // the loudspeaker failed in it, and may be back
	dropped    // the exchange is over for the device, whatever the server thinks
	unwanted   // the device does not take the server's call
	warm       // a card begins a conversation: a session is opened ahead of the button
	cool       // that card was taken away before

	// The server.
	hello    // the session is open
	ttsStart // an answer begins
	firstOpus
	ttsStop
	stopMic // it has heard enough
	goodbye // it has ended the session
	lapsed  // the same at once, in answer to our first message: it knew of no session
	request // it wants to speak

	due     // the time of the state is over
	dead    // UDP does not work: sound that was announced does not arrive, or the port is closed
	garbled // it arrives, and is no Opus: another key may help
	numEvents
)

var eventNames = [...]string{
	"up", "down", "ready", "refused", "want-listen", "want-answer", "join", "finished", "nothing", "played", "heard-part", "heard-out", "voiceless", "unplayed",
	"dropped", "unwanted", "warm", "cool",
	"hello", "tts-start", "first-opus", "tts-stop", "stop-mic", "goodbye", "lapsed", "request", "due", "dead", "garbled",
}

func (e eventKind) String() string { return eventNames[e] }

// step is something to do.
type step uint8

const (
	tellOnline     step = iota // triggers are served
	tellOffline                // they are refused
	prepare                    // make hello possible: posts ready or refused
	sendHello                  //
	openSound                  // to where the server's hello says
	proceed                    // with what the exchange that waits wants
	startMic                   // listen start, and the microphone flows
	ask                        // what is asked without the microphone
	stopMicrophone             // listen stop, or speech_end
	cutMic                     // the server has heard enough
	startSound                 // an answer begins; the exchange, if there is one, gets it
	giveSound                  // hand the answer that has begun to the exchange
	stopSound                  // it has an end
	dropSound                  // and is not wanted any more
	again                      // another answer follows the one that is heard
	call                       // open an exchange for what the server says by itself
	suspect                    // no sound has come in time
	trust                      // some has
	abort                      // tell the server that the answer is not wanted
	sayTimeout                 // tell it that its sound does not arrive
	sayGoodbye                 //
	endSession                 // forget it
	over                       // the exchange has ended well
	fail                       // it has not
)

// limit is how long a state may last.
type limit uint8

const (
	unlimited  limit = iota
	unchanged        // what is left of the present one
	forPrepare       // the tools are being listed
	forHello         // 10 s
	forIdle          // 120 s without a sign of the server; what was said then would be lost
	forVoice         // silence_timeout without a voice, or a sign of the server
	forAnswer        // 20 s without a sign of the server
	forOpus          // 3 s to the first sound
	forMore          // 35 s without one; a tool may take 30 s
	forTail          // 8 s for what is left
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

// table is the protocol. A pair that is missing changes nothing and does nothing;
// states_test.go walks every pair and says which those are.
var table = map[when]then{
	{offline, up}:         {idle, unlimited, []step{tellOnline, proceed}},
	{offline, wantListen}: {offline, unlimited, []step{fail}},
	{offline, wantAnswer}: {offline, unlimited, []step{fail}},
	{offline, join}:       {offline, unlimited, []step{over}},

	{idle, down}:       {offline, unlimited, []step{tellOffline}},
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
	{preparing, down}:    {offline, unlimited, []step{endSession, tellOffline, fail}},

	{connecting, hello}:   {open, forIdle, []step{openSound, proceed}},
	{connecting, refused}: {idle, unlimited, []step{endSession, fail}},
	{connecting, cool}:    {idle, unlimited, []step{endSession}},
	{connecting, due}:     {idle, unlimited, []step{endSession, fail}},
	{connecting, down}:    {offline, unlimited, []step{endSession, tellOffline, fail}},

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
	{open, down}:       {offline, unlimited, []step{endSession, tellOffline}},

	{listening, finished}: {waiting, forAnswer, []step{stopMicrophone}},
	{listening, nothing}:  {closing, forEcho, []step{sayGoodbye, endSession, over}},
	{listening, stopMic}:  {waiting, forAnswer, []step{cutMic}},
	{listening, ttsStart}: {announced, forOpus, []step{startSound}},
	{listening, goodbye}:  {idle, unlimited, []step{endSession, fail}},
	{listening, refused}:  {idle, unlimited, []step{endSession, fail}},
	{listening, dead}:     {closing, forEcho, []step{sayTimeout, endSession, fail}},
	{listening, lapsed}:   {preparing, forPrepare, []step{endSession, prepare}},
	{listening, dropped}:  {closing, forEcho, []step{sayGoodbye, endSession}},
	{listening, due}:      {closing, forEcho, []step{sayGoodbye, endSession, over}},
	{listening, down}:     {offline, unlimited, []step{endSession, tellOffline, fail}},

	{waiting, ttsStart}: {announced, forOpus, []step{startSound}},
	{waiting, goodbye}:  {idle, unlimited, []step{endSession, fail}},
	{waiting, refused}:  {idle, unlimited, []step{endSession, fail}},
	{waiting, dead}:     {closing, forEcho, []step{sayTimeout, endSession, fail}},
	{waiting, lapsed}:   {preparing, forPrepare, []step{endSession, prepare}},
	{waiting, dropped}:  {open, forIdle, []step{abort}},
	{waiting, due}:      {closing, forEcho, []step{sayGoodbye, endSession, fail}},
	{waiting, down}:     {offline, unlimited, []step{endSession, tellOffline, fail}},

	{announced, firstOpus}:  {speaking, forMore, []step{trust}},
	{announced, unplayed}:   {announced, unchanged, []step{giveSound}},
	{announced, join}:       {announced, unchanged, []step{giveSound}},
	{announced, wantListen}: {listening, forVoice, []step{dropSound, abort, startMic}}, // before the call was taken
	{announced, wantAnswer}: {waiting, forAnswer, []step{dropSound, abort, ask}},
	{announced, ttsStop}:    {draining, forTail, []step{stopSound}},
	{announced, goodbye}:    {leaving, forTail, []step{stopSound, endSession}},
	{announced, refused}:    {leaving, forTail, []step{stopSound, endSession}},
	{announced, unwanted}:   {open, forIdle, []step{dropSound, abort}},
	{announced, dropped}:    {open, forIdle, []step{dropSound, abort}},
	{announced, due}:        {announced, forOpus, []step{suspect}},
	{announced, dead}:       {closing, forEcho, []step{sayTimeout, endSession, fail}},
	{announced, garbled}:    {closing, forEcho, []step{dropSound, sayGoodbye, endSession, fail}},
	{announced, down}:       {offline, unlimited, []step{endSession, tellOffline, fail}},

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
	{speaking, down}:       {offline, unlimited, []step{endSession, tellOffline, fail}},

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
	{draining, down}:       {offline, unlimited, []step{endSession, tellOffline, fail}},

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
	{leaving, down}:       {offline, unlimited, []step{tellOffline, fail}},

	{closing, goodbye}: {idle, unlimited, []step{proceed}},
	{closing, refused}: {idle, unlimited, []step{proceed}},
	{closing, due}:     {idle, unlimited, []step{proceed}},
	{closing, down}:    {offline, unlimited, []step{tellOffline, fail}},
}

// describe is for logs and tests.
func describe(from state, e eventKind, to state) string {
	return fmt.Sprintf("%v --%v--> %v", from, e, to)
}
