package signed_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"lintod/agent/signed"
	"lintod/agent/signed/sshsig"
)

// The texts of the vectors, and the first bytes of their digests.
const (
	text1 = `{"v":1,"scope":"blk","to":["kitchen-01"],"do":"shellexec","args":{"cmd":"df -h /"},"id":"01JE8V3Q0000000000000000AB","issued":1795788000,"expires":1795788300}`
	text2 = `{"v":1,"scope":"blk","to":["hall-02","kitchen-01","salon-\u00e9"],"do":"volume","args":{"value":40},"id":"01JE8V3Q0000000000000000AC","issued":1795788000,"expires":1795788300}`
	text3 = `{"v":1,"scope":"blk","to":["kitchen-01"],"do":"shellexec","args":{"cmd":"df -h /"},"id":"01JE8V3Q0000000000000000AD","nonce":"a3c1f0e2d4b59687a3c1f0e2d4b59687"}`
)

const (
	annLine = `ann@example.org namespaces="lintod-order-v1" ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4`
	bobLine = `bob@example.org namespaces="lintod-order-v1" sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29tAAAAIM0Us3+VbpUxlP9/tzs9gdzFYdYadTgJS3w+GmQ+5fOqAAAABHNzaDo=`

	// ofAnn is the start of each signature of ann with sha512, up to the length of its last part.
	ofAnn = `U1NIU0lHAAAAAQAAADMAAAALc3NoLWVkMjU1MTkAAAAgA6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbgAAAAPbGludG9kLW9yZGVyLXYxAAAAAAAAAAZzaGE1MTIAAABTAAAAC3NzaC1lZDI1NTE5AAAAQ`
	v1    = ofAnn + `B/nfkTWDbmt9aS2v6eumTXLcRzvp5Lf1oFQ5QmrdpTCiqrhvw30MnNSxpKoqrF7LEPEsynROykTfKYJ+HiS+Qk=`
	v2    = ofAnn + `LTgKRrphIafunUc9zQn6rm6WO9VbtE73GMvP+kwyLC5kTkZSDlD3yf7fjrjZqgn+ILeajL4erOWVmO/B/xLJww=`
	v3    = ofAnn + `EwoaMcmPqZwovSSYUIXcS4kdkPerY3alzkdVBjW+dQjctJvCtKoDZGN3zP2lYrkH8voSF4E3h9MB5Y/z+AD4A0=`
	v7    = `U1NIU0lHAAAAAQAAAEoAAAAac2stc3NoLWVkMjU1MTlAb3BlbnNzaC5jb20AAAAgzRSzf5VulTGU/3+3Oz2B3MVh1hp1OAlLfD4aZD7l86oAAAAEc3NoOgAAAA9saW50b2Qtb3JkZXItdjEAAAAAAAAABnNoYTUxMgAAAGcAAAAac2stc3NoLWVkMjU1MTlAb3BlbnNzaC5jb20AAABAR5TKKdaeMx/jJ6JX3DHUHmNsr7oXOSttQXn73IEYL8cHWjqC+ZUqN9m/5lnAZNcxgwz/Cw00WyHk7t6OdUyGCQEAAAAH`
)

// seed returns the key of the vectors whose first byte is first.
func seed(first byte) ed25519.PrivateKey {
	s := make([]byte, ed25519.SeedSize)
	for i := range s {
		s[i] = first + byte(i)
	}
	return ed25519.NewKeyFromSeed(s)
}

