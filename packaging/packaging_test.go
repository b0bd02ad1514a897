package packaging_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	toml "github.com/pelletier/go-toml/v2"

	"lintod/agent"
	"lintod/audio/wake"
	"lintod/gpio"
	"lintod/packaging"
)

var update = flag.Bool("update", false, "write the examples of boards")

// shipped are the programs of the package, built once.
var shipped = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "lintod-packaging")
	if err != nil {
		return "", err
	}
	out, err := exec.Command("go", "build", "-o", dir, "lintod/cmd/lintod", "lintod/cmd/lintoctl").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return dir, nil
})

func TestMain(m *testing.M) {
	flag.Parse()
	status := m.Run()
	if dir, err := shipped(); err == nil {
		os.RemoveAll(dir)
	}
	os.Exit(status)
}

func program(t *testing.T, name string) string {
	t.Helper()
	dir, err := shipped()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, name)
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// output is what a program prints.
func output(t *testing.T, stdin, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(program(t, name), args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %q: %v", name, args, err)
	}
	return string(out)
}

var (
	commandLine = regexp.MustCompile(`(?m)^  ([a-z]+)( .*)?   `)
	flagLine    = regexp.MustCompile(`(?m)^  -([a-z]+(?:-[a-z]+)*)( |$)`)
)

// Each command and each flag of the help text is in the manual, and the manual is formatted without
// warnings.
func TestManualHasEachCommand(t *testing.T) {
	for name, page := range map[string]string{"lintod": "man/lintod.8", "lintoctl": "man/lintoctl.1"} {
		source := read(t, page)
		manual := output(t, source, name, "manual-page")
		commands := commandLine.FindAllStringSubmatch(output(t, "", name, "-help"), -1)
		if len(commands) < 8 {
			t.Errorf("%s -help lists %q only", name, commands)
		}
		for _, c := range append(commands, []string{"", "", ""}) {
			text := output(t, "", name, strings.Fields(c[1]+" -help")...)
			item := manual
			if c[1] != "" {
				_, item, _ = strings.Cut(strings.ReplaceAll(manual, "\n.It Cm "+c[1]+"\n", "\n.It Cm "+c[1]+" \n"), "\n.It Cm "+c[1]+" ")
				item, _, _ = strings.Cut(item, "\n.It Cm ")
			}
			if item == "" {
				t.Errorf("%s does not have %s %s", page, name, c[1])
			}
			own, _, _ := strings.Cut(text, "\nFlags of every command:")
			for _, f := range flagLine.FindAllStringSubmatch(own, -1) {
				if !strings.Contains(item, "\n.It Fl "+f[1]) {
					t.Errorf("%s does not have -%s of %s %s", page, f[1], name, c[1])
				}
			}
		}
		for _, word := range []string{"synopsis", "commands", "flags"} {
			if placeholder := `.\" ` + word + "\n"; strings.Count(source, placeholder) != 1 || strings.Contains(manual, placeholder) {
				t.Errorf("%s has no section for %s, or it is empty", page, word)
			}
		}
		if groff, err := exec.LookPath("groff"); err == nil {
			cmd := exec.Command(groff, "-mdoc", "-Tutf8", "-z", "-ww")
			cmd.Stdin = strings.NewReader(manual)
			if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
				t.Errorf("%s: %v\n%s", page, err, out)
			}
		}
	}
}

// The manual page of lintod-audio is written by hand.
func TestManualOfSoundHasEachFlag(t *testing.T) {
	flags := regexp.MustCompile(`flags\.[A-Z]\w+\("(\w+)"`).FindAllStringSubmatch(read(t, "../cmd/lintod-audio/main.go"), -1)
	items := regexp.MustCompile(`(?m)^\.It Fl (\w+)`).FindAllStringSubmatch(read(t, "man/lintod-audio.8"), -1)
	names := func(found [][]string) (list []string) {
		for _, f := range found {
			list = append(list, f[1])
		}
		slices.Sort(list)
		return list
	}
	if f, i := names(flags), names(items); len(f) == 0 || !slices.Equal(f, i) {
		t.Errorf("lintod-audio has the flags %q, its page %q", f, i)
	}
}

