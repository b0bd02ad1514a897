package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"lintod/cmd/lintoctl/fleet"
	"lintod/cmd/lintoctl/runs"
)

// ls lists devices. Retained statuses may be outdated, so it pings them.
func (c *call) ls() *cobra.Command {
	var s selectFlags
	var noPing bool
	cmd := &cobra.Command{
		Use: "ls [SERIAL...]", Aliases: []string{"list"}, Short: "list devices, and whether they answer",
		Long: `List the selected devices, or all known ones, and ping them.

A device is "online" when it answers; "away" when its last status is offline and it does not
answer; "silent" when its last status is online, or there is none, and it does not answer.
SINCE is when lintoctl first saw that status. LAST TURN is when somebody last spoke with the
device, by the device's clock; old LinTO clients do not report it. Known devices are those
whose status the broker retains (status_retain), and those seen before.`,
		Example: `  lintoctl ls
  lintoctl ls -where 'firmware<1.2 and online'
  lintoctl ls 'hall-*' -json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := c.check(); err != nil {
				return err
			}
			s.all = s.all || !s.given() && len(args) == 0
			sel, err := s.selection(c, args)
			if err != nil {
				return err
			}
			h, chosen, _, err := c.choose(cmd.Context(), sel, "pong")
			if err != nil {
				return err
			}
			defer h.close()
			if !sel.Known() {
				h.settle(cmd.Context())
			}
			answers := map[string]bool{}
			if !noPing {
				answers = h.pingAll(cmd.Context(), chosen)
			}
			if cmd.Context().Err() != nil {
				return interrupted(cmd.Context())
			}
			return c.printDevices(h.known, chosen, answers, noPing)
		},
	}
	s.register(cmd.Flags())
	cmd.Flags().BoolVar(&noPing, "no-ping", false, "print the statuses, and send no pings")
	cmd.ValidArgsFunction = c.completeSerials
	return cmd
}

// unlikely is how long to wait for an answer of a device whose status is offline.
const unlikely = 2 * time.Second

// pingAll pings devices and returns those that answer.
func (h *hub) pingAll(ctx context.Context, serials []string) map[string]bool {
	answers := map[string]bool{}
	id := runs.NewID(time.Now())
	var mu sync.Mutex
	var all sync.WaitGroup
	slots := make(chan struct{}, parallel)
	for _, serial := range serials {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			limit := h.call.timeout
			if d, known := h.known.Get(serial); known && !d.Online {
				limit = min(limit, unlikely)
			}
			ctx, cancel := context.WithTimeout(ctx, limit)
			defer cancel()
			said, stop := h.listen(serial)
			defer stop()
			_, err := h.exchange(ctx, serial, "ping", pingPayload(id), true, said, func(m message) bool { return m.name == "pong" })
			mu.Lock()
			defer mu.Unlock()
			answers[serial] = err == nil
		})
	}
	all.Wait()
	return answers
}

type deviceLine struct {
	Version int    `json:"v"`
	State   string `json:"state"`
	fleet.Device
}

func (c *call) printDevices(known *fleet.Known, serials []string, answers map[string]bool, noPing bool) error {
	t := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
	if !c.json {
		fmt.Fprintln(t, "SERIAL\tSTATE\tSINCE\tFIRMWARE\tADDRESS\tVOLUME\tLANGUAGE\tLAST TURN")
	}
	present := 0
	for _, serial := range slices.Sorted(slices.Values(serials)) {
		d, said := known.Get(serial)
		d.Serial = serial
		state := "silent"
		switch {
		case answers[serial]:
			state = "online"
			present++
		case noPing && !said:
			state = "not known"
		case noPing && d.Online:
			state = "says online"
		case noPing:
			state = "says offline"
		case said && !d.Online:
			state = "away"
		}
		if c.json {
			if err := c.emit(deviceLine{1, state, d}); err != nil {
				return err
			}
			continue
		}
		since, volume := "", ""
		if said && (d.Online == answers[serial] || noPing) {
			since = d.Since.Local().Format(time.DateTime)
		}
		if d.Volume != nil {
			volume = strconv.Itoa(*d.Volume)
		}
		turn := ""
		if !d.Turn.IsZero() {
			turn = d.Turn.Local().Format(time.DateTime)
		}
		row := []string{clean(serial), state, since, d.Firmware, d.Address, volume, d.Language, turn}
		for i, cell := range row {
			if cell == "" {
				row[i] = "-"
			}
		}
		fmt.Fprintln(t, strings.Join(row, "\t"))
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	switch {
	case noPing || present == len(serials):
	case present == 0:
		c.status = statusUnreached
	default:
		c.status = statusFailed
	}
	return nil
}
