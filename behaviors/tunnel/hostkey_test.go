package tunnel

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"lintod/agent/base/nettest"
	"lintod/agent/base/sshdtest"
	"lintod/behaviors"
)

// authority signs host keys.
type authority struct {
	sshdtest.Key
	file string
}

func newAuthority(t *testing.T) authority {
	k := sshdtest.NewKey(t)
	return authority{k, write(t, filepath.Join(t.TempDir(), "ca"), k.PEM)}
}

// certify returns the line of sshd's configuration that presents a certificate of
// host's key, for which ssh-keygen gets the options.
func (a authority) certify(t *testing.T, host sshdtest.Key, options ...string) string {
	t.Helper()
	file := write(t, filepath.Join(t.TempDir(), "host.pub"), host.Line()+"\n")
	args := append([]string{"-q", "-s", a.file, "-I", "test"}, options...)
	if out, err := exec.Command("ssh-keygen", append(args, file)...).CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen: %v: %s", err, out)
	}
	return "HostCertificate " + strings.TrimSuffix(file, ".pub") + "-cert.pub"
}

// openSSH reports whether the real client, with these known hosts, trusts s enough
// to log in.
func openSSH(t *testing.T, s *sshdtest.Server, host, file string, acceptNew bool) bool {
	t.Helper()
	strict := "yes"
	if acceptNew {
		strict = "accept-new"
	}
	client := exec.Command("ssh", "-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking="+strict,
		"-o", "UserKnownHostsFile="+file, "-o", "GlobalKnownHostsFile=/dev/null", "-o", "UpdateHostKeys=no",
		"-o", "PreferredAuthentications=none", "-o", "ConnectTimeout=60", "-p", fmt.Sprint(s.Port), sshdtest.User(t)+"@"+host, "true")
	out, err := client.CombinedOutput()
	believed, refused := strings.Contains(string(out), "Permission denied"), strings.Contains(string(out), "Host key verification failed")
	if err == nil || believed == refused {
		t.Fatalf("ssh: %v: %s", err, out)
	}
	return believed
}

