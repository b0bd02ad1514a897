//go:build cgo

package decode

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"lintod/audio/codec"
)

// childEnv makes the test binary the child that lintod starts, for the given form.
const childEnv = "DECODE_TEST_FORM"

func TestMain(m *testing.M) {
	if form := os.Getenv(childEnv); form != "" {
		// The peak that wait4 reports includes the parent's memory, so it is read
		// from this file, which cannot be opened later.
		status, err := os.Open("/proc/self/status")
		if err != nil {
			panic(err)
		}
		failed := Main(form, os.Stdin, os.Stdout)
		text, _ := io.ReadAll(status)
		_, peak, _ := bytes.Cut(text, []byte("VmHWM:"))
		if failed != nil {
			fmt.Fprintln(os.Stderr, failed)
		}
		fmt.Fprintln(os.Stderr, "peak", string(bytes.Fields(peak)[0]))
		if failed != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// outcome is the result of a child.
type outcome struct {
	sound  []byte        // WAV
	length time.Duration // of the sound
	said   string
	err    error
	cpu    time.Duration
	memory int64 // maximum in bytes; 0 if the process crashed
}

// decodeIn runs a child on the contents of r.
func decodeIn(t testing.TB, form codec.Form, r io.Reader) outcome {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), childEnv+"="+string(form))
	cmd.Stdin = r
	var sound, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &sound, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	hang := time.AfterFunc(2*time.Minute, func() { _ = cmd.Process.Kill() })
	defer hang.Stop()
	o := outcome{err: cmd.Wait(), said: said.String(), sound: sound.Bytes()}
	usage := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	o.cpu = time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
	if words, kilobytes, found := strings.Cut(o.said, "peak "); found {
		o.said = words
		kB, err := strconv.ParseInt(strings.TrimSpace(kilobytes), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		o.memory = kB << 10
	}
	if len(o.sound) > 44 {
		o.length = time.Duration(len(o.sound)-44) * time.Second / time.Duration(2*binary.LittleEndian.Uint32(o.sound[24:]))
	}
	return o
}

// idle returns the result of a child without a file: its memory before it decodes.
func idle(t testing.TB) outcome { return decodeIn(t, codec.FLAC, bytes.NewReader(nil)) }

// check checks the limits that apply to every file.
func (o outcome) check(t testing.TB, base outcome) {
	t.Helper()
	var exit *exec.ExitError
	if o.err != nil && !errors.As(o.err, &exit) {
		t.Errorf("%v", o.err)
	}
	if exit != nil && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL {
		t.Error("the child did not end by itself")
	}
	// The kernel limits only data; pages of the program, and those of the race
	// detector, vary.
	if grown := o.memory - base.memory; grown > maxMemory+4<<20 {
		t.Errorf("%d kB more than before the file", grown>>10)
	}
	// The watchdog may fire late by one tick, and by more on a busy machine.
	if o.cpu > maxLead+o.length+base.cpu+time.Second {
		t.Errorf("%v of computing for %v of sound", o.cpu, o.length)
	}
}

// page returns a page of an Ogg stream, with its checksum (RFC 3533, 6). If open is
// set, the last packet continues on the next page.
func page(flags byte, serial, number uint32, open bool, packets ...[]byte) []byte {
	p := append([]byte("OggS\x00"), flags)
	p = append(p, make([]byte, 8)...) // position
	p = binary.LittleEndian.AppendUint32(p, serial)
	p = binary.LittleEndian.AppendUint32(p, number)
	p = append(p, 0, 0, 0, 0) // checksum
	var lacing, body []byte
	for i, packet := range packets {
		n := len(packet)
		for ; n >= 255; n -= 255 {
			lacing = append(lacing, 255)
		}
		if !open || i < len(packets)-1 {
			lacing = append(lacing, byte(n))
		}
		body = append(body, packet...)
	}
	p = append(append(append(p, byte(len(lacing))), lacing...), body...)
	sealPages(p)
	return p
}

// sealPages repairs the checksums of everything that looks like a page.
func sealPages(file []byte) {
	for at := 0; ; {
		i := bytes.Index(file[at:], []byte("OggS"))
		if i < 0 {
			return
		}
		p := file[at+i:]
		at += i + 4
		if len(p) < 27 || len(p) < 27+int(p[26]) {
			return
		}
		size := 27 + int(p[26])
		for _, lace := range p[27:size] {
			size += int(lace)
		}
		if size > len(p) {
			continue
		}
		copy(p[22:26], []byte{0, 0, 0, 0})
		crc := uint32(0)
		for _, b := range p[:size] {
			crc ^= uint32(b) << 24
			for range 8 {
				if crc&(1<<31) != 0 {
					crc = crc<<1 ^ 0x04c11db7
				} else {
					crc <<= 1
				}
			}
		}
		binary.LittleEndian.PutUint32(p[22:], crc)
	}
}

// sealFrames repairs the checksums of the FLAC frames that start where the original
// had frames: crc-8 of the header, crc-16 of the whole frame.
func sealFrames(file []byte) {
	var starts []int
	for i := 0; i+6 < len(file); i++ {
		if file[i] == 0xff && file[i+1]&0xfe == 0xf8 {
			starts = append(starts, i)
		}
	}
	for k, at := range starts {
		end := len(file)
		if k+1 < len(starts) {
			end = starts[k+1]
		}
		f := file[at:end]
		if len(f) < 8 {
			continue
		}
		head := 4
		switch { // the number has the length given by UTF-8
		case f[4] < 0x80:
			head++
		case f[4]&0xe0 == 0xc0:
			head += 2
		default:
			head += 3
		}
		switch f[2] >> 4 {
		case 6:
			head++
		case 7:
			head += 2
		}
		switch f[2] & 15 {
		case 12:
			head++
		case 13, 14:
			head += 2
		}
		if head+3 > len(f) {
			continue
		}
		f[head] = byte(crc(f[:head], 8, 0x07))
		binary.BigEndian.PutUint16(f[len(f)-2:], uint16(crc(f[:len(f)-2], 16, 0x8005)))
	}
}

func crc(data []byte, bits uint, polynomial uint32) (sum uint32) {
	for _, b := range data {
		sum ^= uint32(b) << (bits - 8)
		for range 8 {
			if sum&(1<<(bits-1)) != 0 {
				sum = sum<<1 ^ polynomial
			} else {
				sum <<= 1
			}
		}
	}
	return sum & (1<<bits - 1)
}

// bitWriter writes the least significant bits first (Vorbis I, 2.1.4).
type bitWriter struct {
	data []byte
	n    uint
}

func (w *bitWriter) put(v uint64, width uint) *bitWriter {
	for i := range width {
		if w.n%8 == 0 {
			w.data = append(w.data, 0)
		}
		w.data[w.n/8] |= byte(v>>i&1) << (w.n % 8)
		w.n++
	}
	return w
}

// endless repeats pages whose packet never ends.
type endless struct {
	head io.Reader
	next uint32
	rest []byte
	left int
}

func (e *endless) Read(b []byte) (int, error) {
	if n, err := e.head.Read(b); err == nil {
		return n, nil
	}
	if e.left <= 0 {
		return 0, io.EOF
	}
	if len(e.rest) == 0 {
		e.next++
		flags := byte(1)
		if e.next == 1 {
			flags = 0
		}
		e.rest = page(flags, 1, e.next, true, make([]byte, 255*255))
	}
	n := copy(b, e.rest)
	e.rest, e.left = e.rest[n:], e.left-n
	return n, nil
}

var (
	vorbisHead = append([]byte("\x01vorbis\x00\x00\x00\x00\x02\x44\xac\x00\x00"), append(make([]byte, 12), 0xb8, 1)...)
	opusHead   = []byte("OpusHead\x01\x02\x38\x01\x80\xbb\x00\x00\x00\x00\x00")
)

// greedySetup returns a set-up header with a codebook of that size.
func greedySetup(books, dimensions, entries uint64) []byte {
	w := &bitWriter{data: []byte("\x05vorbis"), n: 56}
	w.put(books-1, 8)
	for range books {
		w.put(0x564342, 24).put(dimensions, 16).put(entries, 24).put(1, 1).put(4, 5)
		for left := entries; left > 0; { // ordered: all of the same length
			width := uint(0)
			for v := left; v > 0; v >>= 1 {
				width++
			}
			w.put(left, width)
			left = 0
		}
		w.put(1, 4).put(0, 64).put(0, 4).put(0, 1).put(0, 1)
	}
	return w.data
}

// Files that once caused huge allocations or endless loops.
func TestHostileFiles(t *testing.T) {
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	comment := []byte("\x03vorbis\x00\x00\x00\x00\x00\x00\x00\x00\x01")
	comments := []byte("\x03vorbis\x00\x00\x00\x00\xff\xff\xff\x7f\x01")
	first := page(2, 1, 0, false, vorbisHead)
	id3 := func(size int) []byte {
		return []byte{'I', 'D', '3', 4, 0, 0, byte(size >> 21 & 0x7f), byte(size >> 14 & 0x7f), byte(size >> 7 & 0x7f), byte(size & 0x7f)}
	}
	frame := append([]byte{0xff, 0xfb, 0x90, 0x00}, make([]byte, 413)...)
	base := idle(t)
	for name, file := range map[string]struct {
		form codec.Form
		data io.Reader
	}{
		"set-up header first":     {codec.Vorbis, bytes.NewReader(join(page(2, 1, 0, false, greedySetup(1, 65535, 1<<24-1)), first))},
		"set-up, set-up, set-up":  {codec.Vorbis, bytes.NewReader(join(first, page(0, 1, 1, false, comment), page(0, 1, 2, false, greedySetup(64, 1, 1<<20))))},
		"book of 65535 × 2²⁴":     {codec.Vorbis, bytes.NewReader(join(first, page(0, 1, 1, false, comment), page(0, 1, 2, false, greedySetup(1, 65535, 1<<24-1))))},
		"book of 1 × 2²⁴":         {codec.Vorbis, bytes.NewReader(join(first, page(0, 1, 1, false, comment), page(0, 1, 2, false, greedySetup(1, 1, 1<<24-1))))},
		"two thousand comments":   {codec.Vorbis, bytes.NewReader(join(first, page(0, 1, 1, false, comments)))},
		"header without end":      {codec.Vorbis, &endless{head: bytes.NewReader(first), left: 64 << 20}},
		"Opus packet without end": {codec.Opus, &endless{head: bytes.NewReader(page(2, 1, 0, false, opusHead)), left: 64 << 20}},
		"FLAC block without end":  {codec.FLAC, bytes.NewReader(append([]byte("fLaC\x00\x00\x00\x22"), bytes.Repeat([]byte{0xff}, 8<<20)...))},
		"FLAC headers only":       {codec.FLAC, bytes.NewReader(append([]byte("fLaC\x00\x00\x00\x22"), bytes.Repeat([]byte{0xff, 0xf8, 0xc9, 0xf8}, 2<<20)...))},
		"MP3 of headers only":     {codec.MPEG, bytes.NewReader(bytes.Repeat([]byte{0xff, 0xfb, 0x90, 0x00}, 2<<20))},
		"ID3 in ID3 in ID3":       {codec.MPEG, bytes.NewReader(join(frame, frame, frame, bytes.Repeat(id3(1), 1<<18), id3(1<<28-1), make([]byte, 8<<20)))},
		"noise":                   {codec.MPEG, io.LimitReader(rand.NewChaCha8([32]byte{}), 8<<20)},
	} {
		t.Run(name, func(t *testing.T) {
			o := decodeIn(t, file.form, file.data)
			o.check(t, base)
			t.Logf("%v, %d kB more, %v of sound, %v: %.60q", o.cpu, max(0, o.memory-base.memory)>>10, o.length, o.err, o.said)
		})
	}
}

// A decoder can open no files, and its memory is limited.
func TestConfinement(t *testing.T) {
	if os.Getenv("DECODE_TEST_CONFINED") == "" {
		cmd := exec.Command(os.Args[0], "-test.run=^TestConfinement$")
		cmd.Env = append(os.Environ(), "DECODE_TEST_CONFINED=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return
	}
	if err := confine(); err != nil {
		t.Fatal(err)
	}
	if f, err := os.Open("/etc/passwd"); err == nil {
		f.Close()
		t.Error("the decoder can open a file")
	}
	if fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0); err == nil {
		syscall.Close(fd)
		t.Error("the decoder can open a socket")
	}
	if _, err := syscall.Mmap(-1, 0, 2*maxMemory, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE); err == nil {
		t.Error("the decoder can exceed the memory limit")
	}
}

// samples are the initial files of the fuzzer.
func samples(f *testing.F) map[codec.Form][]byte {
	dir := f.TempDir()
	wave := filepath.Join(dir, "a.wav")
	made := map[codec.Form][]byte{}
	for _, step := range []struct {
		form codec.Form
		argv []string
	}{
		{"", []string{"sox", "-n", "-r", "22050", "-c", "2", "-b", "16", wave, "synth", "0.2", "sine", "300-3000"}},
		{codec.MPEG, []string{"lame", "--quiet", "-b", "32", wave, filepath.Join(dir, "mpeg")}},
		{codec.Vorbis, []string{"sox", wave, "-t", "ogg", filepath.Join(dir, "vorbis")}},
		{codec.Opus, []string{"opusenc", "--quiet", wave, filepath.Join(dir, "opus")}},
		{codec.FLAC, []string{"flac", "-s", "-o", filepath.Join(dir, "flac"), wave}},
	} {
		if _, err := exec.LookPath(step.argv[0]); err != nil {
			f.Logf("SKIPPED: no %s", step.argv[0])
			continue
		}
		if out, err := exec.Command(step.argv[0], step.argv[1:]...).CombinedOutput(); err != nil {
			f.Fatalf("%s: %v: %s", step.argv[0], err, out)
		}
		if step.form == "" {
			continue
		}
		file, err := os.ReadFile(filepath.Join(dir, string(step.form)))
		if err != nil {
			f.Fatal(err)
		}
		made[step.form] = file
	}
	return made
}

// fuzz passes each input to a child, with its checksums repaired. The coverage of
// the parent does not include the child: run go test with -fuzzminimizetime=0.
func fuzz(f *testing.F, form codec.Form, seal func([]byte)) {
	f.Add(samples(f)[form])
	base := idle(f)
	f.Fuzz(func(t *testing.T, file []byte) {
		seal(file)
		decodeIn(t, form, bytes.NewReader(file)).check(t, base)
	})
}

func FuzzMPEG(f *testing.F)   { fuzz(f, codec.MPEG, func([]byte) {}) }
func FuzzVorbis(f *testing.F) { fuzz(f, codec.Vorbis, sealPages) }
func FuzzOpus(f *testing.F)   { fuzz(f, codec.Opus, sealPages) }
func FuzzFLAC(f *testing.F)   { fuzz(f, codec.FLAC, sealFrames) }
