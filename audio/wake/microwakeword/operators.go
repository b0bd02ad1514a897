package microwakeword

import (
	"errors"
	"fmt"
	"math"
	"slices"
)

// known are the supported operators, by the numbers of TensorFlow Lite, with the functions that
// create their steps.
func (p *parser) known() map[int32]known {
	return map[int32]known{
		2:   {"CONCATENATION", p.concatenation},
		3:   {"CONV_2D", p.convolution},
		4:   {"DEPTHWISE_CONV_2D", p.depthwise},
		6:   {"DEQUANTIZE", p.dequantize},
		9:   {"FULLY_CONNECTED", p.fullyConnected},
		14:  {"LOGISTIC", p.logistic},
		22:  {"RESHAPE", p.reshape},
		45:  {"STRIDED_SLICE", p.stridedSlice},
		102: {"SPLIT_V", p.splitV},
		114: {"QUANTIZE", p.quantize},
		129: {"CALL_ONCE", p.callOnce},
		142: {"VAR_HANDLE", p.varHandle},
		143: {"READ_VARIABLE", p.readVariable},
		144: {"ASSIGN_VARIABLE", p.assignVariable},
	}
}

type known struct {
	name    string
	compile func(operator) (func(), error)
}

// operator is an operator of a file.
type operator struct {
	in, out []*tensor // an omitted tensor is nil
	options table
}

// maxOperands is the maximum number of inputs or outputs of an operator.
const maxOperands = 16

var (
	errOperands = errors.New("its operands do not fit together")
	errOptions  = errors.New("it has unsupported options")
)

// steps creates the steps of a graph.
func (p *parser) steps(graph table, tensors []*tensor) ([]func(), error) {
	list, count := graph.tables(3, maxSteps)
	if count > maxSteps {
		return nil, errors.New("it is larger than any wake word")
	}
	var steps []func()
	all := p.known()
	for i, t := range list {
		code := uint(uint32(t.number(0, 0)))
		if code >= uint(len(p.codes)) {
			return nil, errTorn
		}
		number := max(int32(p.codes[code].small(0)), p.codes[code].number(3, 0))
		known, ok := all[number]
		if !ok {
			return nil, fmt.Errorf("it needs an unsupported operator: number %d%s", number, p.custom(code))
		}
		op, err := p.operator(t, tensors)
		if err != nil {
			return nil, err
		}
		if err := p.spend(op); err != nil {
			return nil, err
		}
		step, err := known.compile(op)
		if err != nil {
			return nil, fmt.Errorf("operator %d, %s: %w", i, known.name, err)
		}
		if step != nil {
			steps = append(steps, step)
		}
	}
	return steps, nil
}

// spend adds up the cost of an operator: its products, and the elements that it reads and writes,
// of which eight take as long as a product.
func (p *parser) spend(op operator) error {
	for _, t := range append(op.in, op.out...) {
		if t != nil {
			p.products += t.size / 8
		}
	}
	return p.affordable()
}

func (p *parser) affordable() error {
	if p.products > maxProducts {
		return errors.New("it computes more than any wake word")
	}
	return nil
}

// custom returns the name of a custom operator.
func (p *parser) custom(code uint) string {
	if name := p.codes[code].text(1, 40); name != "" {
		return fmt.Sprintf(", %q", name)
	}
	return ""
}

func (p *parser) operator(t table, tensors []*tensor) (operator, error) {
	var op operator
	op.options, _ = t.child(4)
	for field, list := range map[int]*[]*tensor{1: &op.in, 2: &op.out} {
		places := t.numbers(field, maxOperands)
		if len(places) > maxOperands {
			return op, errOperands
		}
		for _, i := range places {
			switch {
			case i == -1 && field == 1:
				*list = append(*list, nil)
			case i < 0 || int(i) >= len(tensors):
				return op, errTorn
			default:
				*list = append(*list, tensors[i])
			}
		}
	}
	return op, nil
}

// has reports whether the operator has this number of operands, and none is omitted.
func (op operator) has(in, out int) bool {
	if len(op.in) != in || len(op.out) != out {
		return false
	}
	for _, t := range op.in {
		if t == nil {
			return false
		}
	}
	return true
}