// OpenSSH and our code read the same file, connect to the same server, and come to
// the same result.
func TestKnownHostsAsOpenSSHReadsThem(t *testing.T) {
	ca, unknown := newAuthority(t), newAuthority(t)
	host, other := sshdtest.NewKey(t), sshdtest.NewKey(t)
	servers := map[string]*sshdtest.Server{}
	for name, options := range map[string][]string{
		"certified":               {"-h", "-n", "127.0.0.1,localhost"},
		"for another host":        {"-h", "-n", "elsewhere.example"},
		"for a pattern":           {"-h", "-n", "127.*.1,local?ost"},
		"for all":                 {"-h"},
		"expired":                 {"-h", "-n", "127.0.0.1", "-V", "20200101:20210101"},
		"not yet":                 {"-h", "-n", "127.0.0.1", "-V", "20900101:20910101"},
		"by an unknown authority": {"-h", "-n", "127.0.0.1"},
		"no certificate":          nil,
	} {
		signer := ca
		if name == "by an unknown authority" {
			signer = unknown
		}
		var lines []string
		if options != nil {
			lines = append(lines, signer.certify(t, host, options...))
		}
		servers[name] = sshdtest.Start(t, host, "", lines...)
	}
	const plain = "no certificate"
	for _, tt := range []struct{ server, file string }{
		{plain, ""},
		{plain, "{at} {host}\n"},
		{plain, "{at} {host}"},
		{plain, "{at} {other}\n"},
		{plain, "{at} {other}\n{at} {host}\n"},
		{plain, "garbage\n{at} {host}\n"},
		{plain, "{at} ssh-ed25519\n{at} ssh-ed25519 ====\n{at} ssh-ed25519 AAAA\n\x00\xff\n{at} {host}\n"},
		{plain, "{at} ssh-rsa {blob}\n"},
		{plain, "{at} ecdsa-sha2-nistp256 {blob}\n{at} {host}\n"},
		{plain, "@unknown {at} {host}\n"},
		{plain, "@revoked @cert-authority {at} {other}\n{at} {host}\n"},
		{plain, "# {at} {host}\n"},
		{plain, "  # comment\n\n \t\n\t {at}\t {host} a comment of several words\n"},
		{plain, "{at} {host}\r\n"},
		{plain, "garbage\r\n\r\n{at} {host} a comment\r\n"},
		{plain, "127.0.0.1 {host}\n"},
		{plain, "127.0.0.1 {other}\n"},
		{plain, "{at} {other}\n127.0.0.1 {host}\n"},
		{plain, "127.0.0.1 {other}\n{at} {host}\n"},
		{plain, "127.0.0.1:{port} {host}\n"},
		{plain, "[127.0.0.1]:22 {host}\n"},
		{plain, "[127.0.0.1] {host}\n"},
		{plain, "[127.0.0.1]:* {host}\n"},
		{plain, "* {host}\n"},
		{plain, "[127.*]:{port} {host}\n"},
		{plain, "127.?.0.1 {host}\n"},
		{plain, "127.0.0.? {other}\n"},
		{plain, "example,{at},other.example {host}\n"},
		{plain, "!{at},* {host}\n"},
		{plain, "*,!{at} {host}\n"},
		{plain, "!127.0.0.1,* {host}\n"},
		{plain, "!{at} {host}\n"},
		{plain, ",,{at} {host}\n"},
		{plain, "{hashed} {host}\n"},
		{plain, "{hashed} {other}\n"},
		{plain, "{hashedhost} {host}\n"},
		{plain, "|1|garbage {host}\n"},
		{plain, "|2|a|b {host}\n"},
		{plain, "@revoked * {host}\n{at} {host}\n"},
		{plain, "@revoked {at} {host}\n"},
		{plain, "@revoked elsewhere.example {host}\n{at} {host}\n"},
		{plain, "@revoked * {other}\n{at} {host}\n"},
		{plain, "@cert-authority * {ca}\n"},
		{plain, "@cert-authority * {ca}\n{at} {host}\n"},
		{plain, "@cert-authority * {host}\n"},
		{"certified", "@cert-authority * {ca}\n"},
		{"certified", "@cert-authority {at} {ca} comment\r\n"},
		{"certified", "@cert-authority 127.0.0.1 {ca}\n"},
		{"certified", "@cert-authority elsewhere.example {ca}\n"},
		{"certified", "@cert-authority {hashed} {ca}\n"},
		{"certified", "{at} {ca}\n"},
		{"certified", "{at} {host}\n"},
		{"certified", "127.0.0.1 {host}\n"},
		{"certified", "{at} {other}\n"},
		{"certified", "{at} {other}\n@cert-authority * {ca}\n"},
		{"certified", "{at} {other}\n@cert-authority 127.0.0.1 {ca}\n"},
		{"certified", "@revoked * {ca}\n@cert-authority * {ca}\n"},
		{"certified", "@revoked * {ca}\n{at} {host}\n"},
		{"certified", "@revoked * {host}\n@cert-authority * {ca}\n"},
		{"certified", "@revoked * {other}\n@cert-authority * {ca}\n"},
		{"certified", ""},
		{"by an unknown authority", "@cert-authority * {ca}\n"},
		{"by an unknown authority", "@cert-authority * {ca}\n{at} {host}\n"},
		{"for another host", "@cert-authority * {ca}\n"},
		{"for another host", "@cert-authority * {ca}\n{at} {host}\n"},
		{"for a pattern", "@cert-authority * {ca}\n"},
		{"for all", "@cert-authority * {ca}\n"},
		{"expired", "@cert-authority * {ca}\n"},
		{"expired", "@cert-authority * {ca}\n{at} {host}\n"},
		{"not yet", "@cert-authority * {ca}\n"},
	} {
		for _, acceptNew := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s %q %v", tt.server, tt.file, acceptNew), func(t *testing.T) {
				s := servers[tt.server]
				at := fmt.Sprintf("[127.0.0.1]:%d", s.Port)
				text := strings.NewReplacer("{at}", at, "{host}", host.Line(), "{other}", other.Line(), "{ca}", ca.Line(), "{port}", fmt.Sprint(s.Port),
					"{blob}", strings.Fields(host.Line())[1], "{hashed}", knownhosts.HashHostname(at), "{hashedhost}", knownhosts.HashHostname("127.0.0.1")).Replace(tt.file)
				dir := t.TempDir()
				theirs, ours := write(t, filepath.Join(dir, "theirs"), text), write(t, filepath.Join(dir, "ours"), text)
				want := openSSH(t, s, "127.0.0.1", theirs, acceptNew)
				if err := reach(t, s, ours, acceptNew); (err == nil) != want {
					t.Errorf("OpenSSH: %v, we: %v", want, err)
				}
				if !acceptNew {
					return
				}
				// Both read the added line, and the other lines remain valid.
				for by, file := range map[string]string{"OpenSSH": theirs, "us": ours} {
					if now, err := os.ReadFile(file); err == nil && string(now) == text {
						continue // no line was added
					}
					if err := reach(t, s, file, false); (err == nil) != want {
						t.Errorf("with the file of %s: %v", by, err)
					}
					if got := openSSH(t, s, "127.0.0.1", file, false); got != want {
						t.Errorf("OpenSSH with the file of %s: %v", by, got)
					}
				}
			})
		}
	}
	t.Run("a byte order mark", func(t *testing.T) { // OpenSSH treats it as part of the name
		s := servers[plain]
		if err := reach(t, s, write(t, filepath.Join(t.TempDir(), "f"), "\ufeff"+s.KnownHosts()), false); err != nil {
			t.Error(err)
		}
	})
}

