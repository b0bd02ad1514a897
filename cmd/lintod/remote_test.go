package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"lintod/agent/broker/brokertest"
)

const allRemote = "[behaviors.counters]\nenabled = true\n[behaviors.doctor]\nenabled = true\n[behaviors.reboot]\nenabled = true\n"

// Requests of an administrator to a real daemon over a real broker.
func TestRemoteAdministration(t *testing.T) {
	b := newBox(t, brokertest.Start(t), settings{tts: allRemote})
	fake := b.path("bin")
	if err := os.Mkdir(fake, 0o700); err != nil {
		t.Fatal(err)
	}
	script := "#!/bin/sh\necho \"$@\" >>" + b.path("asked") + "\n"
	if err := os.WriteFile(fake+"/systemctl", []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	b.env = append(b.env, "PATH="+fake+":"+os.Getenv("PATH"))
	b.start()

	b.send("counters", `{"id":"c"}`)
	if a := b.next("counters").JSON(t); a["id"] != "c" || a["serial"] != serial || a["turns"] == nil || a["linto"] == nil || a["status"] != nil {
		t.Errorf("counters: %v", a)
	}
	b.send("doctor", `{"id":"d"}`)
	a := b.next("doctor").JSON(t)
	subjects := map[any]bool{}
	list, _ := a["findings"].([]any)
	for _, f := range list {
		subjects[f.(map[string]any)["subject"]] = true
	}
	if a["id"] != "d" || !subjects["configuration"] || !subjects["daemon"] || !subjects["broker"] || !subjects["loudspeaker"] {
		t.Errorf("doctor: %v", a)
	}
	asked := func() string {
		text, _ := os.ReadFile(b.path("asked"))
		return string(text)
	}
	b.send("reboot", `{"id":"r"}`)
	brokertest.Eventually(t, "systemd is asked", func() bool { return strings.Contains(asked(), "reboot\n") })
	b.send("reboot", `{"id":"r"}`) // like a client that waits for the answer
	b.kill()
	b.start() // in the same boot
	if a := b.next("reboot").JSON(t); a["id"] != "r" || !strings.HasPrefix(fmt.Sprint(a["status"]), "interrupted: ") {
		t.Errorf("reboot: %v", a)
	}
	if strings.Count(asked(), "reboot\n") != 1 {
		t.Errorf("systemd was asked %q", asked())
	}
}

func TestRemoteAdministrationIsOffByDefault(t *testing.T) {
	b := newBox(t, brokertest.Start(t), settings{}).start()
	for _, verb := range []string{"counters", "doctor", "reboot"} {
		b.send(verb, `{}`)
		if a := b.next(verb).JSON(t); a["status"] != "disabled" || !strings.Contains(a["message"].(string), "[behaviors."+verb+"]") {
			t.Errorf("%s: %v", verb, a)
		}
	}
}

// config requests an action on the configuration and returns the answer.
func (b *box) config(id, action string, more map[string]any) map[string]any {
	b.t.Helper()
	b.sendConfig(id, action, more)
	return b.configAnswer(id)
}

func (b *box) sendConfig(id, action string, more map[string]any) {
	b.t.Helper()
	payload := map[string]any{"id": id, "action": action}
	maps.Copy(payload, more)
	raw, err := json.Marshal(payload)
	if err != nil {
		b.t.Fatal(err)
	}
	b.send("config", string(raw))
}

func (b *box) configAnswer(id string) map[string]any {
	b.t.Helper()
	return b.watch.Next("answer "+id, func(m brokertest.Message) bool {
		return brokertest.Topic("/config")(m) && m.JSON(b.t)["id"] == id
	}).JSON(b.t)
}

func (b *box) file() string {
	b.t.Helper()
	text, err := os.ReadFile(b.path("lintod.toml"))
	if err != nil {
		b.t.Fatal(err)
	}
	return string(text)
}

const configOn = "[behaviors.config]\nenabled = true\nprobation = %q\n"

func TestRemoteConfigurationChange(t *testing.T) {
	b := newBox(t, brokertest.Start(t), settings{tts: fmt.Sprintf(configOn, "30s")}).start()
	if err := os.Chmod(b.path("lintod.toml"), 0o640); err != nil {
		t.Fatal(err)
	}
	first := b.file()

	got := b.config("get", "get", nil)
	if got["text"] != first || got["status"] != nil {
		t.Errorf("got %v", got)
	}
	for id, more := range map[string]map[string]any{
		"value":    {"change": "[device]\nvolume = 101\n"},
		"unknown":  {"change": "[device]\nvolumes = 1\n"},
		"broken":   {"text": "[device"},
		"neither":  {},
		"masked":   {"change": "[tts]\ncommand = [\"***\"]"},
		"stale":    {"change": "[device]\nvolume = 1\n", "digest": strings.Repeat("0", 64)},
		"elsewere": {"change": "[device]\nstate_dir = \"/tmp/x\"\n"},
	} {
		a := b.config(id, "set", more)
		if a["status"] == nil || b.file() != first {
			t.Errorf("%s: %v", id, a)
		}
		if problems, _ := a["problems"].([]any); id == "value" && (len(problems) != 1 || !strings.HasPrefix(fmt.Sprint(problems[0]), b.path("lintod.toml")+":")) {
			t.Errorf("problems %v", problems)
		}
	}
	change := map[string]any{"change": "[device]\nvolume = 7\n", "digest": got["digest"]}
	if a := b.config("diff", "diff", change); !strings.Contains(fmt.Sprint(a["diff"]), "+volume = 7\n") || b.file() != first {
		t.Errorf("diff %v", a)
	}
	a := b.config("set", "set", change)
	if a["status"] != nil || !strings.Contains(b.file(), "volume = 7\n") || a["digest"] == got["digest"] {
		t.Errorf("set %v", a)
	}
	if info, err := os.Stat(b.path("lintod.toml")); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("%v %v", info, err)
	}
	// The same request again is answered, but not carried out again.
	connects := b.state().Linto.Connects
	if again := b.config("set", "set", change); again["digest"] != a["digest"] || again["status"] != nil {
		t.Errorf("again %v", again)
	}
	if now := b.state().Linto.Connects; now != connects {
		t.Errorf("%d connections, then %d", connects, now)
	}
	if a := b.config("undo", "undo", nil); a["status"] != nil || b.file() != first || a["digest"] != got["digest"] {
		t.Errorf("undo %v", a)
	}
}

