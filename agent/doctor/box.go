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

// writtenIn is a time that has certainly passed: a clock before it was not set.
var writtenIn = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// clock: a Raspberry Pi without a clock chip starts in the past.
func (x *exam) clock(context.Context) {
	f := judgeClock(time.Now(), x.timesync())
	x.tell("clock", f.Level, f.Text, f.Do)
}

// judgeClock takes what systemd-timesyncd says; nil when it does not run.
func judgeClock(now time.Time, synchronized *bool) Finding {
	const network = "wait until the network has set it (timedatectl shows that), or set it: sudo timedatectl set-time"
	switch {
	case now.Before(writtenIn):
		return Finding{Level: Fail, Text: "the clock is not set: it says " + now.UTC().Format(time.DateTime) + ", and no certificate is valid then", Do: network}
	case synchronized != nil && !*synchronized:
		return Finding{Level: Warn, Text: "the clock has not been set by the network since the box was started: it says " + now.UTC().Format(time.DateTime) + " UTC", Do: network}
	}
	return Finding{Level: OK, Text: "the clock says " + now.UTC().Format(time.DateTime) + " UTC"}
}

// timesync reads what systemd-timesyncd.service(8) leaves behind.
func (x *exam) timesync() *bool {
	dir := filepath.Join(x.Root, "run/systemd/timesync")
	if _, err := os.Stat(dir); err != nil {
		return nil
	}
	_, err := os.Stat(filepath.Join(dir, "synchronized"))
	yes := err == nil
	return &yes
}

// kernel: without Landlock, children have the devices of their user's groups.
func (x *exam) kernel(context.Context) {
	if process.LandlockVersion() == 0 {
		x.tell("kernel", Warn, "the kernel does not offer Landlock: a speech or wake-word engine could open sound cards, GPIO lines and SPI ports",
			"use a kernel from 5.13 on that has it; where it is only turned off, add lsm=landlock to the kernel's command line")
	}
}

// state: what must survive a restart needs a folder and room.
func (x *exam) state(context.Context) {
	dir := x.cfg.Device.StateDir
	_, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		x.tell("state", Warn, dir+" does not exist yet", "lintod makes it at its first start; if it stays so, correct [device] state_dir")
		return
	}
	if err := tryToWrite(dir); err != nil {
		x.stateFault(dir, err)
		return
	}
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		x.tell("state", Warn, fmt.Sprintf("free space below %s is not known: %v", dir, err), "")
		return
	}
	f := judgeSpace(dir, s.Bavail*uint64(s.Bsize), s.Files, s.Ffree)
	x.tell("state", f.Level, f.Text, f.Do)
}

func (x *exam) stateFault(dir string, err error) {
	if errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0 {
		x.tell("state", Warn, dir+" is not ours to look into", "ask the doctor as root: sudo lintod doctor")
		return
	}
	x.tell("state", Fail, fmt.Sprintf("nothing can be saved: %v", err), "correct [device] state_dir, or what keeps that folder from being written")
}

// tryToWrite makes a file and removes it.
func tryToWrite(dir string) error {
	f, err := os.CreateTemp(dir, ".doctor-")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	_, err = f.WriteString("can be written\n")
	return errors.Join(err, f.Sync(), f.Close())
}

const (
	littleSpace = 200 << 20 // bytes: an hour of recording
	noSpace     = 10 << 20
)

func judgeSpace(dir string, free, files, filesFree uint64) Finding {
	const do = "make room: sudo apt clean; sudo journalctl --vacuum-size=50M"
	text := fmt.Sprintf("%s can be written; %d MB are free", dir, free>>20)
	switch {
	case free < noSpace || files > 0 && filesFree == 0:
		return Finding{Level: Fail, Text: fmt.Sprintf("the disk of %s is full (%d MB and %d files are left)", dir, free>>20, filesFree), Do: do}
	case free < littleSpace:
		return Finding{Level: Warn, Text: text + ", which is little", Do: do}
	}
	return Finding{Level: OK, Text: text}
}
