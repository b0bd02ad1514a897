package microwakeword

import (
	"math"
	"slices"
	"strings"
	"testing"
)

// The scale of a test network's input: feature 64·n is the number n.
const testScale = 0.0390625 * 64

// testInput starts a network with the given number of feature sets as input.
func testInput(f *file, stride int32) *graph {
	g := f.graph()
	g.in = g.tensor(kindInt8, []int32{1, stride, channels}, testScale, 0, nil)
	return g
}

// pick makes element n of a tensor with the given number of elements the score.
func (g *graph) pick(from, size, n int32, scale float32, zero int64) {
	flat := g.tensor(kindInt8, []int32{size}, scale, zero, nil)
	g.out = g.tensor(kindInt8, []int32{1}, scale, zero, nil)
	g.do(22, []int32{from}, []int32{flat}, nil)
	g.do(45, []int32{flat, g.constant(n), g.constant(n + 1), g.constant(1)}, []int32{g.out}, fields{})
}

// runs parses a network and runs it with the numbers 0, 1, 2… in every set.
func runs(t *testing.T, f *file, times int) float64 {
	t.Helper()
	m, err := Parse(f.bytes())
	if err != nil {
		t.Fatal(err)
	}
	heard := make([][channels]uint16, m.Stride())
	for i := range heard {
		for k := range heard[i] {
			heard[i][k] = uint16(64 * k)
		}
	}
	score := m.run(heard)
	for range times - 1 {
		score = m.run(heard)
	}
	m.Reset()
	if again := m.run(heard); times == 1 && again != score {
		t.Errorf("%g after a reset, and %g before", again, score)
	}
	if n := testing.AllocsPerRun(10, func() { m.run(heard) }); n != 0 {
		t.Errorf("a run allocates %g times", n)
	}
	return score
}

