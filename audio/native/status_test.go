package native

import (
	"log/slog"
	"strings"
	"testing"

	"lintod/agent/base/journal/journaltest"
	"lintod/audio"
	"lintod/audio/native/wire"
)

// withoutWords reduces a log line to its level and its attributes.
func withoutWords(_ []string, a slog.Attr) slog.Attr {
	if a.Key == slog.TimeKey || a.Key == slog.MessageKey {
		return slog.Attr{}
	}
	return a
}

func TestOneLineWhenTheDeviceChanges(t *testing.T) {
	var buf journaltest.Buffer
	p := &Process{Log: slog.New(slog.NewTextHandler(&buf, &slog.HandlerOptions{ReplaceAttr: withoutWords}))}
	lines := 0
	for _, step := range []struct {
		way  audio.Direction
		c    wire.Choice
		want string // the one new line; "" for none
	}{
		{audio.Capture, wire.Choice{Device: "hat"}, `level=INFO device=hat`},
		{audio.Capture, wire.Choice{Device: "hat"}, ``},
		{audio.Playback, wire.Choice{Device: "hat"}, `level=INFO device=hat`},
		{audio.Capture, wire.Choice{Device: "default", Rank: 1, Why: "it is pulled"}, `level=WARN device=default why="it is pulled"`},
		{audio.Capture, wire.Choice{Device: "default", Rank: 1, Why: "it is still unplugged"}, ``},
		{audio.Capture, wire.Choice{Device: "usb", Rank: 2, Why: "both are"}, `level=WARN device=usb`},
		{audio.Capture, wire.Choice{Device: "hat"}, `level=INFO device=hat`},
		{audio.Playback, wire.Choice{Device: "hat"}, ``},
		{audio.Playback, wire.Choice{Device: "hat-2"}, `level=INFO device=hat-2`}, // the next match of a pattern
	} {
		p.chosen(step.way, step.c)
		all := strings.Split(strings.TrimSpace(buf.String()), "\n")
		switch added := all[lines:]; {
		case step.want == "" && len(added) > 0, step.want != "" && (len(added) != 1 || !strings.Contains(added[0], step.want)):
			t.Errorf("%+v: %q, want %q", step.c, added, step.want)
		}
		lines = len(all)
	}
	if s := p.Status(); s.Input.Device != "hat" || s.Input.Fallback || s.Output.Device != "hat-2" {
		t.Errorf("%+v", s)
	}
}