// reach is openSSH for our code; the error is the reason.
func reach(t *testing.T, s *sshdtest.Server, file string, acceptNew bool) error {
	t.Helper()
	keys, err := openHostKeys(file, acceptNew, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	signer, err := ssh.ParsePrivateKey([]byte(sshdtest.NewKey(t).PEM)) // an unauthorized key
	if err != nil {
		t.Fatal(err)
	}
	_, err = connect(context.Background(), target{server: s.Address(), user: sshdtest.User(t), remotePort: nettest.FreePort(t)}, signer, keys)
	switch behaviors.CodeOf(err) {
	case behaviors.Failed: // the login
		return nil
	case behaviors.Refused:
		return err
	}
	t.Fatalf("connect: %v", err)
	return err
}

// The key is added as a separate line, and the others remain readable.
func TestAcceptNewKeepsTheFile(t *testing.T) {
	s := startServer(t, "")
	other := sshdtest.NewKey(t)
	file := write(t, filepath.Join(t.TempDir(), "known_hosts"), "elsewhere.example "+other.Line())
	if err := reach(t, s, file, true); err != nil {
		t.Fatal(err)
	}
	want := "elsewhere.example " + other.Line() + "\n" + s.KnownHosts()
	if text, err := os.ReadFile(file); err != nil || string(text) != want {
		t.Errorf("%q, %v, want %q", text, err, want)
	}
}

func FuzzKnownHosts(f *testing.F) {
	f.Add("[h]:2,*a?b*,!|1|x ssh-ed25519 AAAA", "[h]:2")
	f.Add("@revoked |1|AA==|AA== ssh-rsa AAAA\r\n", "h")
	f.Fuzz(func(t *testing.T, text, name string) {
		file := write(t, filepath.Join(t.TempDir(), "f"), text)
		keys, err := openHostKeys(file, false, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		keys.algorithms(name)
		hostLine{names: text}.match(name)
	})
}
