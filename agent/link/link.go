// Package link is what links have in common: what each gets of the device, how it
// says how it is, what setup asks for it, and what the doctor finds. The links
// themselves are the packages below, one for each protocol.
//
// What must not live here: anything that one protocol needs.
package link

import (
	"context"
	"log/slog"
	"time"

	"lintod/agent/base/state"
	"lintod/agent/cards"
	"lintod/agent/network"
	"lintod/agent/signed/verifier"
	"lintod/agent/turn"
	"lintod/audio/native"
	"lintod/behaviors"
)

// Device is the device as a link gets it. None of its functions may be called
// before the link's Run.
type Device struct {
	Serial   string // the device's name at the platform
	Version  string // of lintod
	StateDir string // for what a link must keep over restarts
	Registry *behaviors.Registry
	// Powers performs the verbs that are not safe; nil when there are none.
	Powers Powers
	// Orders verifies signed requests; nil where none are taken.
	Orders *verifier.Verifier
	// Settings returns those that a restart keeps.
	Settings func() state.Saved
	// Network lists the interfaces.
	Network func() ([]network.Interface, error)
	// Connected is called when the platform can be reached and when not.
	Connected func(bool)
	// Tell, when set, publishes what belongs to no exchange, in words or JSON.
	Tell func(w turn.What, text string)
	// Follow has a link hear what happens on the device, on any link: from now on, until
	// it closes the subscription. A link that is slow never delays a turn: it loses the
	// oldest notices, which are counted (turn.Bus).
	Follow func() *turn.Subscription
	// Listen opens the microphone for a dictation, or says why not. taken is called
	// when the dictation may not have it any more; Close gives it back.
	Listen func(ctx context.Context, taken func()) (turn.Stream, error)
	// Call opens an exchange of a link because its platform wants one.
	Call func(ctx context.Context, t turn.Talker) error
	// MakeRoom ends what is heard, also the answer of a turn, so that what the link asks for
	// next is heard at once; after a turn that does not speak yet.
	MakeRoom func(ctx context.Context) error
	// Announce has a text spoken as soon as no turn runs. It does not block.
	Announce func(text string) error
	// Volume returns the present loudness, in percent.
	Volume func() int
	// Shown is what the device is doing, as all its views show it.
	Shown func() turn.Snapshot
	// Meeting names the meeting that is being recorded, and since when; "" for none.
	Meeting func() (session string, since time.Time)
	// Turns returns the last turns with all links, oldest first.
	Turns func() []turn.Record
	// Features are what the device has.
	Features Features
	// Codecs are for links whose sound is compressed; OutputRate is the loudspeaker's, in
	// samples a second.
	Codecs     Codecs
	OutputRate int
	// Cards takes what the platform answers about cards; nil where nobody asks.
	Cards Cards
	Log   *slog.Logger
}

// Card is one that a platform is asked about, with what the device has for it, if
// anything.
type Card struct {
	UID            string // upper-case hexadecimal digits
	Skill, Version string
}

// Cards takes what a platform answers about a card. Its methods do not block; *taps.Taps
// has them.
type Cards interface {
	// Content is to be downloaded, and played if the card waits for it.
	Content(uid string, c cards.Content)
	// Current says that what the device has of a skill is the newest.
	Current(uid, skill string)
	// Unknown says that the platform does not know the card, and why.
	Unknown(uid, why string)
	// Assistant says that the card begins a conversation.
	Assistant(uid string)
}

// Features are what a device has, for links that describe it.
type Features struct {
	Model     string   // of the board; "" where it is not known
	Languages []string // that have a voice
	Wake      bool     // a wake word is listened for
	Buttons   []Button
}

// Button is one that somebody may press.
type Button struct {
	Name     string
	Gestures []string // that it can make, as notices call them: "tap"
}

// Codecs opens encoders and decoders; *native.Process does.
type Codecs interface {
	OpenEncoder(ctx context.Context, f native.CodecFormat) (*native.Encoder, error)
	OpenDecoder(ctx context.Context, f native.CodecFormat) (*native.Decoder, error)
}

// Powers performs the verbs that are not safe; *behaviors.Executor does.
type Powers interface {
	// Submit accepts a request, or refuses it with the answer to send at once.
	Submit(behaviors.Request) (refusal behaviors.Answer, accepted bool)
	// Refuse takes note of a request, also for a safe verb, that why keeps from it.
	Refuse(q behaviors.Request, why string)
	// Deliver hands over the answers that wait, and keeps those that send fails on.
	Deliver(link string, send func(behaviors.Answer) error) error
}

// Place is where a table of the configuration is examined or tried: beside a running
// daemon, and perhaps by another user than the service's.
type Place struct {
	Serial   string
	StateDir string // what links keep over restarts
	Version  string // of lintod
	// Readable returns where a file can be read now: a credential of the service is in
	// another place while that does not run.
	Readable func(path string) string
	// Protected says whether the directory of a file keeps other users out, whatever
	// the mode of the file is.
	Protected func(path string) bool
}

// Status is how a link is, whatever its protocol.
type Status struct {
	Connected bool   `json:"connected"`
	Line      string `json:"line,omitempty"` // the same for people, and why not
	// Failed says that the last attempt to connect has failed; a link that neither
	// is connected nor has failed is connecting.
	Failed bool `json:"failed,omitempty"`
	// Refused says that the platform was reached and does not let the device in
	// until somebody acts, there or in the configuration.
	Refused bool `json:"refused,omitempty"`
	// Activation is what the user has to do before the platform lets the device in.
	Activation Activation `json:"activation,omitzero"`
	// InSession says that a conversation goes on, which a second connection with the
	// device's identity may end.
	InSession bool `json:"in_session,omitempty"`
	// Transcript is what the platform has understood last of a live transcription.
	Transcript string `json:"transcript,omitempty"`
}

// Activation binds a device to an account: the user enters the code at the address.
type Activation struct {
	Code    string `json:"code,omitempty"`
	Address string `json:"address,omitempty"`
	Message string `json:"message,omitempty"` // of the platform, in lines; the code may be in it
}
