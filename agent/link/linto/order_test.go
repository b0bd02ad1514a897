package linto

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"lintod/agent/base/config"
	"lintod/agent/base/state"
	"lintod/agent/broker/brokertest"
	"lintod/agent/signed"
	"lintod/agent/signed/sshsig"
	"lintod/agent/signed/verifier"
	"lintod/behaviors"
)

// guarded is a device whose owner requires signatures for some verbs, with a real
// executor.
type guarded struct {
	*stage
	dir   string
	ann   ssh.Signer
	clock *time.Time // nil: the system's, which is set
	ran   *ranCommands
}

// ranCommands records the executed commands.
type ranCommands struct {
	mu   sync.Mutex
	list []string
}

func (r *ranCommands) all() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.list)
}

func startGuarded(t *testing.T, require ...string) *guarded {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	g := &guarded{dir: t.TempDir(), ran: &ranCommands{}}
	if g.ann, err = ssh.NewSignerFromKey(key); err != nil {
		t.Fatal(err)
	}
	c := verifier.Defaults()
	c.Require, c.AllowedSigners, c.Revoked = config.Strings(require), filepath.Join(g.dir, "allowed_signers"), filepath.Join(g.dir, "revoked_keys")
	allowed := "ann@example.org namespaces=\"" + signed.Namespace + "\" " + string(ssh.MarshalAuthorizedKey(g.ann.PublicKey()))
	if err := os.WriteFile(c.AllowedSigners, []byte(allowed), 0o600); err != nil {
		t.Fatal(err)
	}
	// The device has run for a day: it remembers the requests since then.
	since := fmt.Sprintf("since %d\n", time.Now().Add(-24*time.Hour).Unix())
	if err := os.WriteFile(filepath.Join(g.dir, verifier.MemoryFile), []byte(since), 0o600); err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	ledger, err := state.OpenLedger(g.dir, log)
	if err != nil {
		t.Fatal(err)
	}
	g.stage = start(t, func(l *Link) {
		l.Registry.Add(behaviors.Verb{
			Name: "shellexec", Power: behaviors.Privileged, Params: []behaviors.Param{{Name: "cmd", Kind: behaviors.Text, Max: 1000, Required: true}},
			Limits: behaviors.Limits{Enabled: true, PerMinute: 1000, AtOnce: 4},
			Do: func(_ context.Context, call behaviors.Call) (any, error) {
				g.ran.mu.Lock()
				defer g.ran.mu.Unlock()
				g.ran.list = append(g.ran.list, call.Args.Text("cmd"))
				return map[string]string{"stdout": "did " + call.Args.Text("cmd")}, nil
			},
		})
		x := &behaviors.Executor{Registry: l.Registry, Ledger: ledger, Audit: &behaviors.Audit{Path: filepath.Join(g.dir, "audit.log"), Log: log}, Log: log}
		ctx, stop := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- x.Run(ctx) }()
		t.Cleanup(func() { stop(); <-done })
		l.Powers = x
		l.Registry.Signed, l.Registry.Refused = c.Requires, x.Refuse
		l.Orders = &verifier.Verifier{Config: c, StateDir: g.dir, Log: log, Clock: func() (time.Time, bool) {
			if g.clock != nil {
				return *g.clock, false
			}
			return time.Now(), true
		}}
	})
	// Run starts the executor; an earlier request is refused as busy.
	g.untilRuns()
	return g
}

// untilRuns waits until the executor runs.
func (g *guarded) untilRuns() {
	g.t.Helper()
	for i := range 1000 {
		id := fmt.Sprintf("warm-%d", i)
		if answer := g.order("shellexec", g.sign(g.make(id, "shellexec", `{"cmd":"warm up"}`))); answer["stdout"] != nil {
			g.ran.mu.Lock()
			g.ran.list = nil
			g.ran.mu.Unlock()
			return
		}
	}
	g.t.Fatal("the executor does not run")
}

func (g *guarded) make(id, do, args string) signed.Order {
	now := time.Now().Truncate(time.Second)
	return signed.Order{Scope: "blk", To: []string{"sn-1"}, Do: do, Args: json.RawMessage(args), ID: id, Issued: now, Expires: now.Add(5 * time.Minute)}
}

func (g *guarded) sign(o signed.Order) string {
	g.t.Helper()
	text, err := o.Text()
	if err != nil {
		g.t.Fatal(err)
	}
	s, err := sshsig.Sign(g.ann, signed.Namespace, []byte(text))
	if err != nil {
		g.t.Fatal(err)
	}
	return string(signed.Envelope{Signed: text, Signature: s.Marshal()}.Encode())
}

