package recorder

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"lintod/audio"
)

const (
	// blockSamples is how much sound is written to the file at once: a kill loses no more.
	blockSamples = audio.CaptureRate / 4
	// syncEvery limits what a power cut loses, including the incomplete block, to less than a
	// second.
	syncEvery = 600 * time.Millisecond
	// maxSegment keeps a WAV below the 4 GB limit of its header.
	maxSegment = 12 * 60 * 60 * audio.CaptureRate // samples
)

// encoder writes one format to one file.
type encoder interface {
	// block writes blockSamples samples, or fewer the last time. After an error, the file still
	// contains the previous blocks.
	block(pcm []int16) error
	// sync returns when everything written is on disk.
	sync() error
	// finish completes the header and syncs.
	finish() error
}

// segment is one file that is being recorded.
type segment struct {
	path   string
	file   *os.File
	enc    encoder
	buf    [blockSamples]int16
	have   int   // samples in buf
	whole  int64 // samples in the file
	synced time.Time
}

// newSegment creates a new file and returns when it is on disk.
func newSegment(s *shelf, folder, format string, now time.Time) (*segment, error) {
	f, path, err := s.create(folder, format, now)
	if err != nil {
		return nil, err
	}
	g := &segment{path: path, file: f, synced: now}
	if format == WAV {
		g.enc, err = newWAV(f)
	} else {
		g.enc, err = newFLAC(f)
	}
	if err == nil {
		err = errors.Join(g.enc.sync(), s.sync(folder))
	}
	if err != nil {
		f.Close()
		s.release(path)
		return nil, errors.Join(err, s.remove(path), s.prune(folder))
	}
	return g, nil
}

func (g *segment) samples() int64 { return g.whole + int64(g.have) }

// write appends samples. Only the encoder allocates, once per block.
func (g *segment) write(pcm []int16) error {
	for len(pcm) > 0 {
		n := copy(g.buf[g.have:], pcm)
		g.have, pcm = g.have+n, pcm[n:]
		if err := g.flushFull(); err != nil {
			return err
		}
	}
	return nil
}

// silence appends n samples of silence.
func (g *segment) silence(n int64) error {
	for n > 0 {
		room := g.buf[g.have:min(blockSamples, int64(g.have)+n)]
		clear(room)
		g.have, n = g.have+len(room), n-int64(len(room))
		if err := g.flushFull(); err != nil {
			return err
		}
	}
	return nil
}

func (g *segment) flushFull() error {
	if g.have < blockSamples {
		return nil
	}
	if err := g.enc.block(g.buf[:]); err != nil {
		return fmt.Errorf("write the recording: %w", err)
	}
	g.whole, g.have = g.whole+blockSamples, 0
	return nil
}

// due reports whether it is time to sync.
func (g *segment) due(now time.Time) bool { return now.Sub(g.synced) >= syncEvery }

func (g *segment) sync(now time.Time) error {
	g.synced = now
	if err := g.enc.sync(); err != nil {
		return fmt.Errorf("write the recording: %w", err)
	}
	return nil
}

// close finishes the file. A file that cannot be finished, or that failed before, is truncated to
// its last complete block.
func (g *segment) close(s *shelf, failed bool) error {
	defer s.release(g.path)
	var err error
	if !failed {
		err = g.finish()
	}
	g.file.Close()
	if failed || err != nil || g.samples() == 0 {
		g.have = 0
		_, repaired := s.repair(g.path)
		return errors.Join(err, repaired)
	}
	return nil
}

func (g *segment) finish() error {
	if g.have > 0 {
		if err := g.enc.block(g.buf[:g.have]); err != nil {
			return fmt.Errorf("write the end of the recording: %w", err)
		}
	}
	if err := g.enc.finish(); err != nil {
		return fmt.Errorf("finish the recording: %w", err)
	}
	return nil
}

// hopeless is the size of a file with less than a second, even uncompressed.
const hopeless = 2 * audio.CaptureRate // bytes

// repair makes a file readable after a crash; a file without a complete block is deleted. It
// returns the number of samples.
func (s *shelf) repair(path string) (int64, error) {
	f, err := s.root.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return 0, fmt.Errorf("repair %s: %w", path, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, fmt.Errorf("repair %s: %w", path, err)
	}
	repairer := repairFLAC
	if format(path) == WAV {
		repairer = repairWAV
	}
	samples, changed, err := repairer(f, info.Size())
	if err == nil && samples == 0 {
		if info.Size() > hopeless {
			return 0, fmt.Errorf("repair %s: it contains no sound; it is not changed", path)
		}
		return 0, s.remove(path)
	}
	if changed && err == nil {
		// The modification time must remain that of the last sound.
		err = errors.Join(s.root.Chtimes(path, time.Time{}, info.ModTime()), f.Sync())
	}
	if err != nil {
		return 0, fmt.Errorf("repair %s: %w", path, err)
	}
	return samples, nil
}

// remove deletes a recording and the mark that it was uploaded.
func (s *shelf) remove(path string) error {
	err := s.root.Remove(path)
	if mark := s.root.Remove(path + uploadedMark); !errors.Is(mark, fs.ErrNotExist) {
		err = errors.Join(err, mark)
	}
	return err
}

// size returns the size of the file in bytes.
func (g *segment) size() int64 {
	info, err := g.file.Stat()
	if err != nil {
		return 0
	}
	return info.Size()
}
