package silero

import (
	"math"

	"lintod/audio"
)

const (
	window    = 512 // new samples for each run of the network
	context   = 64  // preceding samples
	transform = 256 // samples of a spectrum
	hop       = 128 // distance between spectra
	spectra   = 4   // in a window

	// likely is the score at which voice starts; it ends below unlikely. With 0.3 and 0.2, two more
	// of 34 utterances are found in noise of the same level, but in 9 of 30 cases a cut in a
	// recording after a knock also counts as speech.
	likely   = 0.5
	unlikely = 0.35
)

// Detector processes one stream of sound. It is for one goroutine, and does not allocate after New.
type Detector struct {
	model *Model

	samples [context + window + context]float32 // the last ones are reflected
	have    int                                 // of the window
	opinion audio.Speech

	wave   [transform]complex64            // two frames: the real and the imaginary part
	layers [len(Model{}.encoder)][]float32 // the input of each layer, with silence at both ends
	state  [2 * cells]float32              // the input of the recurrent layer and its last output
	memory [cells]float32                  // its cells
	gates  [4 * cells]float32
}

// New returns a Detector in its initial state.
func New(m *Model) *Detector {
	d := &Detector{model: m, opinion: audio.SpeechNo}
	for i, frames := range [...]int{spectra, spectra, spectra / 2, 1} {
		d.layers[i] = make([]float32, (frames+2)*m.encoder[i].in)
	}
	return d
}

// Push processes the next frame and returns the result of the last complete window, which ended up
// to 32 ms ago.
func (d *Detector) Push(frame *[audio.FrameSamples]int16) audio.Speech {
	for rest := frame[:]; len(rest) > 0; {
		n := min(len(rest), window-d.have)
		for i, s := range rest[:n] {
			d.samples[context+d.have+i] = float32(s) / 32768
		}
		rest = rest[n:]
		if d.have += n; d.have == window {
			d.have = 0
			d.judge(d.score())
		}
	}
	return d.opinion
}

func (d *Detector) judge(score float32) {
	switch {
	case score >= likely:
		d.opinion = audio.SpeechYes
	case score < unlikely:
		d.opinion = audio.SpeechNo
	}
}

// score runs the network over the samples, and makes room for the next window.
func (d *Detector) score() float32 {
	const end = context + window
	for i := range context {
		d.samples[end+i] = d.samples[end-2-i]
	}
	for i := 0; i < spectra; i += 2 {
		d.spectra(i)
	}
	copy(d.samples[:context], d.samples[window:end])
	for i := range d.model.encoder {
		l := &d.model.encoder[i]
		to := d.state[:cells]
		if i+1 < len(d.layers) {
			next := d.layers[i+1]
			to = next[l.out : len(next)-l.out]
		}
		l.run(d.layers[i], to)
	}
	d.remember()
	sum := d.model.offset
	for i, v := range d.state[cells:] {
		sum += max(0, v) * d.model.output[i]
	}
	return sigmoid(sum)
}

// spectra stores the magnitudes of two adjacent frames, the first of which has number i. They share
// one transform, because the spectrum of the real part is symmetric, and that of the imaginary part
// antisymmetric.
func (d *Detector) spectra(i int) {
	a, b := d.samples[i*hop:][:transform], d.samples[(i+1)*hop:][:transform]
	for n, w := range d.model.window {
		d.wave[reversed(n)] = complex(a[n]*w, b[n]*w)
	}
	fourier(&d.wave)
	first, second := d.layers[0][(1+i)*width:][:bins], d.layers[0][(2+i)*width:][:bins]
	for k := range bins {
		x, y := d.wave[k], d.wave[(transform-k)%transform]
		first[k] = magnitude(real(x)+real(y), imag(x)-imag(y))
		second[k] = magnitude(imag(x)+imag(y), real(y)-real(x))
	}
}

// magnitude of half of the complex number.
func magnitude(re, im float32) float32 {
	return float32(math.Sqrt(float64(re*re+im*im))) / 2
}

// run computes the output of a layer for every stride-th frame of in.
func (l *layer) run(in, out []float32) {
	for at := 0; len(out) > 0; at += l.stride * l.in {
		multiply(l.weights, in[at:][:3*l.in], out[:l.out])
		for i, b := range l.bias {
			out[i] = max(0, out[i]+b)
		}
		out = out[l.out:]
	}
}

// remember runs the recurrent layer (LSTM): its gates are, in this order, input, forget, cell, and
// output.
func (d *Detector) remember() {
	multiply(d.model.gates, d.state[:], d.gates[:])
	for i := range cells {
		gate := func(k int) float32 { return d.gates[k*cells+i] + d.model.bias[k*cells+i] }
		d.memory[i] = sigmoid(gate(1))*d.memory[i] + sigmoid(gate(0))*tanh(gate(2))
		d.state[cells+i] = sigmoid(gate(3)) * tanh(d.memory[i])
	}
}

func sigmoid(x float32) float32 { return float32(1 / (1 + math.Exp(-float64(x)))) }

func tanh(x float32) float32 { return 2*sigmoid(2*x) - 1 }

// multiply stores the product of a matrix and a vector: w contains consecutive rows of the length
// of x. Four rows at a time, each in two sums, use the processor's multipliers well; both lengths
// are multiples of 4. Under the race detector it would take 15 times as long, and so would the
// tests that use it.
//
//go:norace
func multiply(w, x, out []float32) {
	n := len(x)
	for o := 0; o < len(out); o += 4 {
		var a0, b0, c0, d0, a1, b1, c1, d1 float32
		a, b, c, d := w[o*n:][:n], w[(o+1)*n:][:n], w[(o+2)*n:][:n], w[(o+3)*n:][:n]
		for i := 0; i < n; i += 4 {
			x, a, b, c, d := (*[4]float32)(x[i:]), (*[4]float32)(a[i:]), (*[4]float32)(b[i:]), (*[4]float32)(c[i:]), (*[4]float32)(d[i:])
			a0 += a[0] * x[0]
			b0 += b[0] * x[0]
			c0 += c[0] * x[0]
			d0 += d[0] * x[0]
			a1 += a[1] * x[1]
			b1 += b[1] * x[1]
			c1 += c[1] * x[1]
			d1 += d[1] * x[1]
			a0 += a[2] * x[2]
			b0 += b[2] * x[2]
			c0 += c[2] * x[2]
			d0 += d[2] * x[2]
			a1 += a[3] * x[3]
			b1 += b[3] * x[3]
			c1 += c[3] * x[3]
			d1 += d[3] * x[3]
		}
		out[o], out[o+1], out[o+2], out[o+3] = a0+a1, b0+b1, c0+c1, d0+d1
	}
}
