package codec

import (
	"bytes"
	"io"
	"path/filepath"
	"testing"
	"time"
)

// In ten minutes of sound with a pitch that rises by 3 Hz a second, the sound after
// a given time is found, in files of each format; formats without an index start at
// the beginning.
func TestSkip(t *testing.T) {
	needs(t, "sox", "lame", "flac")
	dir := t.TempDir()
	source := filepath.Join(dir, "rise.wav")
	run(t, "sox", "-n", "-r", "16000", "-b", "16", "-c", "1", source, "synth", "600", "sine", "200:2000")
	for name, tt := range map[string]struct {
		argv  []string
		stays bool
	}{
		"cbr":       {[]string{"lame", "--quiet", "-b", "32", source, "{out}"}, false},
		"cbr, bare": {[]string{"lame", "--quiet", "-b", "32", "-t", source, "{out}"}, false},
		"cbr, tags": {[]string{"lame", "--quiet", "-b", "64", "--tt", "A story", "--id3v2-only", source, "{out}"}, false},
		"44.1 kHz":  {[]string{"lame", "--quiet", "-b", "128", "--resample", "44.1", source, "{out}"}, false},
		"vbr":       {[]string{"lame", "--quiet", "-V", "5", source, "{out}"}, false},
		"abr":       {[]string{"lame", "--quiet", "--abr", "48", source, "{out}"}, false},
		"flac":      {[]string{"flac", "--silent", "-o", "{out}", source}, true},
		"wav":       {[]string{"cp", source, "{out}"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "out")
			argv := append([]string{}, tt.argv...)
			for i := range argv {
				if argv[i] == "{out}" {
					argv[i] = out
				}
			}
			run(t, argv...)
			file := read(t, out)
			for _, to := range []time.Duration{time.Minute, 5 * time.Minute, 9 * time.Minute} {
				r := bytes.NewReader(file)
				at, err := Skip(r, to)
				if err != nil {
					t.Fatal(err)
				}
				if want := map[bool]time.Duration{false: to, true: 0}[tt.stays]; at != want {
					t.Errorf("%v is at %v", to, at)
				}
				s, err := Open(io.NopCloser(r))
				if err != nil {
					t.Fatal(err)
				}
				pcm := make([]int16, s.Rate())
				for n := 0; n < len(pcm); {
					more, err := s.Read(t.Context(), pcm[n:])
					if err != nil {
						t.Fatal(err)
					}
					n += more
				}
				s.Close()
				second := (pitch(pcm[len(pcm)/2:], s.Rate()) - 200) / 3
				if second < at.Seconds()-5 || second > at.Seconds()+5 {
					t.Errorf("the sound after %v is of second %.1f", at, second)
				}
			}
			if at, err := Skip(bytes.NewReader(file), time.Hour); at != 0 || err != nil {
				t.Errorf("beyond the end: %v, %v", at, err)
			}
			for _, cut := range []int{0, 1, 10, 100, 1000, 5000} { // any remaining part of it
				if _, err := Skip(bytes.NewReader(file[:min(cut, len(file))]), time.Minute); err != nil && cut > 10 {
					t.Logf("%d bytes: %v", cut, err)
				}
			}
		})
	}
}

func FuzzSkip(f *testing.F) {
	f.Add([]byte("ID3\x04\x00\x00\x00\x00\x00\x00\xff\xfb\x90\x64"), int64(10))
	f.Add(append([]byte("\xff\xfb\x90\x64"), "                                Xing\x00\x00\x00\x07\x00\x00\x00\x01\xff\xff\xff\xff"...), int64(1))
	f.Fuzz(func(t *testing.T, file []byte, second int64) {
		r := bytes.NewReader(file)
		to := time.Duration(second%1e6) * time.Second
		at, err := Skip(r, max(0, to))
		left := r.Len()
		if err == nil && (at != 0 && at != to || left > len(file)) {
			t.Errorf("%v, %d bytes left of %d", at, left, len(file))
		}
	})
}
