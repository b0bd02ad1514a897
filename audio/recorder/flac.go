package recorder

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"os"

	"github.com/mewkiz/flac"
	"github.com/mewkiz/flac/frame"
	"github.com/mewkiz/flac/meta"

	"lintod/audio"
)

// Offsets in a FLAC file (RFC 9639, 8.2).
const (
	flacBlockSizes = 8  // minimum and maximum, 16 bits each
	flacTotal      = 18 // rate 20 bits, channels-1 3, bits-1 5, samples 36
	flacFrames     = 42 // the first frame, if there is no other metadata
)

// partitions is the number of partitions per block, each with its own Rice parameter: the level of
// speech changes within a quarter of a second.
const (
	partitionOrder   = 5
	partitions       = 1 << partitionOrder
	partitionSamples = blockSamples / partitions
)

// flacFile encodes with fixed prediction. Until finish, length and checksum in the header are
// unknown, which every player accepts.
type flacFile struct {
	tail
	enc     *flac.Encoder
	frame   frame.Frame
	sub     frame.Subframe
	samples [blockSamples]int32
	rice    frame.RiceSubframe
	params  [partitions]frame.RicePartition
}

func newFLAC(f *os.File) (*flacFile, error) {
	e := &flacFile{tail: tail{file: f}}
	e.frame.Header = frame.Header{
		HasFixedBlockSize: true, SampleRate: audio.CaptureRate, Channels: frame.ChannelsMono, BitsPerSample: 16,
	}
	e.frame.Subframes = []*frame.Subframe{&e.sub}
	var err error
	e.enc, err = flac.NewEncoder(&e.tail, &meta.StreamInfo{
		BlockSizeMin: blockSamples, BlockSizeMax: blockSamples,
		SampleRate: audio.CaptureRate, NChannels: 1, BitsPerSample: 16,
	})
	if err != nil {
		return nil, err
	}
	e.enc.EnablePredictionAnalysis(false) // predict takes a third of the time, and compresses better
	return e, e.flush()
}

func (e *flacFile) block(pcm []int16) error {
	for i, v := range pcm {
		e.samples[i] = int32(v)
	}
	e.frame.BlockSize = uint16(len(pcm))
	e.sub = frame.Subframe{Samples: e.samples[:len(pcm)], NSamples: len(pcm)}
	e.predict()
	if err := e.enc.WriteFrame(&e.frame); err != nil {
		return err
	}
	return e.flush()
}

func (e *flacFile) sync() error { return e.file.Sync() }

// finish makes the encoder write length and checksum to the header. The encoder counts the short
// last block for the minimum block size, which the format does not, so finish corrects it.
func (e *flacFile) finish() error {
	if err := e.enc.Close(); err != nil {
		return err
	}
	if err := e.flush(); err != nil {
		return err
	}
	b := binary.BigEndian.AppendUint16(nil, blockSamples)
	_, err := e.file.WriteAt(binary.BigEndian.AppendUint16(b, blockSamples), flacBlockSizes)
	return errors.Join(err, e.file.Sync())
}

// predict chooses the coding of the block: constant for silence, otherwise the fixed polynomial
// with the smallest residual, and for each partition the Rice parameter for its mean.
func (e *flacFile) predict() {
	s := e.sub.Samples
	if constant(s) {
		e.sub.Pred = frame.PredConstant
		return
	}
	order := bestOrder(s)
	e.sub.Pred, e.sub.Order = frame.PredFixed, order
	e.sub.ResidualCodingMethod = frame.ResidualCodingMethodRice1
	e.sub.RiceSubframe = &e.rice
	if len(s) < blockSamples {
		e.rice = frame.RiceSubframe{Partitions: e.params[:1]}
		e.params[0].Param = riceParam(s, order, order, len(s))
		return
	}
	e.rice = frame.RiceSubframe{PartOrder: partitionOrder, Partitions: e.params[:]}
	for i := range e.params {
		begin := i * partitionSamples
		e.params[i].Param = riceParam(s, order, max(begin, order), begin+partitionSamples)
	}
}

func constant(s []int32) bool {
	for _, v := range s {
		if v != s[0] {
			return false
		}
	}
	return true
}

