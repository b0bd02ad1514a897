package codec

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
)

// Bounds on what a Vorbis header may ask for; libvorbis stays far below. The
// library makes room for whatever the header claims, and loops for ever over
// books without entries or dimensions.
const (
	maxVorbisChannels = 8
	maxBookValues     = 1 << 21 // of all codebooks
)

var errVorbis = errors.New("the Vorbis header is broken")

// checkVorbis reads the three headers as the library will, and refuses those
// that it cannot be trusted with.
func checkVorbis(file []byte) error {
	packets, err := headerPackets(file)
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
func headerPackets(file []byte) (packets [3][]byte, err error) {
	n := 0
	for first := true; n < len(packets); first = false {
		if len(file) < 27 || first && file[5]&1 != 0 || file[26] == 0 || len(file) < 27+int(file[26]) {
			return packets, fmt.Errorf("%w: no three packets", errVorbis)
		}
		lacing, body := file[27:27+int(file[26])], file[27+int(file[26]):]
		for _, size := range lacing {
			if len(body) < int(size) {
				return packets, fmt.Errorf("%w: it ends inside a page", errVorbis)
			}
			if n < len(packets) {
				packets[n] = append(packets[n], body[:size]...)
				if size < 255 {
					n++
				}
			}
			body = body[size:]
		}
		file = body
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
