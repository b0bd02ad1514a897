package status

import "runtime/metrics"

// Self is the daemon's own resource usage, which should stay constant over years.
type Self struct {
	Goroutines uint64 `json:"goroutines"`
	Heap       uint64 `json:"heap"` // live bytes at the last garbage collection
}

// MeasureSelf reads the current usage. It takes microseconds, and does not stop
// the program.
func MeasureSelf() Self {
	samples := []metrics.Sample{{Name: "/sched/goroutines:goroutines"}, {Name: "/gc/heap/live:bytes"}}
	metrics.Read(samples)
	return Self{Goroutines: samples[0].Value.Uint64(), Heap: samples[1].Value.Uint64()}
}
