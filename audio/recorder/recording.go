package recorder

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path"
	"time"

	"lintod/agent/base/config"
	"lintod/audio"
)

const (
	// After holeAfter without a frame, the microphone is muted or gone, and the timeline is
	// continued by the clock, fillLag behind it.
	holeAfter = audio.DeafAfter
	fillLag   = time.Second
	// stopLag exceeds the maximum delay of a card before the end.
	stopLag = 200 * time.Millisecond
	// slack is how far time stamps may deviate from the count of samples before they are used
	// instead of it.
	slack = audio.CaptureRate // samples
)

// recording is a running recording. Its goroutine owns the file.
type recording struct {
	running
	folder  string
	cfg     Config
	longest int64 // samples per file
	shelf   *shelf
	stream  Stream
	muted   func() bool
	report  func(Status) // updated whenever the file was synced
	log     *slog.Logger

	seg    *segment
	marks  *marks
	others int64     // bytes of all other recordings
	end    time.Time // written end of the timeline
	hole   bool      // no frames arrive
	before int64     // samples in earlier files of this run
	quiet  int64     // samples of the current gap
	lost   int64     // samples lost since the last sync
	status Status
}

// open creates the files. gap is how long nothing was recorded, 0 for a new recording. After an
// error, nothing is left open.
func (r *recording) open(gap time.Duration) error {
	r.end = time.Now()
	if err := r.guard(); err != nil {
		return err
	}
	if err := r.nextSegment(r.end); err != nil {
		return err
	}
	var err error
	if r.marks, err = openMarks(r.shelf, r.folder); err == nil {
		what := MarkStart
		if gap > 0 {
			what = MarkResume
		}
		err = r.mark(Mark{What: what, Seconds: gap.Seconds(), Text: r.Session})
	}
	if err == nil {
		err = r.shelf.setRunning(r.running)
	}
	if err != nil {
		return errors.Join(err, r.closeFiles(true), r.shelf.prune(r.folder))
	}
	r.publish()
	return nil
}

func (r *recording) nextSegment(now time.Time) (err error) {
	r.seg, err = newSegment(r.shelf, r.folder, r.cfg.Format, now)
	if err == nil {
		r.status.File = r.seg.path
	}
	return err
}

// run records until ctx ends, and then finishes the file; failures of the card are recorded as
// silence. It fails if the file cannot be written, or the disk is full.
func (r *recording) run(ctx context.Context) error {
	err := r.record(ctx)
	r.stream.Close()
	why := "requested"
	if err != nil {
		why = err.Error()
	} else if !errors.Is(context.Cause(ctx), errStopped) {
		why = "lintod is stopping"
	}
	r.status.Duration = r.duration()
	r.log.Info("recording ended", "file", r.seg.path, "seconds", r.status.Duration.Seconds(), "lost_seconds", r.status.Lost.Seconds(), "reason", why)
	r.note(Mark{What: MarkStop, Seconds: seconds(r.seg.samples()), Text: why})
	return errors.Join(err, r.closeFiles(err != nil && !errors.Is(err, errFull)))
}

func (r *recording) closeFiles(failed bool) error {
	err := r.seg.close(r.shelf, failed)
	if r.marks != nil {
		if e := errors.Join(r.marks.sync(), r.marks.file.Close()); e != nil {
			r.log.Warn("marks of the recording not saved", "error", e)
		}
	}
	return errors.Join(err, r.shelf.sync(r.folder))
}

func (r *recording) record(ctx context.Context) error {
	f := new(audio.Frame)
	for ctx.Err() == nil {
		if err := r.second(ctx, f); err != nil {
			return err
		}
	}
	return r.drain(ctx, f, time.Now())
}

// second reads the frames of about one second, and those queued because the disk was slow; it
// detects if none arrive.
func (r *recording) second(parent context.Context, f *audio.Frame) error {
	ctx, cancel := context.WithTimeout(parent, time.Second)
	defer cancel()
	for parent.Err() == nil {
		err := r.stream.Read(ctx, f)
		if err == nil {
			err = r.take(f)
		} else if ctx.Err() != nil {
			break
		}
		if err != nil {
			return err
		}
	}
	if now := time.Now(); now.Sub(r.end) >= holeAfter {
		return r.fill(now.Add(-fillLag))
	}
	return nil
}

// drain reads the frames that were captured before the end and are queued because the disk was
// slow.
func (r *recording) drain(ctx context.Context, f *audio.Frame, end time.Time) error {
	for r.stream.Read(ctx, f) == nil && f.At.Before(end) {
		if err := r.take(f); err != nil {
			return err
		}
	}
	if end.Sub(r.end) >= stopLag {
		return r.fill(end)
	}
	return nil
}

// take appends a frame, at its position in the timeline.
func (r *recording) take(f *audio.Frame) error {
	gap := samples(f.At.Sub(r.end))
	missing := min(int64(f.Lost), gap+slack) // an untrusted number of the sound process
	if r.hole || gap > slack {
		missing = gap
	}
	if err := r.skip(max(missing, 0)); err != nil {
		return err
	}
	if r.hole {
		r.endHole()
	}
	if err := r.seg.write(f.PCM[:]); err != nil {
		return err
	}
	r.end = f.At.Add(audio.FrameTime)
	return r.tidy()
}

// skip adds silence for missing sound.
func (r *recording) skip(missing int64) error {
	if missing == 0 {
		return nil
	}
	if r.hole {
		r.quiet += missing
	} else {
		r.lost += missing
	}
	return r.seg.silence(missing)
}

