package native

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"lintod/audio/native/wire"
)

// codecLimit is how long a codec may take for one frame, which normally takes milliseconds.
const codecLimit = 5 * time.Second

var (
	// ErrNoCodec is the error of opening a codec of a kind that lintod-audio does not support.
	ErrNoCodec = errors.New("unknown codec")
	// ErrCodecsInUse is the error if wire.MaxCodecs codecs are already open.
	ErrCodecsInUse = errors.New("all codecs of the sound process are in use")
)

// RefusedError is the error for one frame or packet that cannot be converted. The codec remains
// usable.
type RefusedError string

func (e RefusedError) Error() string { return string(e) }

// CodecFormat defines a codec. Kind is its name: "identity" uses the samples as packets, 16 bits,
// little-endian; opus.Kind is Opus, at 8000, 12000, 16000, 24000, or 48000 Hz.
//
// An Opus encoder uses the settings of the xiaozhi firmware: application audio, variable bit rate,
// DTX, no FEC. An Opus decoder accepts packets of any duration, up to 120 ms; an empty packet means
// a lost one, and yields a frame of the same length as the latest, or of Frame at the start.
// Invalid packets are refused.
type CodecFormat struct {
	Kind     string
	Rate     int           // samples per second and channel
	Channels int           // interleaved
	Frame    time.Duration // a whole number of milliseconds
	// Complexity of an encoder is from 0 (fastest) to 10 (best quality).
	Complexity int
}

func (f CodecFormat) wire(encode bool) (wire.Codec, error) {
	c := wire.Codec{Kind: f.Kind, Encode: encode, Rate: f.Rate, Channels: f.Channels, FrameMS: int(f.Frame.Milliseconds()), Complexity: f.Complexity}
	if f.Frame%time.Millisecond != 0 {
		return c, fmt.Errorf("a frame of %v is not a whole number of milliseconds", f.Frame)
	}
	return c, c.Check()
}

// Encoder encodes frames to packets, in the sound process. One goroutine writes, one reads, which
// may be the same; any may call Close. Each frame yields one packet, in order. After any error
// except a RefusedError it is unusable: close it, and open another.
type Encoder struct{ *codec }

// Decoder decodes packets to frames, with the same rules as an Encoder.
type Decoder struct{ *codec }

// OpenEncoder opens an encoder. It waits some seconds if the process is not running. It does not
// need a card.
func (p *Process) OpenEncoder(ctx context.Context, f CodecFormat) (*Encoder, error) {
	k, err := p.openCodec(ctx, f, true)
	if err != nil {
		return nil, err
	}
	return &Encoder{k}, nil
}

// OpenDecoder opens a decoder, like OpenEncoder.
func (p *Process) OpenDecoder(ctx context.Context, f CodecFormat) (*Decoder, error) {
	k, err := p.openCodec(ctx, f, false)
	if err != nil {
		return nil, err
	}
	return &Decoder{k}, nil
}

func (p *Process) openCodec(ctx context.Context, f CodecFormat, encode bool) (*codec, error) {
	want, err := f.wire(encode)
	if err != nil {
		return nil, fmt.Errorf("codec %s: %w", f.Kind, err)
	}
	c, err := p.up(ctx)
	if err != nil {
		return nil, err
	}
	return c.openCodec(ctx, want)
}

// Write sends a frame. It blocks while wire.CodecWindow packets have not been read.
func (e *Encoder) Write(ctx context.Context, frame []int16) error {
	if len(frame) != e.want.FrameSamples() {
		return fmt.Errorf("a frame has %d samples; want %d", len(frame), e.want.FrameSamples())
	}
	if err := e.reserve(ctx); err != nil {
		return err
	}
	return e.sent(e.conn.w.SendSamples(wire.Convert, e.id, frame))
}

// Read blocks until the next packet is available, and returns its length. For a refused frame it
// fails with a RefusedError instead. If the packet does not fit, it fails with io.ErrShortBuffer,
// and the packet is lost; packets have at most wire.MaxPacket bytes.
func (e *Encoder) Read(ctx context.Context, packet []byte) (int, error) {
	return e.read(ctx, func(b []byte) (int, bool) { return copy(packet, b), len(b) <= len(packet) })
}

