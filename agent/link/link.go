// Package link contains what links have in common: what each gets from the
// device, its status, the questions of setup, and the findings of the doctor. The
// links themselves are the packages below, one for each protocol.
//
// What must not live here: anything that only one protocol needs.
package link

import (
	"context"
	"errors"
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

// Device is the device as a link uses it. None of its functions may be called
// before the link's Run.
type Device struct {
	Serial   string // the device's name on the platform
	Version  string // of lintod
	StateDir string // for state of a link that survives restarts
	Registry *behaviors.Registry
	// Powers performs the verbs that are not safe; nil if there are none.
	Powers Powers
	// Orders verifies signed requests; nil if none are accepted.
	Orders *verifier.Verifier
	// Settings returns the settings that survive a restart.
	Settings func() state.Saved
	// Network lists the interfaces.
	Network func() ([]network.Interface, error)
	// Connected is called when the platform becomes reachable or unreachable.
	Connected func(bool)
	// Notify, if set, publishes a notice that belongs to no exchange, as text or
	// JSON.
	Notify func(w turn.What, text string)
	// Follow subscribes a link to the events of the device, of all links, until it
	// closes the subscription. A slow link never delays a turn: it loses the oldest
	// notices, which are counted (turn.Bus).
	Follow func() *turn.Subscription
	// Listen opens the microphone for a dictation, or returns why it is refused.
	// taken is called when the dictation loses the microphone; Close releases it.
	Listen func(ctx context.Context, taken func()) (turn.Stream, error)
	// Call opens an exchange of a link at its platform's request.
	Call func(ctx context.Context, t turn.Talker) error
	// MakeRoom ends what is playing, including the answer of a turn, so that the
	// link's next sound plays immediately. A turn that does not speak yet continues,
	// and the sound follows it.
	MakeRoom func(ctx context.Context) error
	// Announce speaks a text as soon as no turn is running. It does not block.
	Announce func(text string) error
	// Volume returns the current volume in percent.
	Volume func() int
	// Shown returns what the device is doing, as all views show it.
	Shown func() turn.Snapshot
	// Meeting returns the session that is being recorded, and since when; "" for none.
	Meeting func() (session string, since time.Time)
	// Turns returns the last turns of all links, oldest first.
	Turns func() []turn.Record
	// Features are the device's capabilities.
	Features Features
	// Codecs is used by links that compress sound; OutputRate is the speaker's sample
	// rate in Hz.
	Codecs     Codecs
	OutputRate int
	// Cards receives the platform's replies about cards; nil if there are no cards.
	Cards Cards
	Log   *slog.Logger
}

// Card is a card about which a platform is asked, with the content that the
// device has for it, if any.
type Card struct {
	UID            string // upper-case hexadecimal digits
	Skill, Version string
}

// Cards receives a platform's replies about a card. Its methods do not block.
// *taps.Taps implements it.
type Cards interface {
	// Content is content to download, and to play if the card is waiting for it.
	Content(uid string, c cards.Content)
	// Current reports that the device has the latest content of a skill.
	Current(uid, skill string)
	// Unknown reports that the platform does not know the card, and why.
	Unknown(uid, why string)
	// Assistant reports that the card starts a conversation.
	Assistant(uid string)
}

// Features are the capabilities of a device, for links that describe it.
type Features struct {
	Model     string   // of the board; "" if unknown
	Languages []string // with a voice
	Wake      bool     // a wake word is configured
	LEDs      bool     // there are some
	Buttons   []Button
}

// Button is a button of the device.
type Button struct {
	Name     string
	Gestures []string // that it supports, by their names in notices: "tap"
}

// Codecs opens encoders and decoders. *native.Process implements it.
type Codecs interface {
	OpenEncoder(ctx context.Context, f native.CodecFormat) (*native.Encoder, error)
	OpenDecoder(ctx context.Context, f native.CodecFormat) (*native.Decoder, error)
}

// Powers performs the verbs that are not safe. *behaviors.Executor implements it.
type Powers interface {
	// Submit accepts a request, or refuses it and returns the answer to send now.
	Submit(behaviors.Request) (refusal behaviors.Answer, accepted bool)
	// Refuse records a request, which may be for a safe verb, that is refused for the
	// reason why.
	Refuse(q behaviors.Request, why error)
	// Deliver sends the queued answers, and keeps those for which send fails.
	Deliver(link string, send func(behaviors.Answer) error) error
}

// Place is the environment in which a table of the configuration is examined or
// tried. A daemon may be running, possibly as another user.
type Place struct {
	Serial   string
	StateDir string // state of links that survives restarts
	Version  string // of lintod
	// Readable returns where a file can be read now: while the service does not run, a
	// credential is in another place.
	Readable func(path string) string
	// Protected reports whether the directory of a file keeps other users out,
	// whatever the mode of the file is.
	Protected func(path string) bool
}

// ErrActivate is returned by a trial whose platform knows the device as soon as
// the user has activated it there; the text says how.
var ErrActivate = errors.New("the device must be activated")

// Status is the status of a link of any protocol.
type Status struct {
	Connected bool   `json:"connected"`
	Line      string `json:"line,omitempty"` // the status as text for people, with the reason if not connected
	// Failed means that the last attempt to connect has failed. A link that is
	// neither connected nor has failed is connecting.
	Failed bool `json:"failed,omitempty"`
	// Refused means that the platform was reached and does not accept the
	// device until its owner changes something, there or in the configuration.
	Refused bool `json:"refused,omitempty"`
	// Activation is what the user must do before the platform accepts the device.
	Activation Activation `json:"activation,omitzero"`
	// InSession means that a conversation is in progress. A second connection with
	// the device's identity could end it.
	InSession bool `json:"in_session,omitempty"`
	// Transcript is the latest text of a live transcription.
	Transcript string `json:"transcript,omitempty"`
}

// Activation binds a device to an account: the user enters the code at the URL.
type Activation struct {
	Code    string `json:"code,omitempty"`
	Address string `json:"address,omitempty"`
	Message string `json:"message,omitempty"` // of the platform, may have several lines and include the code
}
