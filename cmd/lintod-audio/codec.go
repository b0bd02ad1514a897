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
	// convert appends to dst what src, a frame or a packet, becomes. An error is
	// about src alone.
	convert(dst, src []byte) ([]byte, error)
	close()
}

// converters makes one of each kind that this build has.
var converters = map[string]func(wire.Codec) (converter, error){
	opus.Kind:  openOpus,
	"identity": func(c wire.Codec) (converter, error) { return identity{c.Encode, 2 * c.FrameSamples()}, nil },
}

// codec is a converter, its goroutine, and the queue between the reader of
// standard input, which must never block, and that goroutine.
type codec struct {
	out    *wire.Writer
	stream uint16
	want   wire.Codec

	free     chan []byte   // buffers for the queue
	queue    chan []byte   // what is to be converted
	overflow chan struct{} // closed by the reader when lintod sent more than it may
	full     bool          // overflow is closed; the reader's
	closed   chan struct{} // closed by the reader when lintod is done with it
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

// push queues the payload of a Convert. It does not block. Only the reader calls it.
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

// run answers until closed. A codec that fails is still to be closed, as a card is.
func (c *codec) run() {
	t, err := c.serve()
	if err != nil {
		_ = c.out.SendBytes(t, c.stream, []byte(err.Error())) // else nobody hears us any more
	}
	<-c.closed
	_ = c.out.Send(wire.Closed, c.stream)
}

// serve returns nil when closed, or an error and the message to send it as.
func (c *codec) serve() (wire.Type, error) {
	open := converters[c.want.Kind]
	if open == nil {
		return wire.Unknown, fmt.Errorf("this lintod-audio has no codec %q, only %s", c.want.Kind, strings.Join(slices.Sorted(maps.Keys(converters)), ", "))
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
			c.free <- src // before lintod, which has the answer, sends the next
			if bad != nil {
				err = c.out.SendBytes(wire.Refused, c.stream, []byte(bad.Error()))
			} else {
				err = c.out.SendBytes(wire.Converted, c.stream, answer)
			}
		}
	}
	return wire.Failed, err
}

// identity makes packets of the samples themselves: it shows that the way to a
// codec and back works, without one.
type identity struct {
	encode bool
	frame  int // bytes
}

var (
	errNoFrame  = errors.New("not one frame long")
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
