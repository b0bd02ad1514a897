package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"lintod/agent"
	"lintod/agent/base/printable"
	"lintod/agent/control"
	"lintod/agent/turn"
)

func status(ctx context.Context, c *call) error {
	asJSON := c.flags.Bool("json", false, "print JSON")
	cfg, err := c.load(0, 0)
	if err != nil {
		return err
	}
	var raw json.RawMessage
	if err := control.Call(ctx, cfg.Device.Socket, "status", nil, &raw); err != nil {
		return err
	}
	if *asJSON {
		return printJSON(c.stdout, raw)
	}
	var s agent.Status
	if err := json.Unmarshal(raw, &s); err != nil {
		return fmt.Errorf("the daemon's answer is not understood: %w", err)
	}
	return s.Print(c.stdout)
}

func talk(ctx context.Context, c *call) error {
	var args agent.TalkArgs
	wait := c.flags.Bool("wait", false, "tell what happens until the device is idle again; fail when the turn did")
	c.flags.BoolVar(&args.Stop, "stop", false, "that was all: send what was said; while speaking: be quiet")
	c.flags.StringVar(&args.Link, "link", "", "the link to talk to; empty is the first")
	cfg, err := c.load(0, 0)
	if err != nil {
		return err
	}
	if !*wait {
		return control.Call(ctx, cfg.Device.Socket, "talk", args, nil)
	}
	return follow(ctx, cfg, args, c.stdout)
}

// follow opens a turn and tells its story.
func follow(ctx context.Context, cfg agent.Config, args agent.TalkArgs, out io.Writer) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var problem error
	tell := func(raw json.RawMessage) error {
		var n turn.Notice
		if err := json.Unmarshal(raw, &n); err != nil {
			return fmt.Errorf("the daemon's answer is not understood: %w", err)
		}
		printable.Fprintf(out, "%7.2f s  %s\n", n.Since.Seconds(), n.Sentence())
		if n.What == turn.Problem || n.What == turn.Refused {
			problem = errors.New(n.Text)
		}
		if n.What == turn.Refused || n.What == turn.StateChanged && n.State == turn.Idle {
			return io.EOF
		}
		return nil
	}
	err := control.Stream(ctx, cfg.Device.Socket, "follow", args, tell)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return problem
}

func sayText(ctx context.Context, c *call) error {
	cfg, err := c.load(1, 1000)
	if err != nil {
		return err
	}
	return control.Call(ctx, cfg.Device.Socket, "say", agent.SayArgs{Text: strings.Join(c.args, " ")}, nil)
}

// play hands a file over opened: the daemon may not be able to.
func play(ctx context.Context, c *call) error {
	cfg, err := c.load(1, 1)
	if err != nil {
		return err
	}
	if strings.HasPrefix(c.args[0], "http://") || strings.HasPrefix(c.args[0], "https://") {
		return control.Call(ctx, cfg.Device.Socket, "play", agent.PlayArgs{URL: c.args[0]}, nil)
	}
	file, err := os.Open(c.args[0])
	if err != nil {
		return err
	}
	defer file.Close()
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		return fmt.Errorf("%s is no file", c.args[0])
	}
	return control.CallWithFile(ctx, cfg.Device.Socket, "play", agent.PlayArgs{}, file)
}

func ask(ctx context.Context, c *call) error {
	var args agent.AskArgs
	c.flags.StringVar(&args.Link, "link", "", "the link to ask; empty is the first")
	cfg, err := c.load(1, 1000)
	if err != nil {
		return err
	}
	args.Text = strings.Join(c.args, " ")
	var reply agent.AskReply
	if err := control.Call(ctx, cfg.Device.Socket, "ask", args, &reply); err != nil {
		return err
	}
	if reply.Text == "" {
		fmt.Fprintln(c.stderr, "the answer has no words")
		return nil
	}
	printable.Fprintf(c.stdout, "%s\n", reply.Text)
	return nil
}

func stream(ctx context.Context, c *call) error {
	var args agent.StreamArgs
	c.flags.BoolVar(&args.Stop, "stop", false, "that was all")
	cfg, err := c.load(0, 0)
	if err != nil {
		return err
	}
	return control.Call(ctx, cfg.Device.Socket, "stream", args, nil)
}
