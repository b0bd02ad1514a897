package process

import (
	"os"
	"path/filepath"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A service is in the groups of its devices, and so are its children: to leave a
// group takes a capability, which would be worse to have than the group. Landlock
// (landlock(7), Linux 5.13) takes the devices from a thread without one. A kernel
// that lacks it leaves them.

// withheld are the devices of the daemon, below /dev, and those of which there
// are so many that allowing each would take longer than starting the child.
var withheld = []string{"snd", "gpiochip", "gpiomem", "spidev", "input", "uinput", "hidraw", "tty", "vcs", "loop", "ram"}

// isWithheld tells whether a file of /dev is one of them; sound may be excepted.
func isWithheld(name string, sound bool) bool {
	if name == "tty" {
		return false
	}
	for _, prefix := range withheld {
		if strings.HasPrefix(name, prefix) && !(sound && prefix == "snd") {
			return true
		}
	}
	return false
}

const landlockFiles = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE

// LandlockVersion is what the running kernel has of Landlock, 0 for none.
func LandlockVersion() int {
	version, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return 0
	}
	return int(version)
}

// withholdDevices takes from the calling thread, and from what it starts, the
// right to open the daemon's devices, those for sound excepted where sound is
// true, and with Linux 6.12 that to signal the daemon. no_new_privs must be set.
func withholdDevices(sound bool) {
	version := LandlockVersion()
	if version == 0 {
		return
	}
	rules := unix.LandlockRulesetAttr{Handled_access_fs: landlockFiles}
	size := unsafe.Sizeof(rules.Handled_access_fs)
	if version >= 6 {
		rules.Scoped = unix.LANDLOCK_SCOPE_SIGNAL
		size = unsafe.Offsetof(rules.Quiet_access_fs) // what came later is not used
	}
	ruleset, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&rules)), size, 0) // #nosec G103 -- there is no wrapper
	if errno != 0 {
		return
	}
	defer unix.Close(int(ruleset))
	// Landlock knows only what is allowed: all files but these.
	for _, dir := range []string{"/", "/dev"} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return
		}
		for _, entry := range entries {
			path := filepath.Join(dir, entry.Name())
			if path != "/dev" && (dir != "/dev" || !isWithheld(entry.Name(), sound)) {
				allow(int(ruleset), path)
			}
		}
	}
	_, _, _ = unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, ruleset, 0, 0)
}

// allow adds a file, or all below a directory, to a ruleset. What cannot be
// opened is not missed.
func allow(ruleset int, path string) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	rule := unix.LandlockPathBeneathAttr{Allowed_access: landlockFiles, Parent_fd: int32(fd)}
	_, _, _ = unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(ruleset), unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&rule)), 0, 0, 0) // #nosec G103
}
