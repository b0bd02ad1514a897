package codec

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"lintod/audio"
	"lintod/audio/wav"
)

// The decoders are in lintod-audio, which is built once. unbuilt is the build error.
var unbuilt string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "codec")
	if err != nil {
		panic(err)
	}
	out, err := exec.Command("go", "build", "-o", dir, "lintod/cmd/lintod-audio").CombinedOutput()
	if err != nil {
		unbuilt = string(out)
	}
	os.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	status := m.Run()
	os.RemoveAll(dir)
	os.Exit(status)
}

// needs skips the test, with a message, if programs are missing.
func needs(t testing.TB, programs ...string) {
	t.Helper()
	if unbuilt != "" {
		t.Skipf("SKIPPED, nothing was tested: lintod-audio cannot be built: %s", unbuilt)
	}
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("SKIPPED, nothing was tested: %s is not installed", p)
		}
	}
}

// all reads a sound to its end.
func all(s audio.Sound) ([]int16, error) {
	defer s.Close()
	var pcm []int16
	buf := make([]int16, 700) // not a divisor of any length
	for {
		n, err := s.Read(context.Background(), buf)
		pcm = append(pcm, buf[:n]...)
		if errors.Is(err, io.EOF) {
			return pcm, nil
		} else if err != nil {
			return pcm, err
		}
	}
}

// run executes a program.
func run(t testing.TB, argv ...string) {
	t.Helper()
	if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%q: %v: %s", argv, err, out)
	}
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// decoded returns the sound of the whole file.
func decoded(t testing.TB, file []byte) (pcm []int16, rate int) {
	t.Helper()
	s, err := Open(io.NopCloser(bytes.NewReader(file)))
	if err != nil {
		t.Fatal(err)
	}
	if pcm, err = all(s); err != nil {
		t.Fatalf("after %d samples: %v", len(pcm), err)
	}
	return pcm, s.Rate()
}

func rms(pcm []int16) float64 {
	sum := 0.0
	for _, s := range pcm {
		sum += float64(s) * float64(s) / (1 << 30)
	}
	return math.Sqrt(sum / float64(max(1, len(pcm))))
}

// pitch returns the mean frequency of a sine in hertz.
func pitch(pcm []int16, rate int) float64 {
	crossings := 0
	for i := 1; i < len(pcm); i++ {
		if pcm[i-1] < 0 && pcm[i] >= 0 {
			crossings++
		}
	}
	return float64(crossings) * float64(rate) / float64(len(pcm))
}

// tone returns a second of 440 Hz in each channel, encoded by ffmpeg.
func tone(t testing.TB, name string, args ...string) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	run(t, append(append([]string{"ffmpeg", "-v", "error", "-f", "lavfi", "-i", "sine=440:duration=1:sample_rate=48000", "-af", "volume=4"}, args...), path)...)
	return read(t, path)
}

func TestFormats(t *testing.T) {
	needs(t, "ffmpeg")
	for _, tt := range []struct {
		name string
		args []string
		rate int
	}{
		{"a.wav", []string{"-ar", "16000"}, 16000},
		{"24.wav", []string{"-ar", "44100", "-ac", "2", "-c:a", "pcm_s24le"}, 44100},
		{"a.flac", []string{"-ar", "22050"}, 22050},
		{"24.flac", []string{"-ar", "96000", "-ac", "2", "-sample_fmt", "s32"}, 96000},
		{"a.mp3", []string{"-ar", "11025", "-b:a", "32k"}, 11025},
		{"a.mp2", []string{"-ar", "48000", "-ac", "2"}, 48000},
		{"a.ogg", []string{"-c:a", "libvorbis", "-ar", "8000"}, 8000},
		{"51.ogg", []string{"-c:a", "libvorbis", "-ac", "6"}, 48000},
		{"a.opus", []string{"-c:a", "libopus", "-b:a", "24k"}, 48000},
		{"51.opus", []string{"-c:a", "libopus", "-ac", "6", "-mapping_family", "1"}, 48000},
		{"a.aac", []string{"-c:a", "aac", "-ar", "32000"}, 32000},
		{"a.m4a", []string{"-c:a", "aac", "-movflags", "faststart"}, 48000},
		{"flac.ogg", []string{"-c:a", "flac", "-ar", "44100"}, 44100},
		{"a.webm", []string{"-c:a", "libopus"}, 48000},
		{"a.aiff", []string{"-ar", "44100"}, 44100},
		{"a.ts", []string{"-c:a", "aac"}, 48000},
	} {
		t.Run(tt.name, func(t *testing.T) {
			pcm, rate := decoded(t, tone(t, tt.name, tt.args...))
			if rate != tt.rate || len(pcm) < rate*95/100 || len(pcm) > rate*115/100 {
				t.Fatalf("%d samples at %d; want about a second at %d", len(pcm), rate, tt.rate)
			}
			if p := pitch(pcm[rate/10:rate*9/10], rate); math.Abs(p-440) > 5 {
				t.Errorf("%.0f Hz, want 440", p)
			}
			if level := rms(pcm[rate/10 : rate*9/10]); level < 0.05 || level > 0.5 {
				t.Errorf("level %.2f", level)
			}
		})
	}
}

