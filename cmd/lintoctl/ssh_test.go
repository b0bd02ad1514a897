package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lintod/agent/broker/brokertest"
)

// relay is a real sshd, which is at once that of the relay and that of the device.
type relay struct {
	user, dir string
	port      int
	sshConfig string // of the local ssh, which has a key for it
}

func startRelay(t *testing.T) *relay {
	t.Helper()
	program, err := exec.LookPath("/usr/sbin/sshd")
	if err != nil {
		t.Skipf("SKIPPED: no sshd; install openssh-server: %v", err)
	}
	if os.Getuid() == 0 {
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
			t.Fatal(err)
		}
	}
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{user: me.Username, dir: t.TempDir(), port: brokertest.FreePort(t)}
	for _, name := range []string{"host", "login"} {
		if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", r.file(name)).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	host, err := os.ReadFile(r.file("host.pub"))
	if err != nil {
		t.Fatal(err)
	}
	r.write(t, "known_hosts", fmt.Sprintf("[127.0.0.1]:%d %s", r.port, host))
	r.sshConfig = r.write(t, "ssh_config", fmt.Sprintf("Host *\nIdentityFile %s\nIdentitiesOnly yes\nBatchMode yes\nStrictHostKeyChecking accept-new\nUserKnownHostsFile %s\nLogLevel ERROR\n",
		r.file("login"), r.file("seen_hosts")))
	config := r.write(t, "sshd_config", fmt.Sprintf("Port %d\nListenAddress 127.0.0.1\nHostKey %s\nAuthorizedKeysFile %s\nPidFile none\nStrictModes no\nUsePAM no\n"+
		"PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n", r.port, r.file("host"), r.file("login.pub")))
	sshd := exec.Command(program, "-D", "-f", config, "-E", r.file("log"))
	if err := sshd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = sshd.Process.Kill()
		_ = sshd.Wait()
	})
	brokertest.Eventually(t, "sshd listens", func() bool { return dials(r.port) })
	return r
}

func (r *relay) file(name string) string { return filepath.Join(r.dir, name) }

func (r *relay) write(t *testing.T, name, text string) string {
	t.Helper()
	if err := os.WriteFile(r.file(name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return r.file(name)
}

func dials(port int) bool {
	c, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", port), time.Second)
	if err == nil {
		c.Close()
	}
	return err == nil
}

// An administrator logs in to a real device through a real relay, and nothing stays open.
func TestSSH(t *testing.T) {
	fresh(t)
	m := brokertest.Start(t)
	r := startRelay(t)
	startDevice(t, m, "kitchen", fmt.Sprintf("[behaviors.startreversessh]\nenabled = true\nallow_hosts = %q\nallow_users = %q\nlocal_ports = %q\nkey = %q\nknown_hosts = %q\n",
		fmt.Sprintf("127.0.0.1:%d", r.port), r.user, fmt.Sprint(r.port), r.file("login"), r.file("known_hosts")))
	ssh := func(via string, rest ...string) (int, string, string) {
		return lintoctl(t.Context(), on(m, append([]string{
			"ssh", "kitchen", "-wait-online", "30s", "-via", fmt.Sprintf("%s:%d", via, r.port),
			"-device-port", fmt.Sprint(r.port), "-ssh", "ssh -F " + r.sshConfig,
		}, rest...)...)...)
	}
	port := brokertest.FreePort(t)
	status, out, errs := ssh(r.user+"@127.0.0.1", "-port", fmt.Sprint(port), "--", `echo "it's $((6 * 7))"; exit 7`)
	if status != 7 || out != "it's 42\n" {
		t.Fatalf("status %d, %q\n%s", status, out, errs)
	}
	if dials(port) {
		t.Error("the tunnel is still open")
	}
	seen, err := os.ReadFile(r.file("seen_hosts"))
	if err != nil || !strings.Contains(string(seen), "kitchen ") {
		t.Errorf("known are %s, %v", seen, err)
	}
	if status, out, errs := ssh("stranger@127.0.0.1", "--", "true"); status != statusNotRun || out != "" || !strings.Contains(errs, "allow_users") {
		t.Errorf("another user: status %d, %q\n%s", status, out, errs)
	}
	// ssh itself fails: the tunnel is closed all the same.
	if status, _, errs := ssh(r.user+"@127.0.0.1", "-port", fmt.Sprint(port), "-jump", "none", "-login", "nobody-of-that-name", "--", "true"); status != statusNotRun || dials(port) {
		t.Errorf("a wrong name: status %d, open %v\n%s", status, dials(port), errs)
	}
	if status, _, errs := lintoctl(t.Context(), on(m, "ssh", "nobody", "-via", "a@b", "-timeout", "200ms")...); status != statusUnreached {
		t.Errorf("nobody: status %d\n%s", status, errs)
	}
	for _, args := range []string{"ssh", "ssh kitchen", "ssh kitchen -via relay", "ssh a b -via a@b", "ssh kitchen -via a@b -port 70000", "ssh kitchen -via -oX@b"} {
		if status, _, errs := lintoctl(t.Context(), on(m, strings.Fields(args)...)...); status != statusUsage {
			t.Errorf("%s: status %d\n%s", args, status, errs)
		}
	}
}
