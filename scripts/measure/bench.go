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
	"syscall"
	"time"

	"lintod/agent/broker"
	"lintod/agent/config"
)

const patience = 20 * time.Second

// bench is a Mosquitto, and a client that watches what devices publish.
type bench struct {
	dir  string
	port int
	done sync.WaitGroup
	stop context.CancelFunc
	conn *broker.Conn
	seen chan seen
	kill context.CancelFunc // of the broker
}

// seen is a message of a device, and when it came.
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
	if err := b.serve(ctx); err != nil {
		return nil, err
	}
	return b, b.connect(ctx)
}

// serve starts the broker, again after kill.
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
			default: // the broker was killed, and is back
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

// expect waits for a message whose topic begins so.
func (b *bench) expect(topic string) (seen, error) {
	limit := time.After(patience)
	for {
		select {
		case m := <-b.seen:
			if strings.HasPrefix(m.Topic, topic) {
				return m, nil
			}
		case <-limit:
			return seen{}, fmt.Errorf("nothing came on %s", topic)
		}
	}
}

// settings are lines for the tables of a device's configuration. The zero value
// has no sound hardware.
type settings struct {
	linto, audio, more string
	env                []string
}

// device starts lintod and waits until it is online.
func (b *bench) device(ctx context.Context, serial string, s settings) (*exec.Cmd, error) {
	conf := filepath.Join(b.dir, serial+".toml")
	if s.audio == "" {
		s.audio = "input = \"null\"\noutput = \"null\"\n"
	}
	text := fmt.Sprintf("[device]\nserial = %q\nstate_dir = %q\nsocket = %q\nvolume = 100\n[linto]\nenabled = true\nbroker = %q\nscope = \"bench\"\n%s[audio]\n%s%s",
		serial, filepath.Join(b.dir, serial), b.socket(serial), b.url(), s.linto, s.audio, s.more)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		return nil, err
	}
	return b.launch(ctx, serial, s.env, "bin/lintod", "-config", conf)
}

func (b *bench) socket(serial string) string { return filepath.Join(b.dir, serial+".sock") }

func (b *bench) silent(ctx context.Context, serial string) (*exec.Cmd, error) {
	return b.device(ctx, serial, settings{})
}

// node starts the reference: a client in Node that connects, publishes its
// status, and answers pings.
func (b *bench) node(ctx context.Context, serial string) (*exec.Cmd, error) {
	const script = `
const c = require('mqtt').connect(process.argv[1]), t = 'bench/', sn = process.argv[2]
c.on('connect', () => c.subscribe(t + 'tolinto/' + sn + '/#', () =>
  c.publish(t + 'fromlinto/' + sn + '/status', JSON.stringify({connexion: 'online', on: new Date()}))))
c.on('message', () => c.publish(t + 'fromlinto/' + sn + '/pong', '{}'))`
	return b.launch(ctx, serial, nil, "nodejs", "-e", script, b.url(), serial)
}

func (b *bench) launch(ctx context.Context, serial string, env []string, argv ...string) (*exec.Cmd, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), "NODE_PATH=/usr/share/nodejs:/usr/lib/nodejs")
	cmd.Env = append(cmd.Env, env...)
	log := &strings.Builder{}
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	if _, err := b.expect("bench/fromlinto/" + serial + "/status"); err != nil {
		end(cmd)
		return nil, fmt.Errorf("%s: %w: %s", argv[0], err, log)
	}
	return cmd, nil
}

// end kills a process, and its group where it has one of its own: a shell does
// not end with its pipe.
func end(cmd *exec.Cmd) {
	if cmd.SysProcAttr != nil && cmd.SysProcAttr.Setpgid {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}

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
	return errors.New("the echo of mosquitto's clients does not answer")
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

// start measures from the start of the process to its status at the broker.
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
	if err := pause(ctx, 5*time.Second); err != nil { // what the start needed has been given back by then
		return nil, err
	}
	ours, theirs := resident(device.Process.Pid), resident(node.Process.Pid)
	return []row{{
		"memory, online and idle", "MB", ours, &theirs, "the same client in Node", "≤ 16 MB",
	}}, nil
}

func quantile(values []float64, q float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[int(q*float64(len(sorted)-1))]
}
