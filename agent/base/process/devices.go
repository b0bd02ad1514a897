package process

import (
	"os"
	"path/filepath"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A service is in the groups of its devices, and so are its children: leaving a
// group requires a capability, which would be more dangerous than the group.
// Landlock (landlock(7), Linux 5.13) denies a thread access to the devices
// without any capability. On kernels without it, children keep the access.

// withheld are the daemon's devices, below /dev, and those of which there are
// so many that allowing each would take longer than starting the child.
var withheld = []string{"snd", "gpiochip", "gpiomem", "spidev", "input", "uinput", "hidraw", "tty", "vcs", "loop", "ram"}

// isWithheld reports whether a file of /dev is one of them; sound may be excepted.
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

// LandlockVersion is the Landlock version of the running kernel, 0 for none.
func LandlockVersion() int {
	version, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return 0
	}
	return int(version)
}

// withholdDevices denies the calling thread, and its children, to open the
// daemon's devices, except for sound devices if sound is true, and with Linux
// 6.12 also to signal the daemon. no_new_privs must be set.
func withholdDevices(sound bool) {
	version := LandlockVersion()
	if version == 0 {
		return
	}
	rules := unix.LandlockRulesetAttr{Handled_access_fs: landlockFiles}
	size := unsafe.Sizeof(rules.Handled_access_fs)
	if version >= 6 {
		rules.Scoped = unix.LANDLOCK_SCOPE_SIGNAL
		size = unsafe.Offsetof(rules.Quiet_access_fs) // later additions are not used
	}
	ruleset, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&rules)), size, 0) // #nosec G103 -- there is no wrapper
	if errno != 0 {
		return
	}
	defer unix.Close(int(ruleset))
	// Landlock lists what is allowed: all files except these.
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

// allow adds a file, or everything below a directory, to a ruleset. Files
// that cannot be opened are skipped.
func allow(ruleset int, path string) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	rule := unix.LandlockPathBeneathAttr{Allowed_access: landlockFiles, Parent_fd: int32(fd)}
	_, _, _ = unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(ruleset), unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&rule)), 0, 0, 0) // #nosec G103
}
