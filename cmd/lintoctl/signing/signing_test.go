package signing

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"lintod/agent/signed"
	"lintod/agent/signed/sshsig"
)

// realAgent starts ssh-agent.
func realAgent(t *testing.T) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "agent")
	cmd := exec.Command("ssh-agent", "-D", "-a", socket)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	for deadline := time.Now().Add(time.Minute); ; {
		conn, err := net.Dial("unix", socket)
		if err == nil {
			conn.Close()
			return socket
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond) // only the socket shows that it is ready
	}
}

// keygen makes a key like an administrator does, and returns its file.
func keygen(t *testing.T, kind, passphrase string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "id_"+kind)
	out, err := exec.Command("ssh-keygen", "-q", "-t", kind, "-a", "1", "-N", passphrase, "-C", "ann's "+kind, "-f", path).CombinedOutput()
	if err != nil {
		t.Fatalf("%v %s", err, out)
	}
	return path
}

func add(t *testing.T, socket, path string) {
	t.Helper()
	cmd := exec.Command("ssh-add", "-q", path)
	cmd.Env = append(os.Environ(), "SSH_AUTH_SOCK="+socket)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
}

func public(t *testing.T, path string) ssh.PublicKey {
	t.Helper()
	text, err := os.ReadFile(path + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	key, _, _, _, err := ssh.ParseAuthorizedKey(text)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func order(id string) signed.Order {
	return signed.Order{Scope: "blk", Do: "volume", Args: json.RawMessage(`{"value":40}`), ID: id}
}

// verified verifies a payload with ssh-keygen, and returns its order.
func verified(t *testing.T, k *Key, payload []byte) signed.Order {
	t.Helper()
	e, err := signed.ParseEnvelope(payload)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	allowed := "me namespaces=\"" + signed.Namespace + "\" " + string(ssh.MarshalAuthorizedKey(k.Public))
	for name, text := range map[string]string{"allowed": allowed, "sig": string(sshsig.Armor(e.Signature))} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("ssh-keygen", "-Y", "verify", "-f", "allowed", "-I", "me", "-n", signed.Namespace, "-s", "sig")
	cmd.Dir, cmd.Stdin = dir, strings.NewReader(e.Signed)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("ssh-keygen: %v %s", err, out)
	}
	o, err := signed.ParseOrder(e.Signed)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// signs opens a key and signs with it.
func signs(t *testing.T, name string, o Options) *Key {
	t.Helper()
	k, err := Open(t.Context(), name, o)
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return nil
	}
	b := Batch{Key: k, Order: order("one")}
	payload, err := b.Envelope(t.Context(), "kitchen")
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return k
	}
	if o := verified(t, k, payload); o.ID != "one" || !slices.Equal(o.To, []string{"kitchen"}) {
		t.Errorf("%s: signed %+v", name, o)
	}
	return k
}

func same(a, b ssh.PublicKey) bool { return bytes.Equal(a.Marshal(), b.Marshal()) }

func TestAgentWithThreeKeys(t *testing.T) {
	o := Options{Agent: realAgent(t), Home: t.TempDir()}
	ed, ec, rsa := keygen(t, "ed25519", ""), keygen(t, "ecdsa", ""), keygen(t, "rsa", "")
	if _, err := Open(t.Context(), Auto, o); err == nil {
		t.Error("a key was found although the agent has none")
	}
	add(t, o.Agent, rsa)
	add(t, o.Agent, ed)
	if k := signs(t, Auto, o); k == nil || !same(k.Public, public(t, ed)) || k.Touch() {
		t.Errorf("the only key that may sign is not selected: %+v", k)
	}
	add(t, o.Agent, ec)
	if _, err := Open(t.Context(), Auto, o); err == nil || !strings.Contains(err.Error(), ssh.FingerprintSHA256(public(t, ec))) {
		t.Errorf("with two keys that may sign: %v", err)
	}
	for _, path := range []string{ed, ec} {
		key := public(t, path)
		for _, name := range []string{path + ".pub", ssh.FingerprintSHA256(key), string(ssh.MarshalAuthorizedKey(key)), path} {
			if k := signs(t, name, o); k == nil || !same(k.Public, key) || !strings.Contains(k.Name, "agent") {
				t.Errorf("%s is %+v", name, k)
			}
		}
	}
	unknown := keygen(t, "ed25519", "")
	for _, name := range []string{rsa + ".pub", rsa, ssh.FingerprintSHA256(public(t, unknown)), string(ssh.MarshalAuthorizedKey(public(t, unknown))), "/nonexistent"} {
		if k, err := Open(t.Context(), name, o); err == nil {
			t.Errorf("%s opens %+v", name, k)
		}
	}
}