// fill continues the timeline with silence up to a time.
func (r *recording) fill(until time.Time) error {
	n := samples(until.Sub(r.end))
	if n <= 0 {
		return nil
	}
	if !r.hole {
		r.beginHole()
	}
	r.quiet += n
	r.end = until
	if err := r.seg.silence(n); err != nil {
		return err
	}
	return r.tidy()
}

func (r *recording) beginHole() {
	r.hole, r.quiet = true, 0
	why := "the microphone delivers no sound"
	if r.muted() {
		why = "muted"
	}
	r.log.Info("recording silence", "reason", why)
	r.note(Mark{What: MarkSilence, From: r.place(), Text: why})
}

func (r *recording) endHole() {
	r.log.Info("recording sound again", "silence_seconds", seconds(r.quiet))
	r.note(Mark{What: MarkSound, From: r.place(), Seconds: seconds(r.quiet)})
	r.status.Silent += duration(r.quiet)
	r.hole, r.quiet = false, 0
}

// tidy does what is due about every second: marks, sync, check of the disk.
func (r *recording) tidy() error {
	now := time.Now()
	if !r.seg.due(now) {
		return nil
	}
	if r.lost > 0 {
		r.noteLost()
	}
	if err := r.seg.sync(now); err != nil {
		return err
	}
	if err := r.marks.sync(); err != nil {
		r.log.Warn("marks of the recording not saved", "error", err)
	}
	r.publish()
	if err := r.guard(); err != nil {
		return err
	}
	if r.longest > 0 && r.seg.samples() >= r.longest {
		return r.rotate(now)
	}
	return nil
}

// noteLost adds a mark for samples lost since the last sync; only the first loss is logged, and the
// sum at the end of the recording.
func (r *recording) noteLost() {
	if r.status.Lost == 0 {
		r.log.Warn("sound is missing from the recording", "seconds", seconds(r.lost))
	}
	r.status.Lost += duration(r.lost)
	r.note(Mark{What: MarkLost, From: r.place(), Seconds: seconds(r.lost)})
	r.lost = 0
}

// rotate continues in a new file, without losing a sample.
func (r *recording) rotate(now time.Time) error {
	old := r.seg
	if err := old.finish(); err != nil {
		return err
	}
	if err := r.nextSegment(now); err != nil {
		r.seg = old
		return err
	}
	old.file.Close()
	r.shelf.release(old.path)
	r.before += old.samples()
	r.others += old.size()
	r.note(Mark{What: MarkNext})
	return nil
}

func (r *recording) place() float64 { return seconds(r.seg.samples()) }

func (r *recording) duration() time.Duration { return duration(r.before + r.seg.samples()) }

// note is mark, but an error does not end the recording.
func (r *recording) note(m Mark) {
	if err := r.mark(m); err != nil {
		r.log.Warn("mark of the recording not written", "error", err)
	}
}

func (r *recording) mark(m Mark) error {
	m.At, m.File = time.Now().UTC(), path.Base(r.seg.path)
	return r.marks.add(m)
}

func (r *recording) publish() {
	r.status.Recording, r.status.Session, r.status.Since = true, r.Session, r.Since
	r.status.Duration, r.status.Hole = r.duration(), r.hole
	r.report(r.status)
}

// guard enforces the limits of the configuration by deleting uploaded recordings.
func (r *recording) guard() error {
	why, err := r.overLimit()
	if err != nil || why == "" {
		return err
	}
	if err := r.evict(); err != nil {
		return err
	}
	if why, err = r.overLimit(); err == nil && why != "" {
		err = fmt.Errorf("%w: %s", errFull, why)
	}
	return err
}

// errFull is a lack of disk space that was detected in time.
var errFull = errors.New("no space for a recording")

func (r *recording) overLimit() (why string, err error) {
	free, err := r.shelf.free()
	if err != nil {
		return "", err
	}
	if free < r.cfg.MinFree {
		return fmt.Sprintf("%v are free, but %v must remain free (min_free)", free, r.cfg.MinFree), nil
	}
	total := config.Size(r.others)
	if r.seg != nil {
		total += config.Size(r.seg.size())
	}
	if r.cfg.MaxTotal > 0 && total >= r.cfg.MaxTotal {
		return fmt.Sprintf("recordings take %v, the limit is %v (max_total)", total, r.cfg.MaxTotal), nil
	}
	return "", nil
}

// evict deletes uploaded recordings, oldest first, until the limits are met.
func (r *recording) evict() error {
	all, err := r.shelf.list()
	if err != nil {
		return err
	}
	for _, old := range all {
		why, err := r.overLimit()
		if err != nil || why == "" {
			return err
		}
		if !old.uploaded {
			continue
		}
		if err := r.shelf.remove(old.path); err != nil {
			return fmt.Errorf("free space: %w", err)
		}
		r.others -= old.size
		if folder := path.Dir(old.path); folder != r.folder {
			if err := r.shelf.prune(folder); err != nil {
				r.log.Warn("directory of a deleted recording is kept", "error", err)
			}
		}
		r.log.Info("recording deleted: it is uploaded and space is needed", "file", old.path, "reason", why)
	}
	return nil
}

func samples(d time.Duration) int64 { return int64(d * audio.CaptureRate / time.Second) }

func seconds(samples int64) float64 { return float64(samples) / audio.CaptureRate }

func duration(samples int64) time.Duration {
	return time.Duration(samples) * time.Second / audio.CaptureRate
}
