//go:build cgo

package decode

/*
#cgo pkg-config: vorbisfile opusfile
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>
#include <opusfile.h>
#include <vorbis/vorbisfile.h>

// A stream is a file descriptor plus 1, because NULL means no stream.
static ssize_t pull(void *stream, void *to, size_t n) {
	ssize_t got;
	do got = read((int)(intptr_t)stream - 1, to, n);
	while (got < 0 && errno == EINTR);
	return got;
}

static size_t pull_vorbis(void *to, size_t size, size_t n, void *stream) {
	ssize_t got = pull(stream, to, size * n);
	return got < 0 ? 0 : (size_t)got / size;
}

static int pull_opus(void *stream, unsigned char *to, int n) { return pull(stream, to, n); }

static OggVorbis_File *begin_vorbis(int fd, int *code) {
	ov_callbacks from = {pull_vorbis, NULL, NULL, NULL};
	OggVorbis_File *f = calloc(1, sizeof *f);
	if (!f) return NULL;
	*code = ov_open_callbacks((void *)(intptr_t)(fd + 1), f, NULL, 0, from);
	if (*code == 0) return f;
	free(f);
	return NULL;
}

static void end_vorbis(OggVorbis_File *f) {
	ov_clear(f);
	free(f);
}

// Returns how many samples it stored, 0 at the end, or an error below that.
static long next_vorbis(OggVorbis_File *f, float *mono, int max, int *rate) {
	float **channels;
	int link, c;
	long n, i;
	do n = ov_read_float(f, &channels, max, &link);
	while (n == OV_HOLE); // data is missing or damaged; decoding continues after it
	if (n <= 0) return n;
	vorbis_info *v = ov_info(f, -1); // of this link of the chain
	*rate = v->rate;
	for (i = 0; i < n; i++) {
		float sum = 0;
		for (c = 0; c < v->channels; c++) sum += channels[c][i];
		mono[i] = sum / v->channels;
	}
	return n;
}

static OggOpusFile *begin_opus(int fd, int *code) {
	OpusFileCallbacks from = {pull_opus, NULL, NULL, NULL};
	return op_open_callbacks((void *)(intptr_t)(fd + 1), &from, NULL, 0, code);
}

static int next_opus(OggOpusFile *f, float *mono, int max) {
	float stereo[2 * max];
	int n, i;
	do n = op_read_float_stereo(f, stereo, 2 * max);
	while (n == OP_HOLE);
	for (i = 0; i < n; i++) mono[i] = (stereo[2 * i] + stereo[2 * i + 1]) / 2;
	return n;
}
*/
import "C"

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// opusRate is the decoding rate of Opus, whatever the input rate was (RFC 7845, 5.1).
const opusRate = 48000

// mono holds the samples of a library that returns floats.
type mono struct {
	fractions [block]C.float
	pcm       [block]int16
}

func (m *mono) first(n int) []int16 {
	for i, v := range m.fractions[:n] {
		m.pcm[i] = sample(float32(v))
	}
	return m.pcm[:n]
}

// vorbisDecoder decodes Ogg Vorbis, chained or not.
type vorbisDecoder struct {
	f *C.OggVorbis_File
	mono
}

func openVorbis(file *os.File) (decoder, error) {
	var code C.int
	f := C.begin_vorbis(C.int(file.Fd()), &code)
	if f == nil {
		return nil, fmt.Errorf("the Vorbis headers are invalid (libvorbisfile: error %d)", code)
	}
	return &vorbisDecoder{f: f}, nil
}

func (d *vorbisDecoder) close() { C.end_vorbis(d.f) }

func (d *vorbisDecoder) next() ([]int16, int, error) {
	var rate C.int
	n := int(C.next_vorbis(d.f, &d.fractions[0], block, &rate))
	switch {
	case n == 0:
		return nil, 0, io.EOF
	case n == C.OV_ENOTVORBIS:
		return nil, 0, errors.New("the Ogg stream changes from Vorbis to another format, which lintod does not support")
	case n < 0:
		return nil, 0, fmt.Errorf("the Vorbis stream is damaged (libvorbisfile: error %d)", n)
	}
	return d.first(n), int(rate), nil
}

// opusDecoder decodes Ogg Opus, chained or not.
type opusDecoder struct {
	f *C.OggOpusFile
	mono
}

func openOpus(file *os.File) (decoder, error) {
	var code C.int
	f := C.begin_opus(C.int(file.Fd()), &code)
	if f == nil {
		return nil, fmt.Errorf("the Opus headers are invalid (libopusfile: error %d)", code)
	}
	return &opusDecoder{f: f}, nil
}

func (d *opusDecoder) close() { C.op_free(d.f) }

func (d *opusDecoder) next() ([]int16, int, error) {
	n := int(C.next_opus(d.f, &d.fractions[0], block))
	switch {
	case n == 0:
		return nil, 0, io.EOF
	case n == C.OP_ENOTFORMAT:
		return nil, 0, errors.New("the Ogg stream changes from Opus to another format, which lintod does not support")
	case n < 0:
		return nil, 0, fmt.Errorf("the Opus stream is damaged (libopusfile: error %d)", n)
	}
	return d.first(n), opusRate, nil
}