// Concatenated sounds are played to the end of the last one, at their pitch.
func TestConcatenatedParts(t *testing.T) {
	needs(t, "ffmpeg")
	vorbis := func(rate, channels string) []byte {
		return tone(t, "a.ogg", "-c:a", "libvorbis", "-ar", rate, "-ac", channels)
	}
	mp3 := func(rate, channels string) []byte {
		return tone(t, "a.mp3", "-ar", rate, "-ac", channels, "-b:a", "48k")
	}
	flac := func(rate, channels string) []byte { return tone(t, "a.flac", "-ar", rate, "-ac", channels) }
	wave := func(rate, channels string) []byte { return tone(t, "a.wav", "-ar", rate, "-ac", channels) }
	opus := func(channels string) []byte { return tone(t, "a.opus", "-c:a", "libopus", "-ac", channels) }
	untagged := tone(t, "a.mp3", "-ar", "44100", "-id3v2_version", "0", "-write_xing", "0")
	for name, parts := range map[string][][]byte{
		"Vorbis":                {vorbis("44100", "1"), vorbis("44100", "1"), vorbis("44100", "1")},
		"Vorbis of other rates": {vorbis("16000", "1"), vorbis("48000", "2"), vorbis("22050", "1")},
		"Opus":                  {opus("1"), opus("2"), opus("1")},
		"MP3":                   {mp3("44100", "2"), mp3("44100", "2")},
		"MP3 of other rates":    {mp3("22050", "1"), mp3("48000", "2"), mp3("11025", "1")},
		"MP3 and a picture":     {untagged, id3(3 << 20), untagged},
		"MP3 and APE":           {append([]byte("APETAGEX"), make([]byte, 24)...), untagged, append([]byte("APETAGEX"), make([]byte, 300)...), untagged},
		"MP3 and garbage":       {bytes.Repeat([]byte{0xff, 0x17, 0xfa}, 1000), untagged, bytes.Repeat([]byte("garbage"), 3000), untagged},
		"FLAC":                  {flac("44100", "1"), flac("44100", "2")},
		"FLAC of other rates":   {flac("48000", "2"), flac("8000", "1")},
		"FLAC and a tag":        {id3(3000), flac("48000", "2"), append([]byte("TAG"), make([]byte, 125)...)},
		"WAV":                   {wave("16000", "1"), wave("16000", "2")},
		"WAV of other rates":    {wave("16000", "1"), wave("44100", "2"), wave("8000", "1")},
	} {
		t.Run(name, func(t *testing.T) {
			pcm, rate := decoded(t, bytes.Join(parts, nil))
			seconds := 0
			for _, p := range parts {
				if len(p) > 3400 && len(p) < 3<<20 && !bytes.HasPrefix(p, []byte("garbage")) {
					seconds++
				}
			}
			if name == "MP3 and garbage" {
				seconds = 2
			}
			if len(pcm) < rate*seconds*97/100 || len(pcm) > rate*seconds*115/100 {
				t.Fatalf("%.2f s, want %d", float64(len(pcm))/float64(rate), seconds)
			}
			for n := range seconds { // the middle half of each
				at := len(pcm) * (4*n + 1) / (4 * seconds)
				part := pcm[at : at+rate/2]
				if p := pitch(part, rate); math.Abs(p-440) > 8 || rms(part) < 0.05 {
					t.Errorf("part %d: %.0f Hz, level %.2f; want 440", n, p, rms(part))
				}
			}
		})
	}
}

func id3(size int) []byte {
	head := []byte{'I', 'D', '3', 4, 0, 0, byte(size >> 21 & 0x7f), byte(size >> 14 & 0x7f), byte(size >> 7 & 0x7f), byte(size & 0x7f)}
	return append(head, bytes.Repeat([]byte{0xff, 0xfb, 0x90}, size/3+1)[:size]...)
}

