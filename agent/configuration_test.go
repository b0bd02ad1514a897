package agent

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"lintod/agent/broker/brokertest"
)

// An administrator pushes a configuration with a wrong broker address to fifty
// devices. Each reverts to its previous configuration and reports that.
func TestInvalidConfigurationIsRevertedByAFleet(t *testing.T) {
	const devices = 50
	m := brokertest.Start(t)
	watch := m.Watch("blk/fromlinto/#")
	root, err := os.MkdirTemp("", "fleet") // short: a socket's path has a limit
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(root) })
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	serial := func(i int) string { return fmt.Sprintf("device-%d", i) }
	files := map[string]string{}
	for i := range devices {
		dir := filepath.Join(root, fmt.Sprint(i))
		path := filepath.Join(dir, "lintod.toml")
		text := fmt.Sprintf("[device]\nserial = %q\nstate_dir = %q\nsocket = %q\n[linto]\nenabled = true\nbroker = %q\nkeepalive = \"1m\"\n"+
			"[audio]\ninput = \"null\"\noutput = \"null\"\n[behaviors.config]\nenabled = true\nprobation = \"5s\"\n",
			serial(i), dir, filepath.Join(dir, "sock"), m.URL())
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		files[path] = text
		cfg, err := LoadConfig(path)
		if err != nil {
			t.Fatal(err)
		}
		s := &Service{Path: path, Config: cfg, Log: slog.New(slog.DiscardHandler)}
		all.Go(func() {
			if err := s.Run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	online := func() int {
		last := map[string]any{}
		for _, msg := range watch.All() {
			if brokertest.Topic("/status")(msg) {
				last[msg.Topic] = msg.JSON(t)["connexion"]
			}
		}
		n := 0
		for _, connexion := range last {
			if connexion == "online" {
				n++
			}
		}
		return n
	}
	brokertest.Eventually(t, "all are online", func() bool { return online() == devices })
	for i := range devices {
		m.Publish("blk/tolinto/"+serial(i)+"/config", `{"action":"set","change":"linto.broker = 'mqtt://127.0.0.1:1'","id":"wrong"}`)
	}
	answers := map[string]string{}
	brokertest.Eventually(t, "all have answered", func() bool {
		for _, msg := range watch.All() {
			if brokertest.Topic("/config")(msg) {
				answers[msg.Topic] = fmt.Sprint(msg.JSON(t)["status"])
			}
		}
		return len(answers) == devices
	})
	for topic, status := range answers {
		if !strings.HasPrefix(status, "failed: ") {
			t.Errorf("%s: %s", topic, status)
		}
	}
	brokertest.Eventually(t, "all are online again", func() bool { return online() == devices })
	for path, text := range files {
		if now, err := os.ReadFile(path); err != nil || string(now) != text {
			t.Errorf("%s: %v, %s", path, err, now)
		}
	}
}
