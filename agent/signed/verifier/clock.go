package verifier

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// timesync exists if systemd-timesyncd has set the clock since boot.
const timesync = "/run/systemd/timesync/synchronized"

// System returns the system's time, and whether the clock is being synchronised,
// according to adjtimex(2). If that call is not permitted (ProtectClock= in
// lintod.service, some containers), systemd-timesyncd's status is used.
func System() (now time.Time, synchronized bool) {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	if err != nil {
		_, err = os.Stat(timesync)
		return time.Now(), err == nil
	}
	return time.Now(), state != unix.TIME_ERROR && t.Status&unix.STA_UNSYNC == 0
}
