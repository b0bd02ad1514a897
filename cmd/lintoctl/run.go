package main

import (
	"fmt"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"lintod/cmd/internal/cli"
	"lintod/cmd/lintoctl/runs"
)

// runCommand shows and retries runs.
func (c *call) runCommand() *cobra.Command {
	var flags runFlags
	cmd := &cobra.Command{
		Use: "run list|show|retry [RUN]", Short: "list earlier commands, show their results, or retry them where they failed",
		Long: `List the last 200 runs, show the result of one for each device, or retry it on the devices
on which it did not succeed. RUN is the ID of a run; last, the default, is the most recent one.

The ID of a run is the ID of the request on each device, which executes it once: a device
whose answer was lost answers again. Old LinTO clients, which do not know IDs, may execute
a command a second time when it is retried.`,
		Example: `  lintoctl run list
  lintoctl run show last
  lintoctl run retry 20261128-101500-k3xqa`,
		Args:      cli.Args(1, 2),
		ValidArgs: []string{"list", "show", "retry"},
		RunE: func(cmd *cobra.Command, args []string) error {
			id := "last"
			if len(args) > 1 {
				id = args[1]
			}
			switch args[0] {
			case "list":
				return c.listRuns()
			case "show":
				record, err := runs.Open(c.runsDir(), id)
				if err != nil {
					return err
				}
				defer record.Close()
				return c.showRun(record)
			case "retry":
				return c.retryRun(cmd, &flags, id)
			}
			return cli.Usagef("unknown command %q; want list, show, or retry", args[0])
		},
	}
	cmd.Flags().DurationVar(&flags.waitOnline, "wait-online", 0, "with retry, `DURATION` to wait for devices that are away")
	flags.registerSign(cmd.Flags())
	return cmd
}

func (c *call) retryRun(cmd *cobra.Command, flags *runFlags, id string) error {
	record, err := runs.Open(c.runsDir(), id)
	if err != nil {
		return err
	}
	if c.scope == "" {
		c.scope = record.Scope
	}
	if err := c.check(); err != nil {
		return err
	}
	if c.scope != record.Scope {
		return cli.Usagef("the run %s is for the scope %q", record.ID, record.Scope)
	}
	devices := record.Undone()
	if len(devices) == 0 {
		return c.conclude(record, len(record.Devices) == 1)
	}
	h, err := c.open(cmd.Context(), devices, topics(record.Orders)...)
	if err != nil {
		return err
	}
	defer h.close()
	v := verb{}
	if i := slices.IndexFunc(verbs(), func(v verb) bool { return v.full() == record.Verb }); i >= 0 {
		v = verbs()[i]
	}
	flags.maxFailed = -1
	return c.perform(cmd.Context(), h, v, flags, nil, record, devices)
}

func (c *call) listRuns() error {
	ids, err := runs.IDs(c.runsDir())
	if err != nil {
		return err
	}
	t := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
	if !c.json {
		fmt.Fprintln(t, "RUN\tBEGAN\tVERB\tDONE\tOF")
	}
	for _, id := range ids {
		record, err := runs.Open(c.runsDir(), id)
		if err != nil {
			fmt.Fprintf(c.stderr, "lintoctl: %v\n", err)
			continue
		}
		done := len(record.Devices) - len(record.Undone())
		if c.json {
			err = c.emit(summaryLine{1, id, record.Verb, done, len(record.Devices), runs.Summary(record.All())})
		} else {
			fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%d\n", clean(id), record.Began.Local().Format(time.DateTime), clean(record.Verb), done, len(record.Devices))
		}
		if closed := record.Close(); err != nil || closed != nil {
			return err
		}
	}
	return t.Flush()
}

func (c *call) showRun(record *runs.Record) error {
	results := record.All()
	if c.json {
		for _, r := range results {
			if err := c.emit(resultLine{1, record.ID, r}); err != nil {
				return err
			}
		}
		return nil
	}
	fmt.Fprintf(c.stdout, "%s  %s, began %s\n", record.ID, clean(record.Verb), record.Began.Local().Format(time.DateTime))
	t := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
	for _, r := range results {
		fmt.Fprintf(t, "%s\t%s\t%s\n", clean(r.Serial), clean(string(r.State)), clean(r.Reason))
	}
	return t.Flush()
}
