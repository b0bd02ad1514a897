package codec

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"

	"github.com/jfreymuth/oggvorbis"
)

// Bounds on what a Vorbis header may ask for; libvorbis stays far below. The
// library makes room for whatever the header claims, and loops for ever over
// books without entries or dimensions.
const (
	maxVorbisChannels = 8
	maxBookValues     = 1 << 21 // of all codebooks
	// maxVorbisHeaders is how much of a file the headers may take up, in bytes:
	// the comments may hold a picture.
	maxVorbisHeaders = 4 << 20
)

var errVorbis = errors.New("the Vorbis header is broken")

type vorbisDecoder struct {
	*oggvorbis.Reader
	buf []float32
}

func openVorbis(r io.Reader) (decoder, int, error) {
	var headers bytes.Buffer
	if err := checkVorbis(io.TeeReader(r, &headers)); err != nil {
		return nil, 0, err
	}
	v, err := oggvorbis.NewReader(io.MultiReader(&headers, r))
	if err != nil {
		return nil, 0, err
	}
	return &vorbisDecoder{v, make([]float32, block*v.Channels())}, v.SampleRate(), nil
}

func (d *vorbisDecoder) read(pcm []int16) (int, error) {
	channels := d.Channels()
	n, err := d.Read(d.buf[:channels*min(len(pcm), block)])
	n /= channels
	for i := range n {
		var sum float32
		for _, v := range d.buf[i*channels : (i+1)*channels] {
			sum += v
		}
		pcm[i] = sample(sum / float32(channels))
	}
	return n, err
}

// checkVorbis reads the three headers as the library will, and refuses those
// that it cannot be trusted with.
func checkVorbis(file io.Reader) error {
	packets, err := headerPackets(io.LimitReader(file, maxVorbisHeaders))
	if err != nil {
		return err
	}
	if id := packets[0]; len(id) < 30 || id[11] == 0 || id[11] > maxVorbisChannels {
		return fmt.Errorf("%w: want 1 to %d channels", errVorbis, maxVorbisChannels)
	}
	if err := checkComments(packets[1]); err != nil {
		return err
	}
	return checkBooks(packets[2])
}

// headerPackets collects the first three packets of an Ogg file, which may span
// pages (RFC 3533, section 6).
func headerPackets(file io.Reader) (packets [3][]byte, err error) {
	n := 0
	var head [27]byte
	var page [2 * 255]byte // its lacing, and a piece of a packet
	for first := true; n < len(packets); first = false {
		if _, err := io.ReadFull(file, head[:]); err != nil || first && head[5]&1 != 0 || head[26] == 0 {
			return packets, fmt.Errorf("%w: no three packets", errVorbis)
		}
		lacing := page[:head[26]]
		if _, err := io.ReadFull(file, lacing); err != nil {
			return packets, fmt.Errorf("%w: it ends inside a page", errVorbis)
		}
		for _, size := range lacing {
			body := page[255:][:size]
			if _, err := io.ReadFull(file, body); err != nil {
				return packets, fmt.Errorf("%w: it ends inside a page", errVorbis)
			}
			if n < len(packets) {
				packets[n] = append(packets[n], body...)
				if size < 255 {
					n++
				}
			}
		}
	}
	return packets, nil
}

// checkComments: the count of comments must be one that fits (Vorbis I, 5.2.1).
func checkComments(packet []byte) error {
	const head = 7 // type and "vorbis"
	le := binary.LittleEndian
	if len(packet) < head+4 {
		return errVorbis
	}
	vendor := uint64(le.Uint32(packet[head:]))
	rest := packet[head+4:]
	if vendor+4 > uint64(len(rest)) {
		return errVorbis
	}
	rest = rest[vendor:]
	if uint64(le.Uint32(rest)) > uint64(len(rest))/4 {
		return errVorbis
	}
	return nil
}

// checkBooks walks through the codebooks (Vorbis I, 3.2.1).
func checkBooks(packet []byte) error {
	const head = 7
	if len(packet) <= head {
		return errVorbis
	}
	r := &bitReader{data: packet[head:]}
	values := 0
	for range r.read(8) + 1 {
		n, err := checkBook(r)
		if err != nil {
			return err
		}
		if values += n; values > maxBookValues {
			return fmt.Errorf("%w: the codebooks are too large", errVorbis)
		}
	}
	return nil
}

// checkBook skips one codebook and returns how many values it holds.
func checkBook(r *bitReader) (int, error) {
	r.read(24) // the library checks the pattern
	dimensions, entries := r.read(16), r.read(24)
	if dimensions == 0 || entries == 0 || entries > maxBookValues/dimensions {
		return 0, fmt.Errorf("%w: codebook of %d × %d", errVorbis, entries, dimensions)
	}
	var used int
	if r.read(1) == 1 {
		used = skipOrdered(r, entries)
	} else {
		used = skipLengths(r, entries)
	}
	if used == 0 || r.ended {
		return 0, fmt.Errorf("%w: codebook without entries", errVorbis)
	}
	lookup := r.read(4)
	if lookup == 0 {
		return entries, nil
	}
	r.skip(64)
	width := r.read(4) + 1
	r.read(1)
	count := entries * dimensions
	if lookup == 1 {
		count = root(entries, dimensions)
	}
	if r.skip(width * count); r.ended {
		return 0, fmt.Errorf("%w: it ends inside a codebook", errVorbis)
	}
	return entries * dimensions, nil
}

func skipOrdered(r *bitReader, entries int) int {
	r.read(5)
	for at := 0; at < entries; {
		n := r.read(bits.Len(uint(entries - at)))
		if at += n; r.ended || at > entries {
			return 0
		}
	}
	return entries
}

func skipLengths(r *bitReader, entries int) (used int) {
	sparse := r.read(1) == 1
	for range entries {
		if !sparse || r.read(1) == 1 {
			r.read(5)
			used++
		}
		if r.ended {
			return 0
		}
	}
	return used
}

// root is the greatest n with n^dimensions ≤ entries (Vorbis I, 9.2.3).
func root(entries, dimensions int) int {
	for n := 1; ; n++ {
		power := 1
		for range dimensions {
			if power *= n + 1; power > entries {
				return n
			}
		}
	}
}

// bitReader reads the least significant bits first (Vorbis I, 2.1.4).
type bitReader struct {
	data  []byte
	at    int // bits
	ended bool
}

func (r *bitReader) read(n int) (v int) {
	for i := range n {
		if r.at >= 8*len(r.data) {
			r.ended = true
			return 0
		}
		v |= int(r.data[r.at/8]>>(r.at%8)&1) << i
		r.at++
	}
	return v
}

func (r *bitReader) skip(n int) {
	if r.at += n; r.at > 8*len(r.data) {
		r.ended = true
	}
}