// A configuration with which the device does not reconnect is reverted.
func TestWrongConfigurationIsReverted(t *testing.T) {
	t.Parallel()
	b := newBox(t, brokertest.Start(t), settings{tts: fmt.Sprintf(configOn, "3s")}).start()
	first := b.file()
	for id, change := range map[string]string{
		"nobody": "[linto]\nbroker = \"mqtt://127.0.0.1:1\"\n",
		"off":    "[linto]\nenabled = false\n[xiaozhi]\nenabled = true\nota_url = \"http://127.0.0.1:1/\"\n",
	} {
		a := b.config(id, "set", map[string]any{"change": change})
		if !strings.HasPrefix(fmt.Sprint(a["status"]), "failed: ") || b.file() != first {
			t.Errorf("%s: %v", id, a)
		}
		if a := b.config("then-"+id, "get", nil); a["text"] != first || a["probation"] != nil {
			t.Errorf("then %v", a)
		}
	}
}

// Killed at any moment of a change, the device comes back with a working
// configuration, and reports which one.
func TestKilledOnProbation(t *testing.T) {
	t.Parallel()
	b := newBox(t, brokertest.Start(t), settings{tts: fmt.Sprintf(configOn, "1m")}).start()
	first := b.file()
	b.sendConfig("wrong", "set", map[string]any{"change": "[linto]\nbroker = \"mqtt://127.0.0.1:1\"\n"})
	b.status("offline")
	b.kill()
	b.start()
	if a := b.configAnswer("wrong"); !strings.HasPrefix(fmt.Sprint(a["status"]), "failed: ") || b.file() != first {
		t.Errorf("%v", a)
	}
	for i := range 8 {
		id := fmt.Sprintf("right-%d", i)
		b.sendConfig(id, "set", map[string]any{"change": fmt.Sprintf("[device]\nvolume = %d\n", i)})
		time.Sleep(rand.N(time.Second)) // a random moment
		b.kill()
		b.start()
		brokertest.Eventually(t, "an answer", func() bool {
			b.sendConfig(id, "set", map[string]any{"change": fmt.Sprintf("[device]\nvolume = %d\n", i)})
			for _, m := range b.watch.All() {
				if !brokertest.Topic("/config")(m) || m.JSON(t)["id"] != id {
					continue
				}
				a := m.JSON(t)
				kept := a["status"] == nil
				t.Log(id, a["status"])
				if kept != strings.Contains(b.file(), fmt.Sprintf("volume = %d\n", i)) {
					t.Errorf("%s: %v, and the file has\n%s", id, a, b.file())
				}
				return true
			}
			return false
		})
	}
}

// An unsigned request cannot change who may sign.
func TestOnlySignersChangeSigning(t *testing.T) {
	b := newBox(t, brokertest.Start(t), settings{tts: fmt.Sprintf(configOn, "30s")})
	_ = b.administrator()
	text := b.file() + b.signedTable("say")
	if err := os.WriteFile(b.path("lintod.toml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	b.start()
	for i, change := range []string{"[signed]\nrequire = []\n", "[signed]\nallowed_signers = \"/tmp/mine\"\n", "[signed]\nmax_age = \"2h\"\n"} {
		if a := b.config(fmt.Sprint("unsigned-", i), "set", map[string]any{"change": change}); !strings.HasPrefix(fmt.Sprint(a["status"]), "refused: ") {
			t.Errorf("%s: %v", change, a)
		}
	}
	if b.file() != text {
		t.Errorf("%s", b.file())
	}
}
