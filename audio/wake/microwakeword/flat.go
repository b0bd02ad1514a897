package microwakeword

import (
	"encoding/binary"
	"math"
)

// flat reads a FlatBuffer, which consists of tables that refer to each other by offsets. Nothing
// outside data is read: an invalid offset yields zero values and sets torn.
type flat struct {
	data []byte
	torn bool
}

func (f *flat) bytes(at, n int) []byte {
	if at < 0 || n < 0 || at > len(f.data) || n > len(f.data)-at {
		f.torn = true
		return nil
	}
	return f.data[at : at+n : at+n]
}

func (f *flat) uint16(at int) int {
	if b := f.bytes(at, 2); b != nil {
		return int(binary.LittleEndian.Uint16(b))
	}
	return 0
}

func (f *flat) int32(at int) int32 {
	if b := f.bytes(at, 4); b != nil {
		return int32(binary.LittleEndian.Uint32(b))
	}
	return 0
}

// follow returns the target of the offset at a position. Offsets are unsigned, and valid ones do
// not have the highest bit set.
func (f *flat) follow(at int) int {
	offset := f.int32(at)
	if offset < 0 {
		f.torn = true
		return 0
	}
	return at + int(offset)
}

// table is a record whose fields are numbered and optional.
type table struct {
	*flat
	at     int
	fields []byte // for each field two bytes: its offset from at; 0 means absent
}

func (f *flat) table(at int) table {
	fields := at - int(f.int32(at))
	size := f.uint16(fields)
	return table{f, at, f.bytes(fields, size)}
}

// field returns the position of a field, or 0 if it is absent.
func (t table) field(n int) int {
	n = 4 + 2*n
	if n+2 > len(t.fields) {
		return 0
	}
	if offset := int(binary.LittleEndian.Uint16(t.fields[n:])); offset > 0 {
		return t.at + offset
	}
	return 0
}

func (t table) number(n int, absent int32) int32 {
	if at := t.field(n); at > 0 {
		return t.int32(at)
	}
	return absent
}

// small returns a field of one byte, or 0 if it is absent.
func (t table) small(n int) int8 {
	if at := t.field(n); at > 0 {
		if b := t.bytes(at, 1); b != nil {
			return int8(b[0])
		}
	}
	return 0
}

// vector returns the content of a list field, whose elements have size bytes, and their number.
func (t table) vector(n, width int) (content []byte, count int) {
	at := t.field(n)
	if at == 0 {
		return nil, 0
	}
	at = t.follow(at)
	count = int(t.int32(at))
	if count < 0 || count > len(t.data)/width {
		t.torn = true
		return nil, 0
	}
	content = t.bytes(at+4, count*width)
	return content, len(content) / width
}

// numbers returns a list of 32-bit numbers, limited to most.
func (t table) numbers(n, most int) []int32 {
	content, count := t.vector(n, 4)
	return numbers(content[:4*min(count, most+1)]) // one more shows that the limit is exceeded
}

func numbers(content []byte) []int32 {
	list := make([]int32, len(content)/4)
	for i := range list {
		list[i] = int32(binary.LittleEndian.Uint32(content[4*i:]))
	}
	return list
}

// floats returns a list of 32-bit floats.
func (t table) floats(n, most int) []float32 {
	content, count := t.vector(n, 4)
	list := make([]float32, min(count, most+1))
	for i := range list {
		list[i] = math.Float32frombits(binary.LittleEndian.Uint32(content[4*i:]))
	}
	return list
}

// tables returns a list of tables, limited to most; count returns their number.
func (t table) tables(n, most int) (list []table, count int) {
	at := t.field(n)
	if at == 0 {
		return nil, 0
	}
	_, count = t.vector(n, 4)
	first := t.follow(at) + 4
	for i := range min(count, most) {
		list = append(list, t.table(t.follow(first+4*i)))
	}
	return list, count
}

// child returns the table that a field refers to.
func (t table) child(n int) (table, bool) {
	at := t.field(n)
	if at == 0 {
		return table{flat: t.flat}, false
	}
	return t.table(t.follow(at)), true
}

// text returns a string field, limited to most bytes.
func (t table) text(n, most int) string {
	content, count := t.vector(n, 1)
	return string(content[:min(count, most)])
}
