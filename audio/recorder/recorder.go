// Package recorder records the microphone to files, across turns, mute, lost sound cards, power
// cuts, and full disks. A recording keeps its timeline: missing sound is replaced by silence, and
// recorded in a mark next to the file.
//
// The policy (behaviors), and the messages of platforms (agent/link), do not belong here.
package recorder

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"
	"unicode/utf8"

	"lintod/agent/base/printable"
	"lintod/audio"
)

// maxLogged is how much of a session's name is logged, in bytes.
const maxLogged = 60

// Stream is a subscription to the microphone, as provided by audio.Hub.
type Stream interface {
	// Read blocks until a frame is available; it returns queued frames even if ctx has ended.
	Read(ctx context.Context, f *audio.Frame) error
	Close() error
}

// Recorder makes one recording at a time. Its fields are set before Run; its
// methods may be called by any goroutine.
type Recorder struct {
	Config Config
	// Listen subscribes to the microphone.
	Listen func() Stream
	// Muted reports, for the marks, whether the microphone is muted; nil means never.
	Muted func() bool
	// Changed is called when a recording has started, was resumed, or has ended. It must not block
	// or call the recorder.
	Changed func(Event)
	// HTTP is the client for uploads; nil means one that trusts the system's authorities.
	HTTP *http.Client
	Log  *slog.Logger

	longest int64 // samples per file; 0 means maxSegment

	mu     sync.Mutex
	inbox  chan request // nil unless Run is ready
	gone   chan struct{}
	status Status
}

// Event reports that recording has started or ended.
type Event struct {
	Session   string // the platform's name of the session
	Recording bool
	// Err is why a recording ended without a stop, or was not resumed.
	Err error
}

// File is a recording that was stopped.
type File struct {
	Session  string        `json:"session"`
	Path     string        `json:"path"`     // the last file, relative to the directory
	Duration time.Duration `json:"duration"` // since the start, or since it was last resumed
}

// Status is the state of the recorder.
type Status struct {
	Recording bool          `json:"recording"`
	Session   string        `json:"session,omitempty"`
	Since     time.Time     `json:"since,omitzero"`
	File      string        `json:"file,omitempty"` // relative to the directory
	Duration  time.Duration `json:"duration,omitempty"`
	Lost      time.Duration `json:"lost,omitempty"`   // sound that was lost
	Silent    time.Duration `json:"silent,omitempty"` // time muted or without a microphone
	Hole      bool          `json:"hole,omitempty"`   // currently no sound arrives
	Uploads   Uploads       `json:"uploads,omitzero"`
}

var (
	// ErrNotRecording is returned by Stop if there is nothing to stop.
	ErrNotRecording = errors.New("no recording is running")
	errStopped      = errors.New("stopped")
	errOther        = errors.New("another recording is running")
	errStale        = errors.New("the interruption was too long")
)

type request struct {
	session string
	start   bool
	answer  chan answer // buffered
}

type answer struct {
	file File
	err  error
}

// diskBeat is how often an unusable directory is tried again.
const diskBeat = 2 * time.Second

// Run repairs and resumes what was interrupted, and then records on request, until ctx ends; a
// recording that is running at that time is resumed by the next Run. While the directory is
// unusable, requests fail with the reason; it is tried again at each request, and every two
// seconds.
func (r *Recorder) Run(ctx context.Context) error {
	o := &owner{Recorder: r, putDown: func() {}}
	return o.serve(ctx)
}

// Start starts a recording and returns when its file is on disk. Starting the current one again is
// not an error. It blocks for the disk, or until ctx ends.
func (r *Recorder) Start(ctx context.Context, session string) error {
	if session == "" || len(session) > maxSession || !utf8.ValidString(session) {
		return fmt.Errorf("a session name must have 1 to %d bytes of UTF-8", maxSession)
	}
	_, err := r.ask(ctx, request{session: session, start: true})
	return err
}

// Stop ends the recording and returns when its file is complete and on disk. An empty session means
// the current one. It blocks for the disk, or until ctx ends.
func (r *Recorder) Stop(ctx context.Context, session string) (File, error) {
	return r.ask(ctx, request{session: session})
}

