package process

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// A cgroup is a cgroup of a family, below the one that systemd has delegated
// to the daemon (Delegate=yes). A nil cgroup does nothing.
type cgroup struct {
	path string
	dir  *os.File
}

var cgroupNumber atomic.Int64

// newCgroup returns nil if the daemon cannot create one, or if the kernel
// (before 5.14) cannot kill one.
func newCgroup() *cgroup {
	own := ownCgroup()
	if own == "" {
		return nil
	}
	c := &cgroup{path: filepath.Join(own, fmt.Sprintf("command-%d-%d", os.Getpid(), cgroupNumber.Add(1)))}
	if os.Mkdir(c.path, 0o755) != nil { // #nosec G301 -- the kernel's file system, not a place for data
		return nil
	}
	_, err := os.Stat(filepath.Join(c.path, "cgroup.kill"))
	if err == nil {
		c.dir, err = os.Open(c.path)
	}
	if err != nil {
		_ = os.Remove(c.path)
		return nil
	}
	return c
}

// admit moves a process, and its future children, into the cgroup.
func (c *cgroup) admit(pid int) error {
	return os.WriteFile(filepath.Join(c.path, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0)
}

func (c *cgroup) kill() {
	if c != nil {
		_ = os.WriteFile(filepath.Join(c.path, "cgroup.kill"), []byte("1"), 0)
	}
}

// remove removes the cgroup, whose members must have been killed.
func (c *cgroup) remove() {
	if c == nil {
		return
	}
	c.dir.Close()
	for pause := time.Millisecond; !removeCgroups(c.path) && pause < 100*time.Millisecond; pause *= 2 {
		time.Sleep(pause)
	}
}

// removeCgroups removes a cgroup and those that its members have created below it.
func removeCgroups(path string) bool {
	entries, _ := os.ReadDir(path)
	for _, entry := range entries {
		if entry.IsDir() {
			removeCgroups(filepath.Join(path, entry.Name()))
		}
	}
	return os.Remove(path) == nil
}

// ownCgroup is the directory of the daemon's cgroup, "" if it has none of its own.
func ownCgroup() string {
	membership, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return ""
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return ""
	}
	return cgroupFolder(membership, mounts)
}

// cgroupFolder finds the directory in /proc/self/cgroup and
// /proc/self/mountinfo (cgroups(7), proc(5)). The root cgroup does not count
// as the daemon's own.
func cgroupFolder(membership, mounts []byte) string {
	path := ""
	for line := range bytes.Lines(membership) {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(string(line)), "0::"); ok {
			path = rest
		}
	}
	if path == "" || path == "/" {
		return ""
	}
	for scan := bufio.NewScanner(bytes.NewReader(mounts)); scan.Scan(); {
		before, after, _ := strings.Cut(scan.Text(), " - ")
		fields := strings.Fields(before)
		if len(fields) < 5 || !strings.HasPrefix(after, "cgroup2 ") {
			continue
		}
		if below, ok := strings.CutPrefix(path, strings.TrimSuffix(fields[3], "/")); ok {
			return filepath.Join(fields[4], below)
		}
	}
	return ""
}
