package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"lintod/agent/base/process"
)

// writtenIn is a time in the past: a clock that shows less is not set.
var writtenIn = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// clock checks the clock: a Raspberry Pi without a clock chip starts in the past.
func (x *exam) clock(context.Context) {
	f := judgeClock(time.Now(), x.timesync())
	x.add("clock", f.Level, f.Text, f.Do)
}

// judgeClock uses the status of systemd-timesyncd; nil if that is not running.
func judgeClock(now time.Time, synchronized *bool) Finding {
	const network = "wait until it is synchronised (see timedatectl), or set it: sudo timedatectl set-time"
	switch {
	case now.Before(writtenIn):
		return Finding{Level: Fail, Text: "the clock is not set: it shows " + now.UTC().Format(time.DateTime) + ", when no certificate is valid", Do: network}
	case synchronized != nil && !*synchronized:
		return Finding{Level: Warn, Text: "the clock has not been synchronised since boot: it shows " + now.UTC().Format(time.DateTime) + " UTC", Do: network}
	}
	return Finding{Level: OK, Text: "the clock shows " + now.UTC().Format(time.DateTime) + " UTC"}
}

// timesync reads the status file of systemd-timesyncd.service(8).
func (x *exam) timesync() *bool {
	dir := filepath.Join(x.Root, "run/systemd/timesync")
	if _, err := os.Stat(dir); err != nil {
		return nil
	}
	_, err := os.Stat(filepath.Join(dir, "synchronized"))
	yes := err == nil
	return &yes
}

// kernel checks for Landlock: without it, child processes have access to the
// devices of their user's groups.
func (x *exam) kernel(context.Context) {
	if process.LandlockVersion() == 0 {
		x.add("kernel", Warn, "the kernel does not support Landlock: a speech or wake word engine could open sound cards, GPIO lines, and SPI ports",
			"use kernel 5.13 or later with Landlock; if it is only disabled, add lsm=landlock to the kernel command line")
	}
}

// state checks the directory for saved state, and its free space.
func (x *exam) state(context.Context) {
	dir := x.cfg.Device.StateDir
	_, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		x.add("state", Warn, dir+" does not exist yet", "lintod creates it at its first start; if it does not, correct [device] state_dir")
		return
	}
	if err := tryToWrite(dir); err != nil {
		x.stateFault(dir, err)
		return
	}
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		x.add("state", Warn, fmt.Sprintf("free space below %s is unknown: %v", dir, err), "")
		return
	}
	f := judgeSpace(dir, s.Bavail*uint64(s.Bsize), s.Files, s.Ffree)
	x.add("state", f.Level, f.Text, f.Do)
}

func (x *exam) stateFault(dir string, err error) {
	if errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0 {
		x.add("state", Warn, dir+" is not accessible", "run as root: sudo lintod doctor")
		return
	}
	x.add("state", Fail, fmt.Sprintf("nothing can be saved: %v", err), "correct [device] state_dir, or make that directory writable")
}

// tryToWrite creates a file and removes it.
func tryToWrite(dir string) error {
	f, err := os.CreateTemp(dir, ".doctor-")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	_, err = f.WriteString("is writable\n")
	return errors.Join(err, f.Sync(), f.Close())
}

const (
	littleSpace = 200 << 20 // bytes: an hour of recording
	noSpace     = 10 << 20
)

func judgeSpace(dir string, free, files, filesFree uint64) Finding {
	const do = "free some space: sudo apt clean; sudo journalctl --vacuum-size=50M"
	text := fmt.Sprintf("%s is writable; %d MB free", dir, free>>20)
	switch {
	case free < noSpace || files > 0 && filesFree == 0:
		return Finding{Level: Fail, Text: fmt.Sprintf("the disk of %s is full (%d MB and %d files left)", dir, free>>20, filesFree), Do: do}
	case free < littleSpace:
		return Finding{Level: Warn, Text: text + ", which is low", Do: do}
	}
	return Finding{Level: OK, Text: text}
}
