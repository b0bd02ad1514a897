package recorder

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/mewkiz/flac"

	"lintod/audio"
	"lintod/audio/wav"
)

// signals cover the cases of the predictor: silence, speech-like, full scale, noise,
// and signals whose prediction overflows 16 bits.
func signals(n int) map[string][]int16 {
	rnd := rand.New(rand.NewPCG(1, 2))
	s := map[string][]int16{}
	for _, name := range []string{"silence", "constant", "speech", "noise", "square", "impulses"} {
		pcm := make([]int16, n)
		for i := range pcm {
			switch name {
			case "constant":
				pcm[i] = -3
			case "speech":
				x := float64(i) / audio.CaptureRate
				pcm[i] = int16(6000*math.Sin(2*math.Pi*140*x)*(1+math.Sin(2*math.Pi*4*x)) + 20*rnd.NormFloat64())
			case "noise":
				pcm[i] = int16(rnd.Uint32())
			case "square":
				pcm[i] = []int16{math.MinInt16, math.MaxInt16}[i%2]
			case "impulses":
				if i%4001 == 0 {
					pcm[i] = math.MinInt16
				}
			}
		}
		s[name] = pcm
	}
	return s
}

// write records pcm to one file and returns its path; unfinished leaves it as after
// a kill.
func write(t testing.TB, format string, pcm []int16, finished bool) string {
	t.Helper()
	s := must(openShelf(t.TempDir()))
	defer s.close()
	g := must(newSegment(s, "m", format, time.Now()))
	if err := g.write(pcm); err != nil {
		t.Fatal(err)
	}
	if finished {
		if err := g.close(s, false); err != nil {
			t.Fatal(err)
		}
	} else {
		g.file.Close()
	}
	return filepath.Join(s.root.Name(), g.path)
}

func TestFormatsKeepEverySample(t *testing.T) {
	for _, format := range []string{FLAC, WAV} {
		for _, n := range []int{1, 3, 7, 319, blockSamples - 1, blockSamples, blockSamples + 1, 5*blockSamples + 123} {
			for name, pcm := range signals(n) {
				file := write(t, format, pcm, true)
				if got := listen(t, file); !slices.Equal(got, pcm) {
					t.Errorf("%s, %d samples of %s: sox decodes %d different ones", format, n, name, len(got))
				}
				if format == FLAC {
					verify(t, file)
				}
			}
		}
	}
}

// verify checks lengths and checksums with the reference decoder.
func verify(t testing.TB, file string) {
	t.Helper()
	tool, err := exec.LookPath("flac")
	if err != nil {
		t.Log("flac is not installed: checksums are not verified by the reference decoder")
		return
	}
	if out, err := exec.Command(tool, "-t", "-s", "-w", file).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("flac -t: %v\n%s", err, out)
	}
}

func TestSilenceAndSpeechAreCompressed(t *testing.T) {
	for name, most := range map[string]float64{"silence": 0.01, "speech": 0.6, "noise": 1.1} {
		pcm := signals(60 * second)[name]
		info := must(os.Stat(write(t, FLAC, pcm, true)))
		if ratio := float64(info.Size()) / float64(2*len(pcm)); ratio > most {
			t.Errorf("%s takes %.3f of its size as WAV", name, ratio)
		}
	}
}

// Beyond 2,048 blocks the numbers in the frames take three bytes, beyond 65,536 (5
// hours) four.
func TestLongFLAC(t *testing.T) {
	blocks := int64(2100)
	if full() {
		blocks = 66000
	}
	s := must(openShelf(t.TempDir()))
	defer s.close()
	g := must(newSegment(s, "m", FLAC, time.Now()))
	if err := g.silence(blocks * blockSamples); err != nil {
		t.Fatal(err)
	}
	if err := g.write(tones(0, blockSamples)); err != nil {
		t.Fatal(err)
	}
	g.file.Close() // like a kill
	if n, err := s.repair(g.path); n != (blocks+1)*blockSamples || err != nil {
		t.Errorf("repaired: %d samples, %v", n, err)
	}
	file := filepath.Join(s.root.Name(), g.path)
	out, err := exec.Command(soxPath(t), file, "-t", "raw", "-", "trim", fmt.Sprintf("%ds", blocks*blockSamples)).Output()
	if err != nil || len(out) != 2*blockSamples {
		t.Errorf("sox finds %d bytes after %v, %v", len(out), duration(blocks*blockSamples), err)
	}
}

