// Package cli implements the command line of the programs below cmd: parsing of arguments, and
// output of help, completion, manual pages, and errors, all from the same cobra commands.
//
// Like Go's flag package, it accepts long flags with one dash or two (-config, --config). It also
// accepts a command's flags before the command's name.
//
// Commands of a single program do not belong here.
package cli

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"lintod/agent/base/printable"
)

// Exit statuses of all programs. A program may have additional ones for its own errors.
const (
	StatusFailed = 1
	StatusUsage  = 2
)

// UsageError reports an invalid command line.
type UsageError struct{ error }

// Unwrap returns the reason.
func (e UsageError) Unwrap() error { return e.error }

// Usagef returns a UsageError.
func Usagef(format string, args ...any) error { return UsageError{fmt.Errorf(format, args...)} }

// Run parses args, without the name of the program, and runs the command that they name. It prints
// errors to stderr, and returns the exit status and the error.
func Run(ctx context.Context, root *cobra.Command, args []string, stdout, stderr io.Writer) (status int, err error) {
	prepare(root)
	root.SetErr(stderr)
	if len(args) > 1 && (args[0] == cobra.ShellCompRequestCmd || args[0] == cobra.ShellCompNoDescRequestCmd) {
		return 0, complete(ctx, root, args, stdout)
	}
	root.SetOut(stdout)
	root.SetArgs(normalise(root, args))
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return 0, nil
	}
	printable.Error(stderr, root.Name()+": ", err)
	if !errors.As(err, new(UsageError)) {
		return StatusFailed, err
	}
	fmt.Fprintf(stderr, "Run \"%s -help\" for usage.\n", cmd.CommandPath())
	return StatusUsage, err
}

// prepare adds to a tree of commands what all programs have.
func prepare(root *cobra.Command) {
	root.SilenceErrors, root.SilenceUsage = true, true
	root.CompletionOptions.DisableDefaultCmd = true
	root.CompletionOptions.SetDefaultShellCompDirective(cobra.ShellCompDirectiveNoFileComp)
	root.SetHelpFunc(help)
	root.SetFlagErrorFunc(flagError)
	root.SetHelpCommand(helpCommand())
	root.AddCommand(completionCommand(), pageCommand())
	if root.Args == nil {
		root.Args = noSuchCommand
	}
	root.InitDefaultHelpCmd()
	prepareFlags(root)
}

// prepareFlags prepares the flags of a command and of all below it.
func prepareFlags(cmd *cobra.Command) {
	cmd.InitDefaultHelpFlag()
	completeFiles(cmd)
	for _, sub := range cmd.Commands() {
		prepareFlags(sub)
	}
}

// completeFiles makes the shell complete file names as values of the flags that take a file.
func completeFiles(cmd *cobra.Command) {
	cmd.NonInheritedFlags().VisitAll(func(f *pflag.Flag) {
		if kind, _ := pflag.UnquoteUsage(f); kind == "FILE" {
			completeWith(cmd, f.Name, cobra.FixedCompletions(nil, cobra.ShellCompDirectiveDefault))
		}
	})
}

// CompleteFlag sets the shell completion of a flag's values.
func CompleteFlag(cmd *cobra.Command, name string, values func() []string) {
	completeWith(cmd, name, func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return values(), cobra.ShellCompDirectiveNoFileComp
	})
}

func completeWith(cmd *cobra.Command, name string, f cobra.CompletionFunc) {
	if err := cmd.RegisterFlagCompletionFunc(name, f); err != nil {
		panic(err) // a bug of the program: it has no such flag, or sets its completion twice
	}
}

// Args requires between low and high arguments.
func Args(low, high int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if n := len(args); n < low || n > high {
			return Usagef("wrong number of arguments; want %s", usageLine(cmd))
		}
		return nil
	}
}

// Text requires a text of at least one word as arguments of a command. Flags are parsed up to the
// first word, so later words may start with a dash; a flag of the command among them is an error
// unless there is a "--".
func Text(cmd *cobra.Command) {
	cmd.Flags().SetInterspersed(false)
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return Usagef("missing text; want %s", usageLine(cmd))
		}
		if cmd.ArgsLenAtDash() >= 0 || slices.Contains(args, "--") {
			return nil
		}
		for _, arg := range args {
			if name := flagName(arg); findFlag(cmd, name) != nil {
				return Usagef("-%s must come before the text; if it is part of the text, put -- before the text", name)
			}
		}
		return nil
	}
}