// A truncated file is played as far as it goes; radio stations start anywhere.
func TestTruncatedFiles(t *testing.T) {
	needs(t, "ffmpeg")
	for name, file := range map[string][]byte{
		"WAV":    tone(t, "a.wav"),
		"FLAC":   tone(t, "a.flac"),
		"MP3":    tone(t, "a.mp3", "-b:a", "128k"),
		"Vorbis": tone(t, "a.ogg", "-c:a", "libvorbis", "-page_duration", "50000"),
		"Opus":   tone(t, "a.opus", "-c:a", "libopus", "-page_duration", "50000"),
		"AAC":    tone(t, "a.aac", "-c:a", "aac"),
	} {
		t.Run(name, func(t *testing.T) {
			pcm, rate := decoded(t, file[:len(file)*2/3])
			if len(pcm) < rate/5 || len(pcm) > rate*9/10 {
				t.Errorf("%d samples of a second at %d", len(pcm), rate)
			}
			if name != "MP3" && name != "AAC" {
				return
			}
			for _, cut := range []int{1, 700, 2000} {
				if pcm, rate := decoded(t, file[cut:]); len(pcm) < rate*3/5 || rms(pcm) < 0.05 {
					t.Errorf("cut at %d: %d samples of level %.2f", cut, len(pcm), rms(pcm))
				}
			}
		})
	}
}

func TestDecodeRejects(t *testing.T) {
	needs(t, "ffmpeg")
	ogg := tone(t, "a.ogg", "-c:a", "libvorbis")
	mp3 := tone(t, "a.mp3", "-id3v2_version", "0", "-write_xing", "0")
	for name, file := range map[string][]byte{
		"nothing":               {},
		"a byte":                {0xff},
		"text":                  []byte("<html>"),
		"a page with UTF-16":    []byte("<html>\xff\xfb\x90\x00"),
		"WAV without sound":     wav.Encode(nil, 16000),
		"WAV at an absurd rate": wav.Encode(make([]int16, 9), 1000),
		"RIFF only":             []byte("RIFF"),
		"Ogg that ends":         ogg[:100],
		"Ogg of headers only":   ogg[:3000],
		"MP3 that ends":         mp3[:100],
		"ID3 that never ends":   id3(1 << 21)[:100],
		"ID3 and nothing":       id3(100),
		"MP4 without an index":  []byte("\x00\x00\x00\x18ftypM4A \x00\x00\x00\x00\x00\x00\x00\x08mdat"),
		"too long":              make([]byte, MaxFile+1),
		"noise":                 bytes.Repeat([]byte{0xff, 0xfb, 0x00, 0x00}, 500),
	} {
		if s, err := Decode(file); err == nil {
			t.Errorf("%s was accepted as sound", name)
			s.Close()
		} else {
			t.Logf("%s: %v", name, err)
		}
	}
	for _, file := range []string{"<html>", "\x89PNG\r\n\x1a\n\xff\xd8\xff"} {
		if _, err := Decode([]byte(file)); !errors.Is(err, ErrUnknown) {
			t.Errorf("%q: error %v, want ErrUnknown", file, err)
		}
	}
}

// Without ffmpeg the error contains the format.
func TestWithoutFFmpeg(t *testing.T) {
	needs(t, "ffmpeg")
	file := tone(t, "a.aac", "-c:a", "aac")
	t.Setenv("PATH", t.TempDir())
	if _, err := Decode(file); !errors.Is(err, errNeedsFFmpeg) {
		t.Errorf("error %v", err)
	}
}

// blocked returns its data, and then blocks until it is closed.
type blocked struct {
	io.Reader
	closed chan struct{}
}

func (b *blocked) Read(p []byte) (int, error) {
	if n, err := b.Reader.Read(p); err == nil {
		return n, nil
	}
	<-b.closed
	return 0, os.ErrClosed
}

func (b *blocked) Close() error {
	select {
	case <-b.closed:
	default:
		close(b.closed)
	}
	return nil
}

