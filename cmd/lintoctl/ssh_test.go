package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lintod/agent/base/nettest"
	"lintod/agent/base/sshdtest"
	"lintod/agent/broker/brokertest"
)

// An administrator logs in to a real device through a real relay, and no tunnel
// stays open.
func TestSSH(t *testing.T) {
	fresh(t)
	m := brokertest.Start(t)
	// One sshd serves as the relay's and the device's.
	r := sshdtest.Start(t, sshdtest.NewKey(t), "")
	dir, user := t.TempDir(), sshdtest.User(t)
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	login, seenHosts := write("login", r.Login.PEM), filepath.Join(dir, "seen_hosts")
	sshConfig := write("ssh_config", fmt.Sprintf("Host *\nIdentityFile %s\nIdentitiesOnly yes\nBatchMode yes\nStrictHostKeyChecking accept-new\nUserKnownHostsFile %s\nLogLevel ERROR\n",
		login, seenHosts))
	startDevice(t, m, "kitchen", fmt.Sprintf("[behaviors.startreversessh]\nenabled = true\nallow_hosts = %q\nallow_users = %q\nlocal_ports = %q\nkey = %q\nknown_hosts = %q\n",
		r.Address(), user, fmt.Sprint(r.Port), login, write("known_hosts", r.KnownHosts())))
	ssh := func(via string, rest ...string) (int, string, string) {
		return lintoctl(t.Context(), on(m, append([]string{
			"ssh", "kitchen", "-wait-online", "30s", "-via", fmt.Sprintf("%s:%d", via, r.Port),
			"-device-port", fmt.Sprint(r.Port), "-ssh", "ssh -F " + sshConfig,
		}, rest...)...)...)
	}
	port := nettest.FreePort(t)
	status, out, errs := ssh(user+"@127.0.0.1", "-port", fmt.Sprint(port), "--", `echo "it's $((6 * 7))"; exit 7`)
	if status != 7 || out != "it's 42\n" {
		t.Fatalf("status %d, %q\n%s", status, out, errs)
	}
	if nettest.Listens(port) {
		t.Error("the tunnel is still open")
	}
	seen, err := os.ReadFile(seenHosts)
	if err != nil || !strings.Contains(string(seen), "kitchen ") {
		t.Errorf("known are %s, %v", seen, err)
	}
	if status, out, errs := ssh("stranger@127.0.0.1", "--", "true"); status != statusNotRun || out != "" || !strings.Contains(errs, "allow_users") {
		t.Errorf("another user: status %d, %q\n%s", status, out, errs)
	}
	// If ssh itself fails, the tunnel is closed as well.
	if status, _, errs := ssh(user+"@127.0.0.1", "-port", fmt.Sprint(port), "-jump", "none", "-login", "nobody-of-that-name", "--", "true"); status != statusNotRun || nettest.Listens(port) {
		t.Errorf("a wrong name: status %d, open %v\n%s", status, nettest.Listens(port), errs)
	}
	if status, _, errs := lintoctl(t.Context(), on(m, "ssh", "nobody", "-via", "a@b", "-timeout", "200ms")...); status != statusUnreached {
		t.Errorf("no device: status %d\n%s", status, errs)
	}
	for _, args := range []string{"ssh", "ssh kitchen", "ssh kitchen -via relay", "ssh a b -via a@b", "ssh kitchen -via a@b -port 70000", "ssh kitchen -via -oX@b"} {
		if status, _, errs := lintoctl(t.Context(), on(m, strings.Fields(args)...)...); status != statusUsage {
			t.Errorf("%s: status %d\n%s", args, status, errs)
		}
	}
}
