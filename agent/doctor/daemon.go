package doctor

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"lintod/agent"
	"lintod/agent/base/process"
	"lintod/agent/control"
)

const askLimit = 5 * time.Second

// running gets the status of the running daemon.
func (x *exam) running(ctx context.Context) {
	s, err := x.ask(ctx)
	if err != nil {
		x.report("daemon", Warn, err, "see journalctl -u lintod -e")
		return
	}
	x.daemon = &s
	if fault := s.Mic.Fault(time.Now()); fault != "" {
		x.add("daemon", Fail, fault, "check the microphone's switch and plug, and [audio] input and input_channel; `lintod devices` lists the devices")
	}
	x.add("daemon", OK, fmt.Sprintf("lintod %s has been running for %s: %s", s.Version, s.Uptime, s.Line), "")
	if s.Version != agent.Version {
		x.add("daemon", Warn, fmt.Sprintf("version %s is running, %s is installed", s.Version, agent.Version), "sudo systemctl restart lintod")
	}
	if s.Serial != x.cfg.Device.Serial {
		x.add("daemon", Warn, fmt.Sprintf("it runs as %s, but the configuration has %s", s.Serial, x.cfg.Device.Serial), "sudo systemctl reload lintod")
	}
	if s.Inaudible {
		x.add("loudspeaker", Warn, "the volume is 0", "increase it on the platform, or with a button")
	}
	if s.Flags.Muted {
		x.add("microphone", Warn, "the microphone is muted", "unmute it on the platform, or with a button")
	}
	for _, name := range slices.Sorted(maps.Keys(s.Parts)) {
		if p := s.Parts[name]; p.Restarts > 0 {
			x.add("daemon", Warn, fmt.Sprintf("part %q was restarted %d times, most recently because of: %s", name, p.Restarts, p.Last), "see journalctl -u lintod")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.Links)) {
		if l := s.Links[name]; !l.Connected {
			x.add("daemon", Warn, "link "+name+" is not connected to the platform: "+l.Line,
				"see the other findings; the files named in ["+name+"] must be readable by the user lintod")
		}
	}
}

func (x *exam) ask(ctx context.Context) (agent.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	var s agent.Status
	err := control.Call(ctx, x.cfg.Device.Socket, "status", nil, &s)
	return s, err
}

// service gets the service's status from systemd, if that is used.
func (x *exam) service(ctx context.Context) {
	if _, err := os.Stat(filepath.Join(x.Root, "run/systemd/system")); err != nil {
		return // not booted with systemd, sd_booted(3)
	}
	unit, err := showUnit(ctx)
	if err != nil {
		x.add("service", Warn, "the state of the service is unknown: "+err.Error(), "systemctl status lintod")
		return
	}
	f := judgeUnit(unit)
	x.add("service", f.Level, f.Text, f.Do)
}

// judgeUnit evaluates properties of systemctl show.
func judgeUnit(unit map[string]string) Finding {
	switch {
	case unit["LoadState"] == "not-found":
		return Finding{Level: OK, Text: "lintod is not installed as a service"}
	case unit["ActiveState"] == "failed":
		return Finding{Level: Fail, Text: "the service has failed (" + unit["Result"] + ")", Do: "see journalctl -u lintod -e; then sudo systemctl restart lintod"}
	case unit["UnitFileState"] == "disabled":
		return Finding{Level: Warn, Text: "the service does not start at boot", Do: "sudo systemctl enable --now lintod"}
	case unit["ActiveState"] != "active" && unit["ActiveState"] != "reloading":
		return Finding{Level: Warn, Text: "the service is " + unit["ActiveState"] + " (" + unit["SubState"] + ")", Do: "sudo systemctl start lintod"}
	case unit["NRestarts"] != "0" && unit["NRestarts"] != "":
		return Finding{Level: Warn, Text: "the service is running, but was restarted " + unit["NRestarts"] + " times", Do: "see journalctl -u lintod"}
	}
	return Finding{Level: OK, Text: "the service is running, and starts at boot"}
}

func showUnit(ctx context.Context) (map[string]string, error) {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	child, err := process.Start(ctx, process.Command{
		Argv:  []string{"systemctl", "show", "lintod.service", "--property=LoadState,ActiveState,SubState,Result,NRestarts,UnitFileState"},
		Stdin: strings.NewReader(""),
	})
	if err != nil {
		return nil, err
	}
	text, _ := io.ReadAll(io.LimitReader(child.Stdout, 1<<16))
	if err := child.Wait(); err != nil {
		return nil, err
	}
	unit := map[string]string{}
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		unit[key] = value
	}
	return unit, nil
}
