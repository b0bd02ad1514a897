package doctor

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"lintod/agent/signed/verifier"
)

// signed checks who may sign commands, and whether the clock allows to check their
// times. Errors in single lines of the files are warnings of the configuration.
func (x *exam) signed(context.Context) {
	c := x.cfg.Signed
	signers, faults := c.Examine(time.Now())
	if signers == 0 && len(faults) == 0 {
		return // signatures are not used
	}
	for _, f := range faults {
		if f.Closed {
			x.add("signed", Fail, "all signed commands are rejected: "+f.Err.Error(), "correct that file; until then, commands that require a signature cannot be used")
			return
		}
	}
	for _, path := range []string{c.AllowedSigners, c.Revoked} {
		if !readableBy(path, x.cfg.Device.StateDir) {
			x.add("signed", Fail, "lintod cannot read "+path, "sudo chmod a+r "+path)
			return
		}
	}
	text := fmt.Sprintf("valid keys: %d", signers)
	if len(c.Require) > 0 {
		text += "; signature required for: " + strings.Join(c.Require, ", ")
	}
	x.add("signed", OK, text, "")
	now, synchronized := verifier.System()
	latest, known := verifier.Latest(x.cfg.Device.StateDir)
	f := judgeOrderClock(x.cfg.Device.StateDir, now, synchronized, latest, known)
	x.add("signed", f.Level, f.Text, f.Do)
}

// judgeOrderClock uses the latest time in an accepted order, if known.
func judgeOrderClock(dir string, now time.Time, synchronized bool, latest time.Time, known bool) Finding {
	switch {
	case known && latest.After(now.Add(verifier.Skew)):
		return Finding{
			Level: Warn, Text: "the clock is behind the latest signed command, of " + latest.UTC().Format(time.DateTime) + ": each command requires a nonce, and therefore a second round trip",
			Do: "set the clock; if it was ahead by mistake, and is correct now: sudo rm " + filepath.Join(dir, verifier.MemoryFile) + "; sudo systemctl restart lintod",
		}
	case !synchronized:
		return Finding{
			Level: Warn, Text: "the clock is not synchronised: a signed command may require a nonce, and therefore a second round trip",
			Do: "enable a time service: timedatectl set-ntp true",
		}
	}
	return Finding{Level: OK, Text: "the clock is synchronised, so the times of signed commands can be checked"}
}

// readableBy reports whether the owner of dir can read a file, if it exists. Root
// can read any.
func readableBy(path, dir string) bool {
	owner, err := os.Stat(dir)
	if err != nil {
		return true // unknown
	}
	who, ok := owner.Sys().(*syscall.Stat_t)
	if !ok || who.Uid == 0 {
		return true
	}
	may := func(path string, bit os.FileMode) bool {
		info, err := os.Stat(path)
		if err != nil {
			return true
		}
		its, ok := info.Sys().(*syscall.Stat_t)
		switch mode := info.Mode().Perm(); {
		case !ok:
			return true
		case its.Uid == who.Uid:
			return mode&(bit<<6) != 0
		case its.Gid == who.Gid:
			return mode&(bit<<3) != 0
		default:
			return mode&bit != 0
		}
	}
	return may(path, 4) && may(filepath.Dir(path), 1)
}
