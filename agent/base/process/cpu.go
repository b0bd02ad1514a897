package process

import (
	"fmt"
	"os"
	"strconv"
	"time"
)

// CPUTime returns the CPU time that the process has used so far, without its
// children, and 0 after it has ended. The kernel counts it in USER_HZ, which is
// 100 on all architectures of Debian (proc_pid_stat(5)).
func (c *Child) CPUTime() time.Duration {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.Pid))
	if err != nil {
		return 0
	}
	_, fields, err := splitStat(stat)
	if err != nil {
		return 0
	}
	user, _ := strconv.ParseInt(string(fields[11]), 10, 64)
	system, _ := strconv.ParseInt(string(fields[12]), 10, 64)
	return time.Duration(user+system) * 10 * time.Millisecond
}