// Each operator gives the result of its definition, computed by hand.
func TestOperators(t *testing.T) {
	timeline := func(g *graph, stride int32) int32 { // 4 dimensions
		in := g.tensor(kindInt8, []int32{1, stride, 1, channels}, testScale, 0, nil)
		g.do(22, []int32{g.in, g.constant(1, stride, 1, channels)}, []int32{in}, nil)
		return in
	}
	ramp := func(n, step int32) []byte { // 0, step, 2·step… in turn
		list := make([]int8, n)
		for i := range list {
			list[i] = int8(int32(i) % 10 * step)
		}
		return int8s(list...)
	}
	for _, c := range []struct {
		name  string
		want  float64
		times int
		build func(f *file)
	}{
		{"RESHAPE and STRIDED_SLICE", 7 * testScale, 1, func(f *file) {
			g := testInput(f, 1)
			g.pick(g.in, channels, 7, testScale, 0)
		}},
		{"STRIDED_SLICE from the end", 37 * testScale, 1, func(f *file) {
			g := testInput(f, 1)
			g.out = g.tensor(kindInt8, []int32{1, 1, 1}, testScale, 0, nil)
			// Masks keep the first two axes complete.
			g.do(45, []int32{g.in, g.constant(9, 9, -3), g.constant(0, 0, -2), g.constant(1, 1, 1)}, []int32{g.out}, fields{0: int32(3), 1: int32(3)})
		}},
		{"CONCATENATION", 2 * testScale, 1, func(f *file) {
			g := testInput(f, 1)
			two := g.tensor(kindInt8, []int32{1, 1, 2 * channels}, testScale, 0, nil)
			g.do(2, []int32{g.in, g.in}, []int32{two}, fields{0: int32(-1)})
			g.pick(two, 2*channels, channels+2, testScale, 0)
		}},
		{"SPLIT_V", 25 * testScale, 1, func(f *file) {
			g := testInput(f, 1)
			first := g.tensor(kindInt8, []int32{1, 1, 20}, testScale, 0, nil)
			second := g.tensor(kindInt8, []int32{1, 1, 20}, testScale, 0, nil)
			g.do(102, []int32{g.in, g.constant(20, 20), g.constant(2)}, []int32{first, second}, fields{0: int32(2)})
			g.pick(second, 20, 5, testScale, 0)
		}},
		{"CONV_2D with a bias, a step and a zero point", 10, 1, func(f *file) {
			g := testInput(f, 3)
			in := timeline(g, 3)
			// Two windows of one set, two apart. Channel 1: 4·1 + 2·2, and a bias of 2.
			weights := make([]int8, 2*channels)
			weights[channels+1], weights[channels+2] = 4, 2
			filter := g.tensor(kindInt8, []int32{2, 1, 1, channels}, 1/float32(testScale), 0, int8s(weights...))
			bias := g.tensor(kindInt32, []int32{2}, 0, 0, int32s(100, 2))
			out := g.tensor(kindInt8, []int32{1, 2, 1, 2}, 2, -7, nil)
			g.do(3, []int32{in, filter, bias}, []int32{out}, fields{0: int8(1), 1: int32(1), 2: int32(2)})
			g.pick(out, 4, 3, 2, -7)
		}},
		{"CONV_2D with ReLU", 0, 1, func(f *file) {
			g := testInput(f, 1)
			in := timeline(g, 1)
			weights := make([]int8, channels)
			weights[3] = -20
			filter := g.tensor(kindInt8, []int32{1, 1, 1, channels}, 1, 0, int8s(weights...))
			g.out = g.tensor(kindInt8, []int32{1, 1, 1, 1}, 1, -3, nil)
			g.do(3, []int32{in, filter, -1}, []int32{g.out}, fields{0: int8(1), 1: int32(1), 2: int32(1), 3: int8(1)})
		}},
		{"DEPTHWISE_CONV_2D", 72, 1, func(f *file) {
			g := testInput(f, 2)
			in := timeline(g, 2)
			filter := g.tensor(kindInt8, []int32{1, 2, 1, channels}, 1/float32(testScale), 0, ramp(2*channels, 1))
			out := g.tensor(kindInt8, []int32{1, 1, 1, channels}, 1, 0, nil)
			g.do(4, []int32{in, filter}, []int32{out}, fields{0: int8(1), 1: int32(1), 2: int32(1), 3: int32(1)})
			g.pick(out, channels, 6, 1, 0) // 6·6 in each of the two sets
		}},
		{"FULLY_CONNECTED", 9, 1, func(f *file) {
			g := testInput(f, 1)
			weights := make([]int8, channels)
			weights[4], weights[39] = 10, -1 // 40 − 39
			filter := g.tensor(kindInt8, []int32{1, channels}, 1/float32(testScale), 0, int8s(weights...))
			bias := g.tensor(kindInt32, []int32{1}, 0, 0, int32s(8))
			g.out = g.tensor(kindInt8, []int32{1, 1}, 1, 0, nil)
			g.do(9, []int32{g.in, filter, bias}, []int32{g.out}, fields{})
		}},
		{"LOGISTIC and QUANTIZE to 8 bits without a sign", 255.0 / 256, 1, func(f *file) {
			g := testInput(f, 1)
			score := g.tensor(kindInt8, []int32{1, 1, channels}, 1.0/256, -128, nil)
			g.do(14, []int32{g.in}, []int32{score}, nil)
			one := g.tensor(kindInt8, []int32{1, 1, 1}, 1.0/256, -128, nil)
			g.do(45, []int32{score, g.constant(0, 0, 30), g.constant(1, 1, 31), g.constant(1, 1, 1)}, []int32{one}, fields{})
			g.out = g.tensor(kindUint8, []int32{1, 1, 1}, 1.0/256, 0, nil)
			g.do(114, []int32{one}, []int32{g.out}, nil)
		}},
		{"LOGISTIC of nothing", 0.5, 1, func(f *file) {
			g := testInput(f, 1)
			score := g.tensor(kindInt8, []int32{1, 1, channels}, 1.0/256, -128, nil)
			g.do(14, []int32{g.in}, []int32{score}, nil)
			g.pick(score, channels, 0, 1.0/256, -128)
		}},
		{"DEQUANTIZE and QUANTIZE", 6, 1, func(f *file) {
			g := testInput(f, 1)
			real := g.tensor(kindFloat, []int32{1, 1, channels}, 0, 0, nil)
			g.do(6, []int32{g.in}, []int32{real}, nil)
			back := g.tensor(kindInt8, []int32{1, 1, channels}, 3, 5, nil)
			g.do(114, []int32{real}, []int32{back}, nil)
			g.pick(back, channels, 2, 3, 5) // 2 × 2.5 is 5, of which threes make 6
		}},
		{"a variable that counts", 3 * testScale, 3, func(f *file) {
			g := testInput(f, 1)
			g.do(129, nil, nil, fields{0: int32(1)})
			handle := g.tensor(kindResource, nil, 0, 0, nil)
			name := fields{1: "heard"}
			g.do(142, nil, []int32{handle}, name)
			// Five past values, with the new ones at their end; the oldest are
			// dropped.
			past := g.tensor(kindInt8, []int32{1, 5, channels}, testScale, 0, nil)
			g.do(143, []int32{handle}, []int32{past}, nil)
			all := g.tensor(kindInt8, []int32{1, 6, channels}, testScale, 0, nil)
			g.do(2, []int32{past, g.in}, []int32{all}, fields{0: int32(1)})
			kept := g.tensor(kindInt8, []int32{1, 5, channels}, testScale, 0, nil)
			g.do(45, []int32{all, g.constant(0, -5, 0), g.constant(0, 0, channels), g.constant(1, 1, 1)}, []int32{kept}, fields{0: int32(5), 1: int32(7)})
			g.do(144, []int32{handle, kept}, nil, nil)
			// The third of six: the value from two runs before the last one.
			g.pick(all, 6*channels, 3*channels+3, testScale, 0)
			first := f.graph()
			handle = first.tensor(kindResource, nil, 0, 0, nil)
			first.do(142, nil, []int32{handle}, name)
			first.do(144, []int32{handle, first.tensor(kindInt8, []int32{1, 5, channels}, testScale, 0, slices.Repeat([]byte{9}, 5*channels))}, nil, nil)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFile()
			c.build(f)
			if got := runs(t, f, c.times); math.Abs(got-c.want) > 1e-9 {
				t.Errorf("%g, want %g", got, c.want)
			}
		})
	}
}

