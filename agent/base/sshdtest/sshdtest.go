// Package sshdtest runs a real sshd on the loopback interface for tests, with
// temporary keys. Only tests import it.
package sshdtest

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"lintod/agent/base/nettest"
)

// limit is the timeout for starting sshd on a busy machine.
const limit = 30 * time.Second

// Key is a key pair.
type Key struct {
	PEM    string // the private key, in OpenSSH's format
	Public ssh.PublicKey
}

// NewKey generates an ed25519 key.
func NewKey(t testing.TB) Key {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	sshPublic, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return Key{string(pem.EncodeToMemory(block)), sshPublic}
}

// Line returns the public key in the format of authorized_keys.
func (k Key) Line() string { return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(k.Public))) }

// User is the user as whom tests log in: the one who runs them.
func User(t testing.TB) string {
	t.Helper()
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	return me.Username
}

// Server is an sshd with its keys.
type Server struct {
	Port    int
	Host    Key // host key
	Login   Key // accepted key of User
	Process *os.Process
}

// Start runs an sshd with a host key until the end of the test. The line of the
// login key starts with options, and lines are added to the configuration.
func Start(t testing.TB, host Key, options string, lines ...string) *Server {
	t.Helper()
	program, err := exec.LookPath("/usr/sbin/sshd")
	if err != nil {
		t.Skipf("SKIPPED: no sshd; install openssh-server: %v", err)
	}
	if os.Getuid() == 0 {
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil { //nolint:gosec // required by sshd
			t.Fatal(err)
		}
	}
	s := &Server{Port: nettest.FreePort(t), Host: host, Login: NewKey(t)}
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	config := append([]string{
		fmt.Sprintf("Port %d", s.Port),
		"ListenAddress 127.0.0.1",
		"HostKey " + write("host", host.PEM),
		"AuthorizedKeysFile " + write("authorized", strings.TrimSpace(options+" "+s.Login.Line())+"\n"),
		"PidFile none", "StrictModes no", "UsePAM no", "PasswordAuthentication no", "KbdInteractiveAuthentication no",
		"PermitRootLogin prohibit-password", "LogLevel VERBOSE",
	}, lines...)
	file, log := write("config", strings.Join(config, "\n")+"\n"), filepath.Join(dir, "log")
	args := []string{"-D", "-f", file, "-E", log}
	// OpenSSH 9.8 and later reject an address from which too many logins fail.
	patient := []string{"-o", "PerSourcePenalties=no"}
	if exec.Command(program, append([]string{"-t", "-f", file}, patient...)...).Run() == nil {
		args = append(args, patient...)
	}
	sshd := exec.Command(program, args...)
	sshd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := sshd.Start(); err != nil {
		t.Fatal(err)
	}
	s.Process = sshd.Process
	t.Cleanup(func() {
		for _, pid := range s.Sessions() {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		_ = sshd.Process.Kill()
		_ = sshd.Wait()
	})
	for deadline := time.Now().Add(limit); !nettest.Listens(s.Port); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			said, _ := os.ReadFile(log)
			t.Fatalf("sshd does not listen:\n%s", said)
		}
	}
	return s
}

// Address returns host and port.
func (s *Server) Address() string { return fmt.Sprintf("127.0.0.1:%d", s.Port) }

// KnownHosts returns the server's line for known_hosts.
func (s *Server) KnownHosts() string {
	return fmt.Sprintf("[127.0.0.1]:%d %s\n", s.Port, s.Host.Line())
}

// Sessions returns the process ids of the started sessions.
func (s *Server) Sessions() (pids []int) {
	parents := map[int]bool{s.Process.Pid: true}
	for grown := true; grown; {
		grown = false
		stats, _ := filepath.Glob("/proc/[0-9]*/stat")
		for _, path := range stats {
			text, err := os.ReadFile(path)
			var pid, parent int
			var state string
			if err != nil {
				continue
			}
			_, _ = fmt.Sscan(string(text), &pid)
			_, _ = fmt.Sscan(string(text[bytes.LastIndexByte(text, ')')+1:]), &state, &parent)
			if parents[parent] && !parents[pid] {
				parents[pid], grown = true, true
				pids = append(pids, pid)
			}
		}
	}
	return pids
}
