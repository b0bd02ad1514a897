package wake

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"lintod/audio"
	"lintod/audio/wyoming"
)

const (
	// infoLimit is how long a service may take to describe itself; some load their models first.
	infoLimit = 10 * time.Second
	// pulseTime is how often a service is pinged, and silenceLimit how long it may take to answer.
	pulseTime    = 10 * time.Second
	silenceLimit = 30 * time.Second
	// chunkFrames is the number of frames per message: 80 ms, the step of the models.
	chunkFrames = 4
	// maxPast is the maximum age of a detection.
	maxPast = 10 * time.Second
)

// service is a Wyoming wake word service.
type service struct {
	address string
	words   []Word
}

// The data of the events of wake word services.
type (
	// detect requests words.
	detect struct {
		Names []string `json:"names"`
	}
	stop struct {
		Timestamp *int64 `json:"timestamp"`
	}
	detection struct {
		Name string `json:"name"`
		// Timestamp is that of the chunk in which the word was detected.
		Timestamp *int64 `json:"timestamp"`
	}
	info struct {
		Wake []struct {
			Models []model `json:"models"`
		} `json:"wake"`
	}
	model struct {
		Name   string `json:"name"`
		Phrase string `json:"phrase"`
	}
)

// connection is a connection to a service.
type connection struct {
	*wyoming.Conn
	mic   *capture
	words map[string]Word // by the service's normalised name
	names []string        // the service's names
	began time.Time       // reference of time stamps
	asked chan time.Time  // when the pending ping was sent
	again chan struct{}   // holds a token when a new stream should start
}

func (s *service) run(ctx context.Context, mic *capture) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	conn, models, err := s.reach(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	x := &connection{
		Conn: conn, mic: mic, began: time.Now(),
		asked: make(chan time.Time, 1), again: make(chan struct{}, 1),
	}
	if x.words, x.names, err = match(s.words, models); err != nil {
		return err
	}
	mic.open()
	var parts sync.WaitGroup
	for _, part := range []func(context.Context) error{x.receive, x.feed, x.pulse} {
		parts.Go(func() { cancel(part(ctx)) })
	}
	parts.Wait()
	return context.Cause(ctx) // the first reason
}

// reach connects and queries the service's description.
func (s *service) reach(ctx context.Context) (*wyoming.Conn, []model, error) {
	conn, err := wyoming.Dial(ctx, s.address)
	if err != nil {
		return nil, nil, err
	}
	models, err := ask(conn)
	if err != nil {
		conn.Close()
		return nil, nil, fmt.Errorf("%s: %w", s.address, err)
	}
	return conn, models, nil
}

func ask(conn *wyoming.Conn) ([]model, error) {
	if err := conn.Send(wyoming.Describe, nil); err != nil {
		return nil, err
	}
	for limit := time.Now().Add(infoLimit); ; {
		e, err := conn.Receive(max(time.Until(limit), time.Nanosecond))
		switch {
		case err != nil:
			return nil, err
		case e.Type == wyoming.Failure:
			return nil, e.Failed()
		case e.Type != wyoming.Info:
			continue
		}
		var i info
		if err := e.Decode(&i); err != nil {
			return nil, err
		}
		if len(i.Wake) == 0 {
			return nil, errNoWake
		}
		var models []model
		for _, program := range i.Wake {
			models = append(models, program.Models...)
		}
		return models, nil
	}
}

var (
	errNoWake  = errors.New("this Wyoming service does not detect wake words")
	errNoModel = errors.New("the service does not have the wake word")
)

// match finds each word among the models of a service. A service that lists none may load them on
// request.
func match(words []Word, models []model) (byName map[string]Word, names []string, err error) {
	byName = map[string]Word{}
	for _, w := range words {
		name := w.Name
		if len(models) > 0 {
			i := slices.IndexFunc(models, func(m model) bool {
				return plain(m.Name) == plain(w.Name) || plain(m.Phrase) == plain(w.Name)
			})
			if i < 0 {
				return nil, nil, fmt.Errorf("%w %q; it has %s", errNoModel, w.Name, list(models))
			}
			name = models[i].Name
		}
		byName[plain(name)] = w
		names = append(names, name)
	}
	return byName, names, nil
}

