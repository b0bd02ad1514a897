package agent

import (
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"lintod/agent/signed"
	"lintod/agent/signed/sshsig"
)

// Root checks by itself what must be signed, and whether an order is for this
// device.
func TestOwner(t *testing.T) {
	dir := t.TempDir()
	path, keys := filepath.Join(dir, "lintod.toml"), filepath.Join(dir, "allowed_signers")
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	ann, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	configuration := fmt.Sprintf("[device]\nserial = \"kitchen\"\n[linto]\nenabled = true\nscope = \"home\"\nbroker = \"mqtt://127.0.0.1\"\n"+
		"[behaviors.log]\nenabled = true\n[signed]\nrequire = [\"log\"]\nallowed_signers = %q\n", keys)
	for file, text := range map[string]string{path: configuration, keys: "ann " + string(ssh.MarshalAuthorizedKey(ann.PublicKey()))} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	o := Owner(path, dir)
	allowed, err := o.Load()
	if err != nil {
		t.Fatal(err)
	}
	if !allowed.Config.Log.Enabled || !allowed.Signed("log") || allowed.Signed("upgrade") {
		t.Errorf("%+v", allowed)
	}
	for serial, right := range map[string]bool{"kitchen": true, "hall": false, "*": false} {
		order := signed.Order{Scope: "home", To: []string{serial}, Do: "log", Args: json.RawMessage("{}"), ID: "one", Issued: time.Now(), Expires: time.Now()}
		text, err := order.Text()
		if err != nil {
			t.Fatal(err)
		}
		signature, err := sshsig.Sign(ann, signed.Namespace, []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		got, err := allowed.Authentic(signed.Envelope{Signed: text, Signature: signature.Marshal()}.Encode())
		if (err == nil) != right || right && (got.ID != "one" || got.Do != "log") {
			t.Errorf("for %s: %+v, %v", serial, got, err)
		}
	}
	for change, want := range map[string]bool{"": false, "[audio]\ninput = \"null\"\n": false, "max_age = \"2h\"\n": true} {
		if signers, err := o.Parse([]byte(configuration + change)); err != nil || signers != want {
			t.Errorf("%q: may the signers be changed: %v, %v", change, signers, err)
		}
	}
}
