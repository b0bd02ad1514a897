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

// claimLimit is how long a turn waits for the previous stream to end.
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
	// publish sends one message on streaming/<step>. It must not keep the payload
	// after it has returned nil.
	publish func(ctx context.Context, step string, payload []byte, qos byte) error
	uplink  *uplink
	listen  func(ctx context.Context, taken func()) (turn.Stream, error) // the microphone, for dictations
	chunk   int                                                          // bytes
	// patience is how long a turn waits for a lost connection. A dictation waits
	// until it is stopped.
	patience time.Duration
	notify   notifyFunc // publishes notices that belong to no exchange
	doubt    func()     // called when the platform does not transcribe
	log      *slog.Logger

	slot       chan struct{} // holds a token while a stream uses the platform
	stopped    time.Time     // when the last stream was stopped, if that still matters; guarded by slot
	reached    time.Time     // when a stream that was stopped early can be stopped; guarded by slot
	stream     atomic.Pointer[transcription]
	dictation  atomic.Pointer[dictation]
	dictations chan *dictation

	streams, chunks, lost, restarts atomic.Int64
	afterStop                       atomic.Int32

	mu   sync.Mutex
	last string // the latest text
}

// The platform's behaviour after a stop: not known yet, sends nothing, or sends
// the last words.
const (
	unknown int32 = iota
	noWords
	someWords
)

// streaming is the prefix of the topics of live transcription.
const streaming = "streaming/"

func (l *Link) newLive() *live {
	return &live{
		publish: func(ctx context.Context, step string, payload []byte, qos byte) error {
			return l.conn.Publish(ctx, broker.Message{Topic: l.egress(streaming + step), Payload: payload, QoS: qos})
		},
		uplink: l.uplink, listen: l.Listen, notify: l.notify, doubt: l.doubt, log: l.Log,
		chunk:      int(l.Config.Chunk.Std()/audio.FrameTime) * 2 * audio.FrameSamples,
		patience:   l.Config.AnswerTimeout.Std(),
		slot:       make(chan struct{}, 1),
		dictations: make(chan *dictation, 1),
	}
}

// LiveStats are the counters of live transcription.
type LiveStats struct {
	Dictating   bool   `json:"dictating"`
	Streams     int64  `json:"streams"`              // started, including restarts
	Restarts    int64  `json:"restarts"`             // after an interruption
	Chunks      int64  `json:"chunks"`               // messages of sound sent
	LostSamples int64  `json:"lost_samples"`         // dropped because the link was slow
	Transcript  string `json:"transcript,omitempty"` // the latest text
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

// understood publishes what a person said on the bus and in the status; the
// journal gets it only at debug level.
func (s *transcription) understood(what turn.What, text string) {
	s.note(text)
	s.log.Debug("understood", "kind", what, "text", text)
	s.notify(what, text)
}

func (l *live) note(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last = printable.Clip(text, 1000)
}

// claim makes s the stream that receives answers. It waits for the slot for at
// most limit.
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

// transcribe streams an utterance while it is recorded, and returns the
// transcript.
func (l *Link) transcribe(ctx context.Context, x *turn.Exchange, r *recording) (string, error) {
	s := newTranscription(l.live, r)
	s.notify, s.enough, s.opened = x.Notify, x.Enough, func() { x.Notify(turn.RequestOut, "") }
	if err := l.live.claim(ctx, s, claimLimit); err != nil {
		return "", err
	}
	defer l.live.vacate()
	text, err := s.run(ctx)
	if err == nil {
		l.live.note(text) // the turn publishes it
	}
	return text, err
}

// handleStream handles a message on streaming/<step>.
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
	case e.kind == streamText || e.kind == streamFinal: // too late, but shows that waiting is worthwhile
		l.live.afterStop.Store(someWords)
	}
}

// dictation is a stream that belongs to no turn.
type dictation struct {
	stream  *transcription
	mic     turn.Stream
	stop    context.CancelFunc // ends the sound; what was said is still transcribed
	started chan struct{}
	done    chan struct{}
	err     error // set before done is closed
}

// StartDictation streams the microphone until StopDictation, independently of
// turns. It returns nil when the platform is ready, or why it failed.
func (l *Link) StartDictation(ctx context.Context) error { return l.live.start(ctx) }

// StopDictation ends the dictation, without blocking. done is closed when the
// platform has sent the rest of the transcript, or has timed out.
func (l *Link) StopDictation() (done <-chan struct{}, err error) { return l.live.end() }

// Dictating reports whether the microphone is being streamed.
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
	d.mic.SetDelay(time.Duration(l.chunk) * time.Second / (2 * audio.CaptureRate)) // earlier frames only wait for the rest of their chunk
	if err := l.claim(ctx, d.stream, 0); err != nil {
		d.mic.Close()
		return err
	}
	l.dictation.Store(d)
	l.dictations <- d // never blocks: only the holder of the slot sends
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
		l.notify(turn.Problem, fmt.Sprintf("dictation: %v", d.err))
	}
	l.notify(turn.Transcribing, "dictation ended")
	close(d.done)
}
