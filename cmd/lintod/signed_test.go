package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"lintod/agent/broker/brokertest"
	"lintod/agent/signed"
	"lintod/agent/signed/verifier"
	"lintod/cmd/lintoctl/signing"
)

// administrator makes a key with ssh-keygen, allows it at the box, and opens it like
// lintoctl.
func (b *box) administrator() *signing.Key {
	b.t.Helper()
	path := b.path("id_ed25519")
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path).CombinedOutput(); err != nil {
		b.t.Fatalf("%v %s", err, out)
	}
	k, err := signing.Open(b.t.Context(), path, signing.Options{})
	if err != nil {
		b.t.Fatal(err)
	}
	line := fmt.Sprintf("# who administers\r\nann@example.org namespaces=%q %s", signed.Namespace, ssh.MarshalAuthorizedKey(k.Public))
	if err := os.WriteFile(b.path("allowed_signers"), []byte(line), 0o600); err != nil {
		b.t.Fatal(err)
	}
	return k
}

func (b *box) signedTable(require string) string {
	return fmt.Sprintf("[signed]\nrequire = [%q]\nallowed_signers = %q\nrevoked = %q\n", require, b.path("allowed_signers"), b.path("revoked_keys"))
}

// ask returns an order for a shell command.
func (b *box) ask(s *signing.Sealer, args, id string) map[string]any {
	b.t.Helper()
	return b.order(s, "shellexec", args, id)
}

// order sends an order until it is answered, like lintoctl, and signs it again if
// the device requires a nonce. The device may be killed meanwhile.
func (b *box) order(s *signing.Sealer, verb, args, id string) map[string]any {
	b.t.Helper()
	payload := b.sealFor(s, verb, args, id, "")
	read := len(b.watch.All())
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); {
		b.send(verb, string(payload))
		for next := time.Now().Add(time.Second); time.Now().Before(next); time.Sleep(10 * time.Millisecond) {
			all := b.watch.All()
			for ; read < len(all); read++ {
				if !brokertest.Topic("/" + verb)(all[read]) {
					continue
				}
				answer := all[read].JSON(b.t)
				if answer["id"] != id {
					continue
				}
				nonce, ok := answer["nonce"].(string)
				if !ok {
					return answer
				}
				payload = b.sealFor(s, verb, args, id, nonce)
				next = time.Now() // at once
			}
		}
	}
	b.t.Fatalf("%s is not answered", id)
	return nil
}

func (b *box) seal(s *signing.Sealer, args, id, nonce string) []byte {
	b.t.Helper()
	return b.sealFor(s, "shellexec", args, id, nonce)
}

func (b *box) sealFor(s *signing.Sealer, verb, args, id, nonce string) []byte {
	b.t.Helper()
	payload, err := s.Seal(b.t.Context(), "blk", serial, verb, json.RawMessage(args), id, nonce)
	if err != nil {
		b.t.Fatal(err)
	}
	return payload
}

