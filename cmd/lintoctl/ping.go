package main

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"lintod/agent/base/printable"
	"lintod/cmd/internal/cli"
	"lintod/cmd/lintoctl/runs"
)

// ping measures round trips.
func (c *call) ping() *cobra.Command {
	var s selectFlags
	var count int
	var interval time.Duration
	cmd := &cobra.Command{
		Use: "ping [SERIAL...]", Short: "measure the round trip to devices",
		Long: `Measure the round trip to devices. Each ping is sent once, so that a lost one is counted;
-timeout limits the time for its answer.`,
		Example: `  lintoctl ping kitchen
  lintoctl ping -all -c 10`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := c.check(); err != nil {
				return err
			}
			if count < 1 || interval < 0 {
				return cli.Usagef("-c is %d and -interval %v; want at least 1, and no negative interval", count, interval)
			}
			sel, err := s.selection(c, args)
			if err != nil {
				return err
			}
			h, chosen, _, err := c.choose(cmd.Context(), sel, "pong")
			if err != nil {
				return err
			}
			defer h.close()
			var all sync.WaitGroup
			trips := make([][]time.Duration, len(chosen))
			slots := make(chan struct{}, parallel)
			for i, serial := range chosen {
				slots <- struct{}{}
				all.Go(func() {
					defer func() { <-slots }()
					trips[i] = h.roundTrips(cmd.Context(), serial, count, interval)
				})
			}
			all.Wait()
			if cmd.Context().Err() != nil {
				return interrupted(cmd.Context())
			}
			return c.printTrips(chosen, trips, count)
		},
	}
	s.register(cmd.Flags())
	cmd.Flags().IntVarP(&count, "count", "c", 1, "ping each device `N` times")
	cmd.Flags().DurationVar(&interval, "interval", 200*time.Millisecond, "`DURATION` between the pings of a device")
	cmd.ValidArgsFunction = c.completeSerials
	return cmd
}

// roundTrips pings a device count times, one after the other, and returns how long those
// took that were answered.
func (h *hub) roundTrips(ctx context.Context, serial string, count int, interval time.Duration) (trips []time.Duration) {
	said, stop := h.listen(serial)
	defer stop()
	for i := range count {
		if i > 0 {
			select {
			case <-time.After(interval):
			case <-ctx.Done():
				return trips
			}
		}
		if trip, _, err := h.pingOnce(ctx, serial, said); err == nil {
			trips = append(trips, trip)
		}
	}
	return trips
}

// pingOnce sends one ping and returns how long its answer took. A client that does not know
// ids may answer an earlier one.
func (h *hub) pingOnce(ctx context.Context, serial string, said <-chan message) (time.Duration, pong, error) {
	ctx, cancel := context.WithTimeout(ctx, h.call.timeout)
	defer cancel()
	id := runs.NewID(time.Now())
	began := time.Now()
	m, err := h.exchange(ctx, serial, "ping", pingPayload(id), false, said, func(m message) bool {
		answered := readAnswer(m.payload).ID
		return m.name == "pong" && (answered == id || answered == "")
	})
	return time.Since(began), readPong(m.payload), err
}

type tripLine struct {
	Version  int     `json:"v"`
	Serial   string  `json:"serial,omitempty"` // absent in the summary of all devices
	Sent     int     `json:"sent"`
	Answered int     `json:"answered"`
	Min      float64 `json:"min_ms,omitempty"`
	Median   float64 `json:"median_ms,omitempty"`
	P95      float64 `json:"p95_ms,omitempty"`
	Max      float64 `json:"max_ms,omitempty"`
}

func statistics(serial string, trips []time.Duration, sent int) tripLine {
	line := tripLine{Version: 1, Serial: serial, Sent: sent, Answered: len(trips)}
	if len(trips) == 0 {
		return line
	}
	slices.Sort(trips)
	at := func(share float64) float64 {
		i := int(math.Ceil(share*float64(len(trips)))) - 1
		return math.Round(trips[max(i, 0)].Seconds()*1e5) / 100
	}
	line.Min, line.Median, line.P95, line.Max = at(0), at(0.5), at(0.95), at(1)
	return line
}

// manyTrips is the number of devices from which on only those with lost pings are listed.
const manyTrips = 20

func (c *call) printTrips(serials []string, trips [][]time.Duration, count int) error {
	var all []time.Duration
	present, lost := 0, 0
	for i, serial := range serials {
		all = append(all, trips[i]...)
		if len(trips[i]) > 0 {
			present++
		}
		if len(trips[i]) < count {
			lost++
		}
		line := statistics(serial, trips[i], count)
		switch {
		case c.json:
			if err := c.emit(line); err != nil {
				return err
			}
		case len(serials) < manyTrips || line.Answered < count:
			c.printTrip(line)
		}
	}
	if len(serials) > 1 {
		line := statistics("", all, count*len(serials))
		if c.json {
			if err := c.emit(line); err != nil {
				return err
			}
		} else {
			line.Serial = fmt.Sprintf("%d of %d devices", present, len(serials))
			c.printTrip(line)
		}
	}
	switch {
	case present == 0:
		c.status = statusUnreached
	case lost > 0:
		c.status = statusFailed
	}
	return nil
}

func (c *call) printTrip(l tripLine) {
	var text strings.Builder
	fmt.Fprintf(&text, "%d of %d answered", l.Answered, l.Sent)
	if l.Answered == 1 {
		fmt.Fprintf(&text, " after %.1f ms", l.Min)
	} else if l.Answered > 1 {
		fmt.Fprintf(&text, ", min %.1f, median %.1f, p95 %.1f, max %.1f ms", l.Min, l.Median, l.P95, l.Max)
	}
	printable.Fprintf(c.stdout, "%s: %s\n", l.Serial, text.String())
}
