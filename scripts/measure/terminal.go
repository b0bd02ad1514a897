package main

import (
	"context"
	"fmt"
	"time"

	"lintod/agent"
	"lintod/agent/broker"
	"lintod/agent/control"
	"lintod/agent/turn"
)

// terminal is a device whose turns are measured.
type terminal struct {
	*bench
	serial string
	pid    int
}

// terminal starts a device and waits until its microphone is warm.
func (b *bench) terminal(ctx context.Context, serial string, s settings) (t terminal, stop func(), err error) {
	cmd, err := b.device(ctx, serial, s)
	if err != nil {
		return t, nil, err
	}
	t = terminal{b, serial, cmd.Process.Pid}
	warm := func(s agent.Status) bool { return s.Mic.Frames > 50 && !s.Turn.Flags.Offline }
	if err := t.wait(ctx, "warm", warm); err != nil {
		end(cmd)
		return t, nil, err
	}
	return t, func() { end(cmd) }, nil
}

func (t terminal) status(ctx context.Context) (s agent.Status, err error) {
	return s, control.Call(ctx, t.socket(t.serial), "status", nil, &s)
}

func (t terminal) wait(ctx context.Context, what string, ok func(agent.Status) bool) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		if s, err := t.status(ctx); err == nil && ok(s) {
			return nil
		}
		if pause(ctx, 20*time.Millisecond) != nil {
			return fmt.Errorf("%s never became %s", t.serial, what)
		}
	}
}

func idle(s agent.Status) bool { return s.Turn.State == turn.Idle }

func (t terminal) talk(ctx context.Context, stop bool) error {
	return control.Call(ctx, t.socket(t.serial), "talk", agent.TalkArgs{Stop: stop}, nil)
}

func (t terminal) tell(ctx context.Context, topic, payload string) error {
	return t.conn.Publish(ctx, broker.Message{Topic: "bench/tolinto/" + t.serial + "/" + topic, Payload: []byte(payload), QoS: 1})
}

// next waits for a message whose topic begins so.
func (t terminal) next(topic string) (seen, error) {
	return t.expect("bench/fromlinto/" + t.serial + "/" + topic)
}
