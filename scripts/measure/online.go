package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"syscall"
	"time"

	"lintod/agent/broker"
)

// ping measures the round trip ping → pong.
func (b *bench) ping(ctx context.Context, rounds int) ([]row, error) {
	const batch = 200
	device, err := b.silent(ctx, "pinged")
	if err != nil {
		return nil, err
	}
	defer end(device)
	// An echo in C: Mosquitto's own clients in a pipe.
	echo := exec.CommandContext(ctx, "sh", "-c", fmt.Sprintf(
		"exec mosquitto_sub -p %d -t bench/tolinto/echo/ping | mosquitto_pub -p %d -t bench/fromlinto/echo/pong -l", b.port, b.port))
	echo.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := echo.Start(); err != nil {
		return nil, err
	}
	defer end(echo)
	if err := b.awaitEcho(ctx); err != nil {
		return nil, err
	}
	times := map[string][]float64{}
	for range rounds {
		for _, serial := range []string{"pinged", "echo"} {
			for range batch {
				took, err := b.roundTrip(ctx, serial)
				if err != nil {
					return nil, err
				}
				times[serial] = append(times[serial], took)
			}
		}
	}
	const by = "mosquitto_sub | mosquitto_pub -l, an echo in C"
	median, p99 := quantile(times["echo"], 0.5), quantile(times["echo"], 0.99)
	return []row{
		{"ping → pong, median", "ms", quantile(times["pinged"], 0.5), &median, by, "≤ 1.15 ×"},
		{"ping → pong, 99 %", "ms", quantile(times["pinged"], 0.99), &p99, by, "≤ 1.15 ×"},
	}, nil
}

// awaitEcho pings until the echo has subscribed.
func (b *bench) awaitEcho(ctx context.Context) error {
	for range 100 {
		if err := b.conn.Publish(ctx, broker.Message{Topic: "bench/tolinto/echo/ping", Payload: []byte("{}")}); err != nil {
			return err
		}
		select {
		case <-b.seen:
			return nil
		case <-time.After(100 * time.Millisecond):
		}
	}
	return errors.New("mosquitto's clients do not echo")
}

func (b *bench) roundTrip(ctx context.Context, serial string) (float64, error) {
	began := time.Now()
	if err := b.conn.Publish(ctx, broker.Message{Topic: "bench/tolinto/" + serial + "/ping", Payload: []byte("{}")}); err != nil {
		return 0, err
	}
	if _, err := b.expect("bench/fromlinto/" + serial + "/pong"); err != nil {
		return 0, err
	}
	return time.Since(began).Seconds() * 1000, nil
}

// start measures the time from the start of the process to its status at the broker.
func (b *bench) start(ctx context.Context, rounds int) ([]row, error) {
	ours, err := b.startTimes(ctx, rounds, b.silent)
	if err != nil {
		return nil, err
	}
	theirs, err := b.startTimes(ctx, rounds, b.node)
	if err != nil {
		return nil, err
	}
	reference := quantile(theirs, 0.5)
	return []row{{
		"start → online, median", "ms", quantile(ours, 0.5), &reference,
		"a client in Node that connects and publishes", "≤ 100 ms, ≤ 0.35 ×",
	}}, nil
}

func (b *bench) startTimes(ctx context.Context, rounds int, launch func(context.Context, string) (*exec.Cmd, error)) ([]float64, error) {
	var times []float64
	for i := range rounds {
		began := time.Now()
		cmd, err := launch(ctx, fmt.Sprintf("start-%d", i))
		if err != nil {
			return nil, err
		}
		times = append(times, time.Since(began).Seconds()*1000)
		end(cmd)
	}
	return times, nil
}

// memory measures the resident memory of a device that is online and idle.
func (b *bench) memory(ctx context.Context, _ int) ([]row, error) {
	device, err := b.silent(ctx, "idle")
	if err != nil {
		return nil, err
	}
	defer end(device)
	node, err := b.node(ctx, "idle-node")
	if err != nil {
		return nil, err
	}
	defer end(node)
	if err := pause(ctx, 5*time.Second); err != nil { // by then the memory for start-up has been released
		return nil, err
	}
	ours, theirs := resident(device.Process.Pid), resident(node.Process.Pid)
	return []row{{
		"memory, online and idle", "MB", ours, &theirs, "the same client in Node", "≤ 16 MB",
	}}, nil
}
