package process

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	// maxProcesses is how many processes and threads the user of a child may have
	// before the child cannot start another one. TasksMax= of lintod.service leaves
	// room for the daemon above that: Go aborts a program that cannot start a
	// thread.
	maxProcesses = 256
	// oomScore is added to the daemon's own, so that children that use up the memory
	// are killed first.
	oomScore = 300
	// firstPerson is the lowest user id of a person (Debian policy, 9.2.2).
	firstPerson = 1000
)

// HideMemory prevents other processes of the same user from tracing this one,
// and from reading its memory and environment in /proc; it also disables core
// dumps.
func HideMemory() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("hide the memory from other processes: %w", err)
	}
	return nil
}

// confineThread removes from the calling thread what children must not inherit:
// they can gain no privileges, and have no capability in any of the five sets,
// even as root. The thread itself keeps what it needs to change the user
// between fork and exec. It must be locked, and not be used for anything else
// afterwards.
func confineThread(devices Devices) error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set no_new_privs: %w", err)
	}
	if devices != AllDevices {
		withholdDevices(devices == Sound)
	}
	// Ambient capabilities survive exec (capabilities(7)). A kernel without them
	// (before 4.3) says EINVAL.
	err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
	if err != nil && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("clear the ambient capabilities: %w", err)
	}
	// Lowering the bounding set requires CAP_SETPCAP. A process without it is not
	// root, except in some containers, and the exec of an ordinary user gains
	// nothing from the set.
	for capability := range uintptr(64) {
		if unix.Prctl(unix.PR_CAPBSET_DROP, capability, 0, 0, 0) != nil {
			break // no CAP_SETPCAP, or past the last one
		}
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData // 32 capabilities each
	if err := unix.Capget(&header, &sets[0]); err != nil {
		return fmt.Errorf("read the capabilities: %w", err)
	}
	if sets[0].Inheritable|sets[1].Inheritable == 0 {
		return nil
	}
	sets[0].Inheritable, sets[1].Inheritable = 0, 0
	// Without the other sets these have no effect; a system-call filter may refuse the call.
	if err := unix.Capset(&header, &sets[0]); err != nil && !errors.Is(err, unix.EPERM) {
		return fmt.Errorf("clear the inheritable capabilities: %w", err)
	}
	return nil
}

// limitProcesses starts the command through prlimit(1), so that a fork bomb
// in it cannot use up the daemon's threads. The kernel counts per user, so
// this is only for service accounts: a person runs many other processes.
func limitProcesses(cmd *exec.Cmd) {
	uid := uint32(os.Getuid())
	if become := cmd.SysProcAttr.Credential; become != nil {
		uid = become.Uid
	}
	if uid == 0 || uid >= firstPerson {
		return
	}
	prlimit, err := exec.LookPath("prlimit") // of util-linux, which is essential in Debian
	if err != nil {
		return
	}
	cmd.Args = append([]string{prlimit, fmt.Sprintf("--nproc=%d:%[1]d", maxProcesses), "--", cmd.Path}, cmd.Args[1:]...)
	cmd.Path = prlimit
}

// preferToKill makes the kernel kill the child, not the daemon, when memory
// runs out. It does nothing without permission, as for a child of another
// user.
func preferToKill(pid int) {
	const file = "oom_score_adj"
	text, err := os.ReadFile(filepath.Join("/proc/self", file))
	if err != nil {
		return
	}
	own, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return
	}
	_ = os.WriteFile(fmt.Sprintf("/proc/%d/%s", pid, file), []byte(strconv.Itoa(min(own+oomScore, 1000))), 0)
}
