// Package doctor examines a device for its owner: configuration, platform,
// sound, buttons and LEDs, voice, wake word and the machine itself. Each finding
// is one sentence with the state and what to do. It works with and without a
// running daemon, and changes nothing.
//
// What must not live here: how anything works. The parts examine themselves and
// word their findings.
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

// Level is the severity of a finding.
type Level = link.Level

// The levels of findings. With a failure the device does not work as intended.
const (
	OK   = link.OK
	Warn = link.Warn
	Fail = link.Fail
)

// Finding is the result of one check; links make them too.
type Finding = link.Finding

// Print prints a finding for people.
func Print(w io.Writer, f Finding) {
	printable.Fprintf(w, "%-4s  %-13s  %s\n", f.Level, f.Subject, f.Text)
	if f.Do != "" {
		printable.Fprintf(w, "%21s  → %s\n", "", f.Do)
	}
}

// Doctor examines the device of one configuration file.
type Doctor struct {
	Path string    // of the configuration file
	Root string    // directory that contains sys and proc: "/" except in tests
	Host gpio.Host // provides GPIO lines
	// Quiet plays silence instead of a tone.
	Quiet bool
	// Report receives each finding as soon as it is known.
	Report func(Finding)
}

// exam is one examination.
type exam struct {
	Doctor
	cfg    agent.Config
	daemon *agent.Status // nil if it is not running, or denies access
}

// Examine checks everything. It takes about ten seconds, and a minute if much is
// wrong. Unless Quiet is set, it plays a test tone. It stops early when ctx ends.
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

// links lets each link examine what it needs.
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