// holds reports whether the elements of a tensor have one of these types.
func (t *tensor) holds(kinds ...kind) bool { return slices.Contains(kinds, t.kind) }

// anything contains the types that can be copied.
var anything = []kind{kindInt8, kindFloat}

// movable reports whether elements of one tensor may be copied to the other.
func movable(from, to *tensor) bool {
	return from.kind == to.kind && from.holds(anything...) && (from.kind == kindFloat || from.unit() == to.unit())
}

// unit returns the quantity of a tensor with one scale.
func (q quantity) unit() [2]float64 {
	if len(q.scales) != 1 {
		return [2]float64{}
	}
	return [2]float64{float64(q.scales[0]), float64(q.zero)}
}

// integers returns the numbers of a constant.
func (t *tensor) integers(most int) ([]int32, bool) {
	if t.kind != kindInt32 || len(t.constant) == 0 || t.size > most {
		return nil, false
	}
	return numbers(t.constant), true
}

// along splits a shape at an axis: the number of blocks before it, its length, and the number of
// elements of each entry.
func (t *tensor) along(axis int) (blocks, length, inner int) {
	blocks, inner = 1, 1
	for i, n := range t.shape {
		switch {
		case i < axis:
			blocks *= n
		case i > axis:
			inner *= n
		}
	}
	return blocks, t.shape[axis], inner
}

// axis converts a negative axis, counted from the end, to a positive one.
func (t *tensor) axis(n int32) (int, bool) {
	if n < 0 {
		n += int32(len(t.shape))
	}
	return int(n), n >= 0 && int(n) < len(t.shape)
}

// part copies a range of an axis from one tensor to another.
func part(to *tensor, toAt int, from *tensor, fromAt, length, axis int) func() {
	blocks, toLength, inner := to.along(axis)
	_, fromLength, _ := from.along(axis)
	for _, place := range []*int{&toAt, &toLength, &fromAt, &fromLength, &length} {
		*place *= inner
	}
	if to.kind == kindFloat {
		return func() { copyBlocks(blocks, length, to.floats[toAt:], toLength, from.floats[fromAt:], fromLength) }
	}
	return func() { copyBlocks(blocks, length, to.small[toAt:], toLength, from.small[fromAt:], fromLength) }
}

func copyBlocks[T any](blocks, length int, to []T, toStep int, from []T, fromStep int) {
	for i := range blocks {
		copy(to[i*toStep:][:length], from[i*fromStep:][:length])
	}
}

// sameBut reports whether two shapes differ at most in one axis.
func sameBut(a, b []int, axis int) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] && i != axis {
			return false
		}
	}
	return true
}

// each combines several steps.
func each(steps []func()) func() {
	return func() {
		for _, step := range steps {
			step()
		}
	}
}

func (p *parser) concatenation(op operator) (func(), error) {
	if len(op.in) == 0 || !op.has(len(op.in), 1) {
		return nil, errOperands
	}
	to := op.out[0]
	axis, ok := to.axis(op.options.number(0, 0))
	if op.options.small(1) != 0 {
		return nil, errOptions
	}
	var steps []func()
	at := 0
	for _, from := range op.in {
		if !ok || !movable(from, to) || !sameBut(from.shape, to.shape, axis) || at+from.shape[axis] > to.shape[axis] {
			return nil, errOperands
		}
		steps = append(steps, part(to, at, from, 0, from.shape[axis], axis))
		at += from.shape[axis]
	}
	if at != to.shape[axis] {
		return nil, errOperands
	}
	return each(steps), nil
}

