package panel

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// unbuffer makes the terminal return each key immediately and without echo, and returns a function
// that restores it. Unlike in raw mode, Ctrl-C still interrupts, and line feeds of other output
// still start at the left.
func unbuffer(fd int) (restore func(), err error) {
	old, err := term.GetState(fd)
	if err != nil {
		return nil, err
	}
	mode, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return nil, err
	}
	mode.Lflag &^= unix.ICANON | unix.ECHO
	mode.Cc[unix.VMIN], mode.Cc[unix.VTIME] = 1, 0
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, mode); err != nil {
		return nil, err
	}
	// A closed terminal cannot be restored.
	return func() { _ = term.Restore(fd, old) }, nil
}

// readWithin reads typed keys, or returns nothing after the timeout.
func readWithin(fd int, buf []byte, d time.Duration) (int, error) {
	ready, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(d.Milliseconds()))
	if errors.Is(err, unix.EINTR) || ready == 0 {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	n, err := unix.Read(fd, buf)
	if errors.Is(err, unix.EINTR) || errors.Is(err, unix.EAGAIN) {
		return 0, nil
	}
	if err == nil && n == 0 {
		return 0, errors.New("the terminal was closed")
	}
	return n, err
}