// Wherever a file is truncated, or its end overwritten with typical disk contents,
// repair keeps every complete block before, and other programs can open the result.
func TestRepairOfEveryTruncation(t *testing.T) {
	pcm := slices.Concat(signals(3 * blockSamples)["speech"], tones(0, 3*blockSamples))
	for _, format := range []string{FLAC, WAV} {
		t.Run(format, func(t *testing.T) {
			whole := must(os.ReadFile(write(t, format, pcm, false)))
			s := must(openShelf(t.TempDir()))
			defer s.close()
			if err := s.folder("m"); err != nil {
				t.Fatal(err)
			}
			rnd := rand.New(rand.NewPCG(3, 4))
			for cut := 0; cut <= len(whole); cut += 1 + rnd.IntN(600) {
				for _, filler := range []string{"", "zeros", "noise"} {
					torn := append(bytes.Clone(whole[:cut]), tornEnd(filler, rnd)...)
					checkRepair(t, s, format, torn, pcm, cut)
				}
			}
		})
	}
}

func tornEnd(filler string, rnd *rand.Rand) []byte {
	b := make([]byte, 4096)
	switch filler {
	case "zeros":
		return b
	case "noise":
		for i := range b {
			b[i] = byte(rnd.Uint32())
		}
		return b
	}
	return nil
}

func checkRepair(t *testing.T, s *shelf, format string, torn []byte, pcm []int16, cut int) {
	t.Helper()
	name := "m/20000101T000000.000Z." + format
	file := filepath.Join(s.root.Name(), name)
	if err := os.WriteFile(file, torn, 0o600); err != nil {
		t.Fatal(err)
	}
	n, err := s.repair(name)
	if err != nil {
		t.Fatalf("cut at %d: %v", cut, err)
	}
	if n == 0 {
		if _, err := os.Stat(file); err == nil {
			t.Fatalf("cut at %d: a file without sound remains", cut)
		}
		return
	}
	got := decode(t, file, format)
	if int64(len(got)) != n {
		t.Fatalf("cut at %d: %d samples reported, %d found", cut, n, len(got))
	}
	if format == FLAC { // a WAV does not distinguish torn sound
		if !slices.Equal(got, pcm[:len(got)]) {
			t.Fatalf("cut at %d: the samples differ", cut)
		}
	} else if sound := min((cut-wavHeader)/2, len(got)); sound > 0 && !slices.Equal(got[:sound], pcm[:sound]) {
		t.Fatalf("cut at %d: the samples differ", cut)
	}
	if again, err := s.repair(name); again != n || err != nil {
		t.Fatalf("cut at %d: repaired again: %d, %v", cut, again, err)
	}
	if cut%31 == 0 {
		listen(t, file)
	}
}

func decode(t *testing.T, file, format string) (pcm []int16) {
	t.Helper()
	f := must(os.Open(file))
	defer f.Close()
	if format == WAV {
		pcm, _, err := wav.Read(f)
		if err != nil {
			t.Fatal(err)
		}
		return pcm
	}
	stream, err := flac.New(f)
	if err != nil {
		t.Fatal(err)
	}
	for {
		block, err := stream.ParseNext()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range block.Subframes[0].Samples {
			pcm = append(pcm, int16(v))
		}
	}
	if stream.Info.NSamples != uint64(len(pcm)) {
		t.Errorf("the header gives %d samples, the file has %d", stream.Info.NSamples, len(pcm))
	}
	return pcm
}

// A hole in the middle of a file ends the recording there, and does not shift the
// sound after it.
func TestRepairStopsAtAHole(t *testing.T) {
	whole := must(os.ReadFile(write(t, FLAC, tones(0, 8*blockSamples), false)))
	block := (len(whole) - flacFrames) / 8
	clear(whole[flacFrames+3*block+100 : flacFrames+3*block+200])
	s := must(openShelf(t.TempDir()))
	defer s.close()
	if err := s.folder("m"); err != nil {
		t.Fatal(err)
	}
	const name = "m/20000101T000000.000Z.flac"
	if err := os.WriteFile(filepath.Join(s.root.Name(), name), whole, 0o600); err != nil {
		t.Fatal(err)
	}
	if n, err := s.repair(name); n != 3*blockSamples || err != nil {
		t.Errorf("%d samples, %v", n, err)
	}
}

