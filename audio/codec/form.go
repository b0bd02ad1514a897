package codec

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
)

// Form is a sound format that a child process decodes.
type Form string

// The formats of lintod-audio, by the names for its -decode.
const (
	MPEG   Form = "mpeg" // MP3 and its predecessors
	Vorbis Form = "vorbis"
	Opus   Form = "opus"
	FLAC   Form = "flac"
)

const wave Form = "wav"

// foreign are the formats that ffmpeg decodes, if it is installed, by the names for its -f, with
// their usual names.
var foreign = map[Form]string{
	"aac":      "AAC",
	"mov":      "MP4 (AAC or ALAC)",
	"ogg":      "Ogg with neither Vorbis nor Opus (FLAC or Speex)",
	"matroska": "WebM or Matroska",
	"asf":      "Windows Media",
	"aiff":     "AIFF",
	"mpegts":   "an MPEG transport stream",
}

// peeked is how many bytes recognise reads ahead at most.
const peeked = 4 << 10

// recognise returns the format by the beginning of r, after tags that only frame-based formats
// have, and leaves r there.
func recognise(r *bufio.Reader, tagged bool) (Form, error) {
	head, err := r.Peek(12)
	if len(head) == 0 {
		return "", noEOF(err)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	at := func(i int, magic string) bool { return len(head) >= i && bytes.HasPrefix(head[i:], []byte(magic)) }
	switch {
	case at(0, "RIFF"):
		return wave, nil
	case at(0, "fLaC"):
		return FLAC, nil
	case at(0, "OggS"):
		return recogniseOgg(r)
	case at(4, "ftyp"):
		return "mov", nil
	case at(0, "FORM") && (at(8, "AIFF") || at(8, "AIFC")):
		return "aiff", nil
	case at(0, "\x1a\x45\xdf\xa3"):
		return "matroska", nil
	case at(0, "\x30\x26\xb2\x75\x8e\x66\xcf\x11"):
		return "asf", nil
	}
	// Frames without a header. Radio streams start in the middle of one.
	head, err = r.Peek(peeked)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	switch {
	case hasADTS(head):
		return "aac", nil
	case len(head) > 2*188 && head[0] == 0x47 && head[188] == 0x47 && head[2*188] == 0x47:
		return "mpegts", nil
	case !tagged && bytes.HasPrefix(bytes.TrimSpace(bytes.TrimPrefix(head, []byte("\xef\xbb\xbf"))), []byte("<")):
		return "", fmt.Errorf("%w: a web page, or a list in XML", ErrUnknown)
	case tagged || bytes.IndexByte(head, 0xff) >= 0:
		return MPEG, nil // mpg123 finds its frames, or reports that there are none
	}
	return "", ErrUnknown
}

// recogniseOgg checks the first pages, one for each stream (RFC 3533, 6).
func recogniseOgg(r *bufio.Reader) (Form, error) {
	for n := 64; ; n *= 2 {
		head, err := r.Peek(min(n, peeked))
		for form, magic := range map[Form]string{Opus: "OpusHead", Vorbis: "\x01vorbis", "ogg": "\x7fFLAC", "ogg ": "Speex   "} {
			if bytes.Contains(head, []byte(magic)) {
				return Form(bytes.TrimSpace([]byte(form))), nil
			}
		}
		switch {
		case n >= peeked || errors.Is(err, io.EOF):
			return "", fmt.Errorf("%w: an Ogg file without Vorbis, Opus, FLAC or Speex", ErrUnknown)
		case err != nil:
			return "", err
		}
	}
}

// hasADTS reports whether there are three consecutive AAC frames (ISO 14496-3, 1.A.2.2).
func hasADTS(head []byte) bool {
	for i := range head {
		n, frames := i, 0
		for ; frames < 3 && len(head) >= n+7; frames++ {
			h := head[n:]
			size := int(h[3]&3)<<11 | int(h[4])<<3 | int(h[5])>>5
			if h[0] != 0xff || h[1]&0xf6 != 0xf0 || h[2]>>2&15 > 12 || size < 7 {
				break
			}
			n += size
		}
		if frames == 3 || frames > 0 && n == len(head) {
			return true
		}
	}
	return false
}

// skipID3 skips ID3v2 tags, and reports whether there was one. The length has seven bits per byte
// [ID3v2.4 3.1].
func skipID3(r *bufio.Reader) (tagged bool, err error) {
	for {
		h, err := r.Peek(10)
		if len(h) < 10 || !bytes.HasPrefix(h, []byte("ID3")) {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return tagged, err
		}
		size := int(h[6]&0x7f)<<21 | int(h[7]&0x7f)<<14 | int(h[8]&0x7f)<<7 | int(h[9]&0x7f)
		if _, err := r.Discard(10 + size); err != nil {
			return tagged, noEOF(err)
		}
		tagged = true
	}
}
