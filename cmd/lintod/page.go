package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"lintod/agent"
	"lintod/agent/control"
	"lintod/cmd/internal/cli"
)

// redirect is a page that opens the address, so that it is not in a browser's arguments, which
// every user of the machine can read. The address is JSON, which escapes what would end the script
// (html/template would add 4 MB to the program).
const redirect = `<!doctype html>
<meta charset="utf-8">
<title>lintod</title>
<script>location.replace(%s)</script>
`

func (c *call) page() *cobra.Command {
	var args agent.PageArgs
	var file string
	cmd := &cobra.Command{
		Use:   "page",
		Short: "print an address of the device's web page",
		Long: `Print an address of the device's web page ([page] in the configuration). It can be
opened once, within ten minutes, by a browser on this device; the browser may then use
the page until lintod restarts. From another computer, first open a tunnel:
ssh -L 8090:127.0.0.1:8090 DEVICE`,
		Example: "  lintod page",
		Args:    cli.Args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := c.load()
			if err != nil {
				return err
			}
			var reply agent.PageReply
			if err := control.Call(cmd.Context(), cfg.Device.Socket, "page", args, &reply); err != nil {
				return err
			}
			if file == "" {
				_, err = fmt.Fprintln(c.stdout, reply.URL)
				return err
			}
			return writeRedirect(file, reply.URL)
		},
	}
	cmd.Flags().BoolVar(&args.Kiosk, "kiosk", false, "open the view for a screen on the device: the face, and touch buttons")
	cmd.Flags().StringVar(&file, "file", "", "write a web page that redirects to the address to this `FILE`, readable by its owner only, and print nothing")
	return cmd
}

func writeRedirect(name, address string) error {
	quoted, err := json.Marshal(address)
	if err != nil {
		return err
	}
	if err := os.Remove(name); err != nil && !os.IsNotExist(err) {
		return err
	}
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(file, redirect, quoted); err != nil {
		file.Close()
		return err
	}
	return file.Close()
}
