// Package wire is the protocol between lintod and lintod-audio: framed binary messages on the
// child's standard input and output. Both programs come from the same build, so the version only
// detects an incomplete upgrade.
//
// A frame is a header of eight bytes, little-endian, and a payload:
//
//	type uint8 · zero uint8 · stream uint16 · length uint32 · payload
//
// lintod assigns the stream numbers; every answer has the number of its request. Each side sends
// Hello first.
//
// A stream is a request and its answers: for a sound card, a list of devices, or a codec. Cards are
// opened one at a time, and may take seconds; codecs do not wait for cards.
//
// Devices, processes, and decisions do not belong here.
package wire

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"time"
)

// Version must be equal on both sides.
const Version = 10

// MaxBatch is the maximum number of captured frames in a message: more than the card captures
// within audio.IdleDelay.
const MaxBatch = 40

const (
	headerSize = 8
	// MaxPayload is the maximum size of a payload. A list of devices is the longest message; frames
	// of sound are far shorter.
	MaxPayload = 64 << 10
)

// Type is the type of a message.
type Type uint8

// Messages. The comment names the sender and the payload.
const (
	_          Type = iota
	Hello           // both, first: magic and Version
	List            // lintod: list the devices
	OpenInput       // lintod: Open as JSON
	OpenOutput      // lintod: Open as JSON
	Close           // lintod: free the device, or cancel opening it
	Play            // lintod: samples
	Flush           // lintod: discard unplayed samples
	Drain           // lintod: send Drained when everything sent has been played
	Devices         // lintod-audio: []audio.Device as JSON
	Chosen          // lintod-audio, before Opened and at each change: Choice as JSON
	Opened          // lintod-audio: the device runs
	Closed          // lintod-audio: the device is free
	Capture         // lintod-audio: consecutive Captured
	Played          // lintod-audio: Progress
	Drained         // lintod-audio: Progress
	Delay           // lintod: captured frames may be sent in batches, delayed by this many ms; 0: immediately
	OpenCodec       // lintod: Codec as JSON
	Convert         // lintod: a frame of samples for an encoder, a packet for a decoder
	Converted       // lintod-audio: the packet or the samples, one for each Convert, in the same order
	Refused         // lintod-audio, instead of Converted: text. The codec remains usable
	Unknown         // lintod-audio, instead of Opened: text. This build has no such codec
	Failed          // lintod-audio: text. The stream is unusable; stream 0: the program
	numTypes
)

func (t Type) String() string {
	names := [numTypes]string{
		"0", "hello", "list", "open input", "open output", "close", "play", "flush", "drain",
		"devices", "chosen", "opened", "closed", "capture", "played", "drained", "delay",
		"open codec", "convert", "converted", "refused", "unknown", "failed",
	}
	if t < numTypes {
		return names[t]
	}
	return fmt.Sprintf("type %d", uint8(t))
}

// Message is one received frame.
type Message struct {
	Type    Type
	Stream  uint16
	Payload []byte // valid until the next Read
}

// Reader reads messages from a stream. It allocates only if a payload is longer than all before.
type Reader struct {
	r      io.Reader
	header [headerSize]byte
	buf    []byte
}

// NewReader returns a Reader. It does not read beyond the requested message.
func NewReader(r io.Reader) *Reader { return &Reader{r: r} }

// Read blocks until a complete message has arrived. It returns io.EOF at an end between two
// messages, and an error for anything that is not a message.
func (r *Reader) Read() (Message, error) {
	if _, err := io.ReadFull(r.r, r.header[:]); err != nil {
		return Message{}, err
	}
	m := Message{Type: Type(r.header[0]), Stream: binary.LittleEndian.Uint16(r.header[2:])}
	size := binary.LittleEndian.Uint32(r.header[4:])
	if m.Type == 0 || m.Type >= numTypes || r.header[1] != 0 || size > MaxPayload {
		return Message{}, fmt.Errorf("no message starts with % x", r.header)
	}
	if int(size) > cap(r.buf) {
		r.buf = make([]byte, size)
	}
	m.Payload = r.buf[:size]
	if _, err := io.ReadFull(r.r, m.Payload); err != nil {
		return Message{}, fmt.Errorf("message %q is truncated: %w", m.Type, io.ErrUnexpectedEOF)
	}
	return m, nil
}

