package resample

// Joiner makes one stream of several in a row that have rates of their own, such
// as the links of a chained Ogg.
type Joiner struct {
	// Rate of the one stream, in samples a second. It is constant once there was a
	// Process.
	Rate int

	from int // the rate of the latest part
	r    *Resampler
}

// Process appends to dst what src, which has that rate, makes possible. Where
// the rate changes, it appends what is owed of the part before.
func (j *Joiner) Process(dst, src []int16, rate int) []int16 {
	if rate != j.from {
		dst = j.Flush(dst)
		j.r, j.from = New(rate, j.Rate), rate
	}
	return j.r.Process(dst, src)
}

// Flush appends what is still owed at the end.
func (j *Joiner) Flush(dst []int16) []int16 {
	if j.r == nil {
		return dst
	}
	return j.r.Flush(dst)
}
