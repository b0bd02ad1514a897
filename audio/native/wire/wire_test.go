package wire

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"

	"lintod/audio"
)

// roundTrip writes with one function and reads the message back.
func roundTrip(t *testing.T, send func(*Writer) error) Message {
	t.Helper()
	var b bytes.Buffer
	if err := send(NewWriter(&b)); err != nil {
		t.Fatal(err)
	}
	m, err := NewReader(&b).Read()
	if err != nil {
		t.Fatal(err)
	}
	if b.Len() != 0 {
		t.Fatalf("%d bytes left over", b.Len())
	}
	return m
}

func ramp() (f [audio.FrameSamples]int16) {
	for i := range f {
		f[i] = int16(i*203 - 32000)
	}
	return f
}

func TestHello(t *testing.T) {
	m := roundTrip(t, (*Writer).SendHello)
	if m.Type != Hello || m.Stream != 0 {
		t.Fatalf("got %v", m)
	}
	if err := ParseHello(m.Payload); err != nil {
		t.Fatal(err)
	}
	m.Payload[len(m.Payload)-1]++
	if err := ParseHello(m.Payload); !errors.As(err, new(VersionError)) {
		t.Fatalf("another version: %v", err)
	}
	if ParseHello([]byte("SSH-2.0-OpenSSH")) == nil {
		t.Fatal("accepted another program as lintod-audio")
	}
}

func TestOpen(t *testing.T) {
	want := Open{Rate: 22050, Devices: []string{"USB Audio: -", "default"}, Channel: 3, Gain: -6.5}
	m := roundTrip(t, func(w *Writer) error { return w.SendOpen(OpenOutput, 7, want) })
	got, err := ParseOpen(m.Payload)
	if err != nil || !reflect.DeepEqual(got, want) || m.Type != OpenOutput || m.Stream != 7 {
		t.Fatalf("%v %v %v", m, got, err)
	}
	long := strings.Repeat("x", maxName)
	for _, good := range []string{
		`{"rate":4000,"devices":["default"]}`,
		` {"devices":["` + long + `"],"rate":384000,"channel":8,"gain":40} `,
	} {
		if _, err := ParseOpen([]byte(good)); err != nil {
			t.Errorf("refused %.60s: %v", good, err)
		}
	}
	for name, bad := range map[string]string{
		"nothing":         ``,
		"no JSON":         "\x40\x1f\x00\x00default",
		"no object":       `[16000,["default"]]`,
		"null":            `null`,
		"empty":           `{}`,
		"slow":            `{"rate":3999,"devices":["default"]}`,
		"fast":            `{"rate":384001,"devices":["default"]}`,
		"no device":       `{"rate":16000,"devices":[]}`,
		"no name":         `{"rate":16000,"devices":["default",""]}`,
		"long name":       `{"rate":16000,"devices":["` + long + `x"]}`,
		"many names":      `{"rate":16000,"devices":["1","2","3","4","5","6","7","8","9"]}`,
		"fraction":        `{"rate":16000.5,"devices":["default"]}`,
		"another type":    `{"rate":16000,"devices":"default"}`,
		"unknown field":   `{"rate":16000,"devices":["default"],"volume":11}`,
		"channel":         `{"rate":16000,"devices":["default"],"channel":9}`,
		"channel below":   `{"rate":16000,"devices":["default"],"channel":-1}`,
		"gain":            `{"rate":16000,"devices":["default"],"gain":-40.1}`,
		"more behind":     `{"rate":16000,"devices":["default"]}{}`,
		"nonsense behind": `{"rate":16000,"devices":["default"]}x`,
		"cut off":         `{"rate":16000,"devices":["default"]`,
		"long":            strings.Repeat(" ", maxJSON) + `{"rate":16000,"devices":["default"]}`,
	} {
		if o, err := ParseOpen([]byte(bad)); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("%s: parsed as %v, %v", name, o, err)
		}
	}
}