// order publishes a request, and returns the next answer on its topic or
// acknowledgement topic.
func (g *guarded) order(topic, payload string) map[string]any {
	g.t.Helper()
	g.broker.Publish("blk/tolinto/sn-1/"+topic, payload)
	answers := []string{topic}
	if w, ok := wordOf(topic); ok && w.ack != "" {
		answers = append(answers, w.ack)
	}
	return g.watch.Next("an answer on "+topic, func(m brokertest.Message) bool {
		return slices.Contains(answers, strings.TrimPrefix(m.Topic, "blk/fromlinto/sn-1/"))
	}).JSON(g.t)
}

// audit returns the lines of the audit that contain all of these words.
func (g *guarded) audit(words ...string) (lines []string) {
	g.t.Helper()
	text, err := os.ReadFile(filepath.Join(g.dir, "audit.log"))
	if err != nil {
		g.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(line, w) }) {
			lines = append(lines, line)
		}
	}
	return lines
}

func refused(answer map[string]any, id string) bool {
	status, _ := answer["status"].(string)
	return strings.HasPrefix(status, "refused: ") && (id == "" || answer["id"] == id)
}

func TestSignedRequests(t *testing.T) {
	g := startGuarded(t, "privileged")
	one := g.sign(g.make("one", "shellexec", `{"cmd":"uptime"}`))
	if a := g.order("shellexec", one); a["id"] != "one" || a["stdout"] != "did uptime" || a["status"] != nil {
		t.Errorf("answered %v", a)
	}
	// A repeated order is answered again, but not executed again.
	if a := g.order("shellexec", one); a["id"] != "one" || a["stdout"] != "did uptime" {
		t.Errorf("sent again, answered %v", a)
	}
	if lines := g.audit("behaviour asked\"", `"id":"one"`, "ann@example.org SHA256:"); len(lines) != 1 {
		t.Errorf("the audit has %q", lines)
	}
	for name, tt := range map[string]struct{ topic, payload string }{
		"unsigned":     {"shellexec", `{"cmd":"reboot","id":"two"}`},
		"altered":      {"shellexec", strings.Replace(g.sign(g.make("two", "shellexec", `{"cmd":"uptime"}`)), "uptime", "reboot", 1)},
		"another verb": {"shellexec", g.sign(g.make("two", "stopreversessh", `{"cmd":"reboot"}`))},
		"another device": {"shellexec", g.sign(func() signed.Order {
			o := g.make("two", "shellexec", `{"cmd":"reboot"}`)
			o.To = []string{"sn-2"}
			return o
		}())},
		"another scope": {"shellexec", g.sign(func() signed.Order { o := g.make("two", "shellexec", `{"cmd":"reboot"}`); o.Scope = "other"; return o }())},
		"expired": {"shellexec", g.sign(func() signed.Order {
			o := g.make("two", "shellexec", `{"cmd":"reboot"}`)
			o.Issued, o.Expires = o.Issued.Add(-time.Hour), o.Issued.Add(-time.Hour+time.Minute)
			return o
		}())},
		"not valid yet": {"shellexec", g.sign(func() signed.Order {
			o := g.make("two", "shellexec", `{"cmd":"reboot"}`)
			o.Issued, o.Expires = o.Issued.Add(time.Hour), o.Issued.Add(time.Hour+time.Minute)
			return o
		}())},
		"the id of another": {"shellexec", g.sign(g.make("one", "shellexec", `{"cmd":"reboot"}`))},
		"to another topic":  {"volume", one},
		"a volume, altered": {"volume", strings.Replace(g.sign(g.make("two", "volume", `{"value":10}`)), "10", "99", 1)},
	} {
		before := len(g.audit("behaviour refused"))
		if a := g.order(tt.topic, tt.payload); !refused(a, "") {
			t.Errorf("%s: answered %v", name, a)
		}
		if n := len(g.audit("behaviour refused")) - before; n != 1 {
			t.Errorf("%s: %d lines in the audit", name, n)
		}
	}
	if err := os.WriteFile(g.link.Orders.Config.Revoked, ssh.MarshalAuthorizedKey(g.ann.PublicKey()), 0o600); err != nil {
		t.Fatal(err)
	}
	if a := g.order("shellexec", g.sign(g.make("three", "shellexec", `{"cmd":"reboot"}`))); !refused(a, "three") {
		t.Errorf("a revoked key: %v", a)
	}
	if got := g.ran.all(); !slices.Equal(got, []string{"uptime"}) {
		t.Errorf("ran %q", got)
	}
	// Requests that need no signature still work.
	g.acked("volume", `{"value":20,"id":"old"}`, "volume", `"id":"old"`)
	g.acked("ping", "", "pong", "{}")
	if got := g.did(); !slices.Equal(got, []string{"volume 20"}) {
		t.Errorf("the device did %q", got)
	}
}