func TestKeysInFiles(t *testing.T) {
	asked := 0
	answers := []string{"wrong", "secret"}
	o := Options{Home: t.TempDir(), Ask: func(context.Context, string) ([]byte, error) {
		asked++
		return []byte(answers[(asked-1)%len(answers)]), nil
	}}
	plain, locked := keygen(t, "ed25519", ""), keygen(t, "ecdsa", "secret")
	signs(t, plain, o)
	signs(t, plain+".pub", o) // without an agent, with the private half in the same directory
	if asked != 0 {
		t.Error("a passphrase was asked for")
	}
	if k := signs(t, locked, o); k == nil || asked != 2 {
		t.Errorf("%d questions", asked)
	}
	answers = []string{"wrong"}
	if _, err := Open(t.Context(), locked, o); err == nil || strings.Contains(err.Error(), "wrong") {
		t.Errorf("wrong passphrase: %v", err)
	}
	o.Ask = nil
	if _, err := Open(t.Context(), locked, o); err == nil {
		t.Error("opened without a passphrase")
	}
	if err := os.Chmod(plain, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), plain, o); err == nil {
		t.Error("a key that others can read was used")
	}
	if err := errors.Join(os.Chmod(plain, 0o600), os.Mkdir(filepath.Join(o.Home, ".ssh"), 0o700), os.Rename(plain, filepath.Join(o.Home, ".ssh", "id_ed25519"))); err != nil {
		t.Fatal(err)
	}
	signs(t, Auto, o)
	for name, text := range map[string]string{"empty": "", "noise": "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n"} {
		path := filepath.Join(o.Home, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(t.Context(), path, o); err == nil {
			t.Errorf("%s was accepted as a key", name)
		}
	}
}

// softwareSK is an agent with a security key in software. It counts the touches.
type softwareSK struct {
	agent.Agent
	private ed25519.PrivateKey
	flags   byte
	touches atomic.Uint32
	hold    chan struct{} // if set, the key waits for a touch until it is closed
}

const application = "ssh:"

func (s *softwareSK) public() []byte {
	return ssh.Marshal(struct {
		Type        string
		Key         []byte
		Application string
	}{ssh.KeyAlgoSKED25519, s.private.Public().(ed25519.PublicKey), application})
}

func (s *softwareSK) List() ([]*agent.Key, error) {
	return []*agent.Key{{Format: ssh.KeyAlgoSKED25519, Blob: s.public(), Comment: "ann's security key"}}, nil
}

func (s *softwareSK) Sign(_ ssh.PublicKey, data []byte) (*ssh.Signature, error) {
	if s.hold != nil {
		<-s.hold
	}
	app, message := sha256.Sum256([]byte(application)), sha256.Sum256(data)
	rest := binary.BigEndian.AppendUint32([]byte{s.flags}, s.touches.Add(1))
	covered := append(append(app[:], rest...), message[:]...)
	return &ssh.Signature{Format: ssh.KeyAlgoSKED25519, Blob: ed25519.Sign(s.private, covered), Rest: rest}, nil
}

// newSK serves the agent at the returned address.
func newSK(t *testing.T) (*softwareSK, string) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s := &softwareSK{Agent: agent.NewKeyring(), private: private, flags: 1}
	socket := filepath.Join(t.TempDir(), "agent")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer conn.Close()
				_ = agent.ServeAgent(s, conn)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		serving.Wait()
	})
	return s, socket
}

func TestSecurityKeyInAnAgent(t *testing.T) {
	sk, socket := newSK(t)
	o := Options{Agent: socket, Home: t.TempDir()}
	k := signs(t, Auto, o)
	if k == nil || !k.Touch() {
		t.Fatalf("%+v is not a security key", k)
	}
	sk.flags = 0
	if _, err := (&Batch{Key: k, Order: order("one")}).Envelope(t.Context(), "kitchen"); err == nil {
		t.Error("a signature without a touch was sent")
	}
	sk.flags, sk.hold = 1, make(chan struct{})
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("interrupted")
	time.AfterFunc(100*time.Millisecond, func() { cancel(why) })
	if _, err := (&Batch{Key: k, Order: order("one")}).Envelope(ctx, "kitchen"); !errors.Is(err, why) {
		t.Errorf("without a touch: %v", err)
	}
	close(sk.hold)
}

// ssh-keygen signs for a key whose file only it can use; here with the agent's help.
func TestSecurityKeyInAFile(t *testing.T) {
	sk, socket := newSK(t)
	t.Setenv("SSH_AUTH_SOCK", socket)
	key, err := ssh.ParsePublicKey(sk.public())
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "id_ed25519_sk.pub")
	if err := os.WriteFile(path, ssh.MarshalAuthorizedKey(key), 0o600); err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	k := Options{Stderr: &said}.securityKey(path, key)
	payload, err := (&Batch{Key: k, Order: order("one")}).Envelope(t.Context(), "kitchen")
	if err != nil {
		t.Fatalf("%v: %s", err, &said)
	}
	verified(t, k, payload)
	if sk.touches.Load() != 1 {
		t.Errorf("%d touches", sk.touches.Load())
	}
}

