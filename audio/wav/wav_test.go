package wav

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	oracle "github.com/go-audio/wav"
)

func ramp(n int) []int16 {
	pcm := make([]int16, n)
	for i := range pcm {
		pcm[i] = int16(uint32(i)*2654435761>>7) ^ int16(i)
	}
	return pcm
}

// file builds a WAV by hand, so that every field can be invalid.
func file(coding, channels uint16, rate uint32, bits uint16, before string, size uint32, data []byte) []byte {
	le := binary.LittleEndian
	b := []byte("RIFF\xff\xff\xff\xffWAVE" + before + "fmt \x10\x00\x00\x00")
	b = le.AppendUint16(b, coding)
	b = le.AppendUint16(b, channels)
	b = le.AppendUint32(b, rate)
	b = le.AppendUint32(b, 0)
	b = le.AppendUint16(b, 0)
	b = le.AppendUint16(b, bits)
	b = append(b, "data"...)
	b = le.AppendUint32(b, size)
	return append(b, data...)
}

func TestEncodeIsReadByAnIndependentDecoder(t *testing.T) {
	want := ramp(1001)
	d := oracle.NewDecoder(bytes.NewReader(Encode(want, 16000)))
	buf, err := d.FullPCMBuffer()
	if err != nil {
		t.Fatal(err)
	}
	if d.SampleRate != 16000 || d.NumChans != 1 || d.BitDepth != 16 || d.AvgBytesPerSec != 32000 || d.PCMLen() != 2002 {
		t.Errorf("header: %+v", d)
	}
	for i, v := range buf.Data {
		if int16(v) != want[i] {
			t.Fatalf("sample %d: %d, want %d", i, v, want[i])
		}
	}
	if len(buf.Data) != len(want) {
		t.Errorf("%d samples, want %d", len(buf.Data), len(want))
	}
}

func TestEncodeWritesTheLengthsOfTheFile(t *testing.T) {
	b := Encode(ramp(10), 8000)
	if len(b) != 64 || binary.LittleEndian.Uint32(b[4:]) != 56 || binary.LittleEndian.Uint32(b[40:]) != 20 {
		t.Errorf("% x", b[:44])
	}
}

func TestReadReturnsTheEncodedSound(t *testing.T) {
	for _, n := range []int{0, 1, 2, 319, 4096, 4097, 20000} {
		want := ramp(n)
		for name, r := range map[string]io.Reader{
			"whole":      bytes.NewReader(Encode(want, 22050)),
			"byte-wise":  iotest.OneByteReader(bytes.NewReader(Encode(want, 22050))),
			"EOF & data": iotest.DataErrReader(bytes.NewReader(Encode(want, 22050))),
		} {
			got, rate, err := Read(r)
			if err != nil || rate != 22050 || !slices.Equal(got, want) {
				t.Errorf("%d samples, %s: %d samples at %d, %v", n, name, len(got), rate, err)
			}
		}
	}
}

func TestRawReaderTreatsEverythingAsSound(t *testing.T) {
	r := NewRawReader(bytes.NewReader([]byte{1, 0, 0xff, 0xff, 9}), 8000, 1)
	pcm := make([]int16, 10)
	n, err := r.Read(pcm)
	if n != 2 || err != nil || pcm[0] != 1 || pcm[1] != -1 || r.Rate() != 8000 {
		t.Errorf("%v %v", pcm[:n], err)
	}
	if n, err := r.Read(pcm); n != 0 || err != io.EOF {
		t.Errorf("then %d, %v", n, err)
	}
}

