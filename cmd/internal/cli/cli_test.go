package cli

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
)

// program returns one with every feature; ran gets the command that ran, with its
// arguments.
func program(ran *[]string) *cobra.Command {
	note := func(cmd *cobra.Command, args []string) error {
		*ran = append([]string{cmd.Name()}, args...)
		for _, f := range listed(cmd.Flags()) {
			if f.Changed {
				*ran = append(*ran, f.Name+"="+f.Value.String())
			}
		}
		return nil
	}
	root := &cobra.Command{Use: "prog [COMMAND]", Short: "a program", RunE: note}
	root.PersistentFlags().String("config", "/etc/prog", "read this `FILE`")
	root.Flags().BoolP("verbose", "v", false, "log more")
	run := &cobra.Command{Use: "run", Short: "run it", Example: "  prog run", Args: Args(0, 0), RunE: note}
	run.Flags().BoolP("verbose", "v", false, "log more")
	say := &cobra.Command{Use: "say TEXT", Short: "speak", Example: "  prog say hello", RunE: note}
	say.Flags().String("link", "", "`NAME` of the link")
	Text(say)
	CompleteFlag(say, "link", func() []string { return []string{"one", "two"} })
	play := &cobra.Command{Use: "play FILE", Short: "play", Example: "  prog play it", Args: Args(1, 1), RunE: note}
	play.Flags().Bool("keep", false, "keep it")
	play.Flags().Duration("wait", time.Second, "`DURATION` to wait")
	root.AddCommand(run, say, play)
	return root
}

func TestArguments(t *testing.T) {
	for line, want := range map[string]string{
		"":                             "prog",
		"-v":                           "prog verbose=true",
		"--v":                          "prog verbose=true",
		"-v=false -config x":           "prog config=x verbose=false",
		"-config x":                    "prog config=x",
		"-config=x":                    "prog config=x",
		"--config x -v":                "prog config=x verbose=true",
		"-config -v":                   "prog config=-v",
		"run -verbose":                 "run verbose=true",
		"run -v":                       "run verbose=true",
		"-v run":                       "run verbose=true",
		"-config run run":              "run config=run",
		"-config x play f":             "play f config=x",
		"play f -keep":                 "play f keep=true",
		"-keep play -wait 2s f":        "play f keep=true wait=2s",
		"play -- -keep":                "play -keep",
		"say hello -5 -x":              "say hello -5 -x",
		"say - well":                   "say - well",
		"say -link a hello say":        "say hello say link=a",
		"say -config x -- -link":       "say -link config=x",
		"say hello -- -link":           "say hello -- -link",
		"say hello help":               "say hello help",
		"play run":                     "play run",
		"say -link one run prog -help": "2",
		// Mistakes.
		"nonsense":         "2",
		"nonsense run":     "2",
		"run -nope":        "2",
		"run --nope":       "2",
		"run --nope=1":     "2",
		"run x":            "2",
		"run -v=maybe":     "2",
		"run -keep":        "2",
		"say":              "2",
		"say -x":           "2",
		"say hello -link":  "2",
		"play f -wait":     "2",
		"play f -wait x":   "2",
		"help nonsense":    "2",
		"completion basic": "2",
		"-":                "2",
	} {
		var ran []string
		var out, errs bytes.Buffer
		status, err := Run(t.Context(), program(&ran), strings.Fields(line), &out, &errs)
		got := strings.Join(ran, " ")
		if status == StatusUsage && errors.As(err, new(UsageError)) && errs.Len() > 0 && out.Len() == 0 {
			got += "2"
		} else if status != 0 || err != nil || errs.Len()+out.Len() > 0 {
			t.Errorf("%q: status %d, %v\n%s%s", line, status, err, &out, &errs)
		}
		if got != want {
			t.Errorf("%q: %q, want %q", line, got, want)
		}
	}
}

func TestErrorOfACommand(t *testing.T) {
	root := &cobra.Command{Use: "prog", RunE: func(*cobra.Command, []string) error { return errors.New("evil\x1b[2J") }}
	var out, errs bytes.Buffer
	status, err := Run(t.Context(), root, nil, &out, &errs)
	if status != StatusFailed || err == nil || out.Len() > 0 || strings.ContainsRune(errs.String(), '\x1b') || strings.Count(errs.String(), "\n") != 1 {
		t.Errorf("status %d, %v, %q %q", status, err, &out, &errs)
	}
	errs.Reset()
	Run(t.Context(), program(new([]string)), []string{"\x1b[2J"}, &out, &errs)
	Run(t.Context(), program(new([]string)), []string{"run", "-\x1b[2J"}, &out, &errs)
	Run(t.Context(), program(new([]string)), []string{"play", "-wait", "\x1b[2J"}, &out, &errs)
	if strings.ContainsRune(errs.String(), '\x1b') || out.Len() > 0 {
		t.Errorf("%q %q", &out, &errs)
	}
}

func TestCompletion(t *testing.T) {
	for line, want := range map[string]string{
		"pl":           "play",
		"-config x pl": "play",
		"run -v ":      "",
		"play -k":      "-keep",
		"play --k":     "--keep",
		"play f -w":    "-wait",
		"say -link t":  "one two", // the shell selects the matching ones
		"say -l":       "-link",
		"say hello -l": "",
		"run -":        "-config -h -help -v -verbose",
		"run ":         "",
		"completion ":  "bash zsh fish powershell",
		"help sa":      "completion play run say",
		"-config ":     "files",
		"play ":        "",
	} {
		words := strings.Split(line, " ")
		var out, errs bytes.Buffer
		if status, err := Run(t.Context(), program(new([]string)), append([]string{cobra.ShellCompNoDescRequestCmd}, words...), &out, &errs); status != 0 || err != nil {
			t.Errorf("%q: status %d, %v", line, status, err)
		}
		got := strings.Fields(out.String())
		if len(got) == 0 {
			t.Fatalf("%q: no completion", line)
		}
		directive := got[len(got)-1]
		got = got[:len(got)-1]
		if directive == ":0" { // the shell's own completion of files
			got = append(got, "files")
		}
		if words[0] != "completion" && !slices.Contains(words, "-link") {
			slices.Sort(got)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%q: %q, want %q", line, got, want)
		}
	}
}

func TestManualPage(t *testing.T) {
	page := ".Dt PROG 1\n.Sh SYNOPSIS\n.\\\" synopsis\n.Sh COMMANDS\n.\\\" commands\n.Sh FLAGS\n.\\\" flags\n.\\\" a comment\n"
	root := program(new([]string))
	root.SetIn(strings.NewReader(page))
	root.Commands()[0].Long = "First.\n\n.Sh evil\n'quoted' \\fB"
	var out, errs bytes.Buffer
	if status, _ := Run(t.Context(), root, []string{"manual-page"}, &out, &errs); status != 0 {
		t.Fatal(&errs)
	}
	for _, line := range []string{
		".Nm Oo Ar command Oc", ".It Cm play Oo Fl keep Oc Oo Fl wait Ar duration Oc Ar file",
		".It Fl config Ar file", ".It Cm run Oo Fl v Oc", ".\\\" a comment",
		".Pp", `\&.Sh evil`, `\&'quoted' \efB`,
	} {
		if !slices.Contains(strings.Split(out.String(), "\n"), line) {
			t.Errorf("%q is missing", line)
		}
	}
	if strings.Contains(out.String(), "manual-page") || t.Failed() {
		t.Errorf("the page is:\n%s", &out)
	}
}
