package wyoming

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
)

// The events that all kinds of service share.
const (
	Describe   = "describe" // what can you do?
	Info       = "info"     // the answer to it
	AudioStart = "audio-start"
	AudioChunk = "audio-chunk"
	AudioStop  = "audio-stop"
	Failure    = "error"
)

// Format says what the samples of a stream are. It is the data of audio-start,
// and part of that of each audio-chunk.
type Format struct {
	Rate     int `json:"rate"`     // samples a second
	Width    int `json:"width"`    // bytes a sample; little-endian, signed
	Channels int `json:"channels"` // interleaved
}

// Speech is what nearly all services take: 16 kHz, 16 bit, mono.
func Speech() Format { return Format{Rate: 16000, Width: 2, Channels: 1} }

// Format reads and checks the format of an audio-start or audio-chunk.
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

// Failed is the error that an event of the type Failure tells.
func (e Event) Failed() error {
	var told struct {
		Text string `json:"text"`
		Code string `json:"code"`
	}
	_ = e.Decode(&told) // whatever it is, it is a failure
	if told.Text == "" {
		told.Text = told.Code
	}
	if told.Text == "" {
		return errors.New("the Wyoming service failed without a reason")
	}
	return fmt.Errorf("the Wyoming service failed: %.200s", told.Text)
}

// SendChunk sends samples as Send does. The timestamp is in milliseconds, from
// a beginning of the sender's choice. It allocates nothing.
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
