//go:build cgo

package decode

/*
#cgo pkg-config: libmpg123
#include <mpg123.h>

// Only functions without off_t are used: where Debian 13 has made it wider
// (armhf), these are the same as in Debian 12.
static mpg123_handle *begin_mpeg(long resync) {
	const long *rates;
	size_t n, i;
	mpg123_handle *h;
	if (mpg123_init() != MPG123_OK) return NULL; // nothing to do since 1.27
	if (!(h = mpg123_new(NULL, NULL))) return NULL;
	mpg123_rates(&rates, &n);
	int ok = mpg123_param(h, MPG123_ADD_FLAGS, MPG123_QUIET | MPG123_MONO_MIX | MPG123_SKIP_ID3V2, 0) == MPG123_OK
		&& mpg123_param(h, MPG123_RESYNC_LIMIT, resync, 0) == MPG123_OK
		&& mpg123_format_none(h) == MPG123_OK;
	for (i = 0; ok && i < n; i++) ok = mpg123_format(h, rates[i], MPG123_MONO, MPG123_ENC_SIGNED_16) == MPG123_OK;
	if (ok && mpg123_open_feed(h) == MPG123_OK) return h;
	mpg123_delete(h);
	return NULL;
}
*/
import "C"

import (
	"errors"
	"io"
	"os"
	"unsafe"
)

// resyncLimit is the maximum number of invalid bytes between two frames.
const resyncLimit = 64 << 10

// mpegDecoder decodes MPEG audio: layers I to III of MPEG-1, 2, and 2.5. Encoder padding is removed
// if a tag contains its length.
type mpegDecoder struct {
	h    *C.mpg123_handle
	file *os.File
	fed  [4 << 10]byte
	pcm  [block]int16
	rate C.long
	// renewed reports that the sample rate changes after the samples that were decoded last.
	renewed bool
}

func openMPEG(f *os.File) (decoder, error) {
	h := C.begin_mpeg(resyncLimit)
	if h == nil {
		return nil, errors.New("cannot initialise mpg123")
	}
	return &mpegDecoder{h: h, file: f}, nil
}

func (d *mpegDecoder) close() { C.mpg123_delete(d.h) }

func (d *mpegDecoder) next() ([]int16, int, error) {
	for {
		if d.renewed {
			var channels, encoding C.int
			C.mpg123_getformat(d.h, &d.rate, &channels, &encoding)
			d.renewed = false
		}
		var done C.size_t
		code := C.mpg123_read(d.h, unsafe.Pointer(&d.pcm[0]), C.size_t(2*len(d.pcm)), &done)
		d.renewed = code == C.MPG123_NEW_FORMAT
		if done > 0 {
			return d.pcm[:done/2], int(d.rate), nil
		}
		switch code {
		case C.MPG123_OK, C.MPG123_NEW_FORMAT:
		case C.MPG123_NEED_MORE:
			n, err := d.file.Read(d.fed[:])
			if err != nil {
				return nil, 0, err
			}
			if C.mpg123_feed(d.h, (*C.uchar)(&d.fed[0]), C.size_t(n)) != C.MPG123_OK {
				return nil, 0, d.fault()
			}
		case C.MPG123_DONE:
			return nil, 0, io.EOF
		default:
			return nil, 0, d.fault()
		}
	}
}

func (d *mpegDecoder) fault() error {
	return errors.New("MPEG audio: " + C.GoString(C.mpg123_strerror(d.h)))
}
