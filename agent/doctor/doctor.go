// Package doctor examines a device for its owner: configuration, platform,
// sound, buttons and LEDs, voice, wake word and the box itself, and says of each
// in one sentence how it is and what to do. It works beside a running daemon and
// without one, and changes nothing.
//
// What must not live here: how anything works. It asks the parts, in their own
// words.
package doctor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"lintod/agent"
	"lintod/agent/base/printable"
	"lintod/agent/link"
	"lintod/gpio"
)

// Level is how bad a finding is.
type Level = link.Level

// What a finding can be. A device with a failure does not do what it is for.
const (
	OK   = link.OK
	Warn = link.Warn
	Fail = link.Fail
)

// Finding is one thing that was looked at; links make them, too.
type Finding = link.Finding

// Print tells a finding to people.
func Print(w io.Writer, f Finding) {
	printable.Fprintf(w, "%-4s  %-13s  %s\n", f.Level, f.Subject, f.Text)
	if f.Do != "" {
		printable.Fprintf(w, "%21s  → %s\n", "", f.Do)
	}
}

// Doctor examines the device of one configuration file.
type Doctor struct {
	Path string    // of the configuration file
	Root string    // of the file system that the kernel shows itself in: "/" outside tests
	Host gpio.Host // where lines come from
	// Quiet leaves the loudspeaker out: nothing is heard.
	Quiet bool
	// Report receives each finding as soon as it is known.
	Report func(Finding)
}

// exam is one examination.
type exam struct {
	Doctor
	cfg    agent.Config
	daemon *agent.Status // nil when it does not run, or does not let us ask
}

// Examine looks at everything; it takes about ten seconds, and a minute where
// much is wrong. Unless it is Quiet, the test tone is heard. It ends early with ctx.
func (d Doctor) Examine(ctx context.Context) {
	cfg, err := agent.LoadConfig(d.Path)
	if err != nil {
		do := "correct it, then run lintod doctor again; everything else depends on it"
		if errors.Is(err, fs.ErrNotExist) {
			do = "run `sudo lintod setup` to create it, or use -config for another file"
		}
		for line := range strings.Lines(err.Error()) {
			d.add("configuration", Fail, strings.TrimSuffix(line, "\n"), do)
		}
		return
	}
	x := &exam{Doctor: d, cfg: cfg}
	x.configuration()
	for _, look := range []func(context.Context){
		x.service, x.running, x.clock, x.kernel, x.state, x.links, x.signed, x.sound, x.board, x.readers, x.voice, x.wake,
	} {
		if ctx.Err() != nil {
			return
		}
		look(ctx)
	}
}

func (d Doctor) add(subject string, l Level, text, do string) {
	d.Report(Finding{Subject: subject, Level: l, Text: text, Do: do})
}

func (d Doctor) report(subject string, l Level, err error, otherwise string) {
	d.Report(link.Report(subject, l, err, otherwise))
}

// links has each link look at what it needs.
func (x *exam) links(ctx context.Context) {
	var running map[string]link.Status
	if x.daemon != nil {
		running = x.daemon.Links
	}
	x.cfg.ExamineLinks(ctx, running, x.Report)
}

func (x *exam) configuration() {
	x.add("configuration", OK, fmt.Sprintf("%s is valid (device %s)", x.Path, x.cfg.Device.Serial), "")
	for _, w := range x.cfg.Warnings() {
		x.report("configuration", Warn, errors.New(w), "correct that key, or remove it")
	}
	if reach := x.cfg.Behaviors.Shellexec.Reach(); reach != "" {
		x.add("commands", OK, reach, "")
	}
}
