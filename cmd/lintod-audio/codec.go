//go:build cgo

package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"lintod/audio/native/wire"
	"lintod/audio/opus"
)

// converter is an encoder or a decoder. One goroutine uses it.
type converter interface {
	// convert converts src, a frame or a packet, and appends the result to dst. An error affects
	// only src.
	convert(dst, src []byte) ([]byte, error)
	close()
}

// converters creates the converters that this build supports.
var converters = map[string]func(wire.Codec) (converter, error){
	opus.Kind:  openOpus,
	"identity": func(c wire.Codec) (converter, error) { return identity{c.Encode, 2 * c.FrameSamples()}, nil },
}

// codec is a converter with its goroutine, and the queue between that goroutine and the reader of
// standard input, which must never block.
type codec struct {
	out    *wire.Writer
	stream uint16
	want   wire.Codec

	free     chan []byte   // buffers for the queue
	queue    chan []byte   // pending payloads
	overflow chan struct{} // closed by the reader when lintod exceeds the limit
	full     bool          // overflow is closed; owned by the reader
	closed   chan struct{} // closed by the reader when lintod closes the codec
}

func newCodec(out *wire.Writer, stream uint16, want wire.Codec) *codec {
	c := &codec{
		out:      out,
		stream:   stream,
		want:     want,
		free:     make(chan []byte, wire.CodecWindow),
		queue:    make(chan []byte, wire.CodecWindow),
		overflow: make(chan struct{}),
		closed:   make(chan struct{}),
	}
	for range wire.CodecWindow {
		c.free <- nil
	}
	return c
}

// push queues the payload of a Convert message. It does not block. Only the reader calls it.
func (c *codec) push(payload []byte) {
	if c.full {
		return
	}
	select {
	case buf := <-c.free:
		c.queue <- append(buf[:0], payload...)
	default:
		c.full = true
		close(c.overflow)
	}
}

// run answers until the codec is closed. A failed codec must still be closed by lintod, like a
// card.
func (c *codec) run() {
	t, err := c.serve()
	if err != nil {
		_ = c.out.SendBytes(t, c.stream, []byte(err.Error())) // otherwise lintod is gone
	}
	<-c.closed
	_ = c.out.Send(wire.Closed, c.stream)
}

// serve returns nil when closed, or an error and the message type for it.
func (c *codec) serve() (wire.Type, error) {
	open := converters[c.want.Kind]
	if open == nil {
		return wire.Unknown, fmt.Errorf("this lintod-audio does not support the codec %q, only %s", c.want.Kind, strings.Join(slices.Sorted(maps.Keys(converters)), ", "))
	}
	conv, err := open(c.want)
	if err != nil {
		return wire.Failed, fmt.Errorf("codec %s: %w", c.want.Kind, err)
	}
	defer conv.close()
	err = c.out.Send(wire.Opened, c.stream)
	answer := make([]byte, 0, wire.MaxPacket)
	for err == nil {
		select {
		case <-c.closed:
			return 0, nil
		case <-c.overflow:
			return wire.Failed, fmt.Errorf("codec %s: more than %d frames or packets are waiting", c.want.Kind, wire.CodecWindow)
		case src := <-c.queue:
			var bad error
			answer, bad = conv.convert(answer[:0], src)
			c.free <- src // before lintod receives the answer and sends the next
			if bad != nil {
				err = c.out.SendBytes(wire.Refused, c.stream, []byte(bad.Error()))
			} else {
				err = c.out.SendBytes(wire.Converted, c.stream, answer)
			}
		}
	}
	return wire.Failed, err
}

// identity uses the samples themselves as packets, to test the transport without a real codec.
type identity struct {
	encode bool
	frame  int // bytes
}

var (
	errNoFrame  = errors.New("the length is not one frame")
	errNoPacket = errors.New("not a packet of whole samples of at most one frame")
)

func (i identity) convert(dst, src []byte) ([]byte, error) {
	switch {
	case i.encode && len(src) != i.frame:
		return dst, errNoFrame
	case !i.encode && (len(src) == 0 || len(src)%2 != 0 || len(src) > i.frame):
		return dst, errNoPacket
	}
	return append(dst, src...), nil
}

func (identity) close() {}
