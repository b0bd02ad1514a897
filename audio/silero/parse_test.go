package silero

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// field appends a field of a message: bytes.
func field(b []byte, number int, value []byte) []byte {
	b = binary.AppendUvarint(b, uint64(number)<<3|2)
	b = binary.AppendUvarint(b, uint64(len(value)))
	return append(b, value...)
}

// floatTensor is a constant of an ONNX model.
func floatTensor(name string, dims []uint64, values []float32) []byte {
	var t, packed, raw []byte
	for _, d := range dims {
		packed = binary.AppendUvarint(packed, d)
	}
	for _, v := range values {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(v))
	}
	t = field(t, 1, packed)
	t = append(t, 2<<3, 1)
	return field(field(t, 8, []byte(name)), 9, raw)
}

// onnx returns a model of the network's shape, with untrained weights. change is
// called for every constant.
func onnx(change func(name string, dims []uint64, values []float32) ([]uint64, []float32)) []byte {
	rnd := rand.New(rand.NewPCG(1, 1))
	var graph []byte
	for _, c := range []struct {
		name string
		dims []uint64
	}{
		{"stft.forward_basis_buffer", []uint64{2 * bins, 1, transform}},
		{"encoder.0.reparam_conv.weight", []uint64{128, bins, 3}},
		{"encoder.0.reparam_conv.bias", []uint64{128}},
		{"encoder.1.reparam_conv.weight", []uint64{64, 128, 3}},
		{"encoder.1.reparam_conv.bias", []uint64{64}},
		{"encoder.2.reparam_conv.weight", []uint64{64, 64, 3}},
		{"encoder.2.reparam_conv.bias", []uint64{64}},
		{"encoder.3.reparam_conv.weight", []uint64{128, 64, 3}},
		{"encoder.3.reparam_conv.bias", []uint64{128}},
		{"decoder.rnn.weight_ih", []uint64{512, 128}},
		{"decoder.rnn.weight_hh", []uint64{512, 128}},
		{"decoder.rnn.bias_ih", []uint64{512}},
		{"decoder.rnn.bias_hh", []uint64{512}},
		{"decoder.decoder.2.weight", []uint64{1, 128, 1}},
		{"decoder.decoder.2.bias", []uint64{1}},
	} {
		size := uint64(1)
		for _, d := range c.dims {
			size *= d
		}
		values := make([]float32, size)
		for i := range values {
			if values[i] = float32(rnd.NormFloat64() / 10); c.dims[0] == 2*bins {
				k, n := i/transform, i%transform
				angle := 2 * math.Pi * float64(k%bins*n) / transform
				if k >= bins {
					angle -= math.Pi / 2
				}
				values[i] = float32(math.Pow(math.Sin(math.Pi*float64(n)/transform), 2) * math.Cos(angle))
			}
		}
		dims := c.dims
		if change != nil {
			dims, values = change(c.name, dims, values)
		}
		if values != nil {
			graph = field(graph, 5, floatTensor("model."+c.name, dims, values))
		}
	}
	return field([]byte{1 << 3, 8}, 7, graph)
}

func TestParse(t *testing.T) {
	m, err := Parse(onnx(nil))
	if err != nil {
		t.Fatal(err)
	}
	d := New(m)
	for range 10 {
		if s := d.score(); !(s >= 0 && s <= 1) {
			t.Errorf("score %v", s)
		}
	}
}

