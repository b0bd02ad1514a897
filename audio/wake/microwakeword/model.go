// Package microwakeword detects wake words with models for microWakeWord and ESPHome: networks of
// some ten thousand 8-bit weights in a TensorFlow Lite file, with a manifest next to it.
//
// It computes like TensorFlow Lite, in integers, so that a model gives the same scores on every
// processor. It supports the operators of such models, and rejects all others. Models are
// untrusted: they are validated when they are parsed, and their resources are limited.
//
// The microphone, configuration, and network access do not belong here.
package microwakeword

import (
	"errors"
	"fmt"
	"math"
)

// Limits of a model. Existing ones have 80 KB, 112 tensors, 75 operators, and 50,000 products.
const (
	maxFile     = 1 << 20
	maxTensors  = 1024
	maxSteps    = 1024
	maxElements = 1 << 17 // of a tensor
	maxMemory   = 1 << 22 // of all tensors, in bytes
	maxProducts = 1 << 21 // of a run, which takes place 33 times a second
	maxStride   = 8
)

// errTorn is the error for offsets outside the file.
var errTorn = errors.New("it is damaged or incomplete")

// kind is the type of a tensor's elements, with the numbers of TensorFlow Lite.
type kind int8

const (
	kindFloat    kind = 0
	kindInt32    kind = 2
	kindUint8    kind = 3
	kindInt8     kind = 9
	kindResource kind = 13
)

// tensor is an array of up to four dimensions. Of the two contents one is used.
type tensor struct {
	kind     kind
	shape    []int
	size     int // elements
	constant []byte
	quantity
	small  []int8 // also of kindUint8, with the same bits
	floats []float32

	variable *variable // of kindResource
}

// quantity defines the values of a tensor: scale × (number − zero), with one scale for all, or one
// for each channel.
type quantity struct {
	scales []float32
	zero   int32
}

// variable is state that a model keeps between runs.
type variable struct {
	kind   kind
	small  []int8
	floats []float32
}

// Model is a network that is ready to run. One goroutine uses it.
type Model struct {
	stride    int // sets of features per run
	input     *tensor
	output    *tensor
	variables map[string]*variable
	begin     []func() // sets the variables
	steps     []func()
}

// parser builds a model.
type parser struct {
	*flat
	model    *Model
	codes    []table // of operators
	buffers  []table
	graphs   []table
	memory   int // bytes of all tensors
	products int // of a run
	called   bool
}

// Parse parses a TensorFlow Lite file. The error describes what is wrong with it.
func Parse(data []byte) (*Model, error) {
	switch {
	case len(data) > maxFile:
		return nil, fmt.Errorf("it has more than %d bytes", maxFile)
	case len(data) < 8 || string(data[4:8]) != "TFL3":
		return nil, errors.New("it is not a TensorFlow Lite model")
	}
	p := &parser{flat: &flat{data: data}, model: &Model{variables: map[string]*variable{}}}
	err := p.parse()
	if p.torn {
		return nil, errTorn
	}
	if err != nil {
		return nil, err
	}
	p.model.Reset()
	return p.model, nil
}

func (p *parser) parse() error {
	root := p.table(p.follow(0))
	var counts [3]int
	p.codes, counts[0] = root.tables(1, maxSteps)
	p.graphs, counts[1] = root.tables(2, 2)
	p.buffers, counts[2] = root.tables(4, 2*maxTensors)
	switch {
	case p.torn:
		return errTorn
	case counts[0] > maxSteps || counts[1] > 2 || counts[2] > 2*maxTensors:
		return errors.New("it is larger than any wake word")
	case counts[1] == 0:
		return errors.New("it contains no network")
	}
	tensors, err := p.tensors(p.graphs[0])
	if err != nil {
		return err
	}
	if err := p.ends(tensors); err != nil {
		return err
	}
	p.model.steps, err = p.steps(p.graphs[0], tensors)
	return err
}

// ends finds the input of features and the output of the score.
func (p *parser) ends(tensors []*tensor) error {
	in, out := p.graphs[0].numbers(1, 1), p.graphs[0].numbers(2, 1)
	if len(in) != 1 || len(out) != 1 || uint(in[0]) >= uint(len(tensors)) || uint(out[0]) >= uint(len(tensors)) {
		return errors.New("it is not a wake word, which has one input and one output")
	}
	i, o := tensors[in[0]], tensors[out[0]]
	if i.kind != kindInt8 || len(i.shape) != 3 || i.shape[0] != 1 || i.shape[1] > maxStride || i.shape[2] != channels || len(i.scales) != 1 {
		return fmt.Errorf("it is not a model of microWakeWord: its input has the shape %d; want 1 × 1 to %d × %d, in 8 bits", i.shape, maxStride, channels)
	}
	if o.size != 1 || o.kind != kindFloat && len(o.scales) != 1 {
		return fmt.Errorf("it is not a wake word: its output has the shape %d; want one score", o.shape)
	}
	p.model.input, p.model.output, p.model.stride = i, o, i.shape[1]
	return nil
}