// list returns the names of some models.
func list(models []model) string {
	var names []string
	for _, m := range models[:min(len(models), 20)] {
		names = append(names, fmt.Sprintf("%.40q", m.Name))
	}
	return strings.Join(names, ", ")
}

// receive handles the messages of the service.
func (x *connection) receive(context.Context) error {
	for {
		e, err := x.Receive(silenceLimit)
		if err != nil {
			return err
		}
		switch e.Type {
		case "detection":
			x.detected(e)
		case wyoming.Info:
			select {
			case at := <-x.asked:
				x.mic.listener.update(func(s *Status) { s.AnswerMS = time.Since(at).Milliseconds() })
			default:
			}
		case wyoming.Failure:
			return e.Failed()
		}
	}
}

func (x *connection) detected(e wyoming.Event) {
	var d detection
	if err := e.Decode(&d); err != nil {
		x.mic.listener.Log.Warn("detection ignored", "error", err)
		return
	}
	word, known := x.words[plain(d.Name)]
	if d.Name == "" && len(x.words) == 1 { // some services omit the name
		for _, word = range x.words {
			known = true
		}
	}
	if !known {
		x.mic.listener.Log.Debug("ignoring an unrequested word", "name", fmt.Sprintf("%.40q", d.Name))
		return
	}
	select {
	case x.again <- struct{}{}: // before the word is reported, so that what follows it is in the new stream
	default:
	}
	x.mic.heard(word, 0, x.over(d.Timestamp, time.Now()))
}

// over returns the end of a word. Without a valid time stamp, it is now.
func (x *connection) over(timestamp *int64, now time.Time) time.Time {
	if timestamp == nil || *timestamp < 0 || *timestamp > now.Sub(x.began).Milliseconds() {
		return now
	}
	over := x.began.Add(time.Duration(*timestamp) * time.Millisecond)
	if now.Sub(over) > maxPast {
		return now
	}
	return over
}

// feed sends the sound of mic to the service. It starts a new stream after each word, because some
// services detect only one word per stream, and after each gap, which confuses all of them.
func (x *connection) feed(ctx context.Context) error {
	if err := x.start(); err != nil {
		return err
	}
	var f audio.Frame
	chunk := make([]byte, 0, chunkFrames*2*audio.FrameSamples)
	var at time.Time // of the chunk
	for {
		gap, err := x.mic.read(ctx, &f)
		if err != nil {
			return err
		}
		select {
		case <-x.again:
			gap = true
		default:
		}
		if gap {
			chunk = chunk[:0]
			if err := x.restart(); err != nil {
				return err
			}
		}
		if len(chunk) == 0 {
			at = f.At
		}
		for _, sample := range f.PCM {
			chunk = binary.LittleEndian.AppendUint16(chunk, uint16(sample))
		}
		if len(chunk) < cap(chunk) {
			continue
		}
		if err := x.SendChunk(wyoming.Speech(), max(0, at.Sub(x.began).Milliseconds()), chunk); err != nil {
			return err
		}
		chunk = chunk[:0]
	}
}

func (x *connection) restart() error {
	// The reference implementation fails on an end without data.
	if err := x.Send(wyoming.AudioStop, stop{}); err != nil {
		return err
	}
	return x.start()
}

func (x *connection) start() error {
	if err := x.Send("detect", detect{x.names}); err != nil {
		return err
	}
	return x.Send(wyoming.AudioStart, wyoming.Speech())
}

// pulse checks that the service is alive, also while it gets no sound.
func (x *connection) pulse(ctx context.Context) error {
	beat := time.NewTicker(pulseTime)
	defer beat.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-beat.C:
		}
		select {
		case x.asked <- time.Now():
		default: // the last answer is still pending
		}
		if err := x.Send(wyoming.Describe, nil); err != nil {
			return err
		}
	}
}
