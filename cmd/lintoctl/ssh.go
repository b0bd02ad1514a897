package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"lintod/cmd/internal/cli"
	"lintod/cmd/lintoctl/runs"
)

const (
	// sshTakes is how long a device may take to log in at the relay.
	sshTakes = time.Minute
	// closeLimit is how long to wait for the device to close the tunnel; it also closes it after
	// max_life.
	closeLimit = 20 * time.Second
	// firstPort and ports define the range for a random port of the relay.
	firstPort, ports = 20000, 10000
)

// sshFlags are the flags of the command ssh.
type sshFlags struct {
	runFlags
	via, jump, login, program string
	port, devicePort          int
}

// ssh opens a reverse tunnel of a device, and a session through it.
func (c *call) ssh() *cobra.Command {
	var f sshFlags
	cmd := &cobra.Command{
		Use: "ssh SERIAL [-- COMMAND]", Short: "log in to a device through a relay",
		Long: `Make a device open a reverse tunnel to a relay, run ssh through the tunnel, and close the
device's tunnels when ssh exits. A relay is any server with sshd that both the device and this
computer can reach. The owner of the device must allow it in [behaviors.startreversessh] of
lintod.toml(5), which also names the private key with which the device logs in there.

-via is the relay, with the user as which the device logs in there. This computer connects to
the relay by "ssh -J", as the same user unless -jump is given; use -jump none if the relay is
this computer. ssh stores the device's host key under its serial number.

Input and output are those of ssh, and so is the exit status. It is also 255 if the device does
not open the tunnel, and 3 if the device was not reached.`,
		Example: `  lintoctl ssh kitchen -via tunnel@relay.example
  lintoctl ssh kitchen -via tunnel@relay.example:2222 -jump ann@relay.example -login pi -- uptime`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := c.check(); err != nil {
				return err
			}
			names, command := args, []string(nil)
			if dash := cmd.ArgsLenAtDash(); dash >= 0 {
				names, command = args[:dash], args[dash:]
			}
			if len(names) != 1 {
				return cli.Usagef("wrong number of arguments; want %s %s", cmd.Root().Name(), cmd.Use)
			}
			open, err := f.order()
			if err != nil {
				return cli.Usagef("%w", err)
			}
			sel, err := f.selection(c, names)
			if err != nil {
				return err
			}
			h, chosen, _, err := c.choose(cmd.Context(), sel, topics([]runs.Order{open, closeTunnel()})...)
			if err != nil {
				return err
			}
			defer h.close()
			if len(chosen) != 1 {
				return cli.Usagef("%s matches %d devices; ssh requires exactly one", clean(names[0]), len(chosen))
			}
			return c.session(cmd.Context(), h, chosen[0], open, &f, command)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.via, "via", "", "`RELAY` for the tunnel: USER@HOST or USER@HOST:PORT")
	flags.StringVar(&f.jump, "jump", "", "`RELAY` as this computer reaches it, as for ssh -J, or none; -via unless given")
	flags.StringVar(&f.login, "login", "", "`NAME` of the user on the device; chosen by ssh unless given")
	flags.IntVar(&f.port, "port", 0, "`PORT` to open on the relay; a random one from 20000 to 29999 unless given")
	flags.IntVar(&f.devicePort, "device-port", 22, "`PORT` of sshd on the device")
	flags.StringVar(&f.program, "ssh", "ssh", "`COMMAND` to run instead of ssh, with arguments and without a shell")
	flags.DurationVar(&f.waitOnline, "wait-online", 0, "`DURATION` to wait for a device that is away")
	f.registerSign(flags)
	cmd.ValidArgsFunction = c.completeSerials
	return cmd
}

