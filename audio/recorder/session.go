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
	// holeAfter without a frame the microphone is muted or gone, and the time line
	// is continued by the clock, fillLag behind it.
	holeAfter = audio.DeafAfter
	fillLag   = time.Second
	// stopLag without a frame before the end is more than a card is ever late.
	stopLag = 200 * time.Millisecond
	// slack is how far the stamps of frames may wander before they are believed
	// more than the frames are.
	slack = audio.CaptureRate // samples
)

// session is one recording that runs. Its goroutine owns the file.
type session struct {
	running
	folder  string
	cfg     Config
	longest int64 // samples of a file
	shelf   *shelf
	stream  Stream
	muted   func() bool
	report  func(Status) // told whenever the file was synced
	log     *slog.Logger

	seg    *segment
	marks  *marks
	others int64     // bytes of all other recordings
	end    time.Time // up to where the time line is written
	hole   bool      // no frames come
	before int64     // samples in earlier files of this run
	quiet  int64     // samples of the present hole
	lost   int64     // samples lost since the last sync
	status Status
}

// open creates the files. gap is how long nothing was recorded, 0 for a new
// recording. After an error nothing is left open.
func (s *session) open(gap time.Duration) error {
	s.end = time.Now()
	if err := s.guard(); err != nil {
		return err
	}
	if err := s.nextSegment(s.end); err != nil {
		return err
	}
	var err error
	if s.marks, err = openMarks(s.shelf, s.folder); err == nil {
		what := MarkStart
		if gap > 0 {
			what = MarkResume
		}
		err = s.mark(Mark{What: what, Seconds: gap.Seconds(), Text: s.Session})
	}
	if err == nil {
		err = s.shelf.setRunning(s.running)
	}
	if err != nil {
		return errors.Join(err, s.closeFiles(true), s.shelf.prune(s.folder))
	}
	s.publish()
	return nil
}

func (s *session) nextSegment(now time.Time) (err error) {
	s.seg, err = newSegment(s.shelf, s.folder, s.cfg.Format, now)
	if err == nil {
		s.status.File = s.seg.path
	}
	return err
}

// run records until ctx ends, and then finishes the file; the card's failures
// are silence. It fails when the file cannot be written, or the disk is full.
func (s *session) run(ctx context.Context) error {
	err := s.record(ctx)
	s.stream.Close()
	why := "asked to"
	if err != nil {
		why = err.Error()
	} else if !errors.Is(context.Cause(ctx), errStopped) {
		why = "lintod stops"
	}
	s.status.Duration = s.duration()
	s.log.Info("recording ends", "file", s.seg.path, "seconds", s.status.Duration.Seconds(), "lost_seconds", s.status.Lost.Seconds(), "reason", why)
	s.note(Mark{What: MarkStop, Seconds: seconds(s.seg.samples()), Text: why})
	return errors.Join(err, s.closeFiles(err != nil && !errors.Is(err, errFull)))
}

func (s *session) closeFiles(failed bool) error {
	err := s.seg.close(s.shelf, failed)
	if s.marks != nil {
		if e := errors.Join(s.marks.sync(), s.marks.file.Close()); e != nil {
			s.log.Warn("marks of the recording not saved", "error", e)
		}
	}
	return errors.Join(err, s.shelf.sync(s.folder))
}

func (s *session) record(ctx context.Context) error {
	f := new(audio.Frame)
	for ctx.Err() == nil {
		if err := s.second(ctx, f); err != nil {
			return err
		}
	}
	return s.drain(ctx, f, time.Now())
}

// second takes the frames of about one second, and what waited because the disk
// was slow; it notices when none come.
func (s *session) second(parent context.Context, f *audio.Frame) error {
	ctx, cancel := context.WithTimeout(parent, time.Second)
	defer cancel()
	for parent.Err() == nil {
		err := s.stream.Read(ctx, f)
		if err == nil {
			err = s.take(f)
		} else if ctx.Err() != nil {
			break
		}
		if err != nil {
			return err
		}
	}
	if now := time.Now(); now.Sub(s.end) >= holeAfter {
		return s.fill(now.Add(-fillLag))
	}
	return nil
}

// drain takes the frames that were captured before the end and wait in the
// stream, because the disk was slow.
func (s *session) drain(ctx context.Context, f *audio.Frame, end time.Time) error {
	for s.stream.Read(ctx, f) == nil && f.At.Before(end) {
		if err := s.take(f); err != nil {
			return err
		}
	}
	if end.Sub(s.end) >= stopLag {
		return s.fill(end)
	}
	return nil
}

// take appends a frame, at its place in the time line.
func (s *session) take(f *audio.Frame) error {
	gap := samples(f.At.Sub(s.end))
	missing := min(int64(f.Lost), gap+slack) // a number from the sound process
	if s.hole || gap > slack {
		missing = gap
	}
	if err := s.skip(max(missing, 0)); err != nil {
		return err
	}
	if s.hole {
		s.endHole()
	}
	if err := s.seg.write(f.PCM[:]); err != nil {
		return err
	}
	s.end = f.At.Add(audio.FrameTime)
	return s.tidy()
}

// skip puts silence where sound is missing.
func (s *session) skip(missing int64) error {
	if missing == 0 {
		return nil
	}
	if s.hole {
		s.quiet += missing
	} else {
		s.lost += missing
	}
	return s.seg.silence(missing)
}

