package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"lintod/agent"
	"lintod/agent/base/printable"
	"lintod/audio"
	"lintod/cmd/internal/cli"
	"lintod/gpio"
)

func (c *call) devices() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "devices",
		Short: "list microphones and speakers, with their names for the configuration",
		Long: `List microphones and speakers by their names for lintod.toml(5), the programs that
use them, and those selected by the configuration; and the sound board that was
recognised. The running daemon is not affected.`,
		Example: "  lintod devices -json",
		Args:    cli.Args(0, 0),
	}
	asJSON := cmd.Flags().Bool("json", false, "print JSON")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return c.listDevices(cmd.Context(), *asJSON) }
	return cmd
}

func (c *call) listDevices(ctx context.Context, asJSON bool) error {
	cfg, err := agent.LoadConfig(c.config)
	if err != nil { // the list may be needed to fix it
		fmt.Fprintln(c.stderr, "The configuration is missing or invalid, so no device is marked as selected; run lintod check for details.")
	}
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	list, err := agent.ReportDevices(ctx, cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	boards := gpio.Recognise("/")
	if asJSON {
		return printJSON(c.stdout, map[string]any{"sound": list, "boards": boards})
	}
	for _, b := range boards {
		printable.Fprintf(c.stdout, "This looks like a %s (%s). To use its buttons and LEDs:\n\n", b.Preset.Title, b.Why)
		fmt.Fprintln(c.stdout, b.TOML())
	}
	if len(list) == 0 {
		fmt.Fprintln(c.stdout, "No sound device was found. Plug in a USB device, or, for a board, add its dtoverlay to")
		fmt.Fprintln(c.stdout, "/boot/firmware/config.txt and reboot; `arecord -l` and `aplay -l` list the kernel's cards.")
		fmt.Fprintln(c.stdout, "To run without sound hardware, set input and output in [audio] to \"null\" or a file, such as \"file:/srv/question.wav\".")
		return nil
	}
	return printDevices(c.stdout, list)
}

func printDevices(w io.Writer, list []agent.DeviceReport) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NAME\tRECORDS\tPLAYS\tRATE\tSELECTED AS\tIN USE BY\t")
	for _, d := range list {
		printable.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", d.Name, channels(d.Device, d.Inputs), channels(d.Device, d.Outputs),
			orDash(d.Rate > 0, strconv.Itoa(d.Rate)), orDash(d.Role() != "", d.Role()), orDash(d.Use() != "", d.Use()), d.Label)
	}
	return t.Flush()
}

// A device without a rate is in use, so its channels are unknown.
func channels(d audio.Device, n int) string {
	if n > 0 && d.Rate == 0 {
		return "yes"
	}
	return orDash(n > 0, fmt.Sprintf("%d ch", n))
}

func orDash(ok bool, s string) string {
	if !ok {
		return "-"
	}
	return s
}
