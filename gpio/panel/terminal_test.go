package panel

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"lintod/gpio/led"
)

// playEnv turns the test program into one that shows a board, for the tests that
// need a terminal.
const playEnv = "LINTOD_TEST_PANEL"

func TestMain(m *testing.M) {
	if how := os.Getenv(playEnv); how != "" {
		os.Exit(demo(how))
	}
	os.Exit(m.Run())
}

// demo shows a board whose first button is talk: pressed is listening.
func demo(how string) (code int) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT)
	defer stop()
	scene := Scene{
		LEDs: [][]led.Colour{make([]led.Colour, 3)}, State: "idle", Meter: -1,
		Buttons: []Button{{Label: "talk"}, {Label: "mute"}},
	}
	p := &Panel{}
	log := p.Around(os.Stderr)
	moves := make(chan bool, 16)
	p.Press = func(i int, down bool) {
		if how == "panic" && ctx.Err() == nil {
			panic("a bug")
		}
		moves <- down
	}
	defer func() {
		if recover() != nil {
			fmt.Println("panicked")
			code = 3
		}
	}()
	go func() {
		for down := range moves {
			scene.State, scene.LEDs[0][0], scene.Buttons[0].Down = "idle", led.Colour{}, down
			if down {
				scene.State, scene.LEDs[0][0] = "listening", led.Colour{R: 0, G: 90, B: 255}
			}
			fmt.Fprintf(log, "log: down %v\n", down)
			p.Show(scene)
		}
	}()
	p.Show(scene)
	if err := p.Run(ctx); err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("ended well")
	return 0
}

// terminal is a separate tmux with a shell.
type terminal struct {
	t      *testing.T
	socket string
}

func openTerminal(t *testing.T) *terminal {
	t.Helper()
	if _, err := exec.LookPath("tmux"); err != nil {
		t.Skip("TMUX IS MISSING: the panel was not tested in a terminal; apt-get install tmux")
	}
	term := &terminal{t, filepath.Join(t.TempDir(), "tmux")}
	term.tmux("-f", os.DevNull, "new-session", "-d", "-x", "80", "-y", "24", "env", "PS1=ready> ", "sh", "-i")
	t.Cleanup(func() { _ = exec.Command("tmux", "-S", term.socket, "kill-server").Run() })
	term.await("ready>")
	return term
}

func (term *terminal) tmux(args ...string) string {
	term.t.Helper()
	out, err := exec.Command("tmux", append([]string{"-S", term.socket}, args...)...).CombinedOutput()
	if err != nil {
		term.t.Fatalf("tmux %v: %v\n%s", args, err, out)
	}
	return string(out)
}

func (term *terminal) typed(keys ...string) {
	term.t.Helper()
	term.tmux(append([]string{"send-keys"}, keys...)...)
}

// await waits until the screen, including colours, contains the text.
func (term *terminal) await(text string) string {
	term.t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for {
		screen := term.tmux("capture-pane", "-p", "-e")
		if strings.Contains(screen, text) {
			return screen
		}
		if time.Now().After(deadline) {
			term.t.Fatalf("%q did not appear; the screen is\n%s", text, screen)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (term *terminal) run(how string) {
	self, err := os.Executable()
	if err != nil {
		term.t.Fatal(err)
	}
	term.typed("stty -a >"+term.socket+".before; "+playEnv+"="+how+" "+self+"; echo code $?", "Enter")
	term.await("2 mute")
}

// restored checks that the terminal is in the same state as before the board ran.
func (term *terminal) restored() {
	term.t.Helper()
	term.typed("stty -a >"+term.socket+".after; echo com'pared'", "Enter")
	term.await("compared")
	before, err1 := os.ReadFile(term.socket + ".before")
	after, err2 := os.ReadFile(term.socket + ".after")
	if err1 != nil || err2 != nil || len(before) == 0 || string(before) != string(after) {
		term.t.Errorf("the terminal was left in another mode (%v, %v):\n%s\nwas\n%s", err1, err2, after, before)
	}
}

func TestPanelInARealTerminal(t *testing.T) {
	term := openTerminal(t)
	term.run("play")
	term.await("Ctrl-C exits")

	term.typed("q") // hold
	term.await("listening")
	screen := term.await("[1 TALK]")
	if !strings.Contains(screen, "38;2;0;90;255m●") {
		t.Errorf("no LED in true colour:\n%q", screen)
	}
	term.typed("q") // release
	term.await("log: down false")
	screen = term.await("  idle")
	if strings.Count(screen, "keys:") != 1 || strings.Count(screen, "log: down") != 2 {
		t.Errorf("the log and the panel overlap:\n%s", screen)
	}
	if before, after := strings.Index(screen, "log: down false"), strings.Index(screen, "keys:"); before > after {
		t.Errorf("the panel is not below the log:\n%s", screen)
	}
	term.typed("C-c")
	term.await("ended well")
	term.await("code 0")
	term.restored()
}

func TestPanelRestoresTheTerminalOnAPanic(t *testing.T) {
	term := openTerminal(t)
	term.run("panic")
	term.typed("1")
	term.await("panicked")
	term.await("code 3")
	term.restored()
}
