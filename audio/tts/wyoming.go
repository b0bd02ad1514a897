package tts

import (
	"context"
	"errors"
	"fmt"
	"io"

	"lintod/audio/wav"
	"lintod/audio/wyoming"
)

// wyoming uses a Wyoming service. Without a name, the service uses its default voice.
func (c Config) wyoming(ctx context.Context, v voice, text string) (source, error) {
	conn, err := wyoming.Dial(ctx, c.Address)
	if err != nil {
		return nil, err
	}
	ask := synthesize{Text: text}
	if v.name != "" {
		ask.Voice = &named{v.name}
	}
	if err := conn.Send("synthesize", ask); err != nil {
		conn.Close()
		return nil, err
	}
	return &service{conn: conn}, nil
}

type (
	synthesize struct {
		Text  string `json:"text"`
		Voice *named `json:"voice,omitempty"`
	}
	named struct {
		Name string `json:"name"`
	}
)

// service is the synthesis of a text by a Wyoming service: audio-start, any number of audio-chunk,
// audio-stop. Receive has no timeout here, because ctx closes the connection.
type service struct {
	conn   *wyoming.Conn
	format wyoming.Format
	rest   []byte // of the last chunk
}

func (s *service) open() (*wav.Reader, error) {
	if err := s.receive(); err != nil {
		if errors.Is(err, io.EOF) {
			err = errNoSound
		}
		return nil, err
	}
	return wav.NewRawReader(s, s.format.Rate, s.format.Channels), nil
}

// Read implements io.Reader for samples.
func (s *service) Read(p []byte) (int, error) {
	for len(s.rest) == 0 {
		if err := s.receive(); err != nil {
			return 0, err
		}
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

// receive returns the next event about sound. It returns io.EOF after the last one.
func (s *service) receive() error {
	for {
		e, err := s.conn.Receive(0)
		switch {
		case errors.Is(err, io.EOF):
			return errHungUp
		case err != nil:
			return err
		}
		switch e.Type {
		case wyoming.AudioStart, wyoming.AudioChunk:
			s.rest = e.Payload
			return s.check(e)
		case wyoming.AudioStop:
			return io.EOF
		case wyoming.Failure:
			return e.Failed()
		}
	}
}

// check fails if the service changes the format.
func (s *service) check(e wyoming.Event) error {
	f, err := e.Format()
	if err != nil {
		return err
	}
	if s.format == (wyoming.Format{}) {
		s.format = f
	}
	if f != s.format {
		return fmt.Errorf("%w: from %+v to %+v", errChanged, s.format, f)
	}
	return nil
}

func (s *service) end() error { return s.conn.Close() }