func TestReadOfEveryCoding(t *testing.T) {
	f32 := func(v ...float32) (b []byte) {
		for _, v := range v {
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
		}
		return b
	}
	cases := map[string]struct {
		coding, channels, bits uint16
		data                   []byte
		want                   []int16
	}{
		"8 bits are unsigned":              {1, 1, 8, []byte{0, 128, 255}, []int16{-32768, 0, 32512}},
		"16 bits":                          {1, 1, 16, []byte{0, 0x80, 1, 0, 0xff, 0x7f}, []int16{-32768, 1, 32767}},
		"16 bits stereo is the mean":       {1, 2, 16, []byte{100, 0, 200, 0, 0xff, 0x7f, 0xff, 0x7f}, []int16{150, 32767}},
		"20 bits in 24":                    {1, 1, 20, []byte{0, 0, 0x80}, []int16{-32768}},
		"24 bits are rounded, not clipped": {1, 1, 24, []byte{0x80, 1, 0, 0xff, 0xff, 0x7f, 0, 0, 0x80}, []int16{2, 32767, -32768}},
		"32 bits":                          {1, 1, 32, []byte{0, 0, 2, 0}, []int16{2}},
		"float":                            {3, 1, 32, f32(0, 0.5, -1, 1, 7, float32(math.Inf(-1)), float32(math.NaN())), []int16{0, 16384, -32768, 32767, 32767, -32768, 0}},
		"three channels of 8 bits":         {1, 3, 8, []byte{128, 128, 131}, []int16{256}},
	}
	for name, c := range cases {
		got, _, err := Read(bytes.NewReader(file(c.coding, c.channels, 16000, c.bits, "", uint32(len(c.data)), c.data)))
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, %v; want %v", name, got, err, c.want)
		}
	}
}

func TestReadOfHostileAndStreamedHeaders(t *testing.T) {
	data := Encode(ramp(100), 1)[headerSize:]
	ok := func(before string, size uint32) []byte { return file(1, 1, 16000, 16, before, size, data) }
	field := func(name string) error { return &fieldError{field: name} }
	is := func(got, want error) bool {
		var g, w *fieldError
		return errors.Is(got, want) || errors.As(got, &g) && errors.As(want, &w) && g.field == w.field
	}
	list := "LIST\x05\x00\x00\x00INFO\x00\x00"
	cases := map[string]struct {
		file    []byte
		samples int
		err     error
	}{
		"true length":                  {ok("", 200), 100, nil},
		"never corrected: 0":           {ok("", 0), 100, nil},
		"never corrected: 0xFFFFFFFF":  {ok("", 0xFFFFFFFF), 100, nil},
		"espeak-ng and sox: 7ffff000":  {ok("", 0x7ffff000), 100, nil},
		"0x80000000":                   {ok("", 0x80000000), 100, nil},
		"cut off":                      {ok("", 4000), 100, nil},
		"cut off inside a sample":      {ok("", 0)[:headerSize+7], 3, nil},
		"bytes after the data":         {append(ok("", 200), "LIST\x04\x00\x00\x00abcd"...), 100, nil},
		"odd chunk before the data":    {ok(list, 200), 100, nil},
		"empty file":                   {nil, 0, ErrCut},
		"cut off in the header":        {ok("", 200)[:30], 0, ErrCut},
		"no WAV":                       {[]byte("OggS00000000000000000000000000"), 0, ErrNotWAV},
		"huge chunk before the data":   {ok("LIST\xff\xff\xff\x3f", 200), 0, errChunks},
		"many chunks before the data":  {ok(strings.Repeat("junk\x00\x00\x00\x00", 65), 200), 0, errChunks},
		"data before its format":       {ok("data\x02\x00\x00\x00ab", 200), 100, nil},
		"no channels":                  {file(1, 0, 16000, 16, "", 200, data), 0, field("channels")},
		"65535 channels of 32 bits":    {file(1, 65535, 16000, 32, "", 200, data), 0, field("channels")},
		"no bits":                      {file(1, 1, 16000, 0, "", 200, data), 0, field("bytes a sample")},
		"64 bits":                      {file(1, 1, 16000, 64, "", 200, data), 0, field("bytes a sample")},
		"rate 0":                       {file(1, 1, 0, 16, "", 200, data), 0, field("samples a second")},
		"rate 4 GHz":                   {file(1, 1, 0xFFFFFFFF, 16, "", 200, data), 0, field("samples a second")},
		"MP3 inside":                   {file(0x55, 1, 16000, 16, "", 200, data), 0, field("coding")},
		"16-bit float":                 {file(3, 1, 16000, 16, "", 200, data), 0, field("bytes a sample")},
		"extensible without extension": {file(0xFFFE, 1, 16000, 16, "", 200, data), 0, field("coding")},
	}
	for name, c := range cases {
		got, _, err := Read(bytes.NewReader(c.file))
		if c.err != nil {
			if !is(err, c.err) {
				t.Errorf("%s: error %v, want %v", name, err, c.err)
			}
			continue
		}
		if err != nil || !slices.Equal(got, ramp(100)[:c.samples]) {
			t.Errorf("%s: %d samples, %v; want %d", name, len(got), err, c.samples)
		}
	}
}

