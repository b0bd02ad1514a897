package codec

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pion/opus"

	"lintod/audio"
	"lintod/audio/wav"
)

// all reads a sound to its end.
func all(s audio.Sound) ([]int16, error) {
	defer s.Close()
	var pcm []int16
	buf := make([]int16, 700) // no divisor of anything
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

// sine is a second of 440 Hz at half scale, in the form of sox's file type.
func sine(t testing.TB, kind string, args ...string) []byte {
	t.Helper()
	if _, err := exec.LookPath("sox"); err != nil {
		t.Skip("SKIPPED, nothing was tested: sox is not installed (apt install sox)")
	}
	path := filepath.Join(t.TempDir(), "sine."+kind)
	args = append(append([]string{"-n"}, args...), path, "synth", "1", "sine", "440", "vol", "0.5")
	if out, err := exec.Command("sox", args...).CombinedOutput(); err != nil {
		t.Fatalf("sox: %v: %s", err, out)
	}
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// silentMP3 is 1152 samples a frame: a header, and side information that says
// that nothing is coded (MPEG-1 layer III, 128 kbit/s, 44.1 kHz, stereo).
func silentMP3(frames int) []byte {
	frame := make([]byte, 417)
	copy(frame, []byte{0xff, 0xfb, 0x90, 0x00})
	return bytes.Repeat(frame, frames)
}

func id3(size uint32, body string) []byte {
	head := []byte{'I', 'D', '3', 4, 0, 0, byte(size >> 21 & 0x7f), byte(size >> 14 & 0x7f), byte(size >> 7 & 0x7f), byte(size & 0x7f)}
	return append(head, body...)
}

func TestForms(t *testing.T) {
	tests := []struct {
		name, kind string
		args       []string
		rate       int
	}{
		{"WAV", "wav", []string{"-r", "16000", "-c", "1"}, 16000},
		{"stereo WAV of 24 bits", "wav", []string{"-r", "44100", "-c", "2", "-b", "24"}, 44100},
		{"Ogg", "ogg", []string{"-r", "22050", "-c", "1"}, 22050},
		{"stereo Ogg", "ogg", []string{"-r", "48000", "-c", "2", "-C", "8"}, 48000},
		{"FLAC", "flac", []string{"-r", "16000", "-c", "1"}, 16000},
		{"stereo FLAC of 24 bits", "flac", []string{"-r", "44100", "-c", "2", "-b", "24"}, 44100},
		{"FLAC of 8 bits", "flac", []string{"-r", "8000", "-c", "1", "-b", "8"}, 8000},
		{"Ogg of bad quality", "ogg", []string{"-r", "8000", "-c", "1", "-C", "-1"}, 8000},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, err := Decode(sine(t, tt.kind, tt.args...))
			if err != nil {
				t.Fatal(err)
			}
			pcm, err := all(s)
			if err != nil || s.Rate() != tt.rate || len(pcm) != tt.rate {
				t.Fatalf("%d samples at %d, %v; want a second at %d", len(pcm), s.Rate(), err, tt.rate)
			}
			if level := rms(pcm); math.Abs(level-0.354) > 0.02 { // 0.5/√2
				t.Errorf("level %.3f, want 0.354", level)
			}
			if n := crossings(pcm); n < 860 || n > 900 {
				t.Errorf("%d zero crossings in a second of 440 Hz", n)
			}
		})
	}
}

// run converts a file with another program.
func run(t testing.TB, program string, args ...string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		t.Skipf("SKIPPED, nothing was tested: %s is not installed (apt install opus-tools lame)", program)
	}
	if out, err := exec.Command(program, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", program, err, out)
	}
}

// chord is something to hear at all frequencies, as a file of sox's.
func chord(t testing.TB, args ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "chord.wav")
	run(t, "sox", append(append([]string{"-n", "-r", "48000", "-b", "16"}, args...),
		path, "synth", "1", "sine", "220-3000", "vol", "0.4", "fade", "0.1", "1", "0.1")...)
	return path
}

// TestOpus compares with the decoder of the reference library, for what its
// encoder makes of speech (SILK), of music (CELT), and in between (hybrid).
func TestOpus(t *testing.T) {
	for _, channels := range []string{"1", "2"} {
		source := chord(t, "-c", channels)
		for _, tt := range []struct {
			name string
			args []string
		}{
			{"SILK", []string{"--bitrate", "10", "--speech"}},
			{"SILK of 60 ms", []string{"--bitrate", "12", "--speech", "--framesize", "60"}},
			{"hybrid", []string{"--bitrate", "24", "--speech"}},
			{"CELT", []string{"--bitrate", "64", "--music"}},
			{"CELT of 2.5 ms", []string{"--bitrate", "96", "--framesize", "2.5"}},
			{"constant rate", []string{"--bitrate", "32", "--hard-cbr"}},
		} {
			t.Run(tt.name+" of "+channels, func(t *testing.T) {
				dir := t.TempDir()
				coded, decoded := filepath.Join(dir, "a.opus"), filepath.Join(dir, "a.wav")
				run(t, "opusenc", append(append([]string{"--quiet"}, tt.args...), source, coded)...)
				run(t, "opusdec", "--quiet", "--rate", "48000", "--no-dither", coded, decoded)
				want, got := decodeFile(t, decoded), decodeFile(t, coded)
				// What the encoder padded the end with is heard, too; it is silence.
				if len(got) < len(want) || len(got) > len(want)+48000/10 {
					t.Fatalf("%d samples, the reference has %d", len(got), len(want))
				}
				if db := noise(want, got); db > -20 {
					t.Errorf("differs from the reference by %.1f dB", db)
				}
			})
		}
	}
}

