package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"lintod/agent/base/printable"
	"lintod/agent/broker"
	"lintod/cmd/internal/cli"
	"lintod/cmd/lintoctl/fleet"
)

func (c *call) watch() *cobra.Command {
	var s selectFlags
	var interval time.Duration
	cmd := &cobra.Command{
		Use: "watch [SERIAL...]", Short: "show a live table, or print the messages of devices, until Ctrl-C",
		Long: `On a terminal, show a live table of the selected devices, or of all known and new ones:
whether they answer, what they are doing, the round trip of the last ping, lost pings, the last
turn with its result and the time until the platform's answer (ANSWER), and the messages that
the device has dropped. Old LinTO clients report only whether they answer.

Otherwise, and with -json or -lines, print one line for each message of a device: a status when
it has changed, and sound as its size.`,
		Example: `  lintoctl watch
  lintoctl watch 'hall-*' -interval 2s
  lintoctl watch -json kitchen`,
	}
	lines := cmd.Flags().Bool("lines", false, "print lines even on a terminal")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := c.check(); err != nil {
			return err
		}
		if interval < 100*time.Millisecond {
			return cli.Usagef("-interval is %v; want at least 100ms", interval)
		}
		s.all = s.all || !s.given() && len(args) == 0
		sel, err := s.selection(c, args)
		if err != nil {
			return err
		}
		if isTerminal(c.stdout) && !c.json && !*lines {
			return c.watchTable(cmd.Context(), sel, interval)
		}
		return c.follow(cmd.Context(), sel)
	}
	s.register(cmd.Flags())
	cmd.Flags().DurationVar(&interval, "interval", 5*time.Second, "`DURATION` between the pings of a device in the table")
	cmd.ValidArgsFunction = c.completeSerials
	return cmd
}

// follow prints the messages of the selected devices, until ctx ends.
func (c *call) follow(ctx context.Context, sel fleet.Selection) error {
	everything := sel.All && sel.Where == nil && sel.Limit == 0
	var chosen []string
	switch {
	case everything:
	case sel.Known():
		h, list, _, err := c.choose(ctx, sel)
		if err != nil {
			return err
		}
		h.close()
		chosen = list
	default:
		chosen, _ = sel.Choose(nil, time.Now())
	}
	filters := []string{c.said("+", "#")}
	if !everything && len(chosen) <= few {
		filters = nil
		for _, serial := range chosen {
			filters = append(filters, c.said(serial, "#"))
		}
	}
	show := (&textPrinter{w: c.stdout, last: map[string]string{}, chunks: map[string]chunks{}}).tell
	if c.json {
		show = jsonPrinter(c.stdout)
	}
	return c.listen(ctx, filters, func(m broker.Message) error {
		said, ok := c.read(m)
		if !ok || !everything && !slices.Contains(chosen, said.serial) {
			return nil
		}
		return show(said)
	})
}

// jsonPrinter prints a complete message as one line of JSON. A payload that is not JSON is encoded
// in base64.
func jsonPrinter(w io.Writer) func(message) error {
	return func(m message) error {
		line := struct {
			Version  int             `json:"v"`
			Time     time.Time       `json:"time"`
			Serial   string          `json:"serial"`
			Name     string          `json:"name"`
			Retained bool            `json:"retained,omitempty"`
			Payload  json.RawMessage `json:"payload,omitempty"`
			Base64   []byte          `json:"base64,omitempty"`
		}{Version: 1, Time: time.Now(), Serial: m.serial, Name: m.name, Retained: m.retained}
		if json.Valid(m.payload) {
			line.Payload = m.payload
		} else {
			line.Base64 = m.payload
		}
		text, err := json.Marshal(line)
		if err == nil {
			_, err = fmt.Fprintf(w, "%s\n", printable.EscapeJSON(text))
		}
		return err
	}
}

// textPrinter prints messages as text: a status if it has changed, sound as its size, a stream when it
// ends.
type textPrinter struct {
	w      io.Writer
	last   map[string]string // status by serial
	chunks map[string]chunks // of the current stream, by serial
}

type chunks struct{ count, bytes int }

func (t *textPrinter) tell(m message) error {
	what := clean(m.name) + " " + summary(m.payload)
	switch m.name {
	case "status":
		if d, ok := fleet.ParseStatus(m.serial, m.payload); ok {
			what = d.Line()
		}
		if t.last[m.serial] == what {
			return nil
		}
		remember(t.last, m.serial, what)
	case "streaming/start":
		delete(t.chunks, m.serial)
	case "streaming/chunk":
		c := t.chunks[m.serial]
		remember(t.chunks, m.serial, chunks{c.count + 1, c.bytes + len(m.payload)})
		return nil
	case "streaming/stop":
		c := t.chunks[m.serial]
		delete(t.chunks, m.serial)
		what = fmt.Sprintf("streaming/stop after %d chunks, %d bytes", c.count, c.bytes)
	}
	if m.retained {
		what += " (retained)"
	}
	_, err := fmt.Fprintf(t.w, "%s  %s  %s\n", time.Now().Format(time.TimeOnly), clean(m.serial), what)
	return err
}

// remember limits how much is stored.
func remember[V any](in map[string]V, serial string, v V) {
	if len(in) >= fleet.MaxDevices {
		clear(in)
	}
	in[serial] = v
}

const summaryLength = 200 // characters

// summary is a payload on one line, its long texts (sound) as their length.
func summary(payload []byte) string {
	var object map[string]any
	if json.Unmarshal(payload, &object) != nil {
		if utf8.Valid(payload) && len(payload) <= summaryLength {
			return clean(string(payload))
		}
		return fmt.Sprintf("(%d bytes)", len(payload))
	}
	for key, v := range object {
		if text, ok := v.(string); ok && len(text) > summaryLength {
			object[key] = fmt.Sprintf("(%d characters)", len(text))
		}
	}
	var text strings.Builder
	plain := json.NewEncoder(&text)
	plain.SetEscapeHTML(false)
	if err := plain.Encode(object); err != nil {
		return fmt.Sprintf("(%d bytes)", len(payload))
	}
	return clean(strings.TrimSuffix(text.String(), "\n"))
}

// clean makes a text of a device printable in one line.
func clean(s string) string { return printable.Short(s, summaryLength) }
