package silero

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
)

// tensor is a constant of a model: raw floats, little-endian.
type tensor struct {
	dims []uint64
	raw  []byte
}

var errWire = errors.New("the file is damaged, or not an ONNX model")

// constants returns the named float tensors of an ONNX model, which point into b. ONNX uses
// Protocol Buffers; the field numbers are those of onnx.proto3.
func constants(b []byte) (map[string]tensor, error) {
	const graph, initializer = 7, 5
	found := map[string]tensor{}
	err := fields(b, func(field int, graphBytes []byte, _ uint64) error {
		if field != graph {
			return nil
		}
		return fields(graphBytes, func(field int, value []byte, _ uint64) error {
			if field != initializer {
				return nil
			}
			if len(found) >= maxConstants {
				return fmt.Errorf("the model has more than %d constants", maxConstants)
			}
			return constant(found, value)
		})
	})
	return found, err
}

// constant adds a tensor, unless it does not contain raw floats.
func constant(to map[string]tensor, b []byte) error {
	const dims, dataType, name, rawData, float = 1, 2, 8, 9, 1
	var t tensor
	var title string
	var kind uint64
	err := fields(b, func(field int, value []byte, number uint64) error {
		switch field {
		case dims:
			if value == nil {
				value = binary.AppendUvarint(nil, number)
			}
			for len(value) > 0 { // one, or several packed
				d, n := binary.Uvarint(value)
				if n <= 0 || len(t.dims) >= maxDims {
					return errWire
				}
				t.dims, value = append(t.dims, d), value[n:]
			}
		case dataType:
			kind = number
		case name:
			title = string(value[:min(len(value), maxName)])
		case rawData:
			t.raw = value
		}
		return nil
	})
	if err == nil && kind == float && t.raw != nil {
		to[title] = t
	}
	return err
}

const (
	maxConstants = 100
	maxDims      = 8
	maxName      = 200
)

// fields calls each with every field of a message: with its bytes, which are not nil, or with its
// number.
func fields(b []byte, each func(field int, value []byte, number uint64) error) error {
	const varint, fixed64, bytes, fixed32 = 0, 1, 2, 5
	for len(b) > 0 {
		key, n := binary.Uvarint(b)
		if n <= 0 || key>>3 > math.MaxInt32 {
			return errWire
		}
		b = b[n:]
		var value []byte
		var number uint64
		size := uint64(0) // of the following bytes
		switch key & 7 {
		case varint, bytes:
			if number, n = binary.Uvarint(b); n <= 0 {
				return errWire
			}
			b = b[n:]
			if key&7 == bytes {
				size = number
			}
		case fixed64:
			size = 8
		case fixed32:
			size = 4
		default:
			return errWire
		}
		if size > uint64(len(b)) {
			return errWire
		}
		if key&7 == bytes {
			value = b[:size:size]
		}
		b = b[size:]
		if err := each(int(key>>3), value, number); err != nil {
			return err
		}
	}
	return nil
}

// floats returns the constant with this name, which must have these dimensions and finite values.
func floats(from map[string]tensor, name string, dims ...uint64) ([]float32, error) {
	t, ok := from[name]
	if !ok {
		return nil, fmt.Errorf("the model has no %s, so it is not Silero's for 16 kHz", name)
	}
	size := uint64(1)
	for _, d := range dims {
		size *= d
	}
	if !slices.Equal(t.dims, dims) || uint64(len(t.raw)) != 4*size {
		return nil, fmt.Errorf("%s has %d bytes in dimensions %v instead of %v, so it is not Silero's for 16 kHz", name, len(t.raw), t.dims, dims)
	}
	f := make([]float32, size)
	for i := range f {
		f[i] = math.Float32frombits(binary.LittleEndian.Uint32(t.raw[4*i:]))
		if !(math.Abs(float64(f[i])) < maxWeight) { // false for NaN
			return nil, fmt.Errorf("%s contains %v: the file is damaged", name, f[i])
		}
	}
	return f, nil
}

// maxWeight exceeds any weight of a trained network.
const maxWeight = 1e4
