package wake

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"time"
)

// cpuTime is how often the child's use of the processor is looked at.
const cpuTime = 10 * time.Second

// watchCPU measures the child until ctx ends.
func watchCPU(ctx context.Context, pid int, ear *ear) {
	beat := time.NewTicker(cpuTime)
	defer beat.Stop()
	last, at := cpuUsed(pid), time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-beat.C:
			used := cpuUsed(pid)
			percent := 100 * float64(used-last) / float64(now.Sub(at))
			ear.listener.update(func(s *Status) { s.CPU = float64(int(10*percent+0.5)) / 10 })
			last, at = used, now
		}
	}
}

// cpuUsed is the processor time of a process so far, proc_pid_stat(5). The
// kernel counts it in USER_HZ, which is 100 on all that Debian runs on.
func cpuUsed(pid int) time.Duration {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.ParseInt(string(fields[11]), 10, 64)
	system, _ := strconv.ParseInt(string(fields[12]), 10, 64)
	return time.Duration(user+system) * 10 * time.Millisecond
}