func TestAllMustBeSigned(t *testing.T) {
	g := startGuarded(t, "all")
	for _, topic := range []string{"ping", "mute", "unmute", "volume", "say", "tts_lang", "shellexec"} {
		if a := g.order(topic, `{"value":"20","id":"x"}`); !refused(a, "x") {
			t.Errorf("%s: answered %v", topic, a)
		}
	}
	// A message that requests no verb must not speak either.
	g.publish("customAction/x", `{"behavior":{"say":{"text":"let them in","phonetic":"let them in"},"customAction":{"kind":"x"}}}`)
	for i, tt := range []struct{ topic, args, answer, want string }{
		{"ping", `{}`, "pong", ""},
		{"volume", `{"value":30}`, "volume", "volume 30"},
		{"mute", `{}`, "muteack", "muted true"},
		{"say", `{"value":"hello"}`, "say", "say hello"},
		{"unmute", `{}`, "unmuteack", "muted false"},
		{"tts_lang", `{"value":"fr-FR"}`, "tts_lang", "lang fr-FR"},
	} {
		id := fmt.Sprintf("s%d", i)
		payload := g.sign(g.make(id, tt.topic, tt.args))
		for range 2 { // the second one is a repetition
			if a := g.order(tt.topic, payload); a["id"] != id || a["status"] != nil {
				t.Errorf("%s: answered %v", tt.topic, a)
			}
		}
	}
	want := []string{"volume 30", "muted true", "say hello", "muted false", "lang fr-FR"}
	if got := g.did(); !slices.Equal(got, want) {
		t.Errorf("the device did %q, want %q", got, want)
	}
}

// While the clock is not set, the device requests an order once more, with a
// nonce.
func TestOrdersWithANonce(t *testing.T) {
	g := startGuarded(t, "privileged")
	past := time.Unix(1000, 0)
	g.clock = &past
	o := g.make("one", "shellexec", `{"cmd":"uptime"}`)
	a := g.order("shellexec", g.sign(o))
	nonce, _ := a["nonce"].(string)
	if a["id"] != "one" || a["status"] != "clock not set" || len(nonce) != 32 {
		t.Fatalf("answered %v", a)
	}
	o.Nonce = nonce
	payload := g.sign(o)
	for range 2 {
		if a := g.order("shellexec", payload); a["id"] != "one" || a["stdout"] != "did uptime" {
			t.Errorf("answered %v", a)
		}
	}
	o.ID = "two"
	if a := g.order("shellexec", g.sign(o)); !refused(a, "two") || a["nonce"] == nil || a["nonce"] == nonce {
		t.Errorf("a nonce is used twice: %v", a)
	}
	if got := g.ran.all(); !slices.Equal(got, []string{"uptime"}) {
		t.Errorf("ran %q", got)
	}
}

// A flood of refused requests neither fills the audit nor blocks a valid order.
func TestFloodOfUnsignedRequests(t *testing.T) {
	g := startGuarded(t, "privileged")
	for i := range 200 {
		g.broker.Publish("blk/tolinto/sn-1/shellexec", fmt.Sprintf(`{"cmd":"reboot","id":"f%d"}`, i))
	}
	for {
		a := g.order("shellexec", g.sign(g.make("good", "shellexec", `{"cmd":"uptime"}`)))
		if a["id"] == "good" {
			break
		}
	}
	if n := len(g.audit("behaviour refused")); n < 1 || n > 25 {
		t.Errorf("the audit has %d lines of 200 refusals", n)
	}
	if got := g.ran.all(); !slices.Equal(got, []string{"uptime"}) {
		t.Errorf("ran %q", got)
	}
}

// A repeated order whose answer is unknown is not executed: the daemon may have
// been killed after executing it.
func TestOrdersAcceptedBeforeAreNotExecutedAgain(t *testing.T) {
	g := startGuarded(t, "all")
	for i, tt := range []struct{ topic, args string }{{"shellexec", `{"cmd":"reboot"}`}, {"volume", `{"value":99}`}} {
		id := fmt.Sprintf("lost-%d", i)
		payload := g.sign(g.make(id, tt.topic, tt.args))
		if _, err := g.link.Orders.Check([]byte(payload), verifier.Place{Scope: "blk", Serial: "sn-1", Do: tt.topic}); err != nil {
			t.Fatal(err)
		}
		if a := g.order(tt.topic, payload); !refused(a, id) {
			t.Errorf("%s: answered %v", tt.topic, a)
		}
	}
	if len(g.ran.all())+len(g.did()) > 0 {
		t.Errorf("ran %q, did %q", g.ran.all(), g.did())
	}
}
