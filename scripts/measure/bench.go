package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"lintod/agent/base/config"
	"lintod/agent/broker"
)

const patience = 20 * time.Second

// bench is a Mosquitto, and a client that receives what devices publish.
type bench struct {
	dir  string
	port int
	done sync.WaitGroup
	stop context.CancelFunc
	conn *broker.Conn
	seen chan seen
	kill context.CancelFunc // of the broker
}

// seen is a message of a device, and its time of arrival.
type seen struct {
	broker.Message
	at time.Time
}

func newBench(ctx context.Context) (*bench, error) {
	dir, err := os.MkdirTemp("", "lintod-bench.")
	if err != nil {
		return nil, err
	}
	b := &bench{dir: dir, port: 20000 + rand.IntN(20000), seen: make(chan seen, 1000)}
	ctx, b.stop = context.WithCancel(ctx)
	err = b.serve(ctx)
	if err == nil {
		err = b.connect(ctx)
	}
	if err != nil {
		b.close()
		return nil, err
	}
	return b, nil
}

// serve starts the broker, also again after kill.
func (b *bench) serve(ctx context.Context) error {
	conf := filepath.Join(b.dir, "mosquitto.conf")
	text := fmt.Sprintf("user root\nallow_anonymous true\nlistener %d 127.0.0.1\nset_tcp_nodelay true\n", b.port)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		return err
	}
	ctx, b.kill = context.WithCancel(ctx)
	mosquitto := exec.CommandContext(ctx, "mosquitto", "-c", conf)
	if err := mosquitto.Start(); err != nil {
		return err
	}
	b.done.Go(func() { _ = mosquitto.Wait() })
	return nil
}

// connect starts the watching client.
func (b *bench) connect(ctx context.Context) error {
	online := make(chan struct{}, 1)
	cfg := broker.Defaults()
	cfg.Broker, cfg.ClientID = config.Strings{b.url()}, "bench"
	b.conn = &broker.Conn{
		Config:    cfg,
		Subscribe: []string{"bench/fromlinto/#"},
		Online: func(context.Context) {
			select {
			case online <- struct{}{}:
			default: // the broker was restarted
			}
		},
		Handle: func(_ context.Context, m broker.Message) {
			select {
			case b.seen <- seen{m, time.Now()}:
			default:
			}
		},
		Log: slog.New(slog.DiscardHandler),
	}
	b.done.Go(func() { _ = b.conn.Run(ctx) })
	select {
	case <-online:
		return nil
	case <-time.After(patience):
		return errors.New("mosquitto does not answer")
	}
}

func (b *bench) close() {
	b.stop()
	b.done.Wait()
	_ = os.RemoveAll(b.dir)
}

func (b *bench) url() string { return "mqtt://" + net.JoinHostPort("127.0.0.1", strconv.Itoa(b.port)) }

// expect waits for a message whose topic starts with prefix.
func (b *bench) expect(topic string) (seen, error) {
	limit := time.After(patience)
	for {
		select {
		case m := <-b.seen:
			if strings.HasPrefix(m.Topic, topic) {
				return m, nil
			}
		case <-limit:
			return seen{}, fmt.Errorf("no message on %s", topic)
		}
	}
}

// quantile returns the q quantile, from 0 to 1.
func quantile(values []float64, q float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[int(q*float64(len(sorted)-1))]
}

// pause waits; it fails if ctx ends before.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
