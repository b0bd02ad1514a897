package tunnel

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// key is a throw-away key pair.
type key struct {
	pem    string
	public ssh.PublicKey
}

func newKey(t *testing.T) key {
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
	return key{string(pem.EncodeToMemory(block)), sshPublic}
}

func (k key) line() string { return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(k.public))) }

func write(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// server is a real sshd on loopback.
type server struct {
	port    int
	host    key // its key
	login   key // that it accepts
	process *exec.Cmd
	log     string // path
}

func (s *server) address() string { return fmt.Sprintf("127.0.0.1:%d", s.port) }

func (s *server) knownHosts() string {
	return fmt.Sprintf("[127.0.0.1]:%d %s\n", s.port, s.host.line())
}

func whoami(t *testing.T) string {
	t.Helper()
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	return me.Username
}

// startServer starts an sshd whose authorized key carries options, and which
// has further lines of configuration.
func startServer(t *testing.T, options string, lines ...string) *server {
	t.Helper()
	return startServerWith(t, newKey(t), options, lines...)
}

// startServerWith is startServer for a server whose key is host.
func startServerWith(t *testing.T, host key, options string, lines ...string) *server {
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
	dir := t.TempDir()
	s := &server{port: freePort(t), host: host, login: newKey(t), log: filepath.Join(dir, "log")}
	config := append([]string{
		fmt.Sprintf("Port %d", s.port),
		"ListenAddress 127.0.0.1",
		"HostKey " + write(t, filepath.Join(dir, "host"), s.host.pem),
		"AuthorizedKeysFile " + write(t, filepath.Join(dir, "authorized"), strings.TrimSpace(options+" "+s.login.line())+"\n"),
		"PidFile none", "StrictModes no", "UsePAM no", "PasswordAuthentication no", "KbdInteractiveAuthentication no",
		"PermitRootLogin prohibit-password", "LogLevel VERBOSE",
	}, lines...)
	file := write(t, filepath.Join(dir, "config"), strings.Join(config, "\n")+"\n")
	args := []string{"-D", "-f", file, "-E", s.log}
	// OpenSSH 9.8 and later turn away an address from which too many logins fail.
	patient := []string{"-o", "PerSourcePenalties=no"}
	if exec.Command(program, append([]string{"-t", "-f", file}, patient...)...).Run() == nil {
		args = append(args, patient...)
	}
	s.process = exec.Command(program, args...)
	s.process.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := s.process.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, pid := range s.sessions() {
			syscall.Kill(pid, syscall.SIGKILL)
		}
		s.process.Process.Kill()
		s.process.Wait()
	})
	await(t, func() bool { return dials(s.port) })
	return s
}

// sessions are the processes that sshd has forked.
func (s *server) sessions() (pids []int) {
	parents := map[int]bool{s.process.Process.Pid: true}
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
			fmt.Sscan(string(text), &pid)
			fmt.Sscan(string(text[bytes.LastIndexByte(text, ')')+1:]), &state, &parent)
			if parents[parent] && !parents[pid] {
				parents[pid], grown = true, true
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func dials(port int) bool {
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return false
	}
	c.Close()
	return true
}

func await(t *testing.T, what func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !what(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it did not happen")
		}
	}
}

// logIn runs command through the real ssh client at a port of this machine.
func logIn(t *testing.T, port int, as key, command string) (string, error) {
	t.Helper()
	identity := write(t, filepath.Join(t.TempDir(), "identity"), as.pem)
	ssh := exec.Command("ssh", "-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
		"-o", "LogLevel=ERROR", "-o", "IdentitiesOnly=yes", "-o", "ConnectTimeout=20", "-i", identity, "-p", fmt.Sprint(port), whoami(t)+"@127.0.0.1", command)
	out, err := ssh.CombinedOutput()
	return string(out), err
}