// Active returns the current recording, or "", and its start.
func (r *Recorder) Active() (session string, since time.Time) {
	s := r.Status()
	return s.Session, s.Since
}

// Status returns the current state. It does not wait for the disk.
func (r *Recorder) Status() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.status
}

func (r *Recorder) setStatus(change func(*Status)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(&r.status)
}

func (r *Recorder) ask(ctx context.Context, q request) (File, error) {
	q.answer = make(chan answer, 1)
	r.mu.Lock()
	inbox, gone := r.inbox, r.gone
	r.mu.Unlock()
	if inbox == nil {
		return File{}, errors.New("the recorder is not running; see the log")
	}
	select {
	case inbox <- q:
	case <-gone:
		return File{}, errors.New("the recorder is stopping")
	case <-ctx.Done():
		return File{}, fmt.Errorf("the recorder is waiting for the disk: %w", context.Cause(ctx))
	}
	select {
	case a := <-q.answer:
		return a.file, a.err
	case <-ctx.Done():
		return File{}, fmt.Errorf("the recorder is waiting for the disk: %w", context.Cause(ctx))
	}
}

// owner is the goroutine of Run: it decides what is recorded.
type owner struct {
	*Recorder
	shelf     *shelf // nil while the directory is unusable
	uploads   *uploader
	putDown   func()     // ends the uploads and closes shelf
	recording *recording // nil if none is running
	cancel    context.CancelCauseFunc
	ended     chan error // the recording's goroutine is gone
}

func (o *owner) serve(ctx context.Context) error {
	inbox, gone := make(chan request), make(chan struct{})
	o.mu.Lock()
	o.inbox, o.gone = inbox, gone
	o.mu.Unlock()
	defer func() {
		o.mu.Lock()
		o.inbox = nil
		o.mu.Unlock()
		close(gone)
	}()
	defer func() { o.putDown() }()
	if err := o.takeUp(ctx); err != nil {
		o.Log.Error("recording is not possible until the directory of recordings is usable", "error", err)
	}
	var again <-chan time.Time // a nil channel never receives
	if o.shelf == nil {
		beat := time.NewTicker(diskBeat)
		defer beat.Stop()
		again = beat.C
	}
	for {
		select {
		case q := <-inbox:
			err := o.takeUp(ctx)
			var file File
			if err == nil {
				file, err = o.handle(q)
			}
			q.answer <- answer{file, err}
		case <-again:
			if o.takeUp(ctx) == nil {
				again = nil
			}
		case err := <-o.ended:
			o.failed(err)
		case <-ctx.Done():
			o.suspend(context.Cause(ctx))
			return context.Cause(ctx)
		}
	}
}

// takeUp opens the directory, and continues what an earlier Run has left there. It does nothing if
// the directory is open and still the same: a disk may have been mounted, or the directory deleted.
func (o *owner) takeUp(ctx context.Context) error {
	if o.shelf != nil && (o.recording != nil || o.shelf.standsAt(o.Config.Directory)) {
		return nil
	}
	o.putDown()
	s, err := openShelf(o.Config.Directory)
	if err != nil {
		return err
	}
	o.shelf = s
	interrupted, found, err := s.wasRunning()
	if err != nil {
		o.Log.Error("cannot determine whether a recording was running", "error", err)
	}
	last := s.lastHeard(interrupted) // before repair
	if err := s.repairAll(); err != nil {
		o.Log.Error("cannot repair a recording", "error", err)
	}
	if found {
		o.resume(interrupted, last)
	}
	if err := s.pruneAll(); err != nil {
		o.Log.Warn("cannot remove an empty directory", "error", err)
	}
	o.uploads = newUploader(o.Recorder, s)
	uploading, stop := context.WithCancel(ctx)
	var all sync.WaitGroup
	all.Go(func() { o.uploads.run(uploading) })
	o.putDown = func() {
		stop()
		all.Wait()
		s.close()
		o.shelf, o.putDown = nil, func() {}
	}
	return nil
}