func decodeFile(t *testing.T, path string) []int16 {
	t.Helper()
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s, err := Decode(file)
	if err != nil {
		t.Fatal(err)
	}
	pcm, err := all(s)
	if err != nil || s.Rate() != 48000 {
		t.Fatalf("%d samples at %d: %v", len(pcm), s.Rate(), err)
	}
	return pcm
}

// noise is the power of the difference, in dB of what was wanted.
func noise(want, got []int16) float64 {
	diff := make([]int16, len(want))
	for i := range diff {
		diff[i] = want[i] - got[i]
	}
	return 20 * math.Log10(rms(diff)/rms(want))
}

// TestRadioMP3 begins in the middle of a frame, as stations do.
func TestRadioMP3(t *testing.T) {
	coded := filepath.Join(t.TempDir(), "a.mp3")
	run(t, "lame", "--quiet", "-b", "128", chord(t, "-c", "2"), coded)
	file, err := os.ReadFile(coded)
	if err != nil {
		t.Fatal(err)
	}
	for _, cut := range []int{0, 1, 700, 5000} {
		s, err := Open(bytes.NewReader(file[cut:]))
		if err != nil {
			t.Errorf("cut at %d: %v", cut, err)
			continue
		}
		if pcm, err := all(s); err != nil || len(pcm) < 24000 || rms(pcm) < 0.1 {
			t.Errorf("cut at %d: %d samples of level %.2f, %v", cut, len(pcm), rms(pcm), err)
		}
	}
}

func rms(pcm []int16) float64 {
	sum := 0.0
	for _, s := range pcm {
		sum += float64(s) * float64(s) / (1 << 30)
	}
	return math.Sqrt(sum / float64(len(pcm)))
}

func crossings(pcm []int16) (n int) {
	for i := 1; i < len(pcm); i++ {
		if pcm[i-1] < 0 != (pcm[i] < 0) {
			n++
		}
	}
	return n
}

func TestMP3(t *testing.T) {
	for name, file := range map[string][]byte{
		"plain":         silentMP3(10),
		"with a tag":    append(id3(20, strings.Repeat("x", 20)), silentMP3(10)...),
		"with two tags": append(append(id3(3, "abc"), id3(0, "")...), silentMP3(10)...),
	} {
		t.Run(name, func(t *testing.T) {
			s, err := Decode(file)
			if err != nil {
				t.Fatal(err)
			}
			if pcm, err := all(s); err != nil || len(pcm) != 10*1152 || s.Rate() != 44100 {
				t.Errorf("%d samples at %d, %v", len(pcm), s.Rate(), err)
			}
		})
	}
}

// TestMusicMP3 decodes what another encoder made: the example of the library.
func TestMusicMP3(t *testing.T) {
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/hajimehoshi/go-mp3").Output()
	if err != nil {
		t.Skip("SKIPPED, nothing was tested: the library's source is not here")
	}
	for _, name := range []string{"classic.mp3", "mpeg2.mp3"} {
		file, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "example", name))
		if err != nil {
			t.Skipf("SKIPPED, nothing was tested: %v", err)
		}
		s, err := Decode(file[:min(len(file), 1<<20)]) // cut off somewhere
		if err != nil {
			t.Fatal(err)
		}
		pcm, err := all(s)
		if err != nil || len(pcm) < s.Rate() || rms(pcm) < 0.01 {
			t.Errorf("%s: %d samples at %d with level %.3f, %v", name, len(pcm), s.Rate(), rms(pcm), err)
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	ogg := sine(t, "ogg", "-r", "16000", "-c", "1")
	for name, file := range map[string][]byte{
		"nothing":               {},
		"text":                  []byte("<html>"),
		"WAV without sound":     wav.Encode(nil, 16000),
		"WAV at a mad rate":     wav.Encode(make([]int16, 9), 1000),
		"RIFF only":             []byte("RIFF"),
		"Ogg that ends":         ogg[:100],
		"Ogg of headers only":   ogg[:len(ogg)/4],
		"MP3 that ends":         silentMP3(1)[:100],
		"ID3 that never ends":   id3(1<<28-1, "x"),
		"too long":              make([]byte, MaxFile+1),
		"MP3 without a bitrate": bytes.Repeat([]byte{0xff, 0xfb, 0x00, 0x00}, 500),
	} {
		if s, err := Decode(file); err == nil {
			if pcm, err := all(s); err == nil && len(pcm) > 0 {
				t.Errorf("%s was taken for sound", name)
			}
		}
	}
	if _, err := Decode([]byte("<html>")); !errors.Is(err, ErrUnknown) {
		t.Errorf("error %v, want ErrUnknown", err)
	}
}

