package journal

import (
	"bufio"
	"fmt"
	"log/slog"
	"os"
)

// maxStray is the maximum length of a stray line, in bytes.
const maxStray = 1 << 10

// KeepStderr returns a duplicate of standard error, which Divert does not change.
func KeepStderr() *os.File {
	kept := *os.Stderr
	return &kept
}

// Divert converts what libraries print to os.Stderr, and with package log, to log
// lines for the rest of the process, so that the limits of the log apply. log must
// write to the file that KeepStderr returned. Descriptor 2 is not changed, so that
// the runtime can print the message of a crash directly.
func Divert(log *slog.Logger) error {
	read, write, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("divert standard error: %w", err)
	}
	*os.Stderr = *write // not the variable: other packages copied it at the start
	go logStrays(read, log)
	return nil
}

// logStrays runs until the process ends.
func logStrays(read *os.File, log *slog.Logger) {
	lines := bufio.NewReaderSize(read, maxStray)
	for {
		line, more, err := lines.ReadLine()
		if err != nil {
			return
		}
		if len(line) > 0 {
			log.Warn("a library wrote to standard error", "line", string(line))
		}
		for more && err == nil {
			_, more, err = lines.ReadLine()
		}
	}
}
