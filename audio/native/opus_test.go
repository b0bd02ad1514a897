package native

import (
	"bytes"
	"encoding/binary"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"lintod/audio"
	"lintod/audio/audiotest"
	"lintod/audio/native/wire"
	"lintod/audio/opus"
	"lintod/audio/wav"
)

// up is the format that a xiaozhi device sends.
var up = CodecFormat{Kind: opus.Kind, Rate: audio.CaptureRate, Channels: 1, Frame: 60 * time.Millisecond}

// tools skips the test if opus-tools are not installed.
func tools(t *testing.T) {
	t.Helper()
	for _, program := range []string{"opusenc", "opusdec"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("SKIPPED, NOT PASSED: %s is missing (apt install opus-tools)", program)
		}
	}
}

func command(t *testing.T, argv ...string) {
	t.Helper()
	if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %v: %s", argv, err, out)
	}
}

// encodeAll encodes pcm to packets, the last one padded with silence.
func (r *running) encodeAll(f CodecFormat, pcm []int16) (packets [][]byte) {
	r.t.Helper()
	ctx := inTime(r.t)
	e, err := r.OpenEncoder(ctx, f)
	if err != nil {
		r.t.Fatal(err)
	}
	defer e.Close()
	size := int(time.Duration(f.Rate) * f.Frame / time.Second)
	packet := make([]byte, wire.MaxPacket)
	for frame := range slices.Chunk(pcm, size) {
		frame = append(slices.Clone(frame), make([]int16, size-len(frame))...)
		if err := e.Write(ctx, frame); err != nil {
			r.t.Fatal(err)
		}
		n, err := e.Read(ctx, packet)
		if err != nil {
			r.t.Fatal(err)
		}
		packets = append(packets, bytes.Clone(packet[:n]))
	}
	return packets
}

func (r *running) decodeAll(rate int, packets [][]byte) (pcm []int16) {
	r.t.Helper()
	ctx := inTime(r.t)
	d, err := r.OpenDecoder(ctx, CodecFormat{Kind: opus.Kind, Rate: rate, Channels: 1, Frame: 60 * time.Millisecond})
	if err != nil {
		r.t.Fatal(err)
	}
	defer d.Close()
	frame := make([]int16, rate*120/1000)
	for _, p := range packets {
		if err := d.Write(ctx, p); err != nil {
			r.t.Fatal(err)
		}
		n, err := d.Read(ctx, frame)
		if err != nil {
			r.t.Fatal(err)
		}
		pcm = append(pcm, frame[:n]...)
	}
	return pcm
}

// opusdec decodes our packets to the same sound as our decoder.
func TestOpusdecDecodesOurPackets(t *testing.T) {
	tools(t)
	p := realProcess(t)
	said := audiotest.Speak(t, "en-us", "the quick brown fox jumps over the lazy dog, and nobody minds")
	for _, complexity := range []int{0, 5, 10} {
		f := up
		f.Complexity = complexity
		packets := p.encodeAll(f, said)
		dir := t.TempDir()
		file, out := filepath.Join(dir, "us.opus"), filepath.Join(dir, "us.wav")
		if err := os.WriteFile(file, ogg(t, packets), 0o600); err != nil {
			t.Fatal(err)
		}
		command(t, "opusdec", "--quiet", "--rate", "48000", "--no-dither", file, out)
		theirs := readWAV(t, out, 48000)
		ours := p.decodeAll(48000, packets)
		if db := snr(ours, theirs); db < 60 {
			t.Errorf("complexity %d: opusdec and we differ by %.1f dB", complexity, db)
		}
		if back := p.decodeAll(16000, packets); likeness(said, back) < 0.9 {
			t.Errorf("complexity %d: the likeness of input and output is %.2f", complexity, likeness(said, back))
		}
		bytes := 0
		for _, b := range packets {
			bytes += len(b)
		}
		t.Logf("complexity %d: %d packets, %.1f kbit/s, %.1f dB to opusdec, likeness %.3f", complexity, len(packets),
			float64(bytes)*8/audiotest.Duration(said).Seconds()/1000, snr(ours, theirs), likeness(said, p.decodeAll(16000, packets)))
	}
}