func TestChoice(t *testing.T) {
	want := Choice{Device: "USB", Rank: 1, Why: `"HAT" is in use by arecord (pid 815)`}
	m := roundTrip(t, func(w *Writer) error { return w.SendChoice(4, want) })
	if got, err := ParseChoice(m.Payload); err != nil || got != want || m.Type != Chosen || m.Stream != 4 {
		t.Errorf("%v: %v, %v", m, got, err)
	}
	if got, err := ParseChoice([]byte(`{"device":"a\u001b[2J\nb","rank":0}`)); err != nil || got.Device != "a·[2J b" {
		t.Errorf("%q, %v", got.Device, err)
	}
	for _, bad := range []string{``, `{"rank":-1}`, `{"rank":8}`, `{"device":1}`, `{"rank":0,"x":0}`} {
		if got, err := ParseChoice([]byte(bad)); err == nil {
			t.Errorf("%s was parsed as %v", bad, got)
		}
	}
}

// An accepted value is sent and read again unchanged.
func FuzzParseOpen(f *testing.F) {
	f.Add([]byte(`{"rate":16000,"devices":["default"]}`))
	f.Add([]byte(`{"rate":48000,"devices":["*USB*","hw:CARD=x"],"channel":2,"gain":1e1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		want, err := ParseOpen(b)
		if err != nil {
			return
		}
		m := roundTrip(t, func(w *Writer) error { return w.SendOpen(OpenInput, 1, want) })
		if got, err := ParseOpen(m.Payload); err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("%v became %v, %v", want, got, err)
		}
	})
}

func TestCapture(t *testing.T) {
	want := make([]Captured, MaxBatch)
	for i := range want {
		want[i] = Captured{PCM: ramp(), At: 123456789012 + int64(i), Lost: uint32(17 * i), Clipped: 5, Speech: audio.SpeechYes}
	}
	m := roundTrip(t, func(w *Writer) error { return w.SendCapture(3, want) })
	rest, got := m.Payload, Captured{}
	for i := range want {
		var err error
		if rest, err = ParseCapture(rest, &got); err != nil || got != want[i] {
			t.Fatalf("frame %d: %v %v", i, got, err)
		}
	}
	if len(rest) > 0 {
		t.Fatalf("%d bytes follow", len(rest))
	}
	if _, err := ParseCapture(rest, &got); err == nil {
		t.Fatal("accepted a batch without a frame")
	}
	if _, err := ParseCapture(m.Payload[len(m.Payload)-capSize+1:], &got); err == nil {
		t.Fatal("accepted half a frame")
	}
	m.Payload[capHead-1]++
	if _, err := ParseCapture(m.Payload, &got); err == nil {
		t.Fatal("accepted an invalid Speech value")
	}
}

func TestDelay(t *testing.T) {
	m := roundTrip(t, func(w *Writer) error { return w.SendDelay(3, audio.IdleDelay) })
	if d, err := ParseDelay(m.Payload); err != nil || d != audio.IdleDelay {
		t.Fatalf("%v %v", d, err)
	}
	for _, b := range [][]byte{nil, {0}, {0, 0, 0}, {255, 255}} {
		if _, err := ParseDelay(b); err == nil {
			t.Errorf("accepted % x", b)
		}
	}
}

func TestCodec(t *testing.T) {
	want := Codec{Kind: "identity", Encode: true, Rate: 16000, Channels: 1, FrameMS: 60}
	m := roundTrip(t, func(w *Writer) error { return w.SendOpenCodec(4, want) })
	if got, err := ParseCodec(m.Payload); err != nil || got != want || m.Type != OpenCodec || m.Stream != 4 {
		t.Fatalf("%v %v %v", m, got, err)
	}
	longest := Codec{Kind: "identity", Rate: maxCodecRate, Channels: maxCodecChannels, FrameMS: maxFrameMS, Complexity: maxComplexity}
	if err := longest.Check(); err != nil || 2*longest.FrameSamples() != MaxPacket || MaxPacket > MaxPayload {
		t.Errorf("%v: %d samples, %v", longest, longest.FrameSamples(), err)
	}
	for name, bad := range map[string]string{
		"nothing":        ``,
		"no kind":        `{"rate":16000,"channels":1,"frame_ms":60}`,
		"long kind":      `{"kind":"` + strings.Repeat("x", maxKind+1) + `","rate":16000,"channels":1,"frame_ms":60}`,
		"slow":           `{"kind":"identity","rate":7999,"channels":1,"frame_ms":60}`,
		"fast":           `{"kind":"identity","rate":48001,"channels":1,"frame_ms":60}`,
		"no channel":     `{"kind":"identity","rate":16000,"channels":0,"frame_ms":60}`,
		"three channels": `{"kind":"identity","rate":16000,"channels":3,"frame_ms":60}`,
		"short frame":    `{"kind":"identity","rate":16000,"channels":1,"frame_ms":4}`,
		"long frame":     `{"kind":"identity","rate":16000,"channels":1,"frame_ms":121}`,
		"uneven frame":   `{"kind":"identity","rate":11025,"channels":1,"frame_ms":5}`,
		"complexity":     `{"kind":"opus","rate":16000,"channels":1,"frame_ms":60,"complexity":11}`,
		"unknown field":  `{"kind":"identity","rate":16000,"channels":1,"frame_ms":60,"bits":24}`,
	} {
		if c, err := ParseCodec([]byte(bad)); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("%s: parsed as %v, %v", name, c, err)
		}
	}
}

func TestPlay(t *testing.T) {
	pcm := ramp()
	m := roundTrip(t, func(w *Writer) error { return w.SendSamples(Play, 9, pcm[:]) })
	var got [audio.FrameSamples]int16
	if n := Samples(got[:], m.Payload); n != len(got) || got != pcm {
		t.Fatalf("%d samples", n)
	}
}

func TestProgress(t *testing.T) {
	want := Progress{Samples: 1 << 40, Underruns: 2}
	m := roundTrip(t, func(w *Writer) error { return w.SendProgress(Drained, 1, want) })
	if got, err := ParseProgress(m.Payload); err != nil || got != want || m.Type != Drained {
		t.Fatalf("%v %v %v", m, got, err)
	}
}

func TestDevices(t *testing.T) {
	want := []audio.Device{{Name: "default", Inputs: 1, Rate: 44100, DefaultInput: true}, {Name: "USB", Outputs: 2}}
	got, err := ParseDevices(FormatDevices(want))
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("%v %v", got, err)
	}
	many := make([]audio.Device, 10000)
	if b := FormatDevices(many); len(b) > MaxPayload || len(b) < MaxPayload/4 {
		t.Fatalf("a long list takes %d bytes", len(b))
	}
}

func TestParseText(t *testing.T) {
	if got := ParseText([]byte("a\nb\x1b[2J\xff")); got != "a b·[2J\ufffd" {
		t.Fatalf("%q", got)
	}
	if got := ParseText(bytes.Repeat([]byte("x"), 10000)); len(got) < maxText || len(got) > maxText+len("…") {
		t.Fatalf("%d bytes", len(got))
	}
}

func TestReadRejects(t *testing.T) {
	good := []byte{byte(Close), 0, 5, 0, 2, 0, 0, 0, 'a', 'b'}
	if m, err := NewReader(bytes.NewReader(good)).Read(); err != nil || m.Stream != 5 || string(m.Payload) != "ab" {
		t.Fatalf("the model message: %v %v", m, err)
	}
	for name, change := range map[string]func([]byte) []byte{
		"type 0":            func(b []byte) []byte { b[0] = 0; return b },
		"unknown type":      func(b []byte) []byte { b[0] = byte(numTypes); return b },
		"non-zero reserve":  func(b []byte) []byte { b[1] = 1; return b },
		"too long":          func(b []byte) []byte { b[6] = 2; return b },
		"cut in the header": func(b []byte) []byte { return b[:5] },
		"cut behind it":     func(b []byte) []byte { return b[:8] },
		"cut in payload":    func(b []byte) []byte { return b[:9] },
		"text":              func([]byte) []byte { return []byte("Segmentation fault (core dumped)\n") },
	} {
		m, err := NewReader(bytes.NewReader(change(bytes.Clone(good)))).Read()
		if err == nil || errors.Is(err, io.EOF) {
			t.Errorf("%s: got %v, %v", name, m, err)
		}
	}
	if _, err := NewReader(strings.NewReader("")).Read(); err != io.EOF {
		t.Errorf("empty input: %v", err)
	}
}

func TestSendTooLong(t *testing.T) {
	if err := NewWriter(io.Discard).SendBytes(Failed, 0, make([]byte, MaxPayload+1)); err == nil {
		t.Fatal("the message was sent")
	}
}

// For any input, Read returns messages and then an error, and each message is one
// that a Writer would have sent.
func FuzzRead(f *testing.F) {
	var b bytes.Buffer
	w := NewWriter(&b)
	for _, send := range []func() error{
		w.SendHello,
		func() error { return w.SendOpen(OpenInput, 1, Open{Rate: 16000, Devices: []string{"default"}}) },
		func() error { return w.SendCapture(1, make([]Captured, 2)) },
		func() error { return w.SendDelay(1, audio.IdleDelay) },
		func() error { return w.SendProgress(Played, 2, Progress{Samples: 5}) },
		func() error { return w.SendBytes(Devices, 3, FormatDevices([]audio.Device{{Name: "x"}})) },
	} {
		_ = send()
		f.Add(bytes.Clone(b.Bytes()))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		r := NewReader(bytes.NewReader(in))
		var out bytes.Buffer
		w := NewWriter(&out)
		for {
			m, err := r.Read()
			if err != nil {
				break
			}
			if len(m.Payload) > MaxPayload {
				t.Fatalf("payload of %d bytes", len(m.Payload))
			}
			parseAll(m.Payload)
			if err := w.SendBytes(m.Type, m.Stream, m.Payload); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.HasPrefix(in, out.Bytes()) {
			t.Fatal("the message differs from the input")
		}
	})
}

func parseAll(b []byte) {
	_ = ParseHello(b)
	_, _ = ParseOpen(b)
	_, _ = ParseCodec(b)
	_, _ = ParseChoice(b)
	_, _ = ParseCapture(b, new(Captured))
	_, _ = ParseDelay(b)
	_, _ = ParseProgress(b)
	_, _ = ParseDevices(b)
	_ = ParseText(b)
}

// repeat is an endless stream of one message.
type repeat struct {
	b  []byte
	at int
}

func (r *repeat) Read(p []byte) (int, error) {
	n := copy(p, r.b[r.at:])
	r.at = (r.at + n) % len(r.b)
	return n, nil
}

func BenchmarkCapture(b *testing.B) {
	var buf bytes.Buffer
	batch := []Captured{{PCM: ramp()}}
	_ = NewWriter(&buf).SendCapture(1, batch)
	r, w := NewReader(&repeat{b: buf.Bytes()}), NewWriter(io.Discard)
	b.ReportAllocs()
	for b.Loop() {
		m, _ := r.Read()
		_, _ = ParseCapture(m.Payload, &batch[0])
		_ = w.SendCapture(1, batch)
	}
}

func TestSteadyPathDoesNotAllocate(t *testing.T) {
	var buf bytes.Buffer
	pcm, batch := ramp(), []Captured{{PCM: ramp()}}
	_ = NewWriter(&buf).SendCapture(1, batch)
	r, w := NewReader(&repeat{b: buf.Bytes()}), NewWriter(io.Discard)
	allocs := testing.AllocsPerRun(100, func() {
		m, _ := r.Read()
		_, _ = ParseCapture(m.Payload, &batch[0])
		batch[0].At = Monotonic()
		_ = w.SendCapture(1, batch)
		_ = w.SendSamples(Play, 1, pcm[:])
		_ = w.SendProgress(Played, 1, Progress{})
	})
	if allocs != 0 {
		t.Errorf("%v allocations a frame", allocs)
	}
}
