// Command measure prints the performance figures of lintod, each next to a reference that is
// measured in the same run. scripts/bench runs it.
//
// It is in scripts because it is not part of the product.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// row is one line of the table. Figures of one row have the same unit.
type row struct {
	What      string   `json:"what"`
	Unit      string   `json:"unit"`
	Ours      float64  `json:"ours"`
	Reference *float64 `json:"reference,omitempty"`
	By        string   `json:"reference_is,omitempty"`
	Goal      string   `json:"goal"`
}

func main() {
	out := flag.String("o", "", "write the figures as JSON to this `file`")
	rounds := flag.Int("n", 10, "rounds of each figure; lintod and the reference alternate")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *rounds, *out, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "measure:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, rounds int, out string, names []string) error {
	b, err := newBench(ctx)
	if err != nil {
		return err
	}
	defer b.close()
	figures, err := choose(b.figures(), names)
	if err != nil {
		return err
	}
	var rows []row
	var failures []error
	for i, f := range figures {
		fmt.Fprintf(os.Stderr, "%s measuring %s (%d of %d)\n", time.Now().Format(time.TimeOnly), f.name, i+1, len(figures))
		r, err := f.measure(ctx, rounds)
		if err != nil {
			failures = append(failures, fmt.Errorf("%s: %w", f.name, err))
		}
		if ctx.Err() != nil {
			break
		}
		rows = append(rows, r...)
	}
	show(rows)
	if out != "" {
		raw, err := json.MarshalIndent(rows, "", "  ")
		failures = append(failures, err, os.WriteFile(out, append(raw, '\n'), 0o600))
	}
	return errors.Join(failures...)
}

// figure is one measurement, with one or more rows.
type figure struct {
	name    string
	measure func(ctx context.Context, rounds int) ([]row, error)
}

func (b *bench) figures() []figure {
	return []figure{
		{"ping", b.ping},
		{"start", b.start},
		{"memory", b.memory},
		{"idle", b.idle},
		{"live", b.live},
		{"request", b.request},
		{"say", b.say},
		{"barge-in", b.bargeIn},
		{"stream", b.stream},
		{"hour", b.hour},
		{"opus", b.opus},
		{"xiaozhi", b.xiaozhi},
		{"wake", b.wake},
		{"card", b.card},
		{"page", b.page},
		{"fleet", b.fleet},
	}
}

// choose returns the named figures in the order of all, or all if there are no names.
func choose(all []figure, names []string) (chosen []figure, err error) {
	if len(names) == 0 {
		return all, nil
	}
	known := make([]string, len(all))
	for i, f := range all {
		known[i] = f.name
		if slices.Contains(names, f.name) {
			chosen = append(chosen, f)
		}
	}
	for _, name := range names {
		if !slices.Contains(known, name) {
			return nil, fmt.Errorf("unknown figure %q; want any of %s", name, strings.Join(known, ", "))
		}
	}
	return chosen, nil
}

func show(rows []row) {
	t := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "FIGURE\tLINTOD\tREFERENCE\tRATIO\tGOAL\tREFERENCE IS")
	for _, r := range rows {
		reference, ratio := "-", "-"
		if r.Reference != nil {
			reference = fmt.Sprintf("%.3g %s", *r.Reference, r.Unit)
			ratio = fmt.Sprintf("%.2f", r.Ours/(*r.Reference))
		}
		fmt.Fprintf(t, "%s\t%.3g %s\t%s\t%s\t%s\t%s\n", r.What, r.Ours, r.Unit, reference, ratio, r.Goal, r.By)
	}
	t.Flush()
}
