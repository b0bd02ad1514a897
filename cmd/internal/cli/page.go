package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// pageCommand generates a manual page: it copies standard input, and replaces the lines `.\"
// synopsis`, `.\" commands`, and `.\" flags` with generated text. scripts/package uses it.
func pageCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "manual-page",
		Hidden: true,
		Short:  "complete the manual page on standard input",
		Args:   Args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			page, err := io.ReadAll(cmd.InOrStdin())
			if err != nil {
				return err
			}
			root := cmd.Root()
			for line := range strings.Lines(string(page)) {
				switch strings.TrimSpace(line) {
				case `.\" synopsis`:
					line = ".Nm" + mdocUsage(arguments(root)) + "\n"
				case `.\" commands`:
					line = mdocCommands(root)
				case `.\" flags`:
					line = mdocFlags(root.NonInheritedFlags())
				}
				if _, err := io.WriteString(cmd.OutOrStdout(), line); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

func mdocCommands(root *cobra.Command) string {
	var b strings.Builder
	for _, g := range groups(root) {
		fmt.Fprintf(&b, ".Ss %s\n.Bl -tag -width Ds\n", g.title)
		for _, cmd := range withSubcommands(g.commands) {
			usage := strings.TrimPrefix(usageLine(cmd), cmd.CommandPath())
			fmt.Fprintf(&b, ".It Cm %s%s\n%s", strings.TrimPrefix(cmd.CommandPath(), root.Name()+" "), mdocUsage(usage), mdocText(description(cmd)))
			b.WriteString(mdocFlags(cmd.LocalFlags()))
			if cmd.Example != "" {
				b.WriteString(".Pp\n")
			}
			for line := range strings.Lines(cmd.Example) {
				fmt.Fprintf(&b, ".Dl %s\n", escape(strings.TrimSpace(line)))
			}
		}
		b.WriteString(".El\n")
	}
	return b.String()
}

// withSubcommands inserts the subcommands of each command after it.
func withSubcommands(commands []*cobra.Command) (list []*cobra.Command) {
	for _, cmd := range commands {
		list = append(list, cmd)
		for _, g := range groups(cmd) {
			list = append(list, withSubcommands(g.commands)...)
		}
	}
	return list
}

func mdocFlags(set *pflag.FlagSet) string {
	flags := listed(set)
	if len(flags) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString(".Bl -tag -width Ds\n")
	for _, f := range flags {
		fmt.Fprintf(&b, ".It%s\n%s", mdocUsage(" "+flagWords(f)), mdocText(flagUsage(f)))
	}
	b.WriteString(".El\n")
	return b.String()
}

// mdocUsage marks up the words of a usage line, each after a space.
func mdocUsage(line string) string {
	var b strings.Builder
	for _, word := range strings.Fields(line) {
		if rest, ok := strings.CutPrefix(word, "["); ok {
			b.WriteString(" Oo")
			word = rest
		}
		word, closes := strings.CutSuffix(word, "]")
		if name, ok := strings.CutPrefix(word, "-"); ok {
			b.WriteString(" Fl " + escape(name))
		} else if word == strings.ToUpper(word) {
			b.WriteString(" Ar " + escape(strings.ToLower(word)))
		} else {
			b.WriteString(" Ar " + escape(word))
		}
		if closes {
			b.WriteString(" Oc")
		}
	}
	return b.String()
}

// mdocText returns a text as mdoc lines; an empty line starts a paragraph.
func mdocText(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		switch {
		case line == "":
			line = ".Pp"
		case strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'"):
			line = `\&` + escape(line)
		default:
			line = escape(line)
		}
		b.WriteString(line + "\n")
	}
	return b.String()
}

// escape escapes characters that groff would interpret.
func escape(s string) string {
	return strings.NewReplacer(`\`, `\e`, `"`, `\(dq`, "…", "...").Replace(s)
}