func signer(t *testing.T, first byte) ssh.Signer {
	t.Helper()
	s, err := ssh.NewSignerFromKey(seed(first))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// softwareSK is a security key in software: it signs like one, with or without a
// touch.
type softwareSK struct {
	key     ed25519.PrivateKey
	flags   byte
	counter uint32
}

const application = "ssh:"

func (s softwareSK) PublicKey() ssh.PublicKey {
	key, err := ssh.ParsePublicKey(ssh.Marshal(struct {
		Type        string
		Key         []byte
		Application string
	}{ssh.KeyAlgoSKED25519, s.key.Public().(ed25519.PublicKey), application}))
	if err != nil {
		panic(err)
	}
	return key
}

func (s softwareSK) Sign(_ io.Reader, data []byte) (*ssh.Signature, error) {
	app, message := sha256.Sum256([]byte(application)), sha256.Sum256(data)
	rest := binary.BigEndian.AppendUint32([]byte{s.flags}, s.counter)
	covered := append(append(app[:], rest...), message[:]...)
	return &ssh.Signature{Format: ssh.KeyAlgoSKED25519, Blob: ed25519.Sign(s.key, covered), Rest: rest}, nil
}

// blob builds a signature like an attacker, even if Sign would refuse.
func blob(t *testing.T, s ssh.Signer, namespace, hash, text string) string {
	t.Helper()
	h := sha256.Sum256([]byte(text))
	digest := h[:]
	if hash == "sha512" {
		digest = sum512(text)
	}
	signature, err := s.Sign(nil, append([]byte("SSHSIG"), ssh.Marshal(struct {
		Namespace, Reserved, Hash string
		Digest                    []byte
	}{namespace, "", hash, digest})...))
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(append([]byte("SSHSIG"), ssh.Marshal(struct {
		Version                   uint32
		Key                       []byte
		Namespace, Reserved, Hash string
		Signature                 []byte
	}{1, s.PublicKey().Marshal(), namespace, "", hash, ssh.Marshal(signature)})...))
}

// keygen asks the real ssh-keygen whether a signature by who is valid. The files
// may be "".
func keygen(t *testing.T, who, allowed, revoked, text, signature string) error {
	t.Helper()
	dir := t.TempDir()
	raw, err := base64.StdEncoding.DecodeString(signature)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name string, text []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	args := []string{
		"-Y", "verify", "-n", signed.Namespace, "-I", who,
		"-f", write("allowed", []byte(allowed)), "-s", write("signature", sshsig.Armor(raw)),
	}
	if revoked != "" {
		args = append(args, "-r", write("revoked", []byte(revoked)))
	}
	cmd := exec.Command("ssh-keygen", args...)
	cmd.Stdin = strings.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil {
		return errors.New(string(out))
	}
	return nil
}

// verify does what the device does, from the envelope to the name of the signer.
func verify(allowed, revoked, text, signature string, now time.Time) error {
	payload, err := json.Marshal(map[string]string{"signed": text, "signature": signature})
	if err != nil {
		return err
	}
	e, err := signed.ParseEnvelope(payload)
	if err != nil {
		return err
	}
	s, err := sshsig.Parse(e.Signature)
	if err != nil {
		return err
	}
	r, err := sshsig.ParseRevoked([]byte(revoked))
	if err != nil {
		return err
	}
	if r.Has(s.Key) {
		return errors.New("revoked")
	}
	if _, err := sshsig.ParseSigners([]byte(allowed)).Find(s.Key, signed.Namespace, now, true); err != nil {
		return err
	}
	if err := s.Verify(signed.Namespace, []byte(e.Signed)); err != nil {
		return err
	}
	_, err = signed.ParseOrder(e.Signed)
	return err
}

// All vectors, verified by lintod and by ssh-keygen.
func TestVectors(t *testing.T) {
	const good, bad = true, false
	annKey := strings.SplitN(annLine, `" `, 2)[1]
	until2026 := strings.Replace(annLine, `order-v1"`, `order-v1",valid-before="20260101"`, 1)
	now := time.Unix(1795788060, 0)
	ann, mallory, bob := "ann@example.org", "mallory@example.org", "bob@example.org"
	for name, v := range map[string]struct {
		who, allowed, revoked, text, signature string
		ours, theirs                           bool
	}{
		"V1":                   {ann, annLine, "", text1, v1, good, good},
		"V2, escapes":          {ann, annLine, "", text2, v2, good, good},
		"V3, nonce":            {ann, annLine, "", text3, v3, good, good},
		"V4, another text":     {ann, annLine, "", strings.Replace(text1, "df -h /", "rm -r /", 1), v1, bad, bad},
		"V5, namespace":        {ann, annLine, "", text1, blob(t, signer(t, 0), "file", "sha512", text1), bad, bad},
		"V6, not allowed":      {mallory, annLine, "", text1, blob(t, signer(t, 0x40), signed.Namespace, "sha512", text1), bad, bad},
		"V7, security key":     {bob, bobLine, "", text1, v7, good, good},
		"V8, without a touch":  {bob, bobLine, "", text1, blob(t, softwareSK{seed(0x80), 0, 8}, signed.Namespace, "sha512", text1), bad, good},
		"V9, sha256":           {ann, annLine, "", text1, blob(t, signer(t, 0), signed.Namespace, "sha256", text1), good, good},
		"revoked":              {ann, annLine, annKey + "\n", text1, v1, bad, bad},
		"valid before":         {ann, until2026, "", text1, v1, bad, bad},
		"both people, CRLF":    {ann, "# people\r\n\r\n" + bobLine + "\r\n" + annLine + " her laptop\r\n", "", text1, v1, good, good},
		"another namespace":    {ann, strings.Replace(annLine, "lintod-order-v1", "file,git", 1), "", text1, v1, bad, bad},
		"pattern of namespace": {ann, strings.Replace(annLine, "lintod-order-v1", "git,lintod-*", 1), "", text1, v1, good, good},
		"not this namespace":   {ann, strings.Replace(annLine, "lintod-order-v1", "*,!lintod-order-v1", 1), "", text1, v1, bad, bad},
		"no options":           {ann, "ann@example.org " + annKey + "\n", "", text1, v1, good, good},
		"unknown option":       {ann, strings.Replace(annLine, "namespaces", `source="10.0.0.0/8",namespaces`, 1), "", text1, v1, bad, bad},
		"another is revoked":   {ann, annLine, strings.SplitN(bobLine, `" `, 2)[1] + "\n", text1, v1, good, good},
	} {
		t.Run(name, func(t *testing.T) {
			if err := verify(v.allowed, v.revoked, v.text, v.signature, now); (err == nil) != v.ours {
				t.Errorf("lintod: %v", err)
			}
			if err := keygen(t, v.who, v.allowed, v.revoked, v.text, v.signature); (err == nil) != v.theirs {
				t.Errorf("ssh-keygen: %v", err)
			}
		})
	}
}

// Ed25519 is deterministic: our signatures equal those of the vectors.
func TestSigningGivesTheVectors(t *testing.T) {
	for text, want := range map[string]string{text1: v1, text2: v2, text3: v3} {
		s, err := sshsig.Sign(signer(t, 0), signed.Namespace, []byte(text))
		if err != nil || base64.StdEncoding.EncodeToString(s.Marshal()) != want {
			t.Errorf("%s: %v", text, err)
		}
	}
	s, err := sshsig.Sign(softwareSK{seed(0x80), 1, 7}, signed.Namespace, []byte(text1))
	if err != nil || base64.StdEncoding.EncodeToString(s.Marshal()) != v7 {
		t.Errorf("security key: %v", err)
	}
	if _, err := sshsig.Sign(softwareSK{seed(0x80), 0, 7}, signed.Namespace, []byte(text1)); err == nil {
		t.Error("a signature without a touch was returned")
	}
}

// An order that is built from its parts has the text of the vectors, and parsing
// returns the parts.
func TestOrdersHaveTheTextOfTheVectors(t *testing.T) {
	issued, expires := time.Unix(1795788000, 0), time.Unix(1795788300, 0)
	for want, o := range map[string]signed.Order{
		text1: {Scope: "blk", To: []string{"kitchen-01"}, Do: "shellexec", Args: json.RawMessage(`{"cmd":"df -h /"}`), ID: "01JE8V3Q0000000000000000AB", Issued: issued, Expires: expires},
		text2: {Scope: "blk", To: []string{"hall-02", "kitchen-01", "salon-é"}, Do: "volume", Args: json.RawMessage(`{"value":40}`), ID: "01JE8V3Q0000000000000000AC", Issued: issued, Expires: expires},
		text3: {Scope: "blk", To: []string{"kitchen-01"}, Do: "shellexec", Args: json.RawMessage(`{"cmd":"df -h /"}`), ID: "01JE8V3Q0000000000000000AD", Nonce: "a3c1f0e2d4b59687a3c1f0e2d4b59687"},
	} {
		text, err := o.Text()
		if err != nil || text != want {
			t.Errorf("%s, %v\nwant %s", text, err, want)
		}
		back, err := signed.ParseOrder(want)
		if err != nil || back.Scope != o.Scope || !back.For(o.To[len(o.To)-1]) || back.Nonce != o.Nonce || !back.Issued.Equal(o.Issued) || !back.Expires.Equal(o.Expires) {
			t.Errorf("%+v, %v; want %+v", back, err, o)
		}
	}
	for text, want := range map[string]string{text1: "49c23d79", text2: "9c792c09", text3: "53230475"} {
		if sum := sha256.Sum256([]byte(text)); hex.EncodeToString(sum[:4]) != want {
			t.Errorf("the digest of %s is %x", text, sum)
		}
	}
	o, err := signed.ParseOrder(text1)
	if err != nil {
		t.Fatal(err)
	}
	o.Args = json.RawMessage(`{"value":"l'été <à> \u007f😀"}`)
	text, err := o.Text()
	if err != nil || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' }) || !bytes.Contains([]byte(text), []byte(`\ud83d\ude00`)) {
		t.Errorf("%s, %v", text, err)
	}
}