func TestReadEnds(t *testing.T) {
	needs(t, "ffmpeg")
	file := tone(t, "a.mp3")
	for name, end := range map[string]func(s audio.Sound, cancel context.CancelFunc){
		"with its context": func(_ audio.Sound, cancel context.CancelFunc) { cancel() },
		"with Close":       func(s audio.Sound, _ context.CancelFunc) { s.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			r := &blocked{bytes.NewReader(file), make(chan struct{})}
			s, err := Open(r)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ended := make(chan error)
			go func() {
				buf := make([]int16, 1000)
				for {
					if _, err := s.Read(ctx, buf); err != nil {
						ended <- err
						return
					}
				}
			}()
			end(s, cancel)
			select {
			case err := <-ended:
				if errors.Is(err, io.EOF) {
					t.Error("it ended as if it were complete")
				}
			case <-time.After(time.Minute):
				t.Fatal("it does not end")
			}
			s.Close()
			<-r.closed // the promise of Open
		})
	}
}

// An error of the reader is not treated as the end of the file.
func TestErrorOfTheReader(t *testing.T) {
	needs(t, "ffmpeg")
	fault := errors.New("the network is gone")
	for _, name := range []string{"a.mp3", "a.ogg", "a.flac", "a.wav"} {
		file := tone(t, name, strings.Fields(map[string]string{"a.ogg": "-c:a libvorbis -page_duration 50000"}[name])...)
		r := io.MultiReader(bytes.NewReader(file[:len(file)*9/10]), faulty{fault})
		s, err := Open(io.NopCloser(r))
		if err != nil {
			t.Fatal(err)
		}
		if pcm, err := all(s); !errors.Is(err, fault) || len(pcm) == 0 {
			t.Errorf("%s: %d samples, %v", name, len(pcm), err)
		}
	}
}

type faulty struct{ err error }

func (f faulty) Read([]byte) (int, error) { return 0, f.err }

func TestLongSoundEnds(t *testing.T) {
	file := wav.AppendHeader(nil, 4000, 8_000_000)
	file = append(file, make([]byte, 8_000_000)...) // 1000 s in 8 MB
	s, err := Decode(file)
	if err != nil {
		t.Fatal(err)
	}
	if pcm, err := all(s); err == nil || len(pcm) != 4000*600 {
		t.Errorf("%d samples, %v; want an error after 10 minutes", len(pcm), err)
	}
}

func TestReadWithoutTime(t *testing.T) {
	s, err := Decode(wav.Encode(make([]int16, 100), 16000))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(audio.ErrClosed)
	if n, err := s.Read(ctx, make([]int16, 10)); n != 0 || !errors.Is(err, audio.ErrClosed) {
		t.Errorf("read %d, %v", n, err)
	}
}

func TestNoChildIsLeft(t *testing.T) {
	needs(t, "ffmpeg")
	for _, name := range []string{"a.mp3", "a.aac"} {
		file := tone(t, name)
		s, err := Decode(file)
		if err != nil {
			t.Fatal(err)
		}
		s.Close() // in the middle
		if s, err = Decode(file); err != nil {
			t.Fatal(err)
		}
		if _, err := all(s); err != nil {
			t.Fatal(err)
		}
	}
	children, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/children", os.Getpid()))
	if err == nil && len(bytes.TrimSpace(children)) > 0 {
		t.Errorf("children %s", children)
	}
}

func FuzzRecognise(f *testing.F) {
	f.Add([]byte("OggS"))
	f.Add(id3(3))
	f.Add([]byte{0xff, 0xf1, 0x50, 0x80, 0x01, 0x1f, 0xfc})
	f.Fuzz(func(_ *testing.T, file []byte) {
		r := bufio.NewReaderSize(bytes.NewReader(file), peeked)
		if tagged, err := skipID3(r); err == nil {
			_, _ = recognise(r, tagged)
		}
	})
}

// FuzzWAV decodes concatenated WAVs, which the daemon does itself.
func FuzzWAV(f *testing.F) {
	one := wav.Encode(make([]int16, 30), 16000)
	f.Add(one)
	f.Add(append(one[:len(one):len(one)], wav.Encode(make([]int16, 30), 44101)...))
	f.Fuzz(func(t *testing.T, file []byte) {
		if !bytes.HasPrefix(file, []byte("RIFF")) {
			return
		}
		began, before := time.Now(), allocated()
		s, err := Decode(file)
		if err != nil {
			return
		}
		s.(*reading).left = min(s.(*reading).left, 1<<20)
		read := 0
		buf := make([]int16, 4096)
		for err == nil {
			var n int
			n, err = s.Read(t.Context(), buf)
			read += n
		}
		s.Close()
		if grown := allocated() - before; grown > 16<<20+4*uint64(read) {
			t.Errorf("%d bytes allocated", grown)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

func allocated() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}