// fill continues the time line with silence up to a time.
func (s *session) fill(until time.Time) error {
	n := samples(until.Sub(s.end))
	if n <= 0 {
		return nil
	}
	if !s.hole {
		s.beginHole()
	}
	s.quiet += n
	s.end = until
	if err := s.seg.silence(n); err != nil {
		return err
	}
	return s.tidy()
}

func (s *session) beginHole() {
	s.hole, s.quiet = true, 0
	why := "the microphone gives no sound"
	if s.muted() {
		why = "muted"
	}
	s.log.Info("silence is recorded", "reason", why)
	s.note(Mark{What: MarkSilence, From: s.place(), Text: why})
}

func (s *session) endHole() {
	s.log.Info("sound is recorded again", "silence_seconds", seconds(s.quiet))
	s.note(Mark{What: MarkSound, From: s.place(), Seconds: seconds(s.quiet)})
	s.status.Silent += duration(s.quiet)
	s.hole, s.quiet = false, 0
}

// tidy does what is due about every second: marks, sync, a look at the disk.
func (s *session) tidy() error {
	now := time.Now()
	if !s.seg.due(now) {
		return nil
	}
	if s.lost > 0 {
		s.noteLost()
	}
	if err := s.seg.sync(now); err != nil {
		return err
	}
	if err := s.marks.sync(); err != nil {
		s.log.Warn("marks of the recording not saved", "error", err)
	}
	s.publish()
	if err := s.guard(); err != nil {
		return err
	}
	if s.longest > 0 && s.seg.samples() >= s.longest {
		return s.rotate(now)
	}
	return nil
}

// noteLost marks what was lost since the last sync, at the end of where it was
// lost; only the first is logged, the sum when the recording ends.
func (s *session) noteLost() {
	if s.status.Lost == 0 {
		s.log.Warn("sound is missing from the recording", "seconds", seconds(s.lost))
	}
	s.status.Lost += duration(s.lost)
	s.note(Mark{What: MarkLost, From: s.place(), Seconds: seconds(s.lost)})
	s.lost = 0
}

// rotate goes on in a new file, without losing a sample.
func (s *session) rotate(now time.Time) error {
	old := s.seg
	if err := old.finish(); err != nil {
		return err
	}
	if err := s.nextSegment(now); err != nil {
		s.seg = old
		return err
	}
	old.file.Close()
	s.shelf.release(old.path)
	s.before += old.samples()
	s.others += old.size()
	s.note(Mark{What: MarkNext})
	return nil
}

func (s *session) place() float64 { return seconds(s.seg.samples()) }

func (s *session) duration() time.Duration { return duration(s.before + s.seg.samples()) }

// note is mark for where the recording goes on without.
func (s *session) note(m Mark) {
	if err := s.mark(m); err != nil {
		s.log.Warn("mark of the recording not written", "error", err)
	}
}

func (s *session) mark(m Mark) error {
	m.At, m.File = time.Now().UTC(), path.Base(s.seg.path)
	return s.marks.add(m)
}

func (s *session) publish() {
	s.status.Recording, s.status.Session, s.status.Since = true, s.Session, s.Since
	s.status.Duration, s.status.Hole = s.duration(), s.hole
	s.report(s.status)
}

// guard keeps the limits of the configuration, at the price of recordings that
// the platform has.
func (s *session) guard() error {
	why, err := s.overLimit()
	if err != nil || why == "" {
		return err
	}
	if err := s.evict(); err != nil {
		return err
	}
	if why, err = s.overLimit(); err == nil && why != "" {
		err = fmt.Errorf("%w: %s", errFull, why)
	}
	return err
}

// errFull is a disk without room, seen in time.
var errFull = errors.New("no room for a recording")

func (s *session) overLimit() (why string, err error) {
	free, err := s.shelf.free()
	if err != nil {
		return "", err
	}
	if free < s.cfg.MinFree {
		return fmt.Sprintf("%v are free and %v must stay so (min_free)", free, s.cfg.MinFree), nil
	}
	total := config.Size(s.others)
	if s.seg != nil {
		total += config.Size(s.seg.size())
	}
	if s.cfg.MaxTotal > 0 && total >= s.cfg.MaxTotal {
		return fmt.Sprintf("recordings take %v and may take %v (max_total)", total, s.cfg.MaxTotal), nil
	}
	return "", nil
}

// evict deletes the recordings that the platform has, oldest first, until the
// limits are kept.
func (s *session) evict() error {
	all, err := s.shelf.list()
	if err != nil {
		return err
	}
	for _, r := range all {
		why, err := s.overLimit()
		if err != nil || why == "" {
			return err
		}
		if !r.uploaded {
			continue
		}
		if err := s.shelf.remove(r.path); err != nil {
			return fmt.Errorf("make room: %w", err)
		}
		s.others -= r.size
		if folder := path.Dir(r.path); folder != s.folder {
			if err := s.shelf.prune(folder); err != nil {
				s.log.Warn("folder of a deleted recording stays", "error", err)
			}
		}
		s.log.Info("recording deleted: it is uploaded and room is needed", "file", r.path, "reason", why)
	}
	return nil
}

func samples(d time.Duration) int64 { return int64(d * audio.CaptureRate / time.Second) }

func seconds(samples int64) float64 { return float64(samples) / audio.CaptureRate }

func duration(samples int64) time.Duration {
	return time.Duration(samples) * time.Second / audio.CaptureRate
}
