package main

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"lintod/agent/broker/brokertest"
)

// An older client does not use ids. LinTO's own commands work, and the others are
// rejected at once, because waiting for their answer may take half an hour.
func TestVerbsOfOldClients(t *testing.T) {
	fresh(t)
	m := brokertest.Start(t)
	playDevice(t, m, "old")
	key := filepath.Join(t.TempDir(), "id")
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key).CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	for args, want := range map[string]int{
		"ls old": 0, "ping old": 0, "meeting list old": 0, "say old hello": 0, "volume old 40 -keep": 0, "mute old": 0, "unmute old": 0,
		"lang old fr-FR": 0, "exec old -- uptime": 0, "meeting start old board": 0, "meeting stop old board": 0,
		"ask old hello": statusFailed, "counters old": statusFailed, "doctor old": statusFailed, "log old -f": statusFailed, "reboot old": statusFailed,
		"config get old": statusFailed, "config diff old a=1": statusFailed, "config set old a=1": statusFailed, "config undo old": statusFailed,
		"upgrade old 0.2.0 " + strings.Repeat("0", 64): statusFailed,
		"mute old -sign " + key:                        statusFailed,
	} {
		status, out, errs := lintoctl(t.Context(), on(m, append(strings.Fields(args), "-timeout", "1h")...)...)
		if status != want {
			t.Errorf("%s: status %d\n%s%s", args, status, out, errs)
		}
	}
	// A signed command does not wait for an offline device either.
	if status, _, errs := lintoctl(t.Context(), on(m, "reboot", "attic", "-sign", key, "-timeout", "500ms")...); status != statusUnreached {
		t.Errorf("status %d\n%s", status, errs)
	}
}
