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
	"lintod/gpio"
)

// Level is how bad a finding is.
type Level string

// What a finding can be. A device with a failure does not do what it is for.
const (
	OK   Level = "ok"
	Warn Level = "warn"
	Fail Level = "fail"
)

// Finding is one thing that was looked at.
type Finding struct {
	Subject string `json:"subject"`
	Level   Level  `json:"level"`
	Text    string `json:"text"`         // one sentence
	Do      string `json:"do,omitempty"` // what to do
}

// Print tells the finding to people.
func (f Finding) Print(w io.Writer) {
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
	// Tell is told each finding as soon as it is known.
	Tell func(Finding)
}

// exam is one examination.
type exam struct {
	Doctor
	cfg    agent.Config
	daemon *agent.Status // nil when it does not run, or does not let us ask
}

// Examine looks at everything; it takes about ten seconds, and a minute where
// much is wrong. The test tone is heard. It ends early with ctx.
func (d Doctor) Examine(ctx context.Context) {
	cfg, err := agent.LoadConfig(d.Path)
	if err != nil {
		do := "correct it, then ask the doctor again; everything else depends on it"
		if errors.Is(err, fs.ErrNotExist) {
			do = "`sudo lintod setup` writes one; for another file, use -config"
		}
		for line := range strings.Lines(err.Error()) {
			d.tell("configuration", Fail, strings.TrimSuffix(line, "\n"), do)
		}
		return
	}
	x := &exam{Doctor: d, cfg: cfg}
	x.configuration()
	for _, look := range []func(context.Context){
		x.service, x.running, x.clock, x.state, x.platform, x.sound, x.board, x.voice, x.wake,
	} {
		if ctx.Err() != nil {
			return
		}
		look(ctx)
	}
}

func (d Doctor) tell(subject string, l Level, text, do string) {
	d.Tell(Finding{Subject: subject, Level: l, Text: text, Do: do})
}

// report tells an error in the house's form, "what is wrong; what to do"; some
// leave the second half to otherwise.
func (d Doctor) report(subject string, l Level, err error, otherwise string) {
	text, do, _ := strings.Cut(err.Error(), "; ")
	if do == "" {
		do = otherwise
	}
	d.tell(subject, l, text, do)
}

func (x *exam) configuration() {
	x.tell("configuration", OK, fmt.Sprintf("%s is right (device %s)", x.Path, x.cfg.Device.Serial), "")
	for _, w := range x.cfg.Warnings() {
		x.report("configuration", Warn, errors.New(w), "correct that key, or remove it")
	}
	if reach := x.cfg.Behaviors.Shellexec.Reach(); reach != "" {
		x.tell("commands", OK, reach, "")
	}
}