func (p *parser) splitV(op operator) (func(), error) {
	if !op.has(3, len(op.out)) {
		return nil, errOperands
	}
	from := op.in[0]
	lengths, ok1 := op.in[1].integers(maxOperands)
	where, ok2 := op.in[2].integers(1)
	if !ok1 || !ok2 || len(lengths) != len(op.out) {
		return nil, errOperands
	}
	axis, ok := from.axis(where[0])
	var steps []func()
	at := 0
	for i, to := range op.out {
		if !ok || !movable(from, to) || !sameBut(from.shape, to.shape, axis) || at+to.shape[axis] > from.shape[axis] ||
			lengths[i] != -1 && int(lengths[i]) != to.shape[axis] {
			return nil, errOperands
		}
		steps = append(steps, part(to, 0, from, at, to.shape[axis], axis))
		at += to.shape[axis]
	}
	if !ok || at != from.shape[axis] {
		return nil, errOperands
	}
	return each(steps), nil
}

// stridedSlice slices one axis, with stride 1.
func (p *parser) stridedSlice(op operator) (func(), error) {
	if !op.has(4, 1) {
		return nil, errOperands
	}
	from, to := op.in[0], op.out[0]
	begins, ok1 := op.in[1].integers(4)
	ends, ok2 := op.in[2].integers(4)
	strides, ok3 := op.in[3].integers(4)
	axes := len(from.shape)
	if !ok1 || !ok2 || !ok3 || len(begins) != axes || len(ends) != axes || len(strides) != axes || axes == 0 || !movable(from, to) {
		return nil, errOperands
	}
	o := op.options
	if o.number(2, 0)|o.number(3, 0)|o.number(4, 0) != 0 || o.small(5) != 0 { // ellipsis, new axis, shrink axis, offset
		return nil, errOptions
	}
	cut, at, length := 0, 0, from.shape[0]
	for i, n := range from.shape {
		begin, end := 0, n
		if o.number(0, 0)>>i&1 == 0 {
			begin = within(begins[i], n)
		}
		if o.number(1, 0)>>i&1 == 0 {
			end = within(ends[i], n)
		}
		if strides[i] != 1 {
			return nil, errOptions
		}
		if begin > 0 || end < n {
			if length != from.shape[cut] {
				return nil, errOptions
			}
			cut, at, length = i, begin, end-begin
		}
	}
	if length < 1 || !sameBut(from.shape, to.shape, cut) || to.shape[cut] != length {
		return nil, errOperands
	}
	return part(to, 0, from, at, length, cut), nil
}

// within returns a position on an axis of n elements; negative positions count from the end.
func within(place int32, n int) int {
	if place < 0 {
		return max(0, n+max(int(place), -n))
	}
	return min(int(place), n)
}

func (p *parser) reshape(op operator) (func(), error) {
	if len(op.in) == 0 || op.in[0] == nil || len(op.out) != 1 || !movable(op.in[0], op.out[0]) || op.in[0].size != op.out[0].size {
		return nil, errOperands
	}
	return whole(op.out[0].small, op.in[0].small, op.out[0].floats, op.in[0].floats), nil
}

// whole copies both kinds of content, of which a tensor has one.
func whole(to, from []int8, toFloats, fromFloats []float32) func() {
	return func() {
		copy(to, from)
		copy(toFloats, fromFloats)
	}
}

// callOnce returns the steps of the second graph, which set the variables.
func (p *parser) callOnce(op operator) (func(), error) {
	if p.called || op.options.number(0, 0) != 1 || len(p.graphs) < 2 {
		return nil, errOptions
	}
	p.called = true
	tensors, err := p.tensors(p.graphs[1])
	if err != nil {
		return nil, err
	}
	p.model.begin, err = p.steps(p.graphs[1], tensors)
	return nil, err
}

func (p *parser) varHandle(op operator) (func(), error) {
	if !op.has(0, 1) || op.out[0].kind != kindResource {
		return nil, errOperands
	}
	name := op.options.text(0, 100) + "/" + op.options.text(1, 100)
	v, ok := p.model.variables[name]
	if !ok {
		v = &variable{kind: kindResource}
		p.model.variables[name] = v
	}
	op.out[0].variable = v
	return nil, nil
}

