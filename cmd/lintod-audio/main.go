//go:build cgo

// Command lintod-audio is the sound process of lintod: it drives the sound cards through PortAudio,
// and uses the protocol of lintod/audio/native/wire on its standard input and output.
//
// With -decode it decodes one file (package decode), and uses no card.
//
// It is the only program here that needs C. PortAudio is not reliable enough for a daemon that runs
// for years: a read has no deadline, and a driver may hang or abort the process. Therefore this
// program has no state that must survive, exits instead of waiting, and is restarted by lintod.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"

	"golang.org/x/sys/unix"

	"lintod/agent/base/printable"
	"lintod/cmd/lintod-audio/decode"
)

const usage = `lintod-audio drives the microphone and the speaker for lintod.

lintod starts it and communicates with it over standard input and output in a
binary protocol; it exits when its standard input is closed. It is configured in
[audio] of lintod.toml(5).

For troubleshooting:

  lintod-audio -list     print the devices that PortAudio finds as JSON, and exit. The
                         "name" of a device is the value for [audio] input and output
  lintod-audio -list -v  the same, with the messages of ALSA and JACK

It finds the devices that ALSA finds: the cards of "arecord -l", and, with
libasound2-plugins, a sound server (PulseAudio, PipeWire) as the device "default".
It uses their environment variables: ALSA_CONFIG_PATH, PULSE_SERVER,
XDG_RUNTIME_DIR, and so on.

Flags:
`

func main() {
	// As in lintod: passing work between goroutines does not need to wake a thread. C code runs on
	// other threads.
	runtime.GOMAXPROCS(1)
	debug.SetGCPercent(20) // there is little garbage; collect it before Go's default of 4 MB
	err := run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fatal(err)
	}
	os.Exit(0) // immediately, even while a driver hangs on another thread
}

func fatal(err error) {
	printable.Error(os.Stderr, "lintod-audio: ", err)
	os.Exit(1)
}

func run(args []string, stdin *os.File, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("lintod-audio", flag.ContinueOnError)
	flags.SetOutput(stderr)
	list := flags.Bool("list", false, "print the devices as JSON and exit")
	form := flags.String("decode", "", "convert a file of this format (mpeg, vorbis, opus, flac) to WAV and exit")
	verbose := flags.Bool("v", false, "show the messages of ALSA and JACK")
	flags.Usage = func() {
		fmt.Fprint(stderr, usage)
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q; try -help", flags.Arg(0))
	}
	if *form != "" {
		return decode.Main(*form, stdin, stdout)
	}
	// Otherwise JACK would start a server when PortAudio looks for one.
	if err := os.Setenv("JACK_NO_START_SERVER", "1"); err != nil {
		return err
	}
	cards := &cards{quiet: !*verbose, root: "/"}
	if *list {
		return printDevices(cards, stdout)
	}
	return serve(cards, polled(stdin), stdout)
}

// polled makes reads of a pipe wait in the poller of Go's runtime. Otherwise each message has to
// wake a thread that is blocked in read(2), and then another one for the receiving goroutine.
func polled(f *os.File) *os.File {
	fd := f.Fd()
	if info, err := f.Stat(); err != nil || info.Mode()&os.ModeNamedPipe == 0 || unix.SetNonblock(int(fd), true) != nil {
		return f
	}
	return os.NewFile(fd, f.Name())
}

func printDevices(c *cards, to io.Writer) error {
	devices, err := c.list()
	if err != nil {
		return err
	}
	text, err := printable.JSON(devices)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(to, "%s\n", text)
	return err
}