// TestVorbisThatWantsTooMuch has headers for which the library would allocate
// gigabytes, or never return.
func TestVorbisThatWantsTooMuch(t *testing.T) {
	comment := make([]byte, 15)
	binary.LittleEndian.PutUint32(comment[11:], 1<<31) // comments
	good := make([]byte, 15)
	identification := make([]byte, 30)
	identification[11] = 1
	crowd := bytes.Clone(identification)
	crowd[11] = 255
	tests := []struct {
		name                string
		first, second, book []byte
	}{
		{"a crowd of channels", crowd, good, book(1, 8)},
		{"two thousand million comments", identification, comment, book(1, 8)},
		{"a book of 65535 × 16 million", identification, good, book(65535, 1<<24-1)},
		{"a book without dimensions", identification, good, book(0, 8)},
		{"a book without entries", identification, good, book(1, 0)},
		{"a book that ends", identification, good, book(1, 8)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			setup := append(make([]byte, 7), tt.book...)
			if err := checkVorbis(bytes.NewReader(ogg(tt.first, tt.second, setup))); !errors.Is(err, errVorbis) {
				t.Errorf("error %v", err)
			}
		})
	}
}

func book(dimensions, entries int) []byte {
	return []byte{0, 'B', 'C', 'V', byte(dimensions), byte(dimensions >> 8), byte(entries), byte(entries >> 8), byte(entries >> 16), 0x02}
}

// ogg puts each packet on a page of its own.
func ogg(packets ...[]byte) (file []byte) {
	for _, p := range packets {
		page := make([]byte, 28)
		copy(page, "OggS")
		page[26], page[27] = 1, byte(len(p))
		file = append(append(file, page...), p...)
	}
	return file
}

func TestSoundIsLimited(t *testing.T) {
	s, err := Decode(wav.Encode(make([]int16, minRate*60), minRate))
	if err != nil {
		t.Fatal(err)
	}
	s.(*sound).left = minRate
	if pcm, err := all(s); err == nil || len(pcm) > minRate+2*block {
		t.Errorf("%d samples, %v; want an end after the limit", len(pcm), err)
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

func FuzzDecode(f *testing.F) {
	f.Add(silentMP3(2))
	f.Add(id3(3, "abc"))
	f.Add(wav.Encode(make([]int16, 30), 16000))
	if _, err := exec.LookPath("sox"); err == nil {
		f.Add(sine(f, "ogg", "-r", "8000", "-c", "1", "-C", "-1"))
		f.Add(sine(f, "flac", "-r", "8000", "-c", "2"))
		if _, err := exec.LookPath("opusenc"); err == nil {
			for _, rate := range []string{"8", "24", "64"} { // SILK, hybrid, CELT
				coded := filepath.Join(f.TempDir(), "a.opus")
				run(f, "opusenc", "--quiet", "--bitrate", rate, chord(f, "-c", "2"), coded)
				file, err := os.ReadFile(coded)
				if err != nil {
					f.Fatal(err)
				}
				f.Add(file)
			}
		}
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		// The fuzzer does not notice an input that never ends.
		watchdog := time.AfterFunc(time.Minute, func() { panic("this input takes for ever") })
		defer watchdog.Stop()
		s, err := Decode(file[:min(len(file), 1<<20)]) // cut off somewhere
		if err != nil {
			return
		}
		s.(*sound).left = min(s.(*sound).left, 1<<18) // no need to hear all of it
		_, _ = all(s)
	})
}

// FuzzOpusPacket goes around the checksums of Ogg. Each packet begins with its
// length.
func FuzzOpusPacket(f *testing.F) {
	f.Add(false, []byte{3, 0xfc, 0xff, 0xfe})
	f.Add(true, []byte{2, 0x08, 0x00, 3, 0x60, 0x81, 0x00})
	f.Fuzz(func(t *testing.T, stereo bool, packets []byte) {
		watchdog := time.AfterFunc(time.Minute, func() { panic("this input takes for ever") })
		defer watchdog.Stop()
		channels := 1
		if stereo {
			channels = 2
		}
		decoder, err := opus.NewDecoderWithOutput(opusRate, channels)
		if err != nil {
			t.Fatal(err)
		}
		d := &opusDecoder{decoder: decoder, channels: channels, gain: 1, buf: make([]float32, longestOpus*channels)}
		for len(packets) > 0 {
			n := min(int(packets[0]), len(packets)-1)
			_ = guarded(func() error {
				k, err := d.decoder.DecodeToFloat32(packets[1:1+n], d.buf)
				if k > longestOpus {
					t.Errorf("a packet of %d samples", k)
				}
				if pcm := d.mix(d.buf[:max(0, k)*channels]); err == nil && len(pcm) != k {
					t.Errorf("%d samples became %d", k, len(pcm))
				}
				return err
			})
			packets = packets[1+n:]
		}
	})
}