// fits sets the format of a variable to that of its first tensor, and reports whether later ones
// have the same.
func (p *parser) fits(v *variable, t *tensor) bool {
	if v == nil || !t.holds(anything...) {
		return false
	}
	if v.kind == kindResource {
		*v = variable{t.kind, make([]int8, len(t.small)), make([]float32, len(t.floats))}
		p.memory += len(t.small) + 4*len(t.floats)
	}
	return v.kind == t.kind && len(v.small) == len(t.small) && len(v.floats) == len(t.floats) && p.memory <= 2*maxMemory
}

func (p *parser) readVariable(op operator) (func(), error) {
	if !op.has(1, 1) || !p.fits(op.in[0].variable, op.out[0]) {
		return nil, errOperands
	}
	v, to := op.in[0].variable, op.out[0]
	return whole(to.small, v.small, to.floats, v.floats), nil
}

func (p *parser) assignVariable(op operator) (func(), error) {
	if !op.has(2, 0) || !p.fits(op.in[0].variable, op.in[1]) {
		return nil, errOperands
	}
	v, from := op.in[0].variable, op.in[1]
	return whole(v.small, from.small, v.floats, from.floats), nil
}

// products are weighted sums of windows of the input, one for each channel of the output.
type products struct {
	in, out  []int8
	weights  []int8
	bias     []int32 // including the contribution of the input's zero point
	scale    []multiplier
	zero     int32 // of the output
	least    int32 // lower limit of the activation
	window   int   // input elements per sum
	step     int   // distance between windows, in elements
	channels int
	sums     []int32
}

// newProducts parses the common part of the operators that multiply. The filter has the given
// number of weights per channel.
func (p *parser) newProducts(op operator, activation int8, outputs, window int) (*products, error) {
	if len(op.in) == 2 {
		op.in = append(op.in[:2:2], nil)
	}
	if len(op.in) != 3 || op.in[0] == nil || op.in[1] == nil || len(op.out) != 1 || outputs < 1 {
		return nil, errOperands
	}
	in, filter, bias, out := op.in[0], op.in[1], op.in[2], op.out[0]
	if !in.holds(kindInt8) || !filter.holds(kindInt8) || !out.holds(kindInt8) || len(in.scales) != 1 || len(out.scales) != 1 ||
		len(filter.scales) != 1 && len(filter.scales) != outputs || filter.zero != 0 || len(filter.constant) != outputs*window {
		return nil, errOperands
	}
	m := &products{
		in: in.small, out: out.small, weights: filter.small, bias: make([]int32, outputs), scale: make([]multiplier, outputs),
		zero: out.zero, least: math.MinInt8, window: window, channels: outputs, sums: make([]int32, outputs),
	}
	switch activation {
	case 0:
	case 1: // ReLU
		m.least = max(m.least, out.zero)
	default:
		return nil, errOptions
	}
	if bias != nil {
		given, ok := bias.integers(outputs)
		if !ok || len(given) != outputs {
			return nil, errOperands
		}
		copy(m.bias, given)
	}
	for i := range m.scale {
		scale := float64(filter.scales[min(i, len(filter.scales)-1)])
		m.scale[i] = newMultiplier(float64(float64(in.scales[0])*scale) / float64(out.scales[0]))
	}
	p.products += out.size * window
	return m, p.affordable()
}

// offset corrects the bias of a channel for the zero point of the input.
func (m *products) offset(zero int32, weight func(channel, i int) int8) {
	for c := range m.bias {
		for i := range m.window {
			m.bias[c] -= zero * int32(weight(c, i))
		}
	}
}

// put stores a sum in the quantity of the output.
func (m *products) put(i int, number int32) {
	m.out[i] = int8(min(max(number+m.zero, m.least), math.MaxInt8))
}

// timeline reports whether a tensor is a sequence of sets of channels.
func (t *tensor) timeline() bool { return len(t.shape) == 4 && t.shape[0] == 1 && t.shape[2] == 1 }

// windows returns the number of windows of an input, without padding.
func windows(in, out *tensor, size int, padding int8, step int32) bool {
	if step < 1 || int(step) > in.shape[1] || size > in.shape[1] {
		return false
	}
	n := (in.shape[1]-size)/int(step) + 1
	same := (in.shape[1]-1)/int(step) + 1
	return out.shape[1] == n && (padding == 1 || padding == 0 && n == same)
}

