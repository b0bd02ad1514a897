package brokertest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// natsServer is the environment variable with the path of the program.
const natsServer = "LINTOD_NATS_SERVER"

// clusterLimit is how long a test waits for a cluster, whose elections take seconds
// on a machine that is not busy.
const clusterLimit = 2 * time.Minute

// Cluster is three NATS servers on the loopback, which are one MQTT broker.
type Cluster struct {
	t     testing.TB
	nodes []*node
}

type node struct {
	name          string
	mqtt, monitor int // ports
	conf, log     string
	cmd           *exec.Cmd
}

// StartCluster runs a cluster until the end of the test. It takes some seconds, in
// which the nodes find each other.
func StartCluster(t testing.TB) *Cluster {
	t.Helper()
	if os.Getenv(natsServer) == "" {
		t.Skipf("SKIPPED, nothing was tested: %s does not name a nats-server (scripts/test builds one)", natsServer)
	}
	c := &Cluster{t: t}
	var routes []string
	var listen [3]int
	for i := range listen {
		listen[i] = FreePort(t)
		routes = append(routes, fmt.Sprintf("nats://127.0.0.1:%d", listen[i]))
	}
	dir := t.TempDir()
	for i := range listen {
		n := &node{name: fmt.Sprintf("n%d", i+1), mqtt: FreePort(t), monitor: FreePort(t)}
		n.conf, n.log = filepath.Join(dir, n.name+".conf"), filepath.Join(dir, n.name+".log")
		text := fmt.Sprintf(`server_name: %s
listen: 127.0.0.1:%d
http: 127.0.0.1:%d
log_file: %q
jetstream { store_dir: %q }
cluster { name: lintod, listen: 127.0.0.1:%d, routes: [%s] }
mqtt { listen: 127.0.0.1:%d }
max_payload: 8MB
`, n.name, FreePort(t), n.monitor, n.log, filepath.Join(dir, n.name), listen[i], strings.Join(routes, ", "), n.mqtt)
		if err := os.WriteFile(n.conf, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c.nodes = append(c.nodes, n)
	}
	t.Cleanup(func() {
		for _, n := range c.nodes {
			n.kill()
		}
	})
	for _, n := range c.nodes {
		c.start(n)
	}
	for _, n := range c.nodes {
		Within(t, clusterLimit, n.name+" is ready", n.healthy)
	}
	return c
}

func (c *Cluster) start(n *node) {
	c.t.Helper()
	n.cmd = exec.Command(os.Getenv(natsServer), "-c", n.conf) //nolint:gosec // who runs the test names the program
	if err := n.cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
}

func (n *node) kill() {
	if n.cmd != nil {
		_ = n.cmd.Process.Kill()
		_ = n.cmd.Wait()
		n.cmd = nil
	}
}

// URLs are the addresses of the nodes, as the configuration wants them.
func (c *Cluster) URLs() []string {
	var urls []string
	for _, n := range c.nodes {
		urls = append(urls, n.url())
	}
	return urls
}

func (n *node) url() string { return fmt.Sprintf("mqtt://127.0.0.1:%d", n.mqtt) }

// Sessions is the stream in which the cluster keeps the sessions of its clients:
// while it has no leader, nobody can connect.
const Sessions = "$MQTT_sess"

// KillLeader ends the node that leads a stream with SIGKILL, and returns the URL
// at which it was. There must have been a client: with the first come the streams.
func (c *Cluster) KillLeader(stream string) string {
	c.t.Helper()
	var leader *node
	Within(c.t, clusterLimit, stream+" has a leader", func() bool {
		leader = c.leader(stream)
		return leader != nil
	})
	leader.kill()
	return leader.url()
}

// Restart starts the nodes that were killed, and waits until they are ready.
func (c *Cluster) Restart() {
	c.t.Helper()
	for _, n := range c.nodes {
		if n.cmd == nil {
			c.start(n)
			Within(c.t, clusterLimit, n.name+" is ready", n.healthy)
		}
	}
}

// Pids are the processes of the nodes that run.
func (c *Cluster) Pids() []int {
	var pids []int
	for _, n := range c.nodes {
		if n.cmd != nil {
			pids = append(pids, n.cmd.Process.Pid)
		}
	}
	return pids
}

// leader is the node that says of itself that it leads a stream, nil if none does.
func (c *Cluster) leader(stream string) *node {
	for _, n := range c.nodes {
		var state struct {
			Accounts []struct {
				Streams []struct {
					Name    string
					Cluster struct{ Leader string }
				} `json:"stream_detail"`
			} `json:"account_details"`
		}
		if n.get("jsz?streams=1", &state) != nil {
			continue
		}
		for _, a := range state.Accounts {
			for _, s := range a.Streams {
				if s.Name == stream && s.Cluster.Leader == n.name {
					return n
				}
			}
		}
	}
	return nil
}

func (n *node) healthy() bool { return n.get("healthz", &struct{}{}) == nil }

func (n *node) get(path string, into any) error {
	client := http.Client{Timeout: 5 * time.Second}
	answer, err := client.Get(fmt.Sprintf("http://127.0.0.1:%d/%s", n.monitor, path))
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", path, answer.Status)
	}
	return json.NewDecoder(answer.Body).Decode(into)
}