// normalise returns args in the form that pflag requires: the names of commands first, and two
// dashes before the name of each flag that the command has (one, if the name is one letter).
// Everything else is unchanged, including everything after "--".
func normalise(root *cobra.Command, args []string) []string {
	cmd, command := root, true
	var names, rest []string
	for i := 0; i < len(args); i++ {
		if args[i] == "--" {
			rest = append(rest, args[i:]...)
			break
		}
		if f := findFlag(cmd, flagName(args[i])); f != nil {
			dashes := "--"
			if flagName(args[i]) == f.Shorthand {
				dashes = "-"
			}
			rest = append(rest, dashes+strings.TrimLeft(args[i], "-"))
			if f.NoOptDefVal == "" && !strings.Contains(args[i], "=") && i+1 < len(args) {
				i++
				rest = append(rest, args[i])
			}
			continue
		}
		word := !strings.HasPrefix(args[i], "-")
		if sub := child(cmd, args[i]); word && command && sub != nil {
			names, cmd = append(names, args[i]), sub
			continue
		}
		command = command && !word
		rest = append(rest, args[i])
	}
	return append(names, rest...)
}

// flagName returns the name in -name, --name, and -name=value, or "".
func flagName(arg string) string {
	name, ok := strings.CutPrefix(arg, "-")
	if !ok {
		return ""
	}
	name, _, _ = strings.Cut(strings.TrimPrefix(name, "-"), "=")
	return name
}

// findFlag finds a flag of a command or, because flags may come first, of one of its subcommands.
func findFlag(cmd *cobra.Command, name string) *pflag.Flag {
	if name == "" {
		return nil
	}
	lookup := func(cmd *cobra.Command) *pflag.Flag {
		if len(name) == 1 {
			return cmd.Flags().ShorthandLookup(name)
		}
		return cmd.Flag(name)
	}
	f := lookup(cmd)
	for _, sub := range cmd.Commands() {
		if f == nil {
			f = lookup(sub)
		}
	}
	return f
}

func child(cmd *cobra.Command, name string) *cobra.Command {
	for _, sub := range cmd.Commands() {
		if sub.Name() == name {
			return sub
		}
	}
	return nil
}

func noSuchCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	cmd.SuggestionsMinimumDistance = 2
	if close := cmd.SuggestionsFor(args[0]); len(close) > 0 {
		return Usagef("unknown command %q; did you mean %s?", args[0], strings.Join(close, " or "))
	}
	return Usagef("unknown command %q", args[0])
}

func flagError(_ *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	var missing *pflag.ValueRequiredError
	var invalid *pflag.InvalidValueError
	switch {
	case errors.As(err, &unknown) && unknown.GetSpecifiedShortnames() != "":
		return Usagef("unknown flag -%s", unknown.GetSpecifiedShortnames())
	case errors.As(err, &unknown):
		return Usagef("unknown flag -%s", unknown.GetSpecifiedName())
	case errors.As(err, &missing):
		return Usagef("flag -%s requires a value", missing.GetSpecifiedName())
	case errors.As(err, &invalid):
		want := map[string]string{"bool": "true or false", "int": "a whole number", "duration": "a duration such as 5s"}
		kind := invalid.GetFlag().Value.Type()
		return Usagef("invalid value %[2]q for flag -%[1]s; want %[3]s", invalid.GetFlag().Name, invalid.GetValue(), cmp.Or(want[kind], kind))
	}
	return UsageError{err}
}

// complete answers the completion scripts. If the user has typed a flag with one dash, it returns
// flags with one dash.
func complete(ctx context.Context, root *cobra.Command, args []string, stdout io.Writer) error {
	last := len(args) - 1
	word := args[last]
	oneDash := strings.HasPrefix(word, "-") && !strings.HasPrefix(word, "--")
	if oneDash && len(word) > 1 {
		word = "-" + word
	}
	var out bytes.Buffer
	root.SetOut(&out)
	root.SetArgs(append(append(args[:1:1], normalise(root, args[1:last])...), word))
	if err := root.ExecuteContext(ctx); err != nil {
		return err
	}
	for line := range strings.Lines(out.String()) {
		if strings.HasPrefix(line, "-") {
			line = strings.ReplaceAll(line, "`", "") // they mark the value in a flag's usage
			if oneDash && strings.HasPrefix(line, "--") {
				line = line[1:]
			}
		}
		if _, err := io.WriteString(stdout, line); err != nil {
			return err
		}
	}
	return nil
}

func completionCommand() *cobra.Command {
	return &cobra.Command{
		Use:       "completion bash|zsh|fish|powershell",
		Short:     "print the completion script of a shell",
		Long:      "Print the script with which a shell completes commands, flags, and values.\nThe Debian package installs it for bash, zsh, and fish.",
		Args:      Args(1, 1),
		ValidArgs: []string{"bash", "zsh", "fish", "powershell"},
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(cmd.OutOrStdout(), true)
			case "zsh":
				return root.GenZshCompletion(cmd.OutOrStdout())
			case "fish":
				return root.GenFishCompletion(cmd.OutOrStdout(), true)
			case "powershell":
				return root.GenPowerShellCompletionWithDesc(cmd.OutOrStdout())
			}
			return Usagef("no completion for %q; want bash, zsh, fish, or powershell", args[0])
		},
	}
}
