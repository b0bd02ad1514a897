package sshsig

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"lintod/agent/base/fuzzcost"
)

const namespace = "test-v1"

func newSigner(t testing.TB, kind string) ssh.Signer {
	t.Helper()
	var key any
	var err error
	switch kind {
	case ssh.KeyAlgoED25519:
		_, key, err = ed25519.GenerateKey(rand.Reader)
	case ssh.KeyAlgoECDSA256:
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case ssh.KeyAlgoECDSA384:
		key, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case ssh.KeyAlgoRSA:
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	}
	if err != nil {
		t.Fatal(err)
	}
	s, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func line(s ssh.Signer) string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(s.PublicKey())))
}

func TestOurSignatureIsAcceptedBySSHKeygen(t *testing.T) {
	message := []byte("open the door")
	for _, kind := range []string{ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256} {
		signer := newSigner(t, kind)
		s, err := Sign(signer, namespace, message)
		if err != nil {
			t.Fatal(kind, err)
		}
		again, err := Parse(s.Marshal())
		if err != nil || again.Verify(namespace, message) != nil {
			t.Errorf("%s: %v", kind, err)
		}
		if err := again.Verify(namespace, []byte("open the gate")); !errors.Is(err, ErrSignature) {
			t.Errorf("%s: another message: %v", kind, err)
		}
		if again.Verify("other", message) == nil {
			t.Errorf("%s: another namespace was accepted", kind)
		}
		dir := t.TempDir()
		for name, text := range map[string]string{"allowed": "me@here " + line(signer) + "\n", "sig": string(Armor(s.Marshal()))} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		cmd := exec.Command("ssh-keygen", "-Y", "verify", "-f", "allowed", "-I", "me@here", "-n", namespace, "-s", "sig")
		cmd.Dir, cmd.Stdin = dir, bytes.NewReader(message)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: ssh-keygen: %v %s", kind, err, out)
		}
	}
	for _, kind := range []string{ssh.KeyAlgoRSA, ssh.KeyAlgoECDSA384} {
		if _, err := Sign(newSigner(t, kind), namespace, message); err == nil {
			t.Errorf("%s may sign", kind)
		}
	}
}

func TestSignatureOfSSHKeygenIsAccepted(t *testing.T) {
	message := []byte("open the door")
	for _, kind := range []string{"ed25519", "ecdsa"} {
		for _, hash := range []string{"sha512", "sha256"} {
			dir := t.TempDir()
			key := filepath.Join(dir, "key")
			if out, err := exec.Command("ssh-keygen", "-q", "-t", kind, "-N", "", "-f", key).CombinedOutput(); err != nil {
				t.Fatalf("%v %s", err, out)
			}
			cmd := exec.Command("ssh-keygen", "-Y", "sign", "-O", "hashalg="+hash, "-f", key, "-n", namespace)
			cmd.Stdin = bytes.NewReader(message)
			armoured, err := cmd.Output()
			if err != nil {
				t.Fatal(err)
			}
			blob, err := Dearmor(armoured)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(Armor(blob), armoured) {
				t.Errorf("our armour is\n%s, theirs\n%s", Armor(blob), armoured)
			}
			s, err := Parse(blob)
			if err != nil || s.Hash != hash || s.Verify(namespace, message) != nil {
				t.Errorf("%s, %s: %+v, %v", kind, hash, s, err)
			}
		}
	}
	if _, err := Dearmor([]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")); err == nil {
		t.Error("a certificate was accepted as a signature")
	}
}