// The other keys come from lintod.toml, of which package agent has a test.
func TestManualDescribesListsOfTables(t *testing.T) {
	_, words, _ := strings.Cut(read(t, "man/lintod.toml.5"), ".Sh WAKE WORDS")
	words, chapter, _ := strings.Cut(words, ".Sh BUTTONS AND LEDS")
	buttons, leds, _ := strings.Cut(chapter, ".Bq Bq led")
	for _, c := range []struct {
		about string
		of    reflect.Type
	}{{buttons, reflect.TypeFor[gpio.ButtonConfig]()}, {leds, reflect.TypeFor[gpio.LEDConfig]()}, {words, reflect.TypeFor[wake.Word]()}} {
		for f := range c.of.Fields() {
			key, _, _ := strings.Cut(f.Tag.Get("toml"), ",")
			if !regexp.MustCompile(`(?m)^\.It Ic ` + key + `\b`).MatchString(c.about) {
				t.Errorf("man/lintod.toml.5 does not describe %s of a %s", key, c.of.Name())
			}
		}
	}
}

// With a serial, lintod itself reports errors; without one, the program prints what
// to do.
func TestConfigured(t *testing.T) {
	for text, want := range map[string]bool{
		packaging.Sample():              false,
		"":                              false,
		`serial = ""`:                   false,
		`#serial = "kitchen"`:           false,
		`# [device] serial = "kitchen"`: false,
		`serial = '' # mine`:            false,
		`serial = "kitchen"`:            true,
		`serial = kitchen`:              true, // invalid, which lintod reports
		"\tserial='kitchen' # mine":     true,
		`device.serial = "kitchen"`:     true,
		`device = {serial="kitchen"}`:   true,
	} {
		path := filepath.Join(t.TempDir(), "lintod.toml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("./configured", path).Output()
		if got := err == nil; got != want || got == bytes.Contains(out, []byte("not configured")) {
			t.Errorf("%.30q: %v, %q; want %v", text, err, out, want)
		}
	}
}

// Each shell completes a line with the program's script, and prints one word per line.
var shells = map[string]string{
	"bash": `. /usr/share/bash-completion/bash_completion; PATH=$1:$PATH; eval "$("$2" completion bash)"; compopt() { :; }
		COMP_LINE=$3 COMP_POINT=${#3} COMP_TYPE=9 COMP_KEY=9; read -ra COMP_WORDS <<<"$3"
		[[ $3 != *" " ]] || COMP_WORDS+=(""); COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
		__start_"$2" "$2"; printf '%s\n' "${COMPREPLY[@]}"`,
	"fish": `set -x PATH $argv[1] $PATH; $argv[2] completion fish | source; complete -C $argv[3] | string replace -r '\t.*' ''; true`,
	// zsh completes on a terminal only, so its completion functions are replaced by ones that
	// print.
	"zsh": `PATH=$1:$PATH; compdef() { :; }; _describe() { print -l -- "${(@)${(@P)2}%%:*}"; }; _arguments() { print FILES; }
		source <("$2" completion zsh); words=(${=3}); [[ $3 != *" " ]] || words+=(""); CURRENT=${#words}
		_"$2" 2>/dev/null`,
}

func TestCompletion(t *testing.T) {
	for shell, script := range shells {
		t.Run(shell, func(t *testing.T) {
			path, err := exec.LookPath(shell)
			if err != nil {
				t.Skipf("%s IS MISSING: its completion was not tested; apt-get install %s", shell, shell)
			}
			for line, want := range map[string]string{
				"lintod ta":               "talk",
				"lintod -config x stat":   "status",
				"lintod talk -sto":        "-stop",
				"lintod talk --sto":       "--stop",
				"lintod status -j":        "-json",
				"lintod check -c":         "-config",
				"lintod completion z":     "zsh",
				"lintod led mut":          "muted",
				"lintoctl vo":             "volume",
				"lintoctl -broker x rebo": "reboot",
				"lintoctl ping x -sco":    "-scope",
			} {
				words := strings.Fields(line)
				args := []string{"-c", script}
				if shell != "fish" {
					args = append(args, shell)
				}
				dir := filepath.Dir(program(t, words[0]))
				cmd := exec.Command(path, append(args, dir, words[0], line)...)
				cmd.Env = append(os.Environ(), "HOME="+t.TempDir(), "LC_ALL=C.UTF-8")
				out, err := cmd.CombinedOutput()
				got := slices.DeleteFunc(strings.Fields(string(out)), func(word string) bool { return !strings.HasPrefix(word, words[len(words)-1]) })
				if err != nil || strings.Join(got, " ") != want {
					t.Errorf("%s…: %v, %q; want %q", line, err, out, want)
				}
			}
		})
	}
}

const boards = "examples/boards"

// board returns the example for a preset: its configuration lines, ready to be edited.
func board(p gpio.Preset) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s.\n", p.Title)
	if p.Note != "" {
		fmt.Fprintf(&b, "# %s.\n", p.Note)
	}
	fmt.Fprintf(&b, "# These lines are equivalent to preset = %q in [gpio]. To change them, copy them to\n# /etc/lintod/lintod.toml and remove the preset.\n\n", p.Name)
	if len(p.Cards) > 0 {
		fmt.Fprintf(&b, "[audio]\ninput = %[1]q\noutput = %[1]q\n\n", p.Cards[0])
	}
	return b.String() + p.TOML()
}

