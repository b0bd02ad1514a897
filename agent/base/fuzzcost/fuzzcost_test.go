package fuzzcost

import (
	"testing"
	"time"
)

// verdict takes the failures of a Check.
type verdict struct {
	testing.TB
	failed int
}

func (*verdict) Helper()                 {}
func (v *verdict) Errorf(string, ...any) { v.failed++ }

var kept []byte

func TestCheck(t *testing.T) {
	for name, test := range map[string]struct {
		parse  func()
		failed int
	}{
		"cheap":  {func() { kept = make([]byte, 1000) }, 0},
		"memory": {func() { kept = make([]byte, MaxMemory+1) }, 1},
		"slow": {func() {
			for began := processor(); processor()-began < MaxTime+time.Millisecond; {
				continue
			}
		}, 1},
		"waiting": {func() { time.Sleep(MaxTime + time.Millisecond) }, 0},
	} {
		v := &verdict{TB: t}
		if Check(v, test.parse); v.failed != test.failed {
			t.Errorf("%s: %d failures, want %d", name, v.failed, test.failed)
		}
	}
}