// Operators that wake words do not use are rejected by name, and nothing else
// happens.
func TestForeignModels(t *testing.T) {
	for name, build := range map[string]func() []byte{
		"another operator": func() []byte {
			f := newFile()
			g := testInput(f, 1)
			g.do(18, []int32{g.in, g.in}, []int32{g.in}, nil)
			return f.bytes()
		},
		"a custom operator": func() []byte {
			f := newFile()
			g := testInput(f, 1)
			g.out = g.tensor(kindInt8, []int32{1}, 1, 0, nil)
			g.do(32, nil, nil, nil)
			f.codes[0][1] = "FlexThing"
			return f.bytes()
		},
		"an image": func() []byte {
			f := newFile()
			g := f.graph()
			g.in = g.tensor(kindInt8, []int32{1, 96, 96, 1}, 1, 0, nil)
			g.out = g.tensor(kindInt8, []int32{1, 2}, 1, 0, nil)
			return f.bytes()
		},
		"an endless dimension": func() []byte {
			f := newFile()
			g := testInput(f, 1)
			g.tensor(kindInt8, []int32{1 << 30, 1 << 30}, 1, 0, nil)
			return f.bytes()
		},
		"much memory": func() []byte {
			f := newFile()
			g := testInput(f, 1)
			for range 100 {
				g.tensor(kindInt8, []int32{maxElements}, 1, 0, nil)
			}
			return f.bytes()
		},
		"much work": func() []byte {
			f := newFile()
			g := testInput(f, 1)
			big := g.tensor(kindInt8, []int32{maxElements}, 1, 0, nil)
			for range 1000 {
				g.do(22, []int32{big}, []int32{big}, nil)
			}
			return f.bytes()
		},
		"a scale of zero": func() []byte {
			f := newFile()
			g := testInput(f, 1)
			g.tensor(kindInt8, []int32{1}, float32(math.Inf(1)), 0, nil)
			return f.bytes()
		},
		"no model":        func() []byte { return []byte("RIFF....WAVE") },
		"an empty file":   func() []byte { return nil },
		"only the header": func() []byte { return []byte("\x08\x00\x00\x00TFL3") },
	} {
		m, err := Parse(build())
		if err == nil || m != nil {
			t.Errorf("%s was accepted", name)
			continue
		}
		if text := err.Error(); strings.Contains(text, "\n") || len(text) > 200 {
			t.Errorf("%s: %q is not one sentence", name, text)
		}
	}
}

// A model truncated at any position is rejected, or is complete enough to run.
func TestTruncatedModels(t *testing.T) {
	f := newFile()
	g := testInput(f, 1)
	g.pick(g.in, channels, 7, testScale, 0)
	whole := f.bytes()
	refused := 0
	for n := range whole {
		m, err := Parse(whole[:n])
		if err != nil {
			refused++
			continue
		}
		m.run(make([][channels]uint16, m.Stride()))
	}
	if refused < len(whole)*9/10 {
		t.Errorf("%d of %d truncated models were rejected", refused, len(whole))
	}
}
