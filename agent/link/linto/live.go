package linto

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"lintod/agent/base/printable"
	"lintod/agent/broker"
	"lintod/agent/turn"
	"lintod/audio"
)

// claimLimit is how long a turn waits for the one before it to let go.
const claimLimit = 2 * time.Second

var (
	errDictating = errors.New("a dictation is running, and the platform transcribes one stream per device; stop it with `lintod stream -stop`")
	errLiveTurn  = errors.New("the platform is transcribing a turn; try again when it has ended")
	errNoMore    = errors.New("no dictation is running")
	errAway      = errors.New("the platform cannot be reached")
)

// live owns the one live transcription that a device may have (protocol 1.5),
// of a turn or of a dictation. Its fields are set before use.
type live struct {
	// publish sends one message on streaming/<step>; it must not keep the payload
	// after it has returned nil.
	publish func(ctx context.Context, step string, payload []byte, qos byte) error
	uplink  *uplink
	listen  func(ctx context.Context, taken func()) (turn.Stream, error) // the microphone, for dictations
	chunk   int                                                          // bytes
	// patience is how long a turn waits for a lost connection. A dictation waits
	// forever.
	patience time.Duration
	tell     notify // for what belongs to no exchange
	doubt    func() // is called when the platform does not transcribe
	log      *slog.Logger

	slot       chan struct{} // holds a token while a stream has the platform
	stopped    time.Time     // when the last one was, where that may still count; the slot's
	reached    time.Time     // when one that was stopped at once can be stopped; the slot's
	stream     atomic.Pointer[transcription]
	dictation  atomic.Pointer[dictation]
	dictations chan *dictation

	streams, chunks, lost, restarts atomic.Int64
	afterStop                       atomic.Int32

	mu   sync.Mutex
	last string // what was understood last
}

// What the platform says after a stop: not known yet, nothing, or the last words.
const (
	unknown int32 = iota
	noWords
	someWords
)

// streaming begins the topics of live transcription.
const streaming = "streaming/"

func (l *Link) newLive() *live {
	return &live{
		publish: func(ctx context.Context, step string, payload []byte, qos byte) error {
			return l.conn.Publish(ctx, broker.Message{Topic: l.egress(streaming + step), Payload: payload, QoS: qos})
		},
		uplink: l.uplink, listen: l.Listen, tell: l.tell, doubt: l.doubt, log: l.Log,
		chunk:      int(l.Config.Chunk.Std()/audio.FrameTime) * 2 * audio.FrameSamples,
		patience:   l.Config.AnswerTimeout.Std(),
		slot:       make(chan struct{}, 1),
		dictations: make(chan *dictation, 1),
	}
}

// LiveStats are the counters of live transcription.
type LiveStats struct {
	Dictating   bool   `json:"dictating"`
	Streams     int64  `json:"streams"`              // begun, also again after an interruption
	Restarts    int64  `json:"restarts"`             // because of an interruption
	Chunks      int64  `json:"chunks"`               // messages of sound sent
	LostSamples int64  `json:"lost_samples"`         // sound that was dropped because the link was slow
	Transcript  string `json:"transcript,omitempty"` // what was understood last
}

func (l *live) stats() LiveStats {
	l.mu.Lock()
	last := l.last
	l.mu.Unlock()
	return LiveStats{
		Dictating: l.dictation.Load() != nil, Streams: l.streams.Load(), Restarts: l.restarts.Load(),
		Chunks: l.chunks.Load(), LostSamples: l.lost.Load(), Transcript: last,
	}
}

// understood notes what a person said: for the bus and the status, and for the
// journal at debug only.
func (s *transcription) understood(what turn.What, text string) {
	s.note(text)
	s.log.Debug("understood", "kind", what, "text", text)
	s.tell(what, text)
}

func (l *live) note(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last = printable.Clip(text, 1000)
}