// bestOrder compares the residuals of the five fixed predictors.
func bestOrder(s []int32) int {
	var left [5]int64
	for i := 4; i < len(s); i++ {
		for order := range left {
			left[order] += abs(residual(s, order, i))
		}
	}
	best := 0
	for order := 1; order < len(left) && len(s) > 4; order++ {
		if left[order] < left[best] {
			best = order
		}
	}
	return best
}

// residual returns the residual of a sample for the fixed predictor of an order (RFC 9639, 9.2.5).
func residual(s []int32, order, i int) int32 {
	switch order {
	case 0:
		return s[i]
	case 1:
		return s[i] - s[i-1]
	case 2:
		return s[i] - 2*s[i-1] + s[i-2]
	case 3:
		return s[i] - 3*s[i-1] + 3*s[i-2] - s[i-3]
	}
	return s[i] - 4*s[i-1] + 6*s[i-2] - 4*s[i-3] + s[i-4]
}

func abs(v int32) int64 { return int64(max(v, -v)) }

// riceParam returns the Rice parameter for the mean of the residuals from begin to end. 15 would be
// the escape code.
func riceParam(s []int32, order, begin, end int) uint {
	sum := int64(0)
	for i := begin; i < end; i++ {
		sum += 2 * abs(residual(s, order, i))
	}
	mean := uint64(sum) / uint64(max(end-begin, 1))
	return uint(min(max(bits.Len64(mean)-1, 0), 14))
}

// repairFLAC removes an incomplete frame after a crash and writes the length to the header. The
// checksum remains unknown, because it would require reading the whole file. It returns the number
// of samples.
func repairFLAC(f *os.File, size int64) (samples int64, changed bool, err error) {
	head := make([]byte, flacFrames)
	if _, err := f.ReadAt(head, 0); err != nil && !errors.Is(err, io.EOF) {
		return 0, false, err
	}
	if string(head[:4]) != "fLaC" {
		return 0, false, nil // possibly killed before the header was written
	}
	total := binary.BigEndian.Uint64(head[flacTotal:])
	if n := total & (1<<36 - 1); n != 0 {
		return int64(n), false, nil // finished
	}
	begin := min(max(flacFrames, size-flacTail), size)
	end, samples, err := lastFrame(f, begin, size)
	if err != nil || samples == 0 {
		return 0, false, err
	}
	if err := f.Truncate(end); err != nil {
		return 0, false, err
	}
	_, err = f.WriteAt(binary.BigEndian.AppendUint64(nil, total|uint64(samples)), flacTotal)
	return samples, true, err
}

// flacTail is how much of the end of an unfinished file is read: far more than can have been
// written since the last sync.
const flacTail = 1 << 20

// lastFrame follows the frames from the first complete one after begin. It returns the end of the
// last valid one, in bytes and in samples.
func lastFrame(f io.ReaderAt, begin, size int64) (end, samples int64, err error) {
	b := make([]byte, size-begin)
	if _, err := f.ReadAt(b, begin); err != nil && !errors.Is(err, io.EOF) {
		return 0, 0, fmt.Errorf("read the end: %w", err)
	}
	inside := begin == flacFrames // at is the expected start of a frame
	for at := 0; at < len(b); {
		length, after := parseFrame(b[at:])
		switch {
		case length > 0 && (!inside || after == samples+blockSamples):
			at += length
			end, samples, inside = begin+int64(at), after, true
		case inside:
			return end, samples, nil
		default:
			at++ // inside a frame: search for the next
		}
	}
	return end, samples, nil
}

// parseFrame returns the length in bytes of the frame at the start of b, and the number of samples
// up to its end; 0 if there is no complete frame. Only full blocks are accepted: only finish writes
// a short one.
func parseFrame(b []byte) (length int, after int64) {
	if len(b) < 2 || b[0] != 0xff || b[1] != 0xf8 { // the sync code, blocks of one size
		return 0, 0
	}
	r := bytes.NewReader(b)
	f, err := frame.Parse(r) // checks both checksums
	if err != nil || f.BlockSize != blockSamples {
		return 0, 0
	}
	return len(b) - r.Len(), int64(f.Num+1) * blockSamples
}
