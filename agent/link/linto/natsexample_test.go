package linto

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"lintod/agent/base/config"
	"lintod/agent/broker"
	"lintod/agent/broker/brokertest"
	"lintod/agent/link"
)

const natsExamples = "../../../packaging/examples/nats/"

// TestNATSExampleEnforcesItsAccounts runs the documented example of a
// cluster; only addresses, paths and passwords are replaced.
func TestNATSExampleEnforcesItsAccounts(t *testing.T) {
	keys := t.TempDir()
	cert, key := filepath.Join(keys, "node.pem"), filepath.Join(keys, "node.key")
	out, err := exec.Command("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
		"-keyout", key, "-out", cert, "-days", "2", "-subj", "/CN=node", "-addext", "subjectAltName=IP:127.0.0.1").CombinedOutput()
	if err != nil {
		t.Fatalf("openssl: %v: %s", err, out)
	}
	hash, err := bcrypt.GenerateFromPassword([]byte("secret"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	users := strings.ReplaceAll(example(t, "users.conf"), "HASH", string(hash))
	// A second device, as an administrator would add it.
	first := users[strings.Index(users, "    { user: kitchen-01"):strings.LastIndex(users, "  ]")]
	users = strings.Replace(users, first, first+strings.ReplaceAll(first, "kitchen-01", "hall-02"), 1)

	conf := example(t, "nats-server.conf")
	c := brokertest.StartClusterAs(t, func(n *brokertest.Node) string {
		if err := os.WriteFile(filepath.Join(n.Dir, "users.conf"), []byte(users), 0o600); err != nil {
			t.Fatal(err)
		}
		replace := []string{
			"server_name: n1", "server_name: " + n.Name, "/var/lib/nats", n.Dir,
			"/etc/nats/node.pem", cert, "/etc/nats/node.key", key, "/etc/nats/ca.pem", cert,
			"127.0.0.1:4222", fmt.Sprintf("127.0.0.1:%d", n.Client), "0.0.0.0:6222", fmt.Sprintf("127.0.0.1:%d", n.Route),
			"0.0.0.0:8883", fmt.Sprintf("127.0.0.1:%d", n.MQTT), "0.0.0.0:443", fmt.Sprintf("127.0.0.1:%d", n.Websocket),
		}
		for i, route := range n.Routes {
			replace = append(replace, fmt.Sprintf("n%d.example:6222", i+1), fmt.Sprintf("127.0.0.1:%d", route))
		}
		return strings.NewReplacer(replace...).Replace(conf)
	})
	at := func(i int) string { return fmt.Sprintf("mqtts://127.0.0.1:%d", c.Node(i).MQTT) }
	password := filepath.Join(keys, "password")
	if err := os.WriteFile(password, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	account := func(user, address string) broker.Config {
		conf := broker.Defaults()
		conf.Broker, conf.CAFile, conf.Username, conf.PasswordFile = config.Strings{address}, cert, user, password
		conf.ClientID = "test-" + user
		return conf
	}

	// Each step is one that a reader of the example would take.
	device := Config{Config: account("kitchen-01", at(0)), Scope: "blk"}
	place := link.Place{Serial: "kitchen-01", Readable: func(path string) string { return path }}
	brokertest.Within(t, patience, "the doctor accepts kitchen-01", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), brokertest.Limit)
		defer cancel()
		err := device.Try(ctx, place)
		if err != nil {
			t.Log(err) // the first client makes the cluster's streams, which takes a while
		}
		return err == nil
	})
	refused := func(what string, account broker.Config) {
		t.Helper()
		stranger := Config{Config: account, Scope: "blk"}
		brokertest.Within(t, patience, what+" is refused", func() bool {
			err := stranger.Try(t.Context(), place)
			if !broker.Refused(err) {
				t.Logf("%s: %v", what, err)
			}
			return broker.Refused(err)
		})
	}
	refused("hall-02 as kitchen-01", account("hall-02", at(1)))
	guess := account("kitchen-01", at(2))
	guess.PasswordFile = filepath.Join(keys, "guess")
	if err := os.WriteFile(guess.PasswordFile, []byte("guess\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	refused("kitchen-01 with another password", guess)

	kitchen := newClient(t, account("kitchen-01", at(0)), "blk/tolinto/kitchen-01/#")
	hall := newClient(t, account("hall-02", at(2)), "blk/tolinto/hall-02/#")
	admin := newClient(t, account("linto", at(1)), "blk/fromlinto/#")
	web := newClient(t, account("linto", fmt.Sprintf("wss://127.0.0.1:%d/mqtt", c.Node(2).Websocket)), "blk/fromlinto/#")
	// Forged messages first: the broker drops them without an answer.
	hall.say("blk/fromlinto/kitchen-01/status", "forged")
	hall.say("blk/tolinto/kitchen-01/say", "forged")
	kitchen.say("blk/tolinto/hall-02/say", "forged")
	for _, reader := range []*client{admin, web} {
		hall.reaches(reader, "blk/fromlinto/hall-02/pong", "hall")
		kitchen.reaches(reader, "blk/fromlinto/kitchen-01/pong", "kitchen")
	}
	admin.reaches(kitchen, "blk/tolinto/kitchen-01/ping", "admin")
	web.reaches(hall, "blk/tolinto/hall-02/ping", "web")
	for c, want := range map[*client]string{kitchen: "admin", hall: "web", admin: "hall kitchen", web: "hall kitchen"} {
		if got := c.heard(); got != want {
			t.Errorf("%s received %q, want %q", c.Config.Username, got, want)
		}
	}
}

func example(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(natsExamples + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// client is a client of an account, with which tests publish.
type client struct {
	*broker.Conn
	t  *testing.T
	mu sync.Mutex
	// received is the set of payloads.
	received map[string]bool
}

func newClient(t *testing.T, conf broker.Config, filter string) *client {
	t.Helper()
	c := &client{t: t, received: map[string]bool{}}
	conf.ClientID += fmt.Sprintf("-%d", time.Now().UnixNano())
	c.Conn = &broker.Conn{
		Config: conf, Subscribe: []string{filter}, Log: slog.New(slog.DiscardHandler),
		Handle: func(_ context.Context, m broker.Message) {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.received[string(m.Payload)] = true
		},
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = c.Run(ctx) }()
	t.Cleanup(func() { stop(); <-ended })
	brokertest.Within(t, patience, conf.Username+" is online", c.Connected)
	return c
}

func (c *client) say(topic, payload string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), brokertest.Limit)
	defer cancel()
	if err := c.Publish(ctx, broker.Message{Topic: topic, Payload: []byte(payload), QoS: 1}); err != nil {
		c.t.Fatal(err)
	}
}

// reaches publishes until other gets the message. A node that does not yet know
// of a subscription on another node drops the message.
func (c *client) reaches(other *client, topic, payload string) {
	c.t.Helper()
	next := time.Now()
	brokertest.Within(c.t, patience, payload+" reaches "+other.Config.Username, func() bool {
		if !time.Now().Before(next) {
			c.say(topic, payload)
			next = time.Now().Add(time.Second)
		}
		return slices.Contains(strings.Fields(other.heard()), payload)
	})
}

// heard returns the payloads that c has received, sorted.
func (c *client) heard() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.Join(slices.Sorted(maps.Keys(c.received)), " ")
}