// order opens the tunnel (protocol 1.8; in LinTO, ports are strings).
func (f *sshFlags) order() (runs.Order, error) {
	user, host, ok := strings.Cut(f.via, "@")
	switch {
	case !ok || user == "" || host == "" || strings.HasPrefix(f.via, "-") || strings.HasPrefix(f.jump, "-"):
		return runs.Order{}, fmt.Errorf("invalid -via %q or -jump %q; want relays, such as tunnel@relay.example", f.via, f.jump)
	case f.port < 0 || f.port > 65535 || f.devicePort < 1 || f.devicePort > 65535:
		return runs.Order{}, fmt.Errorf("invalid -port %d or -device-port %d; want numbers up to 65535", f.port, f.devicePort)
	case len(strings.Fields(f.program)) == 0:
		return runs.Order{}, errors.New("-ssh is empty")
	}
	if f.port == 0 {
		f.port = firstPort + rand.N(ports)
	}
	o := order("startreversessh", map[string]string{
		"remoteHost": host, "remoteUser": user, "remoteSSHPort": strconv.Itoa(f.port), "mySSHPort": strconv.Itoa(f.devicePort),
	})
	o.Takes = sshTakes
	return o, nil
}

func closeTunnel() runs.Order { return order("stopreversessh", struct{}{}) }

// session opens the tunnel, runs ssh, and closes the tunnel, also after an interruption.
func (c *call) session(ctx context.Context, h *hub, serial string, open runs.Order, f *sshFlags, command []string) error {
	a := &asker{hub: h, id: runs.NewID(time.Now()), orders: []runs.Order{open}, waitOnline: f.waitOnline}
	if f.sign != "" {
		var err error
		if a.sealer, err = c.sealer(ctx, &f.runFlags, func() []string { return []string{serial} }); err != nil {
			return err
		}
	}
	opened := a.ask(ctx, ctx, serial, func() {})
	if opened.State == runs.NoAnswer || ctx.Err() != nil { // it may be open anyway
		return errors.Join(c.notOpened(opened), c.closeTunnel(ctx, a, serial))
	}
	if err := c.notOpened(opened); err != nil {
		return err
	}
	args := strings.Fields(f.program)
	args = append(args, "-p", strconv.Itoa(f.port), "-o", "HostKeyAlias="+serial)
	if jump := cmp.Or(f.jump, f.via); jump != "none" {
		args = append(args, "-J", jump)
	}
	if f.login != "" {
		args = append(args, "-l", f.login)
	}
	args = append(args, "--", "127.0.0.1")
	child := exec.CommandContext(ctx, args[0], slices.Concat(args[1:], command)...)
	child.Stdin, child.Stdout, child.Stderr = c.stdin, c.stdout, c.stderr
	child.Cancel = func() error { return child.Process.Signal(os.Interrupt) }
	child.WaitDelay = 5 * time.Second
	err := child.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err, c.status = nil, statusNotRun
		if code := exit.ExitCode(); code > 0 {
			c.status = code
		}
	}
	return errors.Join(err, c.closeTunnel(ctx, a, serial))
}

// notOpened reports why the tunnel was not opened.
func (c *call) notOpened(r runs.Result) error {
	var a struct {
		Status string `json:"reversesshstatus"` // as documented by LinTO
	}
	_ = json.Unmarshal(r.Answer, &a) // outcome has parsed the status
	if r.State == runs.Done && a.Status != "" && a.Status != "ok" {
		r.State, r.Reason = runs.Failed, clean(a.Status)
	}
	if r.State == runs.Done {
		return nil
	}
	c.status = statusNotRun
	if !r.State.Reached() {
		c.status = statusUnreached
	}
	return fmt.Errorf("%s: %s: %s", clean(r.Serial), r.State, r.Reason)
}

// closeTunnel makes the device close the tunnel.
func (c *call) closeTunnel(ctx context.Context, a *asker, serial string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeLimit)
	defer cancel()
	end := *a
	end.id, end.orders, end.waitOnline = runs.NewID(time.Now()), []runs.Order{closeTunnel()}, 0
	if r := end.ask(ctx, ctx, serial, func() {}); r.State != runs.Done {
		return fmt.Errorf("%s: the tunnel may remain open until its time limit: %s", clean(serial), cmp.Or(r.Reason, string(r.State)))
	}
	return nil
}