// claim makes s the stream that answers go to; it waits for room at most limit.
func (l *live) claim(ctx context.Context, s *transcription, limit time.Duration) error {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case l.slot <- struct{}{}:
		l.stream.Store(s)
		return nil
	default:
	}
	if l.dictation.Load() != nil {
		return errDictating
	}
	select {
	case l.slot <- struct{}{}:
		l.stream.Store(s)
		return nil
	case <-timer.C:
		return errLiveTurn
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (l *live) vacate() {
	l.stream.Store(nil)
	<-l.slot
}

// transcribe streams an utterance while it is recorded, and returns what the
// platform understood.
func (l *Link) transcribe(ctx context.Context, x *turn.Exchange, r *recording) (string, error) {
	s := newTranscription(l.live, r)
	s.tell, s.enough, s.opened = x.Notify, x.Enough, func() { x.Notify(turn.RequestOut, "") }
	if err := l.live.claim(ctx, s, claimLimit); err != nil {
		return "", err
	}
	defer l.live.vacate()
	text, err := s.run(ctx)
	if err == nil {
		l.live.note(text) // the turn will tell
	}
	return text, err
}

// handleStream takes what the platform says on streaming/<step>.
func (l *Link) handleStream(step string, payload []byte) {
	if len(payload) > maxAnswer {
		l.Log.Warn("answer ignored: too long", "bytes", len(payload), "limit", maxAnswer)
		return
	}
	e, err := parseStreaming(step, payload)
	if err != nil {
		l.Log.Warn("message ignored", "topic", printable.Clip("streaming/"+step, 60), "error", err)
		return
	}
	s := l.live.stream.Load()
	switch {
	case s != nil:
		s.take(e)
	case e.kind == streamText || e.kind == streamFinal: // too late, but it is worth waiting
		l.live.afterStop.Store(someWords)
	}
}

// dictation is a stream that belongs to no turn.
type dictation struct {
	stream  *transcription
	mic     turn.Stream
	stop    context.CancelFunc // no more sound; what was said is still understood
	started chan struct{}
	done    chan struct{}
	err     error // set before done is closed
}

// StartDictation streams the microphone until StopDictation, whatever turns do
// meanwhile. It returns when the platform listens, or why it does not.
func (l *Link) StartDictation(ctx context.Context) error { return l.live.start(ctx) }

// StopDictation ends the dictation, without blocking. done is closed when the
// platform has said the rest of what it understood, or has had its time.
func (l *Link) StopDictation() (done <-chan struct{}, err error) { return l.live.end() }

// Dictating tells whether the microphone is streamed now.
func (l *Link) Dictating() bool { return l.live.dictation.Load() != nil }

func (l *live) start(ctx context.Context) error {
	if !l.uplink.isUp() {
		return errAway
	}
	d := &dictation{stream: newTranscription(l, newRecording(l, dictationMemory)), started: make(chan struct{}), done: make(chan struct{})}
	d.stream.hearing, d.stop = context.WithCancel(context.Background())
	d.stream.dictated = true
	var err error
	if d.mic, err = l.listen(ctx, d.stop); err != nil {
		return err
	}
	d.mic.SetDelay(time.Duration(l.chunk) * time.Second / (2 * audio.CaptureRate)) // what comes sooner waits for the rest of its chunk
	if err := l.claim(ctx, d.stream, 0); err != nil {
		d.mic.Close()
		return err
	}
	l.dictation.Store(d)
	l.dictations <- d // there is room: who has the slot is alone
	select {
	case <-d.started:
		return nil
	case <-d.done:
		return d.err
	case <-ctx.Done():
		d.stop()
		return context.Cause(ctx)
	}
}

func (l *live) end() (<-chan struct{}, error) {
	d := l.dictation.Load()
	if d == nil {
		return nil, errNoMore
	}
	d.stop()
	return d.done, nil
}

// runDictations owns the dictations until ctx ends.
func (l *live) runDictations(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case d := <-l.dictations:
			l.dictate(ctx, d)
		}
	}
}

func (l *live) dictate(ctx context.Context, d *dictation) {
	defer context.AfterFunc(ctx, d.stop)()
	var recorder sync.WaitGroup
	recorder.Go(func() {
		d.stream.recording.record(d.stream.hearing.Done(), func(f *audio.Frame) error {
			err := d.mic.Read(d.stream.hearing, f)
			if err != nil && d.stream.hearing.Err() != nil {
				return io.EOF
			}
			return err
		})
	})
	d.stream.opened = func() { close(d.started) }
	_, d.err = d.stream.run(ctx)
	d.stop()
	recorder.Wait()
	d.mic.Close()
	l.dictation.Store(nil)
	l.vacate()
	if d.err != nil && ctx.Err() == nil {
		l.log.Warn("dictation failed", "error", d.err)
		l.tell(turn.Problem, fmt.Sprintf("dictation: %v", d.err))
	}
	l.tell(turn.Transcribing, "dictation ended")
	close(d.done)
}
