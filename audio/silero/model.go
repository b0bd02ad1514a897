// Package silero implements the voice detector of the Silero team, a small neural network for sound
// at 16 kHz, in Go. Its weights are in an ONNX file that is installed with the programs; only the
// weights are read from the file, and the network is implemented here. The scores differ from
// onnxruntime's by less than 0.001.
//
// The alternative, onnxruntime, is in Debian only from release 13 on, and takes 42 MB of memory and
// 0.40 % of a core during turns, compared with 3 MB and 0.4 % here.
//
// Capture, and the use of the result in a turn, do not belong here.
package silero

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
)

const (
	// Name is the name of the weights file.
	Name = "silero_vad_16k.onnx"
	// Dir is where the package installs it.
	Dir = "/usr/share/lintod"

	maxFile = 4 << 20
)

// Find returns the path of the weights: next to the running program, as created by scripts/build,
// or otherwise in Dir.
func Find() string {
	if self, err := os.Executable(); err == nil {
		path := filepath.Join(filepath.Dir(self), Name)
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	return filepath.Join(Dir, Name)
}

const (
	bins  = transform/2 + 1 // of a spectrum
	width = 132             // of a zero-padded spectrum, for multiply
	cells = 128             // of the recurrent layer
)

// layer is a convolution over three adjacent frames, followed by ReLU.
type layer struct {
	in, out, stride int
	weights         []float32 // for each output, three times in
	bias            []float32
}

// Model contains the network's weights. It is immutable, and may be used by several Detectors.
type Model struct {
	window  [transform]float32
	encoder [4]layer
	gates   []float32 // for each of the 4·cells gates: of the input, of the cells' output
	bias    []float32
	output  []float32
	offset  float32
}

// Load reads the weights. It allocates 1 MB permanently, and 1.3 MB temporarily.
func Load(path string) (*Model, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular() || info.Size() > maxFile:
		return nil, fmt.Errorf("%s is not a file of at most %d bytes", path, maxFile)
	}
	b := make([]byte, info.Size())
	if _, err = io.ReadFull(f, b); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	m, err := Parse(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return m, nil
}

// Parse reads the weights from an ONNX file. It fails if the file is not of the network that is
// implemented here.
func Parse(b []byte) (*Model, error) {
	found, err := constants(b)
	if err != nil {
		return nil, err
	}
	get := func(name string, dims ...uint64) []float32 {
		f, e := floats(found, "model."+name, dims...)
		if err == nil {
			err = e
		}
		return f
	}
	m := new(Model)
	basis := get("stft.forward_basis_buffer", 2*bins, 1, transform)
	for i, l := range []layer{{in: width, out: 128, stride: 1}, {in: 128, out: 64, stride: 2}, {in: 64, out: 64, stride: 2}, {in: 64, out: cells, stride: 1}} {
		name := fmt.Sprintf("encoder.%d.reparam_conv.", i)
		in := l.in
		if i == 0 {
			in = bins
		}
		l.weights = byTime(get(name+"weight", uint64(l.out), uint64(in), 3), in, l.in)
		l.bias = get(name+"bias", uint64(l.out))
		m.encoder[i] = l
	}
	m.gates = beside(get("decoder.rnn.weight_ih", 4*cells, cells), get("decoder.rnn.weight_hh", 4*cells, cells))
	m.bias = get("decoder.rnn.bias_ih", 4*cells)
	other := get("decoder.rnn.bias_hh", 4*cells)
	m.output = get("decoder.decoder.2.weight", 1, cells, 1)
	offset := get("decoder.decoder.2.bias", 1)
	if err != nil {
		return nil, err
	}
	for i := range m.bias {
		m.bias[i] += other[i]
	}
	m.offset = offset[0]
	copy(m.window[:], basis) // the cosine of no frequency is 1
	return m, m.checkBasis(basis)
}

// checkBasis compares the file's transform with a windowed Fourier transform.
func (m *Model) checkBasis(basis []float32) error {
	for k := range bins {
		for i, w := range m.window {
			sin, cos := math.Sincos(2 * math.Pi * float64(k*i%transform) / transform)
			re, im := float64(basis[k*transform+i]), float64(basis[(bins+k)*transform+i])
			if math.Abs(re-float64(w)*cos) > 1e-4 || math.Abs(math.Abs(im)-math.Abs(float64(w)*sin)) > 1e-4 {
				return errors.New("the transform of the model is not a windowed Fourier transform, so it is not Silero's for 16 kHz")
			}
		}
	}
	return nil
}

// byTime converts the weights of a convolution from [out][in][3] to [out][3][width], because three
// adjacent frames are consecutive in the input.
func byTime(w []float32, in, width int) []float32 {
	turned := make([]float32, len(w)/in*width)
	for i, v := range w {
		out, from, tap := i/(3*in), i/3%in, i%3
		turned[(3*out+tap)*width+from] = v
	}
	return turned
}

// beside appends the rows of b to those of a.
func beside(a, b []float32) []float32 {
	both := make([]float32, 0, len(a)+len(b))
	for i := 0; i+cells <= min(len(a), len(b)); i += cells {
		both = append(append(both, a[i:i+cells]...), b[i:i+cells]...)
	}
	return both
}
