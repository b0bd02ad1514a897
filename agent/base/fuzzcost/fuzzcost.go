// Package fuzzcost lets fuzz tests of parsers fail when an input costs more memory or
// time than any input may: few bytes of a stranger must not keep the device busy.
package fuzzcost

import (
	"runtime"
	"runtime/metrics"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What one input may cost.
const (
	MaxMemory = 16 << 20    // bytes allocated, also those that are free again
	MaxTime   = time.Second // of the processor, so that a busy machine changes nothing
)

// Check runs parse, which must start no goroutine, and fails t when that cost too much.
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
		t.Errorf("it took %v of the processor", used)
	}
}

func allocated() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// processor is the time that this thread has had.
func processor() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		return 0
	}
	return time.Duration(t.Nano())
}
