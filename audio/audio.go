// Package audio defines sound for the rest of lintod: the sample format inside the daemon, the
// interface of a card (hardware, a file, or null), and the hub that owns the microphone.
//
// Sound is 16-bit signed PCM, mono. Capture is always at CaptureRate; playback is at the configured
// rate. Cards convert to their native format.
//
// Cgo, child processes, and network access do not belong here. Decoding, speech, playback, and
// recording are subpackages.
package audio

import (
	"context"
	"errors"
	"time"
)

const (
	// CaptureRate is the sample rate of captured sound, in Hz, which all known speech recognisers
	// use.
	CaptureRate = 16000
	// FrameTime is the length of a Frame.
	FrameTime = 20 * time.Millisecond
	// FrameSamples is the number of samples of a Frame.
	FrameSamples = int(CaptureRate * FrameTime / time.Second)
	// IdleDelay is the maximum delay of frames while there is no listener. It is far below
	// DeafAfter.
	IdleDelay = 700 * time.Millisecond
)

// Frame is 20 ms of captured sound. It is passed by value, so that frames can be queued without
// allocations.
type Frame struct {
	PCM [FrameSamples]int16
	// At is when the first sample was captured (with a monotonic clock reading).
	At time.Time
	// Lost is the number of samples that the card dropped immediately before this frame.
	Lost uint32
	// Speech is the result of the card's voice detection.
	Speech Speech
	// Silent means that the frame contains only zeros, which a working microphone never delivers,
	// because even a quiet room has noise. The hub sets it.
	Silent bool
	// Past means that the frame precedes the requested sound. It is for measuring the room; see
	// Hub.Room. The hub sets it.
	Past bool
}

// Speech is whether a frame has the characteristics of speech. Music and people in the background
// do too.
type Speech uint8

// Results of voice detection.
const (
	SpeechUnknown Speech = iota // no detection
	SpeechNo
	SpeechYes
)

// Detection is a method of voice detection.
type Detection string

// Methods of voice detection. In the configuration they are true, "simple", and false.
const (
	// NeuralDetection is a small neural network. If its weights are missing, SimpleDetection is
	// used.
	NeuralDetection Detection = "neural"
	// SimpleDetection uses statistics of the spectrum: it also classifies music and swelling noise
	// as voice.
	SimpleDetection Detection = "simple"
	NoDetection     Detection = ""
)

// Processing is the processing of captured sound before distribution.
type Processing struct {
	// VoiceDetection fills in Frame.Speech.
	VoiceDetection Detection `toml:"voice_detection" json:"voice_detection,omitempty"`
	// NoiseSuppression reduces steady noise, such as that of a fan.
	NoiseSuppression bool `toml:"noise_suppression" json:"noise_suppression,omitempty"`
	// AutoGain compensates for the loudness and distance of speakers.
	AutoGain bool `toml:"auto_gain" json:"auto_gain,omitempty"`
	// EchoCancelling removes the speaker's output.
	EchoCancelling bool `toml:"echo_cancelling" json:"echo_cancelling,omitempty"`
}

// ErrClosed is returned by Read and Write after Close.
var ErrClosed = errors.New("sound stream is closed")

// Input is an open microphone. One goroutine reads; any may call Close.
type Input interface {
	// Read blocks until a frame has been captured, stores the available frames, at most
	// len(frames), and returns their number. It fails with the cause when ctx ends or the card
	// fails; the Input is then unusable.
	Read(ctx context.Context, frames []Frame) (int, error)
	// Close frees the card. It blocks only until the card is closed, and may be called twice.
	Close() error
}

// Cuer is an Input that is notified when a turn starts listening. The file microphone starts its
// file then; hardware does not implement it. Its silence is intended, and never Frame.Silent.
type Cuer interface{ Cue() }

// Pacer is an Input that can save power: with a delay, frames are delivered up to that much later,
// several at a time. The initial delay is 0. SetDelay accepts at most IdleDelay and does not block;
// frames captured before the call are delivered immediately. After Close it does nothing, so that
// muting does not wait for listeners.
type Pacer interface{ SetDelay(d time.Duration) }

// Output is an open speaker. One goroutine writes; any may call Close.
type Output interface {
	// Write queues samples at the rate of the output. It blocks while more than about 60 ms are
	// queued, so that the caller runs in real time. It fails with the cause when ctx ends or the
	// card fails.
	Write(ctx context.Context, pcm []int16) error
	// Drain blocks until the last sample written has been played.
	Drain(ctx context.Context) error
	// Flush discards queued samples.
	Flush() error
	// Close frees the card; queued samples are lost.
	Close() error
}

// Card opens microphones and speakers. Errors name the device and what to do.
type Card interface {
	// OpenInput opens the microphone at CaptureRate.
	OpenInput(ctx context.Context) (Input, error)
	// OpenOutput opens the speaker for samples at the given rate.
	OpenOutput(ctx context.Context, rate int) (Output, error)
}

// Sound is a sound to play, at its own rate. One goroutine reads; any may call Close, which ends a
// blocked Read.
type Sound interface {
	// Rate returns the sample rate, in Hz, which is constant.
	Rate() int
	// Read blocks until at least one sample is available, and returns how many it stored. It
	// returns io.EOF at the end, and the reason after a failure.
	Read(ctx context.Context, pcm []int16) (int, error)
	// Close frees the source of the sound: a child process, a file, a connection. It may be called
	// twice.
	Close() error
}