// We decode opusenc's packets, of any length and mode, to the same sound as opusdec.
func TestWeDecodeOpusenc(t *testing.T) {
	tools(t)
	p := realProcess(t)
	said := audiotest.Speak(t, "en-us", "the quick brown fox jumps over the lazy dog, and nobody minds")
	dir := t.TempDir()
	file, in, out := filepath.Join(dir, "them.opus"), filepath.Join(dir, "in.wav"), filepath.Join(dir, "out.wav")
	if err := os.WriteFile(in, wav.Encode(said, audiotest.Rate), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, argv := range [][]string{
		{"--framesize", "60", "--comp", "0"},
		{"--framesize", "60", "--bitrate", "12"},
		{"--framesize", "60", "--bitrate", "64", "--hard-cbr"},
		{"--framesize", "40"},
		{"--framesize", "20", "--bitrate", "24"},
		{"--framesize", "10"},
		{"--framesize", "5"},
		{"--framesize", "2.5"},
	} {
		command(t, append(append([]string{"opusenc", "--quiet"}, argv...), in, file)...)
		command(t, "opusdec", "--quiet", "--rate", "48000", "--no-dither", file, out)
		packets, skip := deogg(t, file)
		for _, b := range packets {
			if _, err := opus.Parse(b); err != nil {
				t.Fatalf("%v: % x: %v", argv, b, err)
			}
		}
		ours := p.decodeAll(48000, packets)[skip:]
		if db := snr(ours, readWAV(t, out, 48000)); db < 60 {
			t.Errorf("%v: opusdec and we differ by %.1f dB", argv, db)
		}
		for _, rate := range []int{8000, 12000, 16000, 24000} {
			if pcm := p.decodeAll(rate, packets); len(pcm) != (len(ours)+skip)*rate/48000 {
				t.Errorf("%v: %d samples at %d", argv, len(pcm), rate)
			}
		}
	}
}

func readWAV(t *testing.T, path string, rate int) []int16 {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	pcm, got, err := wav.Read(bytes.NewReader(b))
	if err != nil || got != rate {
		t.Fatal(got, err)
	}
	return pcm
}

// snr returns the signal-to-noise ratio in decibels, over the common length.
func snr(a, b []int16) float64 {
	signal, noise := 1.0, 1e-9
	for i := range min(len(a), len(b)) {
		signal += float64(a[i]) * float64(a[i])
		d := float64(a[i]) - float64(b[i])
		noise += d * d
	}
	return 10 * math.Log10(signal/noise)
}

// likeness returns the correlation at the best delay up to 30 ms.
func likeness(said, heard []int16) (best float64) {
	for delay := range 480 {
		xy, xx, yy := 0.0, 1.0, 1.0
		for i := range min(len(said), len(heard)-delay) {
			x, y := float64(said[i]), float64(heard[i+delay])
			xy, xx, yy = xy+x*y, xx+x*x, yy+y*y
		}
		best = max(best, xy/math.Sqrt(xx*yy))
	}
	return best
}

// ogg returns a file with one packet per page (RFC 7845).
func ogg(t *testing.T, packets [][]byte) (file []byte) {
	t.Helper()
	head := append([]byte("OpusHead\x01\x01"), 0, 0, 0x80, 0x3e, 0, 0, 0, 0, 0)
	tags := append([]byte("OpusTags"), 0, 0, 0, 0, 0, 0, 0, 0)
	granule := int64(0)
	for i, p := range slices.Concat([][]byte{head, tags}, packets) {
		flags := byte(0)
		if i >= 2 {
			parsed, err := opus.Parse(p)
			if err != nil {
				t.Fatal(err)
			}
			granule += int64(parsed.Duration * 48000 / time.Second)
		}
		switch i {
		case 0:
			flags = 2
		case len(packets) + 1:
			flags = 4
		}
		page := append([]byte("OggS\x00"), flags)
		page = binary.LittleEndian.AppendUint64(page, uint64(granule))
		page = binary.LittleEndian.AppendUint32(page, 1)
		page = binary.LittleEndian.AppendUint32(page, uint32(i))
		page = append(page, 0, 0, 0, 0, byte(len(p)/255+1))
		page = append(page, bytes.Repeat([]byte{255}, len(p)/255)...)
		page = append(append(page, byte(len(p)%255)), p...)
		binary.LittleEndian.PutUint32(page[22:], oggSum(page))
		file = append(file, page...)
	}
	return file
}

func oggSum(b []byte) (sum uint32) {
	for _, v := range b {
		sum ^= uint32(v) << 24
		for range 8 {
			carry := sum >> 31
			sum = sum<<1 ^ carry*0x04c11db7
		}
	}
	return sum
}

// deogg returns the packets of a file, and the number of samples to skip.
func deogg(t *testing.T, path string) (packets [][]byte, skip int) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var open []byte
	for len(b) > 27 {
		lacing := b[27 : 27+int(b[26])]
		b = b[27+len(lacing):]
		for _, n := range lacing {
			open = append(open, b[:n]...)
			b = b[n:]
			if n < 255 {
				packets, open = append(packets, open), nil
			}
		}
	}
	return packets[2:], int(binary.LittleEndian.Uint16(packets[0][10:]))
}
