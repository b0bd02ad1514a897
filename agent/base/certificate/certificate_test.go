package certificate

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// openssl creates the files, because their owners use it.
func openssl(t *testing.T, dir string, args ...string) {
	t.Helper()
	cmd := exec.Command("openssl", args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("openssl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func files(t *testing.T) string {
	t.Helper()
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("SKIPPED, nothing was tested: openssl is not installed")
	}
	dir := t.TempDir()
	for _, args := range []string{
		"req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=broker",
		"req -new -key key.pem -subj /CN=broker -out request.pem",
		"genpkey -algorithm RSA -out other.pem",
		"pkey -in key.pem -aes256 -passout pass:secret -out locked.pem",
		"rsa -in key.pem -aes256 -traditional -passout pass:secret -out locked-old.pem",
		"pkey -in key.pem -traditional -out key-old.pem",
		"pkey -in key.pem -outform der -out key.der",
		"x509 -in cert.pem -outform der -out cert.der",
		"pkcs12 -export -in cert.pem -inkey key.pem -passout pass:secret -out both.p12",
	} {
		openssl(t, dir, strings.Fields(args)...)
	}
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	for name, text := range map[string]string{
		"cert-windows.pem": "\xef\xbb\xbf" + strings.ReplaceAll(read("cert.pem"), "\n", "\r\n") + "\x00",
		"key-windows.pem":  "\xef\xbb\xbf" + strings.ReplaceAll(read("key.pem"), "\n", "\r\n"),
		"cert-cut.pem":     read("cert.pem")[:400],
		"cert-unended.pem": strings.TrimSpace(read("cert.pem")),
		"bundle.pem":       "# two of them\n" + read("cert.pem") + read("cert.pem"),
		"empty.pem":        "",
		"prose.pem":        "ask Lea for the certificate\n",
		"id_rsa":           "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n",
		"id_rsa.pub":       "ssh-rsa AAAA lea@laptop\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestFilesOfOpenSSL(t *testing.T) {
	dir := files(t)
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, name := range []string{"cert.pem", "cert-windows.pem", "cert-unended.pem", "bundle.pem"} {
		if _, err := Pool(at(name)); err != nil {
			t.Errorf("CA: %v", err)
		}
		for _, key := range []string{"key.pem", "key-windows.pem", "key-old.pem"} {
			if _, err := Pair(at(name), at(key)); err != nil {
				t.Errorf("pair: %v", err)
			}
		}
	}
	for name, said := range map[string]string{
		"cert.der": "DER", "both.p12": "PKCS#12", "key.pem": "private key", "request.pem": "request", "cert-cut.pem": "truncated",
		"empty.pem": "PEM", "prose.pem": "PEM", "id_rsa.pub": "SSH", "nowhere.pem": "no such file",
	} {
		_, errPool := Pool(at(name))
		_, errPair := Pair(at(name), at("key.pem"))
		for _, err := range []error{errPool, errPair} {
			if err == nil || !strings.Contains(err.Error(), said) || !strings.Contains(err.Error(), at(name)) {
				t.Errorf("%s as certificate: %v; want %s in it", name, err, said)
			}
		}
	}
	for name, said := range map[string]string{
		"locked.pem": "passphrase", "locked-old.pem": "passphrase", "key.der": "DER", "both.p12": "PKCS#12", "cert.pem": "private key",
		"other.pem": "other.pem", "id_rsa": "SSH", "empty.pem": "PEM", "nowhere.pem": "no such file",
	} {
		_, err := Pair(at("cert.pem"), at(name))
		if err == nil || !strings.Contains(err.Error(), said) || !strings.Contains(err.Error(), at(name)) {
			t.Errorf("%s as key: %v; want %s in it", name, err, said)
		}
	}
}

// The configured file may contain anything and must not cause a crash.
func FuzzForeign(f *testing.F) {
	f.Add([]byte("\x30\x82\x01\x00\x02\x01\x03"))
	f.Add([]byte("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if foreign(text, "key", "f") == nil || foreign(text, "certificate", "f") == nil {
			t.Error("no error was returned")
		}
		_ = usable(text, "f")
	})
}
