package codec

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"

	"github.com/hajimehoshi/go-mp3"
)

type mp3Decoder struct {
	*mp3.Decoder
	buf [4 * block]byte
}

func openMP3(r io.Reader) (decoder, int, error) {
	// Hidden behind a plain reader, or the library would walk through a whole file
	// first to learn its length.
	d, err := mp3.NewDecoder(struct{ io.Reader }{r})
	if err != nil {
		return nil, 0, err
	}
	return &mp3Decoder{Decoder: d}, d.SampleRate(), nil
}

// read mixes the two channels that the library always gives.
func (d *mp3Decoder) read(pcm []int16) (int, error) {
	n, err := io.ReadFull(d.Decoder, d.buf[:4*min(len(pcm), block)])
	n /= 4
	for i := range n {
		left := int16(binary.LittleEndian.Uint16(d.buf[4*i:]))
		right := int16(binary.LittleEndian.Uint16(d.buf[4*i+2:]))
		pcm[i] = int16((int(left) + int(right)) / 2)
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = io.EOF
	}
	return n, err
}

// skipID3 removes ID3v2 tags, for which the library would make room as their
// header claims. The length has seven bits in each byte [ID3v2.4 3.1].
func skipID3(r *bufio.Reader) error {
	for {
		h, _ := r.Peek(10)
		if len(h) < 10 || !bytes.HasPrefix(h, []byte("ID3")) {
			return nil
		}
		size := int(h[6]&0x7f)<<21 | int(h[7]&0x7f)<<14 | int(h[8]&0x7f)<<7 | int(h[9]&0x7f)
		if _, err := r.Discard(10 + size); err != nil {
			return err
		}
	}
}

// findMP3 returns where the first frame begins that another one follows, or the
// end does: radio stations begin in the middle of one. It is -1 where none does.
func findMP3(head []byte) int {
	for i := 0; i+4 <= len(head); i++ {
		n := mp3Frame(head[i:])
		if n > 0 && (i+n == len(head) || i+n < len(head) && mp3Frame(head[i+n:]) > 0) {
			return i
		}
	}
	return -1
}

// mp3Frame is the length in bytes of the frame whose header h begins with; 0
// where it is none of layer III (ISO 11172-3, 2.4.2.3; 13818-3 for the low rates).
func mp3Frame(h []byte) int {
	if len(h) < 4 || h[0] != 0xff || h[1]&0xe0 != 0xe0 {
		return 0
	}
	version, layer := h[1]>>3&3, h[1]>>1&3 // 3: MPEG-1, 2: MPEG-2, 0: 2.5; 1: layer III
	bitrate, rate, padding := int(h[2]>>4), int(h[2]>>2&3), int(h[2]>>1&1)
	if version == 1 || layer != 1 || bitrate == 0 || bitrate == 15 || rate == 3 {
		return 0
	}
	kbit := [15]int{0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320}[bitrate]
	hertz, samples := [3]int{44100, 48000, 32000}[rate], 1152
	if version != 3 {
		kbit = [15]int{0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160}[bitrate]
		hertz, samples = hertz/2, samples/2
	}
	if version == 0 {
		hertz /= 2
	}
	return samples/8*kbit*1000/hertz + padding
}