// One touch serves a whole run, as far as an order has room.
func TestOneTouchForManyDevices(t *testing.T) {
	sk, socket := newSK(t)
	k, err := Open(t.Context(), Auto, Options{Agent: socket})
	if err != nil {
		t.Fatal(err)
	}
	serials := make([]string, 1200)
	for i := range serials {
		serials[i] = fmt.Sprintf("device-%05d", i)
	}
	now := time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)
	b := &Batch{Key: k, Order: order("one"), Serials: serials, Now: func() time.Time { return now }}
	first := map[string][]byte{}
	envelope := func(serial string) signed.Order {
		t.Helper()
		payload, err := b.Envelope(t.Context(), serial)
		if err != nil {
			t.Fatal(serial, err)
		}
		if before, ok := first[serial]; ok && !bytes.Equal(before, payload) {
			t.Errorf("%s gets a different order on retransmission", serial)
		}
		first[serial] = payload
		e, err := signed.ParseEnvelope(payload)
		if err != nil {
			t.Fatal(err)
		}
		o, err := signed.ParseOrder(e.Signed)
		if err != nil || !o.For(serial) {
			t.Fatalf("%s is not among %d devices, %v", serial, len(o.To), err)
		}
		return o
	}
	for _, serial := range serials {
		envelope(serial)
	}
	if n := sk.touches.Load(); n != 2 {
		t.Errorf("%d touches for %d devices", n, len(serials))
	}
	now = now.Add(Validity)
	for _, serial := range serials[:3] {
		envelope(serial) // a retransmission
	}
	now = now.Add(time.Second)
	if _, err := b.Envelope(t.Context(), serials[0]); !errors.Is(err, ErrExpired) {
		t.Errorf("after it has expired: %v", err)
	}
	payload, err := b.WithNonce(t.Context(), serials[1], strings.Repeat("a", 32))
	if err != nil {
		t.Fatal(err)
	}
	if o := verified(t, k, payload); o.ID != "one" || o.Nonce == "" || !slices.Equal(o.To, serials[1:2]) {
		t.Errorf("with a nonce %+v", o)
	}
	if again, err := b.Envelope(t.Context(), serials[1]); err != nil || !bytes.Equal(again, payload) {
		t.Errorf("the retransmission has no nonce, %v", err)
	}

	// A device that connects late in a long run gets a new signature.
	b = &Batch{Key: k, Order: order("two"), Serials: serials[:3], Now: func() time.Time { return now }}
	clear(first)
	early := envelope(serials[0])
	now = now.Add(Validity * 3 / 4)
	if late := envelope(serials[1]); !late.Expires.After(early.Expires) || late.For(serials[0]) {
		t.Errorf("%+v, after %+v", late, early)
	}
	envelope(serials[0])
}

// Each stage of a run has one touch, and its signature does not include later
// stages.
func TestOneTouchForEachStage(t *testing.T) {
	sk, socket := newSK(t)
	k, err := Open(t.Context(), Auto, Options{Agent: socket})
	if err != nil {
		t.Fatal(err)
	}
	var stage []string
	s := &Sealer{Key: k, Group: func(string, json.RawMessage) []string { return stage }}
	for i, serials := range [][]string{{"a"}, {"b", "c"}, {"d", "e", "f"}} {
		stage = serials
		for range 2 {
			for _, serial := range stage {
				payload, err := s.Seal(t.Context(), "blk", serial, "volume", json.RawMessage(`{"value":40}`), "one", "")
				if err != nil {
					t.Fatal(err)
				}
				if o := verified(t, k, payload); !slices.Equal(o.To, stage) {
					t.Errorf("in stage %d %s gets an order for %q", i, serial, o.To)
				}
			}
		}
	}
	if n := sk.touches.Load(); n != 3 {
		t.Errorf("%d touches for 3 stages", n)
	}
}

func TestSoftwareKeysSignForEachDevice(t *testing.T) {
	k, err := Open(t.Context(), keygen(t, "ed25519", ""), Options{})
	if err != nil {
		t.Fatal(err)
	}
	s := &Sealer{Key: k, Group: func(string, json.RawMessage) []string { return []string{"a", "b"} }}
	seal := func(serial, id, nonce string) []byte {
		payload, err := s.Seal(t.Context(), "blk", serial, "volume", json.RawMessage(`{"value":40}`), id, nonce)
		if err != nil {
			t.Fatal(err)
		}
		return payload
	}
	one := seal("a", "one", "")
	if o := verified(t, k, one); !slices.Equal(o.To, []string{"a"}) || o.Scope != "blk" || o.Do != "volume" || o.Expires.Sub(o.Issued) != Validity {
		t.Errorf("signed %+v", o)
	}
	if !bytes.Equal(seal("a", "one", ""), one) || bytes.Equal(seal("b", "one", ""), one) || bytes.Equal(seal("a", "two", ""), one) {
		t.Error("orders are mixed up")
	}
	if o := verified(t, k, seal("a", "one", strings.Repeat("b", 32))); o.Nonce == "" {
		t.Errorf("with a nonce %+v", o)
	}
	if _, err := s.Seal(t.Context(), "blk", "a", "volume", json.RawMessage(`[]`), "three", ""); err == nil {
		t.Error("invalid arguments were signed")
	}
}
