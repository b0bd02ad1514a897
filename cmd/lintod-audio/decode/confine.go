//go:build cgo

package decode

/*
#define _GNU_SOURCE
#include <pthread.h>

// Thread stacks count as memory; Go allocates its own elsewhere.
static int small_stacks(void) {
	pthread_attr_t a;
	int err = pthread_attr_init(&a);
	if (err == 0) err = pthread_attr_setstacksize(&a, 256 << 10);
	if (err == 0) err = pthread_setattr_default_np(&a);
	return err;
}
*/
import "C"

import (
	"bytes"
	"fmt"
	"io"
	"log"
	"os"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// maxMemory is how much memory a decoder may use in addition to that of the process at its
	// start.
	maxMemory = 15 << 20
	// maxLead is by how much the CPU time of a decoder may exceed the length of the decoded sound.
	maxLead = time.Second
)

// confine drops the rights that a decoder does not need. The memory limit includes Go's memory and
// that of the C libraries: if a decoder exceeds it, the allocation fails and the process ends.
func confine() error {
	// The FLAC reader prints warnings for each frame.
	log.SetOutput(io.Discard)
	if code := C.small_stacks(); code != 0 {
		return fmt.Errorf("limit the stacks: %w", syscall.Errno(code))
	}
	used, err := dataSize()
	if err != nil {
		return err
	}
	for what, limit := range map[int]uint64{
		unix.RLIMIT_DATA:   used + maxMemory,
		unix.RLIMIT_NOFILE: 0, // open files stay open, and no others can be opened
		unix.RLIMIT_CORE:   0,
	} {
		if err := unix.Setrlimit(what, &unix.Rlimit{Cur: limit, Max: limit}); err != nil {
			return fmt.Errorf("set limit %d to %d: %w", what, limit, err)
		}
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("give up new privileges: %w", err)
	}
	return nil
}

// dataSize returns what RLIMIT_DATA counts, in bytes: the sixth number of statm is data and stack,
// in pages (proc(5)).
func dataSize() (uint64, error) {
	statm, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0, err
	}
	fields := bytes.Fields(statm)
	if len(fields) < 6 {
		return 0, fmt.Errorf("/proc/self/statm is %q", statm)
	}
	pages, err := strconv.ParseUint(string(fields[5]), 10, 64)
	if err != nil {
		return 0, err
	}
	return pages * uint64(os.Getpagesize()), nil
}

// watch ends the process when its CPU time exceeds the length of the decoded sound by maxLead.
// There is no other way to end a loop in a C library.
func watch(made *atomic.Int64) {
	for range time.Tick(100 * time.Millisecond) {
		var used unix.Rusage
		if err := unix.Getrusage(unix.RUSAGE_SELF, &used); err != nil {
			continue
		}
		computed := time.Duration(used.Utime.Nano() + used.Stime.Nano())
		if computed > maxLead+time.Duration(made.Load())*time.Millisecond {
			fmt.Fprintf(os.Stderr, "decoding takes longer than the sound lasts (%v)\n", computed.Round(time.Millisecond))
			os.Exit(1)
		}
	}
}
