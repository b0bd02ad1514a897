// Package fuzzcost makes fuzz tests of parsers fail if an input uses too much
// memory or time: a few untrusted bytes must not keep the device busy.
package fuzzcost

import (
	"runtime"
	"runtime/metrics"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The limits for one input.
const (
	MaxMemory = 16 << 20    // bytes allocated, including freed ones
	MaxTime   = time.Second // of CPU time, independent of the load of the machine
)

// Check runs parse, which must start no goroutine, and fails t if that exceeded a
// limit.
func Check(t testing.TB, parse func()) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	memory, cpu := allocated(), processor()
	parse()
	if used := allocated() - memory; used > MaxMemory {
		t.Errorf("it allocated %d bytes", used)
	}
	if used := processor() - cpu; used > MaxTime {
		t.Errorf("it took %v of CPU time", used)
	}
}

func allocated() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// processor is the CPU time of this thread.
func processor() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		return 0
	}
	return time.Duration(t.Nano())
}