func (p *parser) tensors(graph table) ([]*tensor, error) {
	list, count := graph.tables(0, maxTensors)
	if count > maxTensors {
		return nil, errors.New("it is larger than any wake word")
	}
	tensors := make([]*tensor, len(list))
	for i, t := range list {
		var err error
		if tensors[i], err = p.tensor(t); err != nil {
			return nil, fmt.Errorf("tensor %d %w", i, err)
		}
	}
	return tensors, nil
}

func (p *parser) tensor(t table) (*tensor, error) {
	made := &tensor{kind: kind(t.small(1)), size: 1}
	for _, n := range t.numbers(0, 4) {
		if n < 1 || n > maxElements || made.size > maxElements/int(n) {
			return nil, fmt.Errorf("has a dimension of %d", n)
		}
		made.shape = append(made.shape, int(n))
		made.size *= int(n)
	}
	if len(made.shape) > 4 {
		return nil, errors.New("has more than four dimensions")
	}
	buffer := int(uint32(t.number(2, 0)))
	if uint(buffer) >= uint(len(p.buffers)) {
		return nil, errTorn
	}
	made.constant, _ = p.buffers[buffer].vector(0, 1)
	if q, ok := t.child(4); ok {
		if err := made.quantify(q); err != nil {
			return nil, err
		}
	}
	width := map[kind]int{kindFloat: 4, kindInt32: 4, kindUint8: 1, kindInt8: 1}[made.kind]
	switch {
	case made.kind == kindResource:
		return made, nil
	case width == 0:
		return nil, fmt.Errorf("has elements of the unsupported type %d", made.kind)
	case len(made.constant) > 0 && len(made.constant) != width*made.size:
		return nil, fmt.Errorf("has %d bytes for %d elements", len(made.constant), made.size)
	}
	if p.memory += width * made.size; p.memory > maxMemory {
		return nil, errors.New("needs more memory than any wake word")
	}
	made.fill()
	return made, nil
}

// fill sets the content of a tensor.
func (t *tensor) fill() {
	switch t.kind {
	case kindInt8, kindUint8:
		t.small = make([]int8, t.size)
		for i, b := range t.constant {
			t.small[i] = int8(b)
		}
	case kindFloat:
		t.floats = make([]float32, t.size)
		for i, n := range numbers(t.constant) {
			t.floats[i] = math.Float32frombits(uint32(n))
		}
	}
}

func (t *tensor) quantify(q table) error {
	t.scales = q.floats(2, maxElements)
	for _, scale := range t.scales {
		if !(scale > 1e-30 && scale < 1e30) {
			return fmt.Errorf("has the scale %g", scale)
		}
	}
	zeros, count := q.vector(3, 8)
	for i := range count {
		zero := numbers(zeros[8*i : 8*i+8])
		if high := zero[0] >> 31; zero[1] != high || zero[0] < math.MinInt8 || zero[0] > math.MaxUint8 || i > 0 && zero[0] != t.zero {
			return errors.New("has a zero point that does not fit into 8 bits, or several")
		}
		t.zero = zero[0]
	}
	return nil
}

// Stride returns how many sets of features a run takes: one per 10 ms.
func (m *Model) Stride() int { return m.stride }

// Reset resets the state.
func (m *Model) Reset() {
	for _, v := range m.variables {
		clear(v.small)
		clear(v.floats)
	}
	for _, step := range m.begin {
		step()
	}
}

// run processes stride sets of features, and returns the score, from 0 to 1.
func (m *Model) run(heard [][channels]uint16) float64 {
	scale, zero := float64(m.input.scales[0]), float64(m.input.zero)
	for i := range heard {
		for k, feature := range heard[i] {
			number := math.RoundToEven(float64(feature)*featureUnit/scale) + zero
			m.input.small[i*channels+k] = int8(max(math.MinInt8, min(number, math.MaxInt8)))
		}
	}
	for _, step := range m.steps {
		step()
	}
	return m.output.score()
}

func (t *tensor) score() float64 {
	switch t.kind {
	case kindFloat:
		return float64(t.floats[0])
	case kindUint8:
		return float64(t.scales[0]) * float64(int32(uint8(t.small[0]))-t.zero)
	}
	return float64(t.scales[0]) * float64(int32(t.small[0])-t.zero)
}
