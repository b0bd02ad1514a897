package brokertest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"lintod/agent/base/nettest"
)

// natsServer is the environment variable with the path of the program.
const natsServer = "LINTOD_NATS_SERVER"

// clusterLimit is the timeout for a cluster, whose elections take seconds even on
// an idle machine.
const clusterLimit = 2 * time.Minute

// Cluster is three NATS servers on the loopback interface that form one MQTT
// broker.
type Cluster struct {
	t     testing.TB
	nodes []*Node
}

// Node is a node of a cluster.
type Node struct {
	Name string
	Dir  string // directory of the node's files
	// The loopback ports on which the node may listen, and the routes of all nodes.
	Client, Route, MQTT, Websocket int
	Routes                         []int

	monitor int
	cmd     *exec.Cmd
}

// open is a minimal configuration of a node that accepts anonymous clients.
func open(n *Node) string {
	return fmt.Sprintf(`server_name: %s
listen: 127.0.0.1:%d
jetstream { store_dir: %q }
cluster { name: lintod, listen: 127.0.0.1:%d, routes: [nats://127.0.0.1:%d, nats://127.0.0.1:%d, nats://127.0.0.1:%d] }
mqtt { listen: 127.0.0.1:%d }
max_payload: 8MB
`, n.Name, n.Client, n.Dir, n.Route, n.Routes[0], n.Routes[1], n.Routes[2], n.MQTT)
}

// StartCluster runs a cluster until the end of the test. Starting takes some
// seconds, in which the nodes find each other.
func StartCluster(t testing.TB) *Cluster {
	t.Helper()
	return StartClusterAs(t, open)
}

// StartClusterAs is StartCluster with the configuration that the function returns.
func StartClusterAs(t testing.TB, configuration func(*Node) string) *Cluster {
	t.Helper()
	if os.Getenv(natsServer) == "" {
		t.Skipf("SKIPPED, nothing was tested: %s does not name a nats-server (scripts/test builds one)", natsServer)
	}
	c := &Cluster{t: t}
	routes := []int{nettest.FreePort(t), nettest.FreePort(t), nettest.FreePort(t)}
	for i, route := range routes {
		n := &Node{
			Name: fmt.Sprintf("n%d", i+1), Dir: t.TempDir(), Routes: routes, Route: route,
			Client: nettest.FreePort(t), MQTT: nettest.FreePort(t), Websocket: nettest.FreePort(t), monitor: nettest.FreePort(t),
		}
		text := fmt.Sprintf("%s\nhttp: 127.0.0.1:%d\nlog_file: %q\n", configuration(n), n.monitor, n.log())
		if err := os.WriteFile(n.conf(), []byte(text), 0o600); err != nil {
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
		c.await(n)
	}
	return c
}

// Node returns the n-th node, from 0.
func (c *Cluster) Node(n int) *Node { return c.nodes[n] }

func (n *Node) conf() string { return filepath.Join(n.Dir, "nats-server.conf") }
func (n *Node) log() string  { return filepath.Join(n.Dir, "log") }

// await waits until a node is ready.
func (c *Cluster) await(n *Node) {
	c.t.Helper()
	deadline := time.Now().Add(clusterLimit)
	for n.get("healthz", &struct{}{}) != nil {
		if time.Now().After(deadline) {
			log, _ := os.ReadFile(n.log())
			c.t.Fatalf("%s is not ready:\n%s", n.Name, log)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (c *Cluster) start(n *Node) {
	c.t.Helper()
	n.cmd = exec.Command(os.Getenv(natsServer), "-c", n.conf()) //nolint:gosec // the program is set by the caller of the test
	if err := n.cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
}

func (n *Node) kill() {
	if n.cmd != nil {
		_ = n.cmd.Process.Kill()
		_ = n.cmd.Wait()
		n.cmd = nil
	}
}

// URLs are the addresses of the nodes, in the form of the configuration.
func (c *Cluster) URLs() []string {
	var urls []string
	for _, n := range c.nodes {
		urls = append(urls, n.url())
	}
	return urls
}

func (n *Node) url() string { return fmt.Sprintf("mqtt://127.0.0.1:%d", n.MQTT) }

// Sessions is the stream in which the cluster stores the sessions of its
// clients: while it has no leader, no client can connect.
const Sessions = "$MQTT_sess"

// KillLeader kills the node that leads a stream with SIGKILL, and returns its URL.
// A client must have been connected before: the first one creates the streams.
func (c *Cluster) KillLeader(stream string) string {
	c.t.Helper()
	var leader *Node
	Within(c.t, clusterLimit, stream+" has a leader", func() bool {
		leader = c.leader(stream)
		return leader != nil
	})
	leader.kill()
	return leader.url()
}

// Restart starts the killed nodes, and waits until they are ready.
func (c *Cluster) Restart() {
	c.t.Helper()
	for _, n := range c.nodes {
		if n.cmd == nil {
			c.start(n)
			c.await(n)
		}
	}
}

// leader returns the node that reports that it leads a stream, nil if none does.
func (c *Cluster) leader(stream string) *Node {
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
				if s.Name == stream && s.Cluster.Leader == n.Name {
					return n
				}
			}
		}
	}
	return nil
}

func (n *Node) get(path string, into any) error {
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
