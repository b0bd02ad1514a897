package microwakeword

import (
	"encoding/binary"
	"maps"
	"math"
	"slices"
)

// fields are the fields of a table, by number. A value is an int8, an int32, a
// string, a list of numbers, other fields, or a list of those.
type fields map[int]any

// writeFlat writes a FlatBuffer.
func writeFlat(root fields) []byte {
	w := &flatWriter{buf: []byte("\x00\x00\x00\x00TFL3")}
	w.patch(0, w.table(root))
	return w.buf
}

type flatWriter struct{ buf []byte }

func (w *flatWriter) align(n int) {
	for len(w.buf)%n != 0 {
		w.buf = append(w.buf, 0)
	}
}

func (w *flatWriter) patch(slot, at int) {
	binary.LittleEndian.PutUint32(w.buf[slot:], uint32(at-slot))
}

func (w *flatWriter) uint32(n uint32) { w.buf = binary.LittleEndian.AppendUint32(w.buf, n) }

func (w *flatWriter) table(t fields) int {
	keys := slices.Sorted(maps.Keys(t))
	n := 0
	if len(keys) > 0 {
		n = keys[len(keys)-1] + 1
	}
	w.align(4)
	vtable := len(w.buf)
	w.buf = append(w.buf, make([]byte, 4+2*n)...)
	binary.LittleEndian.PutUint16(w.buf[vtable:], uint16(4+2*n))
	binary.LittleEndian.PutUint16(w.buf[vtable+2:], uint16(4+4*len(keys)))
	w.align(4)
	at := len(w.buf)
	w.uint32(uint32(at - vtable))
	for i, key := range keys {
		binary.LittleEndian.PutUint16(w.buf[vtable+4+2*key:], uint16(4+4*i))
		switch v := t[key].(type) {
		case int8:
			w.uint32(uint32(uint8(v)))
		case int32:
			w.uint32(uint32(v))
		default:
			w.uint32(0)
		}
	}
	for i, key := range keys {
		slot := at + 4 + 4*i
		switch v := t[key].(type) {
		case int8, int32:
		case fields:
			w.patch(slot, w.table(v))
		case []fields:
			list := w.vector(len(v), make([]byte, 4*len(v)))
			w.patch(slot, list)
			for k, child := range v {
				w.patch(list+4+4*k, w.table(child))
			}
		case string:
			w.patch(slot, w.vector(len(v), []byte(v)))
		case []byte:
			w.patch(slot, w.vector(len(v), v))
		case []int32:
			w.patch(slot, w.vector(len(v), int32s(v...)))
		case []float32:
			var content []byte
			for _, x := range v {
				content = binary.LittleEndian.AppendUint32(content, math.Float32bits(x))
			}
			w.patch(slot, w.vector(len(v), content))
		case []int64:
			var content []byte
			for _, x := range v {
				content = binary.LittleEndian.AppendUint64(content, uint64(x))
			}
			w.patch(slot, w.vector(len(v), content))
		default:
			panic(v)
		}
	}
	return at
}

func (w *flatWriter) vector(count int, content []byte) int {
	w.align(8)
	w.uint32(0) // aligns the elements to eight bytes
	at := len(w.buf)
	w.uint32(uint32(count))
	w.buf = append(w.buf, content...)
	return at
}

func int32s(list ...int32) []byte {
	var b []byte
	for _, n := range list {
		b = binary.LittleEndian.AppendUint32(b, uint32(n))
	}
	return b
}

func int8s(list ...int8) []byte {
	b := make([]byte, len(list))
	for i, n := range list {
		b[i] = byte(n)
	}
	return b
}

// graph is a network that a test writes.
type graph struct {
	tensors []fields
	steps   []fields
	file    *file
	in, out int32
}

// file is a model that a test writes.
type file struct {
	buffers []fields
	codes   []fields
	graphs  []*graph
}

func newFile() *file { return &file{buffers: []fields{{}}} }

func (f *file) graph() *graph {
	g := &graph{file: f}
	f.graphs = append(f.graphs, g)
	return g
}

// tensor adds a tensor, and returns its number. A scale of 0 means none.
func (g *graph) tensor(k kind, shape []int32, scale float32, zero int64, content []byte) int32 {
	t := fields{0: shape, 1: int8(k)}
	if content != nil {
		g.file.buffers = append(g.file.buffers, fields{0: content})
		t[2] = int32(len(g.file.buffers) - 1)
	}
	if scale > 0 {
		t[4] = fields{2: []float32{scale}, 3: []int64{zero}}
	}
	g.tensors = append(g.tensors, t)
	return int32(len(g.tensors) - 1)
}

// constant adds a list of numbers.
func (g *graph) constant(list ...int32) int32 {
	return g.tensor(kindInt32, []int32{int32(len(list))}, 0, 0, int32s(list...))
}

// do adds an operator.
func (g *graph) do(code int32, in, out []int32, options fields) {
	g.file.codes = append(g.file.codes, fields{0: int8(min(code, 127)), 3: code})
	step := fields{0: int32(len(g.file.codes) - 1), 1: in, 2: out}
	if options != nil {
		step[4] = options
	}
	g.steps = append(g.steps, step)
}

func (f *file) bytes() []byte {
	var graphs []fields
	for _, g := range f.graphs {
		t := fields{0: g.tensors, 3: g.steps}
		if len(graphs) == 0 {
			t[1], t[2] = []int32{g.in}, []int32{g.out}
		}
		graphs = append(graphs, t)
	}
	return writeFlat(fields{0: int32(3), 1: f.codes, 2: graphs, 4: f.buffers})
}
