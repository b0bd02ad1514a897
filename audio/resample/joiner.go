package resample

// Joiner joins consecutive streams with different rates, such as the links of a chained Ogg, to one
// stream.
type Joiner struct {
	// Rate is the output rate, in Hz. It is constant after the first Process.
	Rate int

	from int // the rate of the current part
	r    *Resampler
}

// Process appends the output for src, which has the given rate, to dst. If the rate changes, it
// first appends the rest of the previous part.
func (j *Joiner) Process(dst, src []int16, rate int) []int16 {
	if rate != j.from {
		dst = j.Flush(dst)
		j.r, j.from = New(rate, j.Rate), rate
	}
	return j.r.Process(dst, src)
}

// Flush appends the rest at the end.
func (j *Joiner) Flush(dst []int16) []int16 {
	if j.r == nil {
		return dst
	}
	return j.r.Flush(dst)
}