func TestForeignAndDamagedModelsAreRejected(t *testing.T) {
	whole := onnx(nil)
	for name, b := range map[string][]byte{
		"nothing":       nil,
		"a text":        []byte("version https://git-lfs.github.com/spec/v1\n"),
		"another graph": field(nil, 7, field(nil, 5, floatTensor("conv.weight", []uint64{1}, []float32{1}))),
		"without a constant": onnx(func(name string, dims []uint64, values []float32) ([]uint64, []float32) {
			if name == "decoder.rnn.bias_hh" {
				values = nil
			}
			return dims, values
		}),
		"for 8 kHz": onnx(func(name string, dims []uint64, values []float32) ([]uint64, []float32) {
			if name == "stft.forward_basis_buffer" {
				return []uint64{130, 1, 128}, values[:130*128]
			}
			return dims, values
		}),
		"other dimensions of the same size": onnx(func(name string, dims []uint64, values []float32) ([]uint64, []float32) {
			if name == "encoder.1.reparam_conv.weight" {
				dims = []uint64{128, 64, 3}
			}
			return dims, values
		}),
		"fewer values than dimensions": onnx(func(name string, dims []uint64, values []float32) ([]uint64, []float32) {
			return dims, values[:len(values)/2+1]
		}),
		"no number": onnx(func(name string, dims []uint64, values []float32) ([]uint64, []float32) {
			values[len(values)/2] = float32(math.NaN())
			return dims, values
		}),
		"another transform": onnx(func(name string, dims []uint64, values []float32) ([]uint64, []float32) {
			values[3*len(values)/4] += 0.5
			return dims, values
		}),
		"packed dimensions without end": field(nil, 7, field(nil, 5, field(nil, 1, make([]byte, 100)))),
	} {
		if _, err := Parse(b); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	for cut := len(whole) - 1; cut > 0; cut = cut * 9 / 10 {
		if _, err := Parse(whole[:cut]); err == nil {
			t.Errorf("%d of %d bytes: accepted", cut, len(whole))
		}
	}
}

func TestLoadRejectsOtherThanFiles(t *testing.T) {
	dir := t.TempDir()
	large := filepath.Join(dir, "large")
	if err := os.WriteFile(large, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(large, maxFile+1); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, large, "/dev/zero", filepath.Join(dir, "absent")} {
		if _, err := Load(path); err == nil {
			t.Errorf("%s: loaded", path)
		}
	}
}

// FuzzParse damages a valid model: it truncates it, or changes bytes. An accepted
// model can be run.
func FuzzParse(f *testing.F) {
	whole := onnx(nil)
	f.Add(uint(0), []byte{}, false)
	f.Add(uint(4), []byte{0xff, 0xff, 0xff, 0xff, 0x0f}, false)
	f.Add(uint(len(whole)-1), []byte{}, true)
	f.Add(uint(270_000), []byte{0, 0, 0xc0, 0x7f}, false)
	f.Add(uint(0), field(nil, 7, field(nil, 5, floatTensor("model.decoder.decoder.2.bias", []uint64{1}, []float32{1}))), true)
	f.Fuzz(func(t *testing.T, at uint, bytes []byte, cut bool) {
		b := append([]byte{}, whole...)
		at %= uint(len(b))
		n := copy(b[at:], bytes)
		if cut {
			b = b[:int(at)+n]
		}
		m, err := Parse(b)
		if err != nil {
			return
		}
		if s := New(m).score(); !(s >= 0 && s <= 1) {
			t.Errorf("score %v", s)
		}
	})
}

// FuzzConstants parses any bytes. The constants found lie within them.
func FuzzConstants(f *testing.F) {
	f.Add(field(nil, 7, field(nil, 5, floatTensor("a", []uint64{1, 2}, []float32{1, 2}))))
	f.Add([]byte{7<<3 | 2, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Add([]byte{1<<3 | 1, 0, 0, 0, 0, 0, 0, 0, 0, 1<<3 | 5, 0, 0, 0, 0, 1<<3 | 3})
	f.Fuzz(func(t *testing.T, b []byte) {
		found, err := constants(b)
		if err != nil {
			return
		}
		total := 0
		for name, c := range found {
			total += len(name) + len(c.raw)
			if len(c.dims) > maxDims {
				t.Errorf("%d dimensions", len(c.dims))
			}
			_, _ = floats(found, name, c.dims...)
		}
		if total > len(b) || len(found) > maxConstants {
			t.Errorf("%d constants of %d bytes in %d", len(found), total, len(b))
		}
	})
}
