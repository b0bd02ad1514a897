package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"lintod/cmd/lintoctl/fleet"
)

// redraw is the interval between redraws of the table.
const redraw = time.Second

// watched is what watch knows about a device.
type watched struct {
	sent, lost int // pings
	online     bool
	trip       time.Duration // of the last answered ping
	pong       pong
}

// table is the table of watch.
type table struct {
	known *fleet.Known

	mu      sync.Mutex
	devices map[string]watched
}

// watchTable pings devices and shows their state, until ctx ends.
func (c *call) watchTable(ctx context.Context, sel fleet.Selection, interval time.Duration) error {
	h, chosen, _, err := c.choose(ctx, sel, "pong")
	if err != nil && !(sel.All && errors.Is(err, fleet.ErrNothing)) {
		return err
	}
	if h == nil { // there are no devices yet
		if h, err = c.open(ctx, nil, "pong"); err != nil {
			return err
		}
	}
	defer h.close()
	t := &table{known: h.known, devices: map[string]watched{}}
	ctx, stop := context.WithCancel(ctx)
	var pings sync.WaitGroup
	defer pings.Wait()
	defer stop()
	slots := make(chan struct{}, parallel)
	begin := func(serials []string) {
		for _, serial := range serials {
			if t.add(serial) {
				pings.Go(func() { t.keepPinging(ctx, h, serial, interval, slots) })
			}
		}
	}
	begin(chosen)
	beat := time.NewTicker(redraw)
	defer beat.Stop()
	shown := 0
	for {
		if sel.All && sel.Limit == 0 {
			newcomers, _ := sel.Choose(h.known.All(), time.Now())
			begin(newcomers)
		}
		if shown, err = c.drawTable(t, shown); err != nil {
			return fmt.Errorf("print: %w", err)
		}
		select {
		case <-beat.C:
		case <-ctx.Done():
			return nil // Ctrl-C is the normal end
		}
	}
}

// add reports whether a device is new in the table.
func (t *table) add(serial string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, there := t.devices[serial]
	if !there {
		t.devices[serial] = watched{}
	}
	return !there
}

// keepPinging pings a device, at most once in an interval, until ctx ends.
func (t *table) keepPinging(ctx context.Context, h *hub, serial string, interval time.Duration, slots chan struct{}) {
	said, stop := h.listen(serial)
	defer stop()
	for ctx.Err() == nil {
		pause := time.After(interval)
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		trip, p, err := h.pingOnce(ctx, serial, said)
		<-slots
		if ctx.Err() != nil {
			return
		}
		t.note(serial, trip, p, err)
		select {
		case <-pause:
		case <-ctx.Done():
		}
	}
}

func (t *table) note(serial string, trip time.Duration, p pong, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	w := t.devices[serial]
	w.sent++
	w.online = err == nil
	if err != nil {
		w.lost++
	} else {
		w.trip, w.pong = trip, p
	}
	t.devices[serial] = w
}

// rows returns the table as text, one device per line, sorted by serial.
func (t *table) rows() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "SERIAL\tSTATE\tDOING\tPING\tLOST\tTURNS\tLAST TURN\tRESULT\tANSWER\tDROPPED")
	serials := make([]string, 0, len(t.devices))
	for serial := range t.devices {
		serials = append(serials, serial)
	}
	slices.Sort(serials)
	for _, serial := range serials {
		d := t.devices[serial]
		status, said := t.known.Get(serial)
		cells := make([]string, 10)
		cells[0], cells[1] = serial, "silent"
		switch {
		case d.sent == 0:
			cells[1] = "asked"
		case d.online:
			cells[1], cells[2] = "online", d.pong.State
			cells[3] = fmt.Sprintf("%.1f ms", d.trip.Seconds()*1e3)
		case said && !status.Online:
			cells[1] = "away"
		}
		if d.sent > 0 {
			cells[4] = fmt.Sprintf("%d of %d", d.lost, d.sent)
		}
		if turn := d.pong.Turn; turn != nil {
			cells[5], cells[6], cells[7] = fmt.Sprint(turn.Turn), turn.At.Local().Format(time.TimeOnly), turn.Result
			if turn.Answer > 0 {
				cells[8] = fmt.Sprintf("%d ms", turn.Answer)
			}
		}
		if d.pong.State != "" {
			cells[9] = fmt.Sprint(d.pong.Dropped)
		}
		fmt.Fprintln(w, strings.Join(row(cells...), "\t"))
	}
	_ = w.Flush() // a Builder never fails
	return strings.Split(strings.TrimSuffix(text.String(), "\n"), "\n")
}

// drawTable draws the table over the previous one, of shown lines, and returns the new number of
// lines. Rows that do not fit are counted.
func (c *call) drawTable(t *table, shown int) (int, error) {
	width, height := c.size()
	rows := t.rows()
	if room := max(height-1, 2); len(rows) > room {
		more := fmt.Sprintf("(%d more do not fit; select fewer devices)", len(rows)-room+1)
		rows = append(rows[:room-1:room-1], more)
	}
	var text strings.Builder
	if shown > 0 {
		fmt.Fprintf(&text, "\x1b[%dA", shown)
	}
	text.WriteString("\r")
	for _, row := range rows {
		if runes := []rune(row); len(runes) >= width {
			row = string(runes[:width-1])
		}
		text.WriteString(row + "\x1b[K\r\n")
	}
	text.WriteString("\x1b[J")
	_, err := c.stdout.Write([]byte(text.String()))
	return len(rows), err
}