func (p *parser) convolution(op operator) (func(), error) {
	if len(op.in) < 2 || op.in[0] == nil || op.in[1] == nil || len(op.out) != 1 {
		return nil, errOperands
	}
	in, filter, out := op.in[0], op.in[1], op.out[0]
	o := op.options
	step := o.number(2, 0)
	if o.number(4, 1) != 1 || o.number(5, 1) != 1 {
		return nil, errOptions
	}
	if !in.timeline() || !out.timeline() || len(filter.shape) != 4 || filter.shape[2] != 1 || filter.shape[3] != in.shape[3] ||
		filter.shape[0] != out.shape[3] || !windows(in, out, filter.shape[1], o.small(0), step) {
		return nil, errOperands
	}
	m, err := p.newProducts(op, o.small(3), out.shape[3], filter.shape[1]*filter.shape[3])
	if err != nil {
		return nil, err
	}
	m.step = int(step) * in.shape[3]
	m.offset(in.zero, func(channel, i int) int8 { return m.weights[channel*m.window+i] })
	return m.dense, nil
}

func (p *parser) fullyConnected(op operator) (func(), error) {
	if len(op.in) < 2 || op.in[0] == nil || op.in[1] == nil || len(op.out) != 1 {
		return nil, errOperands
	}
	in, filter, out := op.in[0], op.in[1], op.out[0]
	if op.options.small(1) != 0 || op.options.small(3) != 0 {
		return nil, errOptions
	}
	if len(filter.shape) != 2 || filter.shape[0] != out.size || filter.shape[1] != in.size {
		return nil, errOperands
	}
	m, err := p.newProducts(op, op.options.small(0), out.size, in.size)
	if err != nil {
		return nil, err
	}
	m.offset(in.zero, func(channel, i int) int8 { return m.weights[channel*m.window+i] })
	return m.once, nil
}

// dense multiplies each window by the weights of each channel.
func (m *products) dense() {
	for i, at := 0, 0; i < len(m.out); i, at = i+m.channels, at+m.step {
		m.multiply(m.in[at:][:m.window])
		for c, sum := range m.sums {
			m.put(i+c, m.scale[c].times(sum))
		}
	}
}

// once is dense for the whole input, which TensorFlow Lite rounds differently.
func (m *products) once() {
	m.multiply(m.in)
	for c, sum := range m.sums {
		m.put(c, m.scale[c].timesOnce(sum))
	}
}

func (m *products) multiply(in []int8) {
	for c := range m.sums {
		weights := m.weights[c*m.window:][:len(in)]
		sum := m.bias[c]
		for k, x := range in {
			sum += int32(x) * int32(weights[k])
		}
		m.sums[c] = sum
	}
}

func (p *parser) depthwise(op operator) (func(), error) {
	if len(op.in) < 2 || op.in[0] == nil || op.in[1] == nil || len(op.out) != 1 {
		return nil, errOperands
	}
	in, filter, out := op.in[0], op.in[1], op.out[0]
	o := op.options
	step := o.number(2, 0)
	if o.number(3, 0) != 1 || o.number(5, 1) != 1 || o.number(6, 1) != 1 {
		return nil, errOptions
	}
	if !in.timeline() || !out.timeline() || len(filter.shape) != 4 || filter.shape[0] != 1 || filter.shape[2] != 1 ||
		filter.shape[3] != in.shape[3] || in.shape[3] != out.shape[3] || !windows(in, out, filter.shape[1], o.small(0), step) {
		return nil, errOperands
	}
	m, err := p.newProducts(op, o.small(4), in.shape[3], filter.shape[1])
	if err != nil {
		return nil, err
	}
	m.step = int(step) * in.shape[3]
	m.offset(in.zero, func(channel, i int) int8 { return m.weights[i*m.channels+channel] })
	return m.separate, nil
}

