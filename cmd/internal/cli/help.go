package cli

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// help prints the help of one command.
func help(cmd *cobra.Command, _ []string) {
	w := cmd.OutOrStdout()
	fmt.Fprintf(w, "%s\n\nUsage: %s\n", description(cmd), usageLine(cmd))
	for _, g := range groups(cmd) {
		fmt.Fprintf(w, "\n%s:\n\n", g.title)
		t := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
		for _, sub := range g.commands {
			fmt.Fprintf(t, "  %s\t%s\n", strings.TrimSpace(sub.Name()+arguments(sub)), sub.Short)
		}
		t.Flush()
	}
	if cmd.Example != "" {
		fmt.Fprintf(w, "\nExamples:\n\n%s\n", cmd.Example)
	}
	printFlags(w, "Flags", cmd.NonInheritedFlags())
	printFlags(w, "Flags of every command", cmd.InheritedFlags())
	if cmd.HasAvailableSubCommands() {
		fmt.Fprintf(w, "\nRun \"%s help COMMAND\" for the flags and examples of a command.\n", cmd.Name())
	}
}

func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "describe a command, its flags, and examples",
		Args:  Args(0, 2),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			var names []string
			for _, sub := range cmd.Root().Commands() {
				if sub.IsAvailableCommand() && len(args) == 0 {
					names = append(names, cobra.CompletionWithDesc(sub.Name(), sub.Short))
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			about := cmd.Root()
			for i, name := range args {
				sub := child(about, name)
				if sub == nil {
					return noSuchCommand(about, args[i:])
				}
				about = sub
			}
			help(about, nil)
			return nil
		},
	}
}

func description(cmd *cobra.Command) string {
	if cmd.Long != "" {
		return cmd.Long
	}
	return strings.ToUpper(cmd.Short[:1]) + cmd.Short[1:] + "."
}

// arguments returns the arguments in the command's Use, with a leading space.
func arguments(cmd *cobra.Command) string { return strings.TrimPrefix(cmd.Use, cmd.Name()) }

// shortList is the maximum number of flags that a usage line lists.
const shortList = 4

// usageLine returns the usage of a command. That of a program is written by hand.
func usageLine(cmd *cobra.Command) string {
	if !cmd.HasParent() {
		return cmd.Use
	}
	line := cmd.CommandPath()
	if flags := listed(cmd.LocalFlags()); len(flags) > shortList {
		line += " [FLAG...]"
	} else {
		for _, f := range flags {
			line += " [" + flagWords(f) + "]"
		}
	}
	return line + arguments(cmd)
}

// listed returns the flags that help and manual describe.
func listed(set *pflag.FlagSet) []*pflag.Flag {
	var list []*pflag.Flag
	set.VisitAll(func(f *pflag.Flag) {
		if f.Name != "help" && !f.Hidden {
			list = append(list, f)
		}
	})
	return list
}

// flagWords returns a flag with its value: "-config FILE".
func flagWords(f *pflag.Flag) string {
	kind, _ := pflag.UnquoteUsage(f)
	return strings.TrimSpace("-" + cmp.Or(f.Shorthand, f.Name) + " " + kind)
}

// flagUsage returns the description of a flag, with its default value.
func flagUsage(f *pflag.Flag) string {
	_, about := pflag.UnquoteUsage(f)
	if !slices.Contains([]string{"", "false", "0", "0s", "[]"}, f.DefValue) {
		about += " (default " + f.DefValue + ")"
	}
	return about
}

func printFlags(w io.Writer, title string, set *pflag.FlagSet) {
	flags := listed(set)
	if len(flags) == 0 {
		return
	}
	fmt.Fprintf(w, "\n%s:\n\n", title)
	for _, f := range flags {
		fmt.Fprintf(w, "  %s\n        %s\n", flagWords(f), flagUsage(f))
	}
}

// group is a titled list of commands.
type group struct {
	title    string
	commands []*cobra.Command
}

// groups returns the subcommands of cmd by group; those without a group come last.
func groups(cmd *cobra.Command) []group {
	var list []group
	for _, g := range cmd.Groups() {
		list = append(list, group{g.Title, inGroup(cmd, g.ID)})
	}
	rest := group{"Commands", inGroup(cmd, "")}
	if len(list) > 0 {
		rest.title = "Other commands"
	}
	return slices.DeleteFunc(append(list, rest), func(g group) bool { return len(g.commands) == 0 })
}

func inGroup(cmd *cobra.Command, id string) []*cobra.Command {
	return slices.DeleteFunc(slices.Clone(cmd.Commands()), func(sub *cobra.Command) bool {
		return sub.Hidden || sub.GroupID != id
	})
}
