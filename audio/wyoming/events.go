package wyoming

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
)

// The events of all kinds of services.
const (
	Describe   = "describe" // requests the description
	Info       = "info"     // the description
	AudioStart = "audio-start"
	AudioChunk = "audio-chunk"
	AudioStop  = "audio-stop"
	Failure    = "error"
)

// Format is the format of a stream's samples. It is the data of audio-start, and part of that of
// each audio-chunk.
type Format struct {
	Rate     int `json:"rate"`     // samples a second
	Width    int `json:"width"`    // bytes a sample; little-endian, signed
	Channels int `json:"channels"` // interleaved
}

// Speech is the format of nearly all services: 16 kHz, 16 bit, mono.
func Speech() Format { return Format{Rate: 16000, Width: 2, Channels: 1} }

// Format parses and validates the format of an audio-start or audio-chunk.
func (e Event) Format() (Format, error) {
	var f Format
	if err := e.Decode(&f); err != nil {
		return f, err
	}
	if f.Rate < 4000 || f.Rate > 192000 || f.Width != 2 || f.Channels < 1 || f.Channels > 2 {
		return f, fmt.Errorf("%w: sound of %d Hz, %d bytes per sample, %d channels; want 16 bits and one or two channels", ErrFormat, f.Rate, f.Width, f.Channels)
	}
	return f, nil
}

// Failed returns the error of an event of type Failure.
func (e Event) Failed() error {
	var told struct {
		Text string `json:"text"`
		Code string `json:"code"`
	}
	_ = e.Decode(&told) // any data means a failure
	if told.Text == "" {
		told.Text = told.Code
	}
	if told.Text == "" {
		return errors.New("the Wyoming service failed without a reason")
	}
	return fmt.Errorf("the Wyoming service failed: %.200s", told.Text)
}

// SendChunk sends samples, like Send. The time stamp is in milliseconds since a time chosen by the
// sender. It does not allocate.
func (c *Conn) SendChunk(f Format, timestamp int64, samples []byte) error {
	c.sending.Lock()
	defer c.sending.Unlock()
	b := append(c.data[:0], `{"rate":`...)
	b = strconv.AppendInt(b, int64(f.Rate), 10)
	b = append(b, `,"width":`...)
	b = strconv.AppendInt(b, int64(f.Width), 10)
	b = append(b, `,"channels":`...)
	b = strconv.AppendInt(b, int64(f.Channels), 10)
	b = append(b, `,"timestamp":`...)
	b = strconv.AppendInt(b, timestamp, 10)
	c.data = append(b, '}')
	return c.send(Event{Type: AudioChunk, Data: json.RawMessage(c.data), Payload: samples})
}
