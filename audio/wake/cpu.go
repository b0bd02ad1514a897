package wake

import (
	"context"
	"time"

	"lintod/agent/base/process"
)

// cpuTime is how often the child's CPU usage is measured.
const cpuTime = 10 * time.Second

// watchCPU measures the child until ctx ends.
func watchCPU(ctx context.Context, child *process.Child, mic *capture) {
	beat := time.NewTicker(cpuTime)
	defer beat.Stop()
	last, at := child.CPUTime(), time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-beat.C:
			used := child.CPUTime()
			percent := 100 * float64(used-last) / float64(now.Sub(at))
			mic.listener.update(func(s *Status) { s.CPU = float64(int(10*percent+0.5)) / 10 })
			last, at = used, now
		}
	}
}
