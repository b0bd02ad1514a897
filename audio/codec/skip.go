package codec

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"time"
)

// Skip seeks an MP3 file to a position near a time, from which Open then starts, and returns the
// actual time: decoding an hour to reach a position takes half a minute on a slow device. For other
// formats, and files without a known bit rate, it does not seek and returns 0.
func Skip(file io.ReadSeeker, to time.Duration) (time.Duration, error) {
	offset, reached, err := mpegOffset(file, to)
	if err != nil {
		return 0, err
	}
	_, err = file.Seek(offset, io.SeekStart)
	return reached, err
}

// mpegOffset returns the position of a time in a file.
func mpegOffset(file io.ReadSeeker, to time.Duration) (offset int64, reached time.Duration, err error) {
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return 0, 0, err
	}
	in := &counting{Reader: file}
	r := bufio.NewReaderSize(in, peeked)
	if _, err := skipID3(r); err != nil {
		return 0, 0, err
	}
	begin := in.n - int64(r.Buffered())
	head, err := r.Peek(peeked)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, 0, err
	}
	first, ok := parseMPEG(head)
	if !ok {
		return 0, 0, nil
	}
	size, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, 0, err
	}
	near, ok := first.offset(head, to, size-begin)
	if !ok {
		return 0, 0, nil
	}
	if _, err := file.Seek(begin+near, io.SeekStart); err != nil {
		return 0, 0, err
	}
	buf := make([]byte, peeked)
	n, err := io.ReadFull(file, buf)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return 0, 0, err
	}
	for i := range buf[:n] { // the next frame, followed by one of the same kind
		f, ok := parseMPEG(buf[i:n])
		if !ok || f.rate != first.rate || i+f.size+4 > n {
			continue
		}
		if next, ok := parseMPEG(buf[i+f.size : n]); ok && next.rate == first.rate {
			return begin + near + int64(i), to, nil
		}
	}
	return 0, 0, nil
}

// frame is an MPEG audio frame, layer III (ISO 11172-3, 2.4.1.3; ISO 13818-3, 2.4.2.3).
type frame struct {
	size    int // bytes
	samples int
	rate    int
	bitrate int // bits per second
	side    int // bytes between the header and the data
}

var bitrates = [2][16]int{ // kbit/s, of version 1, and of 2 and 2.5
	{0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0},
	{0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0},
}

// parseMPEG parses the header at the start of b.
func parseMPEG(b []byte) (frame, bool) {
	if len(b) < 4 || b[0] != 0xFF || b[1]&0xE6 != 0xE2 { // layer III
		return frame{}, false
	}
	version, mono := b[1]>>3&3, b[3]>>6 == 3
	rate := []int{44100, 48000, 32000, 0}[b[2]>>2&3]
	f := frame{samples: 1152, side: 32}
	old := 0
	if version != 3 {
		old, f.samples, f.side = 1, 576, 17
		if rate /= 2; version == 0 {
			rate /= 2
		}
	}
	if mono {
		f.side = []int{17, 9}[old]
	}
	f.rate, f.bitrate = rate, 1000*bitrates[old][b[2]>>4]
	if version == 1 || f.rate == 0 || f.bitrate == 0 {
		return frame{}, false
	}
	f.size = f.samples/8*f.bitrate/f.rate + int(b[2]>>1&1)
	return f, true
}

// offset returns the position of a time, in bytes from the frame, in a file of the given size that
// starts with the frame; false if it is unknown.
func (f frame) offset(head []byte, to time.Duration, size int64) (int64, bool) {
	tag := head[min(len(head), 4+f.side):]
	if bytes.HasPrefix(tag, []byte("Xing")) || bytes.HasPrefix(tag, []byte("Info")) {
		return f.tagged(tag, to, size)
	}
	for b := head; len(b) >= 4; { // without a tag, all frames must have the same size
		next, ok := parseMPEG(b)
		if !ok || next.bitrate != f.bitrate {
			return 0, false
		}
		b = b[min(len(b), next.size):]
	}
	offset := int64(to.Seconds() * float64(f.bitrate) / 8)
	return offset, offset < size
}

// tagged parses a Xing or LAME tag: flags, the number of frames and bytes, and the fraction of the
// bytes, in 256ths, before each hundredth of the time.
func (f frame) tagged(tag []byte, to time.Duration, size int64) (int64, bool) {
	const hasFrames, hasBytes, hasTable = 1, 2, 4
	if len(tag) < 16+100 {
		return 0, false
	}
	flags, frames := binary.BigEndian.Uint32(tag[4:]), binary.BigEndian.Uint32(tag[8:])
	if flags&(hasFrames|hasBytes|hasTable) != hasFrames|hasBytes|hasTable || frames == 0 {
		return 0, false
	}
	length := float64(frames) * float64(f.samples) / float64(f.rate)
	part := 100 * to.Seconds() / length
	if part >= 100 {
		return 0, false
	}
	table, i := tag[16:116], int(part)
	next := 256.0
	if i < 99 {
		next = float64(table[i+1])
	}
	before := float64(table[i])
	total := min(float64(binary.BigEndian.Uint32(tag[12:])), float64(size))
	return int64((before + (part-float64(i))*(next-before)) / 256 * total), true
}

// counting counts the bytes read.
type counting struct {
	io.Reader
	n int64
}

func (c *counting) Read(b []byte) (int, error) {
	n, err := c.Reader.Read(b)
	c.n += int64(n)
	return n, err
}