// separate multiplies each channel of a window by its own weights.
func (m *products) separate() {
	for i, at := 0, 0; i < len(m.out); i, at = i+m.channels, at+m.step {
		copy(m.sums, m.bias)
		for k := range m.window {
			in := m.in[at+k*m.channels:][:len(m.sums)]
			weights := m.weights[k*m.channels:][:len(m.sums)]
			for c := range m.sums {
				m.sums[c] += int32(in[c]) * int32(weights[c])
			}
		}
		for c, sum := range m.sums {
			m.put(i+c, m.scale[c].times(sum))
		}
	}
}

func (p *parser) logistic(op operator) (func(), error) {
	if !op.has(1, 1) || !op.in[0].holds(kindInt8) || !op.out[0].holds(kindInt8) || op.in[0].size != op.out[0].size ||
		len(op.in[0].scales) != 1 || len(op.out[0].scales) != 1 {
		return nil, errOperands
	}
	in, out := op.in[0], op.out[0]
	var table [256]int8
	for i := range table {
		x := float64(in.scales[0]) * float64(int32(int8(i))-in.zero)
		y := math.Round(1/(1+math.Exp(-x))/float64(out.scales[0])) + float64(out.zero)
		table[i] = int8(max(math.MinInt8, min(y, math.MaxInt8)))
	}
	return func() {
		for i, x := range in.small {
			out.small[i] = table[uint8(x)]
		}
	}, nil
}

func (p *parser) quantize(op operator) (func(), error) {
	if !op.has(1, 1) || !op.in[0].holds(kindInt8, kindFloat) || !op.out[0].holds(kindInt8, kindUint8) || op.in[0].size != op.out[0].size {
		return nil, errOperands
	}
	in, out := op.in[0], op.out[0]
	if len(out.scales) != 1 || in.kind == kindInt8 && len(in.scales) != 1 {
		return nil, errOperands
	}
	least, most := int32(math.MinInt8), int32(math.MaxInt8)
	if out.kind == kindUint8 {
		least, most = 0, math.MaxUint8
	}
	if in.kind == kindFloat {
		return func() {
			for i, x := range in.floats {
				y := math.Round(float64(x/out.scales[0])) + float64(out.zero)
				out.small[i] = int8(int32(max(float64(least), min(y, float64(most)))))
			}
		}, nil
	}
	scale := newMultiplier(float64(in.scales[0]) / float64(out.scales[0]))
	return func() {
		for i, x := range in.small {
			out.small[i] = int8(min(max(scale.times(int32(x)-in.zero)+out.zero, least), most))
		}
	}, nil
}

func (p *parser) dequantize(op operator) (func(), error) {
	if !op.has(1, 1) || !op.in[0].holds(kindInt8) || op.out[0].kind != kindFloat || op.in[0].size != op.out[0].size || len(op.in[0].scales) != 1 {
		return nil, errOperands
	}
	in, out := op.in[0], op.out[0]
	return func() {
		for i, x := range in.small {
			out.floats[i] = in.scales[0] * float32(int32(x)-in.zero)
		}
	}, nil
}

// multiplier is a scale as an integer: factor × 2^(shift−31).
type multiplier struct {
	factor int32
	shift  int
}

func newMultiplier(scale float64) multiplier {
	fraction, shift := math.Frexp(scale)
	factor := int64(math.Round(float64(fraction * (1 << 31))))
	if factor == 1<<31 {
		factor, shift = factor/2, shift+1
	}
	switch {
	case shift < -31:
		return multiplier{}
	case shift > 30:
		return multiplier{math.MaxInt32, 30}
	}
	return multiplier{int32(factor), shift}
}

// times multiplies and rounds twice, each time up from the middle, as TensorFlow
// Lite does on ARM processors.
func (m multiplier) times(x int32) int32 {
	left, right := max(m.shift, 0), max(-m.shift, 0)
	high := int32((int64(x<<left)*int64(m.factor) + 1<<30) >> 31)
	if right == 0 {
		return high
	}
	return int32((int64(high) + 1<<(right-1)) >> right)
}

// timesOnce rounds only once.
func (m multiplier) timesOnce(x int32) int32 {
	return int32((int64(x)*int64(m.factor) + 1<<(30-m.shift)) >> (31 - m.shift))
}
