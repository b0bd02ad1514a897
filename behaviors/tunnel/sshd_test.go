package tunnel

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"lintod/agent/base/sshdtest"
)

func write(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// startServer starts an sshd with these options for its authorized key, and with
// further lines of configuration.
func startServer(t *testing.T, options string, lines ...string) *sshdtest.Server {
	t.Helper()
	return sshdtest.Start(t, sshdtest.NewKey(t), options, lines...)
}

func await(t *testing.T, what func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !what(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("timeout")
		}
	}
}

// logIn runs command through the real ssh client at a port of this machine.
func logIn(t *testing.T, port int, as sshdtest.Key, command string) (string, error) {
	t.Helper()
	identity := write(t, filepath.Join(t.TempDir(), "identity"), as.PEM)
	ssh := exec.Command("ssh", "-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
		"-o", "LogLevel=ERROR", "-o", "IdentitiesOnly=yes", "-o", "ConnectTimeout=20", "-i", identity, "-p", fmt.Sprint(port), sshdtest.User(t)+"@127.0.0.1", command)
	out, err := ssh.CombinedOutput()
	return string(out), err
}
