package main

import (
	"cmp"
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
whose status the broker retains (status_retain), and those that lintoctl has seen before: name
the others once, or list them in a file (-from FILE).`,
		Example: `  lintoctl ls
  lintoctl ls -where 'firmware<1.2 and online'
  lintoctl ls 'hall-*' -json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			h, chosen, answers, err := c.survey(cmd.Context(), s, args, !noPing)
			if err != nil {
				return err
			}
			defer h.close()
			return c.printDevices(h.known, chosen, answers, noPing)
		},
	}
	s.register(cmd.Flags())
	cmd.Flags().BoolVar(&noPing, "no-ping", false, "print the statuses, and send no pings")
	cmd.ValidArgsFunction = c.completeSerials
	return cmd
}

// survey selects devices, all known ones unless some are named, reads their statuses, and
// pings them. It returns the serials in order, and the pongs of those that answer.
func (c *call) survey(ctx context.Context, s selectFlags, args []string, ping bool) (h *hub, serials []string, pongs map[string]pong, err error) {
	if err := c.check(); err != nil {
		return nil, nil, nil, err
	}
	s.all = s.all || !s.given() && len(args) == 0
	sel, err := s.selection(c, args)
	if err != nil {
		return nil, nil, nil, err
	}
	if h, serials, _, err = c.choose(ctx, sel, "pong"); err != nil {
		return nil, nil, nil, err
	}
	if !sel.Known() {
		h.settle(ctx)
	}
	if ping {
		pongs = h.pingAll(ctx, serials)
	}
	if ctx.Err() != nil {
		h.close()
		return nil, nil, nil, interrupted(ctx)
	}
	slices.Sort(serials)
	return h, serials, pongs, nil
}

// unlikely is how long to wait for an answer of a device whose status is offline.
const unlikely = 2 * time.Second

// pingAll pings devices and returns the pongs of those that answer.
func (h *hub) pingAll(ctx context.Context, serials []string) map[string]pong {
	pongs := map[string]pong{}
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
			m, err := h.exchange(ctx, serial, "ping", pingPayload(id), true, said, func(m message) bool { return m.name == "pong" })
			if err != nil {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			pongs[serial] = readPong(m.payload)
		})
	}
	all.Wait()
	return pongs
}

type deviceLine struct {
	Version int    `json:"v"`
	State   string `json:"state"`
	fleet.Device
}

func (c *call) printDevices(known *fleet.Known, serials []string, pongs map[string]pong, noPing bool) error {
	t := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
	if !c.json {
		fmt.Fprintln(t, "SERIAL\tSTATE\tSINCE\tFIRMWARE\tADDRESS\tVOLUME\tLANGUAGE\tLAST TURN")
	}
	for _, serial := range serials {
		_, answers := pongs[serial]
		d, said := known.Get(serial)
		d.Serial = serial
		state := "silent"
		switch {
		case answers:
			state = "online"
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
		if said && (d.Online == answers || noPing) {
			since = d.Since.Local().Format(time.DateTime)
		}
		if d.Volume != nil {
			volume = strconv.Itoa(*d.Volume)
		}
		turn := ""
		if !d.Turn.IsZero() {
			turn = d.Turn.Local().Format(time.DateTime)
		}
		fmt.Fprintln(t, strings.Join(row(serial, state, since, d.Firmware, d.Address, volume, d.Language, turn), "\t"))
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	if !noPing {
		c.count(len(pongs), len(serials))
	}
	return nil
}

// row is a line of a table; "-" stands in empty cells.
func row(cells ...string) []string {
	for i, cell := range cells {
		cells[i] = cmp.Or(clean(cell), "-")
	}
	return cells
}

// count sets the exit status when present of the selected devices have answered.
func (c *call) count(present, selected int) {
	switch present {
	case selected:
	case 0:
		c.status = statusUnreached
	default:
		c.status = statusFailed
	}
}
