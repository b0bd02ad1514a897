package native

import (
	"context"

	"lintod/audio"
	"lintod/audio/native/wire"
)

// openDevice is the common part of inputs and outputs: a card.
type openDevice struct {
	resource
	way audio.Direction
}

func newOpenDevice(c *conn, way audio.Direction) openDevice { return openDevice{newResource(c), way} }

// open requests the card and waits until it runs; self is the stream that d is part of.
func (d *openDevice) open(ctx context.Context, t wire.Type, self stream, o wire.Open) error {
	return d.resource.open(ctx, self, func(id uint16) error { return d.conn.w.SendOpen(t, id, o) })
}

func (d *openDevice) handle(m wire.Message) error {
	if m.Type != wire.Chosen {
		return d.resource.handle(m)
	}
	choice, err := wire.ParseChoice(m.Payload)
	if err != nil {
		return err
	}
	d.conn.chosen(d.way, choice)
	return nil
}