// Write sends a packet. It blocks while wire.CodecWindow frames have not been read.
func (d *Decoder) Write(ctx context.Context, packet []byte) error {
	if len(packet) > wire.MaxPacket {
		return fmt.Errorf("a packet of %d bytes is longer than %d", len(packet), wire.MaxPacket)
	}
	if err := d.reserve(ctx); err != nil {
		return err
	}
	return d.sent(d.conn.w.SendBytes(wire.Convert, d.id, packet))
}

// Read blocks until the next frame is available, and returns its length in samples of all channels
// together. Its errors are those of an Encoder.
func (d *Decoder) Read(ctx context.Context, frame []int16) (int, error) {
	return d.read(ctx, func(b []byte) (int, bool) { return wire.Samples(frame, b), len(b)/2 <= len(frame) })
}

// codec is the common part of both. Each frame or packet needs a result, which cycles through:
// free, asked, come, free.
type codec struct {
	resource
	want wire.Codec

	free  chan *result
	asked chan *result // pending results, in order
	come  chan *result
}

type result struct {
	payload []byte
	refused error
}

func newCodec(c *conn, want wire.Codec) *codec {
	k := &codec{
		resource: newResource(c),
		want:     want,
		free:     make(chan *result, wire.CodecWindow),
		asked:    make(chan *result, wire.CodecWindow),
		come:     make(chan *result, wire.CodecWindow),
	}
	for range wire.CodecWindow {
		k.free <- new(result)
	}
	return k
}

func (c *conn) openCodec(ctx context.Context, want wire.Codec) (*codec, error) {
	k := newCodec(c, want)
	if err := k.open(ctx, k, func(id uint16) error { return c.w.SendOpenCodec(id, want) }); err != nil {
		return nil, err
	}
	return k, nil
}

// reserve waits for a free result, and records that it is pending.
func (k *codec) reserve(ctx context.Context) error {
	if k.err() != nil {
		return k.err()
	}
	var a *result
	select {
	case a = <-k.free:
	default:
		k.conn.counters.codecWaits.Add(1)
		select {
		case a = <-k.free:
		case <-k.over:
			return k.err()
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.asked) == 0 && k.cause == nil {
		k.since, k.limit = time.Now(), codecLimit
	}
	k.asked <- a
	return nil
}

// sent returns the error of Write for that of sending. A message that was not sent completely
// cannot be answered.
func (k *codec) sent(err error) error {
	if err != nil {
		return k.unsent(err)
	}
	return nil
}

func (k *codec) read(ctx context.Context, take func([]byte) (n int, fits bool)) (int, error) {
	var a *result
	select {
	case a = <-k.come:
	case <-k.over:
		return 0, k.err()
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
	defer func() { k.free <- a }()
	if a.refused != nil {
		return 0, a.refused
	}
	n, fits := take(a.payload)
	if !fits {
		return n, io.ErrShortBuffer
	}
	return n, nil
}

func (k *codec) handle(m wire.Message) error {
	switch m.Type {
	case wire.Converted, wire.Refused:
		return k.converted(m)
	case wire.Opened:
		k.expectNothing()
	case wire.Unknown:
		k.expectNothing()
		k.end(fmt.Errorf("%w: %s", ErrNoCodec, wire.ParseText(m.Payload)))
		return nil
	}
	return k.resource.handle(m)
}

func (k *codec) converted(m wire.Message) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.asked) == 0 || len(m.Payload) > wire.MaxPacket {
		return fmt.Errorf("unexpected or oversized answer of a codec: %d bytes", len(m.Payload))
	}
	a := <-k.asked
	a.payload, a.refused = append(a.payload[:0], m.Payload...), nil
	if m.Type == wire.Refused {
		a.refused = RefusedError(wire.ParseText(m.Payload))
		k.conn.counters.refused.Add(1)
	} else {
		k.conn.counters.converted.Add(1)
	}
	k.come <- a
	if k.cause == nil { // otherwise the time is that of closing
		k.since = time.Time{}
		if len(k.asked) > 0 {
			k.since = time.Now()
		}
	}
	return nil
}