// Orders over a real broker to a real daemon that is killed between accepting an
// order and carrying it out, and at other moments: each is answered, and none is
// carried out twice.
func TestSignedOrdersAreDoneOnceDespiteKills(t *testing.T) {
	t.Parallel()
	const orders = 12
	m := brokertest.Start(t)
	var table strings.Builder
	table.WriteString("[behaviors.shellexec]\nenabled = true\nper_minute = 600\n")
	for i := range orders {
		fmt.Fprintf(&table, "commands.c%d = 'echo c%d >>\"$HOME/ran\"'\n", i, i)
	}
	b := newBox(t, m, settings{tts: table.String()})
	s := &signing.Sealer{Key: b.administrator()}
	f, err := os.OpenFile(b.path("lintod.toml"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(b.signedTable("privileged")); err != nil {
		t.Fatal(err)
	}
	f.Close()
	b.start()

	b.send("shellexec", `{"cmd":"c0","id":"unsigned"}`)
	if a := b.next("shellexec").JSON(t); a["id"] != "unsigned" || !strings.HasPrefix(fmt.Sprint(a["status"]), "refused: ") {
		t.Errorf("unsigned, answered %v", a)
	}
	if a := b.ask(s, `{"cmd":"c0"}`, "calm"); a["status"] != nil {
		t.Errorf("answered %v", a)
	}
	memory := filepath.Join(b.path("state"), verifier.MemoryFile)
	lost := 0
	for i := 1; i < orders; i++ {
		id := fmt.Sprintf("order-%d", i)
		killed := make(chan struct{})
		go func() {
			defer close(killed)
			for range 3000 {
				if text, _ := os.ReadFile(memory); strings.Contains(string(text), " "+id+" ") {
					break
				}
				time.Sleep(100 * time.Microsecond)
			}
			time.Sleep(rand.N(time.Duration(i) * 30 * time.Millisecond)) // a random moment
			_ = b.cmd.Process.Kill()
		}()
		args := fmt.Sprintf(`{"cmd":"c%d"}`, i)
		payload := b.seal(s, args, id, "")
		b.send("shellexec", string(payload))
		// If the clock of this machine is not synchronized, the device requires a
		// nonce.
		if nonce := b.nonce(id, killed); nonce != "" {
			b.send("shellexec", string(b.seal(s, args, id, nonce)))
		}
		<-killed
		b.kill()
		b.start()
		if a := b.ask(s, args, id); a["status"] != nil {
			t.Logf("%s: %v", id, a["status"])
			lost++
		}
	}
	files, _ := filepath.Glob(b.path("state/*/ran"))
	if len(files) != 1 {
		t.Fatalf("found %v", files)
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	for i := range orders {
		if n := strings.Count(string(text), fmt.Sprintf("c%d\n", i)); n > 1 {
			t.Errorf("c%d was run %d times", i, n)
		}
	}
	t.Logf("%d of %d orders have no result because the daemon was killed", lost, orders-1)
	code, out := b.run("check")
	if code != 0 || strings.Contains(out, "signed") {
		t.Errorf("check: %d, %s", code, out)
	}
}

// nonce waits for an answer to id, or until the daemon is killed.
func (b *box) nonce(id string, killed <-chan struct{}) string {
	for read := 0; ; time.Sleep(time.Millisecond) {
		all := b.watch.All()
		for ; read < len(all); read++ {
			if !brokertest.Topic("/shellexec")(all[read]) {
				continue
			}
			if answer := all[read].JSON(b.t); answer["id"] == id {
				nonce, _ := answer["nonce"].(string)
				return nonce
			}
		}
		select {
		case <-killed:
			return ""
		default:
		}
	}
}

// lintod check reports errors in the key files with their lines.
func TestCheckReportsLinesOfKeyFiles(t *testing.T) {
	b := newBox(t, brokertest.Start(t), settings{})
	key := b.administrator()
	text, err := os.ReadFile(b.path("lintod.toml"))
	if err != nil {
		t.Fatal(err)
	}
	good := ssh.MarshalAuthorizedKey(key.Public)
	for name, c := range map[string]struct{ table, allowed, revoked, want string }{
		"unknown option":  {b.signedTable("all"), "ann@example.org from=\"10.0.0.0/8\" " + string(good) + "bob@example.org " + string(good), "", "line 1"},
		"nobody may sign": {b.signedTable("all"), "# nobody\n", "", "allowed_signers"},
		"revoked":         {b.signedTable("all"), "ann@example.org " + string(good), "oops\n", "revoked_keys: line 1"},
		"unknown verb":    {b.signedTable("shelexec"), "", "", "signed.require"},
	} {
		for file, text := range map[string]string{"lintod.toml": string(text) + c.table, "allowed_signers": c.allowed, "revoked_keys": c.revoked} {
			if err := os.WriteFile(b.path(file), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if _, out := b.run("check"); !strings.Contains(out, c.want) {
			t.Errorf("%s: check prints %s", name, out)
		}
	}
}

// A configuration that must be signed can be changed by its signers, including the
// table [signed], but never so that nobody could sign afterwards.
func TestSignedConfigurationIsChanged(t *testing.T) {
	b := newBox(t, brokertest.Start(t), settings{tts: fmt.Sprintf(configOn, "30s")})
	s := &signing.Sealer{Key: b.administrator()}
	if err := os.WriteFile(b.path("lintod.toml"), []byte(b.file()+b.signedTable("config")), 0o600); err != nil {
		t.Fatal(err)
	}
	b.start()
	set := func(change string) string {
		args, err := json.Marshal(map[string]string{"action": "set", "change": change})
		if err != nil {
			t.Fatal(err)
		}
		return string(args)
	}
	if a := b.config("unsigned", "set", map[string]any{"change": "[device]\nvolume = 11\n"}); !strings.HasPrefix(fmt.Sprint(a["status"]), "refused: ") {
		t.Errorf("unsigned: %v", a)
	}
	if a := b.order(s, "config", set("[device]\nvolume = 41\n"), "volume"); a["status"] != nil || !strings.Contains(b.file(), "volume = 41\n") {
		t.Errorf("signed: %v, and the file has\n%s", a, b.file())
	}
	if a := b.order(s, "config", set("[signed]\nmax_age = \"2h\"\n"), "age"); a["status"] != nil || !strings.Contains(b.file(), `max_age = "2h"`) {
		t.Errorf("who must sign: %v, and the file has\n%s", a, b.file())
	}
	text := b.file()
	for i, change := range []string{"[signed]\nallowed_signers = \"/nonexistent\"\n", "[device]\nvolume = 900\n"} {
		if a := b.order(s, "config", set(change), fmt.Sprint("wrong-", i)); a["status"] == nil || b.file() != text {
			t.Errorf("%s: %v", change, a)
		}
	}
}