// Writer sends messages, and may be used by any goroutine. Each message is one Write.
type Writer struct {
	mu  sync.Mutex
	w   io.Writer
	buf []byte
}

// NewWriter returns a Writer.
func NewWriter(w io.Writer) *Writer {
	return &Writer{w: w, buf: make([]byte, headerSize, 2<<10)}
}

// Send writes a message without payload.
func (w *Writer) Send(t Type, stream uint16) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.begin(t, stream)
	return w.flush()
}

// SendBytes writes a message with an encoded payload.
func (w *Writer) SendBytes(t Type, stream uint16, payload []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.begin(t, stream)
	w.buf = append(w.buf, payload...)
	return w.flush()
}

// SendHello sends this side's version.
func (w *Writer) SendHello() error {
	return w.SendBytes(Hello, 0, binary.LittleEndian.AppendUint16([]byte(magic), Version))
}

// SendOpen requests a device; t is OpenInput or OpenOutput.
func (w *Writer) SendOpen(t Type, stream uint16, o Open) error { return w.sendJSON(t, stream, o) }

// SendOpenCodec requests an encoder or a decoder.
func (w *Writer) SendOpenCodec(stream uint16, c Codec) error {
	return w.sendJSON(OpenCodec, stream, c)
}

// SendChoice reports the device of a stream.
func (w *Writer) SendChoice(stream uint16, c Choice) error {
	c.Why = c.Why[:min(len(c.Why), maxText)]
	return w.sendJSON(Chosen, stream, c)
}

func (w *Writer) sendJSON(t Type, stream uint16, v any) error {
	payload, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("%s: %w", t, err)
	}
	return w.SendBytes(t, stream, payload)
}

// SendSamples sends at most MaxPayload/2 samples, to play or to encode; t is Play
// or Convert.
func (w *Writer) SendSamples(t Type, stream uint16, pcm []int16) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.begin(t, stream)
	w.samples(pcm)
	return w.flush()
}

// SendCapture sends captured frames, at most MaxBatch.
func (w *Writer) SendCapture(stream uint16, batch []Captured) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.begin(Capture, stream)
	for i := range batch {
		c := &batch[i]
		w.buf = binary.LittleEndian.AppendUint64(w.buf, uint64(c.At))
		w.buf = binary.LittleEndian.AppendUint32(w.buf, c.Lost)
		w.buf = binary.LittleEndian.AppendUint32(w.buf, c.Clipped)
		w.buf = append(w.buf, byte(c.Speech))
		w.samples(c.PCM[:])
	}
	return w.flush()
}

// SendDelay sets how late captured frames may be sent.
func (w *Writer) SendDelay(stream uint16, d time.Duration) error {
	return w.SendBytes(Delay, stream, binary.LittleEndian.AppendUint16(nil, uint16(d.Milliseconds())))
}

// SendProgress reports playback; t is Played or Drained.
func (w *Writer) SendProgress(t Type, stream uint16, p Progress) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.begin(t, stream)
	w.buf = binary.LittleEndian.AppendUint64(w.buf, p.Samples)
	w.buf = binary.LittleEndian.AppendUint32(w.buf, p.Underruns)
	return w.flush()
}

// begin starts a message in the buffer; flush completes and writes it. The caller holds the lock
// from begin to flush.
func (w *Writer) begin(t Type, stream uint16) {
	w.buf = append(w.buf[:0], byte(t), 0, byte(stream), byte(stream>>8), 0, 0, 0, 0)
}

func (w *Writer) samples(pcm []int16) {
	for _, s := range pcm {
		w.buf = append(w.buf, byte(s), byte(uint16(s)>>8))
	}
}

func (w *Writer) flush() error {
	size := len(w.buf) - headerSize
	if size > MaxPayload {
		return fmt.Errorf("message of %d bytes is longer than %d", size, MaxPayload)
	}
	binary.LittleEndian.PutUint32(w.buf[4:], uint32(size))
	_, err := w.w.Write(w.buf)
	return err
}