func TestReadRejectsEndlessSound(t *testing.T) {
	endless := io.MultiReader(bytes.NewReader(file(1, 1, 16000, 8, "", 0, nil)), zeros{})
	if _, _, err := Read(endless); !errors.Is(err, ErrTooLong) {
		t.Errorf("error %v, want ErrTooLong", err)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

func TestReadKeepsTheCauseOfABrokenSource(t *testing.T) {
	boom := errors.New("boom")
	r := io.MultiReader(bytes.NewReader(Encode(ramp(10), 16000)[:50]), iotest.ErrReader(boom))
	if _, _, err := Read(r); !errors.Is(err, boom) {
		t.Errorf("error %v, want boom", err)
	}
}

// Files written by sox, including extensible headers of 24 and 32 bits, must contain
// the original sound.
func TestReadOfWhatSoxWrites(t *testing.T) {
	sox, err := exec.LookPath("sox")
	if err != nil {
		t.Skip("SKIPPED: sox is not installed (apt install sox)")
	}
	dir := t.TempDir()
	in := filepath.Join(dir, "in.wav")
	want := ramp(5000)
	if err := os.WriteFile(in, Encode(want, 16000), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"-b", "16"}, {"-b", "24"}, {"-b", "32"}, {"-e", "float", "-b", "32"}, {"-c", "2"}, {"-c", "6", "-b", "24"},
	} {
		pipe := exec.Command(sox, slices.Concat([]string{"-D", in}, args, []string{"-t", "wav", "-"})...)
		out, err := pipe.Output()
		if err != nil {
			t.Fatal(err)
		}
		got, rate, err := Read(bytes.NewReader(out))
		if err != nil || rate != 16000 || len(got) != len(want) {
			t.Errorf("%v: %d samples at %d, %v", args, len(got), rate, err)
			continue
		}
		for i := range want {
			// The mean of float samples may differ by a rounding error.
			if d := int(got[i]) - int(want[i]); d < -1 || d > 1 {
				t.Errorf("%v: sample %d is %d, want %d", args, i, got[i], want[i])
				break
			}
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add(Encode(ramp(50), 16000))
	f.Add(file(3, 2, 48000, 32, "LIST\x04\x00\x00\x00INFO", 0xFFFFFFFF, make([]byte, 80)))
	f.Add(file(1, 6, 44100, 24, "", 0, make([]byte, 100)))
	f.Add(file(0xFFFE, 1, 8000, 8, "junk\x01\x00\x00\x00ab", 0x7ffff000, []byte{1, 2, 3}))
	f.Fuzz(func(t *testing.T, b []byte) {
		pcm, rate, err := Read(bytes.NewReader(b))
		if err != nil {
			return
		}
		if rate < minRate || rate > maxRate || len(pcm) > len(b) {
			t.Errorf("%d samples at %d from %d bytes", len(pcm), rate, len(b))
		}
		slow, _, err := Read(iotest.OneByteReader(bytes.NewReader(b)))
		if err != nil || !slices.Equal(slow, pcm) {
			t.Errorf("byte by byte: %d samples, %v; at once: %d", len(slow), err, len(pcm))
		}
	})
}

func TestReaderAllocatesNothing(t *testing.T) {
	r, err := NewReader(io.MultiReader(bytes.NewReader(file(1, 2, 48000, 24, "", 0, nil)), zeros{}))
	if err != nil {
		t.Fatal(err)
	}
	frame := make([]int16, 320)
	if n := testing.AllocsPerRun(100, func() { r.Read(frame) }); n != 0 {
		t.Errorf("%v allocations a frame", n)
	}
}

func BenchmarkReadStereo(b *testing.B) {
	data := file(1, 2, 48000, 16, "", 0, make([]byte, 4*48000))
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := Read(bytes.NewReader(data)); err != nil {
			b.Fatal(err)
		}
	}
}