func (o *owner) handle(q request) (File, error) {
	switch {
	case q.start && o.recording == nil:
		return File{}, o.start(running{q.session, time.Now()}, 0)
	case q.start && o.recording.Session == q.session:
		return File{}, nil // requested twice
	case q.start:
		return File{}, fmt.Errorf("%w, of %q; stop it first", errOther, printable.Clip(o.recording.Session, maxLogged))
	case o.recording == nil:
		return File{}, ErrNotRecording
	case q.session != "" && q.session != o.recording.Session:
		return File{}, fmt.Errorf("%w of that name; %q does", ErrNotRecording, printable.Clip(o.recording.Session, maxLogged))
	}
	return o.stop()
}

// start starts a recording and its goroutine.
func (o *owner) start(run running, gap time.Duration) error {
	r := &recording{
		running: run,
		folder:  folder(run.Session),
		cfg:     o.Config,
		longest: cmp.Or(o.longest, maxSegment),
		shelf:   o.shelf,
		muted:   func() bool { return o.Muted != nil && o.Muted() },
		report: func(now Status) {
			o.setStatus(func(st *Status) { now.Uploads = st.Uploads; *st = now })
		},
		log: o.Log.With("session", printable.Clip(run.Session, maxLogged)),
	}
	all, err := o.shelf.list()
	if err != nil {
		return err
	}
	for _, old := range all {
		r.others += old.size
	}
	r.stream = o.Listen() // first, so that sound is queued while the disk is slow
	if err := r.open(gap); err != nil {
		r.stream.Close()
		o.idle()
		return err
	}
	r.log.Info("recording started", "file", r.seg.path, "gap_seconds", gap.Seconds())
	ctx, cancel := context.WithCancelCause(context.Background())
	ended := make(chan error, 1)
	o.recording, o.cancel, o.ended = r, cancel, ended
	go func() { ended <- r.run(ctx) }()
	o.tell(Event{Session: run.Session, Recording: true})
	return nil
}

// resume continues a recording that a restart interrupted, unless the interruption exceeds
// ResumeWithin.
func (o *owner) resume(r running, last time.Time) {
	gap := max(time.Since(last), time.Millisecond)
	err := fmt.Errorf("%w: %v, more than resume_within", errStale, gap.Round(time.Second))
	if gap <= o.Config.ResumeWithin.Std() {
		err = o.start(r, gap)
	}
	if err == nil {
		return
	}
	o.Log.Warn("recording not resumed", "session", printable.Clip(r.Session, maxLogged), "error", err)
	if e := o.shelf.clearRunning(); e != nil {
		o.Log.Error("recording not ended properly", "error", e)
	}
	o.tell(Event{Session: r.Session, Err: fmt.Errorf("recording not resumed: %w", err)})
}

func (o *owner) stop() (File, error) {
	o.cancel(errStopped)
	err := <-o.ended
	r := o.recording
	err = errors.Join(err, o.end())
	o.tell(Event{Session: r.Session, Err: err})
	return File{r.Session, r.seg.path, r.status.Duration}, err
}

// failed is called when the recording's goroutine has ended by itself.
func (o *owner) failed(err error) {
	r := o.recording
	r.log.Error("recording stopped", "error", err)
	if e := o.end(); e != nil {
		r.log.Error("recording not ended properly", "error", e)
	}
	o.tell(Event{Session: r.Session, Err: err})
}

// end clears the recording whose goroutine has ended.
func (o *owner) end() error {
	folder := o.recording.folder
	o.recording, o.ended = nil, nil
	o.idle()
	o.uploads.wake()
	return errors.Join(o.shelf.clearRunning(), o.shelf.prune(folder))
}

// suspend finishes the file and keeps the note that a recording is running.
func (o *owner) suspend(cause error) {
	if o.recording == nil {
		return
	}
	o.cancel(cause)
	if err := <-o.ended; err != nil {
		o.recording.log.Error("recording stopped", "error", err)
	}
	o.idle()
}

func (o *owner) idle() {
	o.setStatus(func(s *Status) { *s = Status{Uploads: s.Uploads} })
}

func (o *owner) tell(e Event) {
	if o.Changed != nil {
		o.Changed(e)
	}
}
