// Package audio is what the rest of lintod knows of sound: the format every
// sample inside the daemon has, the contract of a card (hardware, a file, or
// nothing), and the hub that owns the microphone.
//
// Sound is 16-bit signed PCM, mono. Capture is always at CaptureRate; playback
// at the rate the player was configured with. Conversion to what a card really
// does happens at the card.
//
// What must not live here: cgo, child processes, network. Decoding, speech,
// playing and recording are packages of their own below this folder.
package audio

import (
	"context"
	"errors"
	"time"
)

const (
	// CaptureRate is the rate of captured sound in samples a second. All speech
	// recognisers that we know of want it.
	CaptureRate = 16000
	// FrameTime is how much sound a Frame holds.
	FrameTime = 20 * time.Millisecond
	// FrameSamples is the length of a captured frame.
	FrameSamples = int(CaptureRate * FrameTime / time.Second)
	// IdleDelay is how late frames may come while nobody listens. It is far below
	// DeafAfter.
	IdleDelay = 700 * time.Millisecond
)

// Frame is 20 ms of captured sound. It is passed by value, so that frames can
// wait in queues without an allocation each.
type Frame struct {
	PCM [FrameSamples]int16
	// At is when the first sample was captured (with a monotonic reading).
	At time.Time
	// Lost counts samples that the card dropped just before this frame.
	Lost uint32
	// Speech is the card's opinion on what the frame holds.
	Speech Speech
	// Silent says that a card gave nothing but zeros, as no microphone does that is
	// switched on: even a quiet room has noise. The hub sets it.
	Silent bool
	// Past says that the frame is from before what the listener asked for. It tells
	// how the room was; see Hub.Room. The hub sets it.
	Past bool
}

// Speech says whether a frame holds something that changes as speech does. Music
// and people in the background do too.
type Speech uint8

// Opinions.
const (
	SpeechUnknown Speech = iota // nobody looked
	SpeechNo
	SpeechYes
)

// Detection is what has an opinion on voices.
type Detection string

// Ways to detect voices. In a configuration they are true, "simple" and false.
const (
	// NeuralDetection is a small network. Where its weights are missing, it is
	// SimpleDetection.
	NeuralDetection Detection = "neural"
	// SimpleDetection is statistics of the spectrum: music and swelling noise are
	// voices, too.
	SimpleDetection Detection = "simple"
	NoDetection     Detection = ""
)

// Processing is what is done to captured sound before anybody gets it.
type Processing struct {
	// VoiceDetection fills in Frame.Speech.
	VoiceDetection Detection `toml:"voice_detection" json:"voice_detection,omitempty"`
	// NoiseSuppression takes away what is steady, such as a fan.
	NoiseSuppression bool `toml:"noise_suppression" json:"noise_suppression,omitempty"`
	// AutoGain evens out how loud and how far away people speak.
	AutoGain bool `toml:"auto_gain" json:"auto_gain,omitempty"`
	// EchoCancelling takes away what the loudspeaker plays.
	EchoCancelling bool `toml:"echo_cancelling" json:"echo_cancelling,omitempty"`
}

// ErrClosed is returned by Read and Write after Close.
var ErrClosed = errors.New("sound stream is closed")

// Input is an open microphone. One goroutine reads; any may Close.
type Input interface {
	// Read blocks until a frame was captured, stores those that wait, as many as
	// frames has room for, and returns how many they are. It fails with the cause
	// when ctx ends or the card fails, and is then of no more use.
	Read(ctx context.Context, frames []Frame) (int, error)
	// Close frees the card. It does not block for longer than the card does to
	// close, and may be called twice.
	Close() error
}

// Cuer is an Input that wants to know when a turn starts listening. The file
// microphone plays its file from there; hardware does not care. Its silence is
// meant, and never Frame.Silent.
type Cuer interface{ Cue() }

// Pacer is an Input that can save power: with a delay its frames come up to that
// much later, several at a time. It begins without. SetDelay takes at most IdleDelay
// and does not block; what was captured until then comes at once. After Close it does
// nothing: who mutes does not wait for who listens.
type Pacer interface{ SetDelay(d time.Duration) }

// Output is an open loudspeaker. One goroutine writes; any may Close.
type Output interface {
	// Write queues samples at the rate the output was opened with. It blocks
	// while the card has more than about 60 ms queued, so that the caller runs
	// at the card's pace. It fails with the cause when ctx ends or the card fails.
	Write(ctx context.Context, pcm []int16) error
	// Drain blocks until the last sample written has been played.
	Drain(ctx context.Context) error
	// Flush throws away what is queued and not yet played.
	Flush() error
	// Close frees the card; what is queued is lost.
	Close() error
}

// Card opens microphones and loudspeakers. Opening fails with an error that
// names the device and what to do.
type Card interface {
	// OpenInput opens the microphone at CaptureRate.
	OpenInput(ctx context.Context) (Input, error)
	// OpenOutput opens the loudspeaker for samples at the given rate.
	OpenOutput(ctx context.Context, rate int) (Output, error)
}

// Sound is something to play, at its own rate. One goroutine reads; any may
// Close, which ends a blocked Read.
type Sound interface {
	// Rate is in samples a second, and constant.
	Rate() int
	// Read blocks until at least one sample is there, and returns how many it
	// stored. At the end it returns io.EOF, after a failure the reason.
	Read(ctx context.Context, pcm []int16) (int, error)
	// Close frees what makes the sound: a child process, a file, a connection. It
	// may be called twice.
	Close() error
}
