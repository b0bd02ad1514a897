package journal

import (
	"bufio"
	"fmt"
	"log/slog"
	"os"
)

// maxStray is how much of a line that a stranger to the log prints is kept, in bytes.
const maxStray = 1 << 10

// KeepStderr returns standard error as a file of its own, which Divert does not change.
func KeepStderr() *os.File {
	kept := *os.Stderr
	return &kept
}

// Divert makes what libraries print on os.Stderr, and with package log, lines of log for the
// rest of the process: so the limits of the log are theirs, too. log must write to what
// KeepStderr returned. Descriptor 2 stays what it was, so that the last words of a process
// that crashes, which the runtime writes there, need nobody to read them.
func Divert(log *slog.Logger) error {
	read, write, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("divert standard error: %w", err)
	}
	*os.Stderr = *write // not the variable: others have copied it when the program began
	go logStrays(read, log)
	return nil
}

// logStrays ends with the process.
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
