package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// usage is the resource usage of a process since its start.
type usage struct {
	cpu  time.Duration
	wake int // how often its threads went to sleep, and so were woken
}

func (u usage) since(before usage) usage { return usage{u.cpu - before.cpu, u.wake - before.wake} }

// used adds up the threads of processes; schedstat counts in nanoseconds
// (Documentation/scheduler/sched-stats.rst). Threads that have ended are not included.
func used(pids ...int) usage {
	var u usage
	for _, pid := range pids {
		tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
		for _, task := range tasks {
			stat, _ := os.ReadFile(filepath.Join(task, "schedstat"))
			if fields := strings.Fields(string(stat)); len(fields) > 0 {
				ns, _ := strconv.ParseInt(fields[0], 10, 64)
				u.cpu += time.Duration(ns)
			}
			u.wake += int(field(filepath.Join(task, "status"), "voluntary_ctxt_switches:"))
		}
	}
	return u
}

// field returns a number in a file of /proc, or 0 if it is missing.
func field(path, name string) float64 {
	raw, _ := os.ReadFile(path)
	for line := range strings.Lines(string(raw)) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			n, _ := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return n
		}
	}
	return 0
}

// resident is VmRSS in MB.
func resident(pids ...int) float64 {
	sum := 0.0
	for _, pid := range pids {
		sum += field(fmt.Sprintf("/proc/%d/status", pid), "VmRSS:") / 1024
	}
	return sum
}

// composition is what the resident memory of processes consists of, in MB. Only anonymous memory
// and shared memory are written; the kernel drops pages of files when memory is short, and reads
// them again when they are used.
type composition struct{ anonymous, shared, program, libraries float64 }

// composed reads the mappings of processes (proc_pid_smaps(5)).
func composed(pids ...int) (c composition) {
	for _, pid := range pids {
		exe, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
		raw, _ := os.ReadFile(fmt.Sprintf("/proc/%d/smaps", pid))
		file, rss := "", 0.0
		for line := range strings.Lines(string(raw)) {
			fields := strings.Fields(line)
			switch fields[0] {
			case "Rss:":
				rss = megabytes(fields[1])
			case "Anonymous:": // follows Rss; of a file, it is written data
				written := megabytes(fields[1])
				c.anonymous += written
				*c.class(file, exe) += rss - written
			default:
				if !strings.HasSuffix(fields[0], ":") { // the first line of a mapping
					file = strings.Join(fields[min(5, len(fields)):], " ")
				}
			}
		}
	}
	return c
}

// class returns the class of a mapping without its written data.
func (c *composition) class(file, exe string) *float64 {
	switch {
	case strings.HasPrefix(file, "/dev/shm/"), strings.HasPrefix(file, "/memfd:"), strings.HasPrefix(file, "/SYSV"):
		return &c.shared
	case file == exe:
		return &c.program
	case strings.HasPrefix(file, "/"):
		return &c.libraries
	}
	return &c.anonymous
}

func megabytes(kB string) float64 {
	n, _ := strconv.ParseFloat(kB, 64)
	return n / 1024
}

// rows lists the composition.
func (c composition) rows() []row {
	return []row{
		{"  of it heaps, stacks, written data", "MB", c.anonymous, nil, "", ""},
		{"  of it shared with the sound server", "MB", c.shared, nil, "", ""},
		{"  of it the programs' files, clean", "MB", c.program, nil, "", ""},
		{"  of it the native libraries' files, clean", "MB", c.libraries, nil, "", ""},
	}
}

// child returns the PID of the child of a process that runs the named program, or 0.
func child(parent int, name string) int {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", parent))
	for _, task := range tasks {
		raw, _ := os.ReadFile(task)
		for _, text := range strings.Fields(string(raw)) {
			comm, _ := os.ReadFile("/proc/" + text + "/comm")
			if pid, err := strconv.Atoi(text); err == nil && strings.TrimSpace(string(comm)) == name {
				return pid
			}
		}
	}
	return 0
}