func TestSignaturesThatAreRefused(t *testing.T) {
	signer := newSigner(t, ssh.KeyAlgoED25519)
	good, err := Sign(signer, namespace, []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	build := func(change func(*wire)) []byte {
		w := wire{1, signer.PublicKey().Marshal(), namespace, nil, "sha512", ssh.Marshal(good.signature)}
		change(&w)
		return append([]byte(magic), ssh.Marshal(w)...)
	}
	if _, err := Parse(build(func(*wire) {})); err != nil {
		t.Fatal(err)
	}
	other := newSigner(t, ssh.KeyAlgoRSA)
	certificate := &ssh.Certificate{Key: signer.PublicKey(), CertType: ssh.UserCert}
	if err := certificate.SignCert(rand.Reader, newSigner(t, ssh.KeyAlgoED25519)); err != nil {
		t.Fatal(err)
	}
	for name, blob := range map[string][]byte{
		"nothing":                nil,
		"magic only":             []byte(magic),
		"cut":                    good.Marshal()[:100],
		"trailing data":          append(good.Marshal(), 0),
		"another version":        build(func(w *wire) { w.Version = 2 }),
		"no key":                 build(func(w *wire) { w.Key = nil }),
		"RSA":                    build(func(w *wire) { w.Key = other.PublicKey().Marshal() }),
		"certificate":            build(func(w *wire) { w.Key = certificate.Marshal() }),
		"sha1":                   build(func(w *wire) { w.Hash = "sha1" }),
		"reserved":               build(func(w *wire) { w.Reserved = []byte{1} }),
		"no signature":           build(func(w *wire) { w.Signature = nil }),
		"data after a signature": build(func(w *wire) { w.Signature = append(w.Signature, 0) }),
		"longer than allowed":    build(func(w *wire) { w.Namespace = strings.Repeat("x", MaxBlob) }),
	} {
		if s, err := Parse(blob); err == nil {
			t.Errorf("%s: read as %+v", name, s)
		}
	}
}

func TestLinesOfAllowedSigners(t *testing.T) {
	key := line(newSigner(t, ssh.KeyAlgoED25519))
	for text, want := range map[string]bool{
		"ann " + key:                  true,
		"ann " + key + " a comment":   true,
		"\tann\t" + key:               true,
		`"ann smith" ` + key:          true,
		"ann,bob@* " + key:            true,
		`ann namespaces="a" ` + key:   true,
		`ann NameSpaces="a,b" ` + key: true,
		`ann valid-after="20260101",valid-before="202701012359Z" ` + key: true,
		`ann namespaces="a b" ` + key:                                    true,
		key:                                                              false,
		"ann":                                                            false,
		"ann ssh-ed25519":                                                false,
		"ann ssh-ed25519 AAAA":                                           false,
		"ann ssh-rsa " + strings.Fields(key)[1]:                          false,
		`ann namespaces="a"`:                                             false,
		`ann namespaces=a ` + key:                                        false,
		`ann namespaces="a ` + key:                                       false,
		`ann namespaces="" ` + key:                                       false,
		`ann namespaces="a",namespaces="b" ` + key:                       false,
		`ann namespaces="a"x ` + key:                                     false,
		`ann cert-authority ` + key:                                      false,
		`ann no-touch-required ` + key:                                   false,
		`ann ,, ` + key:                                                  false,
		`ann valid-after="2026" ` + key:                                  false,
		`ann valid-after="20261301" ` + key:                              false,
		`ann valid-after="20260101X" ` + key:                             false,
		`ann valid-after="20270101",valid-before="20260101" ` + key: false,
		"ann " + line(newSigner(t, ssh.KeyAlgoRSA)):                 false,
	} {
		s := ParseSigners([]byte("# first\n\n" + text + "\r\n"))
		if (len(s.Lines) == 1) != want || (len(s.Wrong) == 0) != want {
			t.Errorf("%s\ngives %+v", text, s)
			continue
		}
		if number := append(s.Wrong, LineError{})[0].Number; !want && number != 3 {
			t.Errorf("%s was accepted as line %d", text, number)
		}
	}
	path := filepath.Join(t.TempDir(), "allowed")
	if err := os.WriteFile(path, []byte("\ufeffann "+key+"\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := ReadSigners(path); err != nil || len(s.Lines) != 1 || s.Lines[0].Principals != "ann" {
		t.Errorf("with a byte order mark: %+v, %v", s, err)
	}
}

// A key is followed by the next without a gap, and a clock that is slow does not
// reject the new one as not yet valid.
func TestKeysInTheirTime(t *testing.T) {
	old, next := newSigner(t, ssh.KeyAlgoED25519), newSigner(t, ssh.KeyAlgoED25519)
	s := ParseSigners(fmt.Appendf(nil, "ann valid-before=\"20270101Z\" %s\nann valid-after=\"20261201Z\" %s\n", line(old), line(next)))
	for _, tt := range []struct {
		day        string
		exact      bool
		old, later bool
	}{
		{"2026-11-30", true, true, false},
		{"2026-12-15", true, true, true},
		{"2027-01-02", true, false, true},
		{"1970-01-01", false, true, true},
		{"2027-01-02", false, false, true},
	} {
		now, err := time.Parse(time.DateOnly, tt.day)
		if err != nil {
			t.Fatal(err)
		}
		_, errOld := s.Find(old.PublicKey(), namespace, now, tt.exact)
		_, errNext := s.Find(next.PublicKey(), namespace, now, tt.exact)
		if (errOld == nil) != tt.old || (errNext == nil) != tt.later {
			t.Errorf("%+v: %v, %v", tt, errOld, errNext)
		}
	}
	if _, err := s.Find(newSigner(t, ssh.KeyAlgoED25519).PublicKey(), namespace, time.Now(), true); !errors.Is(err, ErrNotAllowed) {
		t.Errorf("a stranger: %v", err)
	}
}

func TestRevokedKeys(t *testing.T) {
	one, two, three := newSigner(t, ssh.KeyAlgoED25519), newSigner(t, ssh.KeyAlgoECDSA256), newSigner(t, ssh.KeyAlgoED25519)
	text := "\ufeff# stolen\r\n" + line(one) + " laptop of ann\r\n" + ssh.FingerprintSHA256(two.PublicKey()) + " \r\n"
	r, err := ParseRevoked([]byte(text))
	if err != nil || !r.Has(one.PublicKey()) || !r.Has(two.PublicKey()) || r.Has(three.PublicKey()) {
		t.Errorf("%+v, %v", r, err)
	}
	rsa := newSigner(t, ssh.KeyAlgoRSA)
	if r, err := ParseRevoked([]byte(line(rsa))); err != nil || !r.Has(rsa.PublicKey()) {
		t.Errorf("a key that may not sign: %v", err)
	}
	dir := t.TempDir()
	if r, err := ReadRevoked(filepath.Join(dir, "missing")); err != nil || r.Has(one.PublicKey()) {
		t.Errorf("no file: %v", err)
	}
	for name, text := range map[string]string{
		"a word":                  "ann\n",
		"a broken key":            "ssh-ed25519 AAAAC3Nz\n",
		"a truncated fingerprint": ssh.FingerprintSHA256(one.PublicKey())[:20] + "\n",
		"MD5":                     ssh.FingerprintLegacyMD5(one.PublicKey()) + "\n",
		"a binary list":           "SSHKRL\n\x00\x00\x00\x00\x01",
		"UTF-16":                  "\xff\xfes\x00s\x00h\x00",
	} {
		path := filepath.Join(dir, "revoked")
		if err := os.WriteFile(path, []byte(line(two)+"\n"+text), 0o600); err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(text, "SSHKRL") || strings.HasPrefix(text, "\xff") {
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := ReadRevoked(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := ReadRevoked(dir); err == nil {
		t.Error("a directory was accepted")
	}
}

// Marshal returns what Parse has read, and Verify accepts nothing that was not
// signed.
func FuzzParse(f *testing.F) {
	for _, kind := range []string{ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256} {
		s, err := Sign(newSigner(f, kind), namespace, []byte("x"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(s.Marshal())
	}
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, blob []byte) {
		fuzzcost.Check(t, func() {
			s, err := Parse(blob)
			if err != nil {
				return
			}
			if !bytes.Equal(s.Marshal(), blob) {
				t.Errorf("%x was marshalled as %x", blob, s.Marshal())
			}
			if s.Verify(namespace, []byte("never signed")) == nil {
				t.Errorf("%x was accepted for a message that was never signed", blob)
			}
		})
	})
}

func FuzzDearmor(f *testing.F) {
	f.Add(Armor([]byte("anything")))
	f.Add(pem.EncodeToMemory(&pem.Block{Type: armour, Headers: map[string]string{"a": "b"}, Bytes: []byte("x")}))
	f.Fuzz(func(t *testing.T, text []byte) {
		fuzzcost.Check(t, func() {
			blob, err := Dearmor(text)
			if err != nil {
				return
			}
			if again, err := Dearmor(Armor(blob)); err != nil || !bytes.Equal(again, blob) {
				t.Errorf("%x became %x, %v", blob, again, err)
			}
		})
	})
}

// Each non-empty line either allows a key or is reported.
func FuzzSigners(f *testing.F) {
	key := line(newSigner(f, ssh.KeyAlgoED25519))
	f.Add([]byte("# c\r\nann namespaces=\"a,!b\",valid-after=\"20260101Z\" " + key + "\n"))
	f.Add([]byte("\"a b\" " + key + " c\nx cert-authority " + key))
	f.Add([]byte("a\\\" b=\"\\\"\" c"))
	f.Fuzz(func(t *testing.T, text []byte) {
		var s Signers
		fuzzcost.Check(t, func() { s = ParseSigners(text) })
		lines := 0
		for range keyLines(text) {
			lines++
		}
		if len(s.Lines)+len(s.Wrong) != lines {
			t.Errorf("%q: %d valid and %d invalid lines, of %d", text, len(s.Lines), len(s.Wrong), lines)
		}
		for _, l := range s.Lines {
			if l.Key == nil || l.Principals == "" || CheckKey(l.Key) != nil {
				t.Errorf("%q allows %+v", text, l)
			}
		}
	})
}

func FuzzRevoked(f *testing.F) {
	key := newSigner(f, ssh.KeyAlgoED25519)
	f.Add([]byte(line(key) + "\r\n" + ssh.FingerprintSHA256(key.PublicKey())))
	f.Add([]byte("SSHKRL\n\x00"))
	f.Fuzz(func(t *testing.T, text []byte) {
		var r Revoked
		var err error
		fuzzcost.Check(t, func() { r, err = ParseRevoked(text) })
		if err != nil {
			return
		}
		// An additional line does not reinstate a key.
		more, err := ParseRevoked(append(bytes.TrimRight(text, "\x00\r\n"), "\n"+line(key)+"\n"...))
		if err != nil || !more.Has(key.PublicKey()) || len(more.keys) < len(r.keys) || len(more.fingerprints) < len(r.fingerprints) {
			t.Errorf("%q with an additional line: %+v, %v", text, more, err)
		}
	})
}