// A file that repair does not understand, and that has more than a moment of sound,
// is not deleted.
func TestRepairKeepsWhatItDoesNotUnderstand(t *testing.T) {
	s := must(openShelf(t.TempDir()))
	defer s.close()
	if err := s.folder("m"); err != nil {
		t.Fatal(err)
	}
	const name = "m/20000101T000000.000Z.flac"
	if err := os.WriteFile(filepath.Join(s.root.Name(), name), make([]byte, 100000), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.repair(name); err == nil {
		t.Error("no error")
	}
	if _, err := os.Stat(filepath.Join(s.root.Name(), name)); err != nil {
		t.Error(err)
	}
}

func FuzzRepair(f *testing.F) {
	f.Add(must(os.ReadFile(write(f, FLAC, tones(0, 2*blockSamples), false))), true)
	f.Add(must(os.ReadFile(write(f, WAV, tones(0, 2*blockSamples), false))), false)
	f.Fuzz(func(t *testing.T, b []byte, isFLAC bool) {
		s := must(openShelf(t.TempDir()))
		defer s.close()
		name := "m/20000101T000000.000Z.wav"
		if isFLAC {
			name = "m/20000101T000000.000Z.flac"
		}
		if err := s.folder("m"); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(s.root.Name(), name), b, 0o600); err != nil {
			t.Fatal(err)
		}
		n, err := s.repair(name)
		if _, kept := os.Stat(filepath.Join(s.root.Name(), name)); n < 0 || (kept != nil) != (n == 0 && err == nil) {
			t.Errorf("%d samples, %v, and the file: %v", n, err, kept)
		}
	})
}

func FuzzLastFrame(f *testing.F) {
	f.Add(must(os.ReadFile(write(f, FLAC, tones(0, 2*blockSamples), false))), false)
	f.Add(must(os.ReadFile(write(f, FLAC, signals(9 * blockSamples)["speech"], false)))[1000:], true)
	f.Fuzz(func(t *testing.T, b []byte, inside bool) {
		begin := int64(0)
		if inside {
			begin = min(flacFrames, int64(len(b)))
		}
		end, samples, err := lastFrame(bytes.NewReader(b), begin, int64(len(b)))
		if err != nil || end > int64(len(b)) || samples < 0 || samples%blockSamples != 0 || (samples > 0) != (end > begin) {
			t.Errorf("ends at %d of %d with %d samples, %v", end, len(b), samples, err)
		}
	})
}

func TestAFrameAllocatesNothing(t *testing.T) {
	frame := tones(0, int64(audio.FrameSamples))
	for _, format := range []string{FLAC, WAV} {
		s := must(openShelf(t.TempDir()))
		g := must(newSegment(s, "m", format, time.Now()))
		perBlock := testing.AllocsPerRun(100, func() {
			if err := g.write(frame); err != nil {
				t.Error(err)
			}
		}) * float64(blockSamples) / float64(audio.FrameSamples)
		// The cost of a block is that of the FLAC library: AllocsPerRun rounds down.
		t.Logf("%s: about %v allocations a block of 250 ms", format, perBlock)
		if n := testing.AllocsPerRun(1, func() { g.have = 0; _ = g.write(frame) }); n != 0 {
			t.Errorf("%s: %v allocations a frame", format, n)
		}
		g.file.Close()
		s.close()
	}
}

// An hour of speech, encoded and written, in both formats.
func BenchmarkHour(b *testing.B) {
	minute := signals(60 * second)["speech"]
	for _, format := range []string{FLAC, WAV} {
		b.Run(format, func(b *testing.B) {
			b.ReportAllocs()
			var size int64
			for b.Loop() {
				s := must(openShelf(b.TempDir()))
				g := must(newSegment(s, "m", format, time.Now()))
				for range 60 {
					for at := 0; at < len(minute); at += audio.FrameSamples {
						if err := g.write(minute[at : at+audio.FrameSamples]); err != nil {
							b.Fatal(err)
						}
					}
				}
				if err := g.close(s, false); err != nil {
					b.Fatal(err)
				}
				size = must(os.Stat(filepath.Join(s.root.Name(), g.path))).Size()
				os.Remove(filepath.Join(s.root.Name(), g.path))
				s.close()
			}
			b.ReportMetric(b.Elapsed().Seconds()/float64(b.N), "s/hour")
			b.ReportMetric(float64(size)/1e6, "MB/hour")
		})
	}
}