// The board examples match the presets; go test ./packaging -update writes them.
func TestBoards(t *testing.T) {
	var names []string
	for _, p := range gpio.Presets() {
		if p.Name == "simulated" {
			continue
		}
		path := filepath.Join(boards, p.Name+".toml")
		names = append(names, path)
		if *update {
			if err := os.WriteFile(path, []byte(board(p)), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		text := read(t, path)
		if text != board(p) {
			t.Errorf("%s differs from the preset; run go test ./packaging -update", path)
		}
		c := agent.Defaults()
		if err := toml.NewDecoder(strings.NewReader(text)).EnableUnmarshalerInterface().DisallowUnknownFields().Decode(&c); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		if ps := c.Config.Validate(); len(ps) > 0 {
			t.Errorf("%s: %v", path, ps)
		}
		if !reflect.DeepEqual(c.Buttons, p.Config.Buttons) || !reflect.DeepEqual(c.LEDs, p.Config.LEDs) {
			t.Errorf("%s is read as %+v %+v, the preset is %+v", path, c.Buttons, c.LEDs, p.Config)
		}
	}
	if found, _ := filepath.Glob(boards + "/*.toml"); !slices.Equal(slices.Sorted(slices.Values(names)), found) {
		t.Errorf("there are %q, want %q", found, names)
	}
}

// daemonFile matches the two lines that write and remove the daemon's PID file.
var daemonFile = regexp.MustCompile(`(?m)^Exec(StartPost=\+/bin/sh -c 'umask 022; echo "\$MAINPID" >/run/lintod\.pid'|StopPost=\+/bin/rm -f /run/lintod\.pid)$`)

// A permission that a drop-in grants to the service must be withheld from its children: a
// capability once allowed a command to become root.
func TestNoDropInGrantsAPrivilege(t *testing.T) {
	paths, err := filepath.Glob("examples/*.service.d/*.conf")
	if err != nil || len(paths) < 8 {
		t.Fatalf("found %q, %v", paths, err)
	}
	privilege := regexp.MustCompile(`(?m)^((AmbientCapabilities|CapabilityBoundingSet)=\S|NoNewPrivileges=(no|false|off|0)|SystemCallFilter=.*(@setuid|@privileged|setuid|setgid)|Exec\w+=\S*[+!])`)
	for _, path := range append(paths, "lintod.service", "lintod-shell@.service") {
		text := strings.ReplaceAll(read(t, path), "SystemCallFilter=~", "#")
		if path == "lintod.service" {
			text = daemonFile.ReplaceAllString(text, "") // the only commands that run as root
		}
		if found := privilege.FindString(text); found != "" {
			t.Errorf("%s: %s", path, found)
		}
	}
}
