package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"lintod/agent/broker/brokertest"
)

// TestLogAboveTheBoard checks the terminal that a simulated board and the log share:
// each line of the log is intact above the one board.
func TestLogAboveTheBoard(t *testing.T) {
	if _, err := exec.LookPath("tmux"); err != nil {
		t.Skip("TMUX IS MISSING: the log was not read in a terminal; apt-get install tmux")
	}
	dir, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	b := newBox(t, brokertest.Start(t), settings{
		tts: "[gpio]\nsimulate = true\n[[button]]\npin = 17\nname = \"talk\"\naction = \"talk\"\n[[led]]\nkind = \"gpio\"\npin = 5\n",
	})
	tmux := func(args ...string) string {
		out, err := exec.Command("tmux", append([]string{"-S", b.path("tmux")}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("tmux %v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	tmux("-f", os.DevNull, "new-session", "-d", "-x", "200", "-y", "50", filepath.Join(dir, "lintod"), "-config", b.path("lintod.toml"))
	defer tmux("kill-server")
	b.status("online")
	b.send("volume", `{"value":"nonsense"}`) // a line while the board is shown
	var screen string
	brokertest.Eventually(t, "the lines of the log and the board", func() bool {
		screen = tmux("capture-pane", "-p")
		return strings.Contains(screen, "msg=connected") && strings.Contains(screen, "nonsense") && strings.Contains(screen, "keys:")
	})
	if strings.Count(screen, "keys:") != 1 || strings.LastIndex(screen, "time=") > strings.Index(screen, "keys:") {
		t.Errorf("the log and the board overlap:\n%s", screen)
	}
}
