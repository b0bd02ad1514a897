package main

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
)

type meetingLine struct {
	Version int       `json:"v"`
	Serial  string    `json:"serial"`
	Meeting string    `json:"meeting"` // yes, no, or unknown
	Session string    `json:"session,omitempty"`
	Since   time.Time `json:"since,omitzero"` // by the device's clock
}

// meetingList shows what pongs say of recordings: LinTO has no request that lists them.
func (c *call) meetingList() *cobra.Command {
	var s selectFlags
	cmd := &cobra.Command{
		Use: "list [SERIAL...]", Short: "list devices, and whether they are recording a meeting",
		Long: `List the selected devices, or all known ones, and whether they are recording a meeting:
"yes" with its session and, by the device's clock, since when; "no"; or "unknown" for a device
that does not answer, and for old LinTO clients, which do not report it.`,
		Example: `  lintoctl meeting list
  lintoctl meeting list 'hall-*' -json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			h, serials, pongs, err := c.survey(cmd.Context(), s, args, true)
			if err != nil {
				return err
			}
			defer h.close()
			c.count(len(pongs), len(serials))
			return c.printMeetings(serials, pongs)
		},
	}
	s.register(cmd.Flags())
	cmd.ValidArgsFunction = c.completeSerials
	return cmd
}

func (c *call) printMeetings(serials []string, pongs map[string]pong) error {
	t := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
	if !c.json {
		fmt.Fprintln(t, "SERIAL\tMEETING\tSINCE\tSESSION")
	}
	for _, serial := range serials {
		line, since := meetingLine{Version: 1, Serial: serial, Meeting: "unknown"}, ""
		switch p := pongs[serial]; {
		case p.Meeting != nil:
			line.Meeting, line.Session, line.Since = "yes", p.Meeting.Session, p.Meeting.Since
			since = line.Since.Local().Format(time.DateTime)
		case p.ID != "":
			line.Meeting = "no"
		}
		if c.json {
			if err := c.emit(line); err != nil {
				return err
			}
			continue
		}
		fmt.Fprintln(t, strings.Join(row(serial, line.Meeting, since, line.Session), "\t"))
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}
