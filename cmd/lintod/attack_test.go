package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"lintod/agent"
	"lintod/agent/broker/brokertest"
)

// memory returns the memory of the daemon in MB.
func (b *box) memory() int {
	b.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", b.cmd.Process.Pid))
	if err != nil {
		b.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	kb, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		b.t.Fatal(err)
	}
	return kb / 1024
}

// flood publishes each payload as fast as the broker accepts them.
func flood(t *testing.T, m *brokertest.Mosquitto, topic string, n int, payload func(int) string) {
	t.Helper()
	var lines bytes.Buffer
	for i := range n {
		lines.WriteString(payload(i) + "\n")
	}
	cmd := exec.Command("mosquitto_pub", "-p", m.Addr()[strings.LastIndex(m.Addr(), ":")+1:], "-t", topic, "-l")
	cmd.Stdin = &lines
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// A client that may publish to the topics of the links below can neither stop the
// device, nor fill its memory, nor use actions that these links do not offer,
// although the owner offers them to LinTO.
func TestAttackOnOptionalLinks(t *testing.T) {
	m := brokertest.Start(t)
	planted := filepath.Join(t.TempDir(), "planted")
	b := newBox(t, m, settings{
		device: "[behaviors.shellexec]\nenabled = true\nallow = [\"touch *\"]",
		tts:    fmt.Sprintf("[automation]\nenabled = true\nbroker = %q\n", m.URL()) + folotoyTable(m.URL(), ""),
	})
	const own = "lintod/" + serial + "/"
	call := toyTopics + "command/call"
	for topic, payload := range map[string]string{ // retained, sent before the device is there
		own + "muted/set": "ON", own + "volume/set": "1", own + "talk": "{}", own + "status": "offline", "homeassistant/status": "online",
		call: `{"msgId":1,"identifier":"updatecommonconfig","inputParams":{"volume":1}}`, "/sys/config": `{"identifier":"load_roles_config"}`,
	} {
		m.Publish(topic, payload, "-r")
	}
	b.start()
	ready := func(s agent.Status) bool {
		return s.Links["automation"].Connected && s.Links["folotoy"].Connected && s.Turn.State == 0
	}
	b.wait("both links", ready)
	if s := b.state(); s.Volume == 1 || s.Turn.Flags.Muted {
		t.Errorf("a retained command was obeyed: volume %d, muted %t", s.Volume, s.Turn.Flags.Muted)
	}
	before := b.memory()

	huge := strings.Repeat("x", 10<<20)
	deep := `{"identifier":"iwantplay","inputParams":` + strings.Repeat(`{"a":`, 10000) + "1" + strings.Repeat("}", 10001)
	for range 8 {
		for _, topic := range []string{own + "say", own + "talk", own + "muted/set", own + "status", "homeassistant/status", call, "/sys/config"} {
			m.Publish(topic, huge)
		}
	}
	for _, payload := range []string{
		deep, `{"msgId":1e999,"identifier":"iwantplay","inputParams":{"role":1e999,"text":"a"}}`, "{\"identifier\":\"\xff\xfe\"}", "\x00", `{"identifier":"iwantplay","inputParams":{"text":"` + strings.Repeat("é", 30000) + `"}}`,
		`{"msgId":"` + strings.Repeat("9", 60000) + `","identifier":"updatecommonconfig"}`,
	} {
		m.Publish(call, payload)
	}
	for _, verb := range []string{"shellexec", "exec", "startreversessh", "managemeeting", "reboot", "upgrade", "config", "log", "doctor", "counters", "meeting/set"} {
		for _, payload := range []string{"touch " + planted, fmt.Sprintf(`{"command":"touch %s"}`, planted), fmt.Sprintf(`{"cmd":%q,"id":"1"}`, "touch "+planted)} {
			m.Publish(own+verb, payload)
			m.Publish(own+verb+"/set", payload)
		}
		m.Publish(call, fmt.Sprintf(`{"msgId":1,"identifier":%q,"inputParams":{"command":%q,"url":"","text":""}}`, verb, "touch "+planted))
	}
	const n = 1000
	flood(t, m, own+"volume/set", n, func(i int) string { return strconv.Itoa(i % 200) })
	flood(t, m, own+"muted/set", n, func(i int) string { return []string{"ON", "OFF", "perhaps"}[i%3] })
	flood(t, m, own+"say", n, strconv.Itoa)
	flood(t, m, own+"talk", n, strconv.Itoa)
	flood(t, m, own+"stop", n, strconv.Itoa)
	flood(t, m, own+"status", n, func(int) string { return "offline" })
	flood(t, m, "homeassistant/status", n, func(int) string { return "online" })
	flood(t, m, "/sys/config", n, func(i int) string { return fmt.Sprintf(`{"msgId":%d,"identifier":"load_roles_config"}`, i) })
	flood(t, m, call, n, func(i int) string {
		return fmt.Sprintf(`{"msgId":%d,"identifier":"updatecommonconfig","inputParams":{"volume":%d}}`, i, i%101)
	})
	flood(t, m, call, n, func(i int) string {
		return fmt.Sprintf(`{"msgId":%d,"identifier":"iwantplay","inputParams":{"text":"%d"}}`, i, i)
	})
	after := b.memory() // the race detector needs several times the memory
	t.Logf("%d MB before, %d MB after", before, after)
	if after > before+500 {
		t.Error("memory is not bounded")
	}

	toy := watchToy(b, m)
	brokertest.Within(t, 3*time.Minute, "it obeys both", func() bool { // the broker has a backlog, and messages with QoS 0 may be lost
		m.Publish(own+"muted/set", "OFF")
		m.Publish(own+"stop", "")
		toy.call(`{"msgId":77,"identifier":"updatecommonconfig","inputParams":{"volume":33}}`)
		m.Publish(own+"volume/set", "34")
		acknowledged := slices.ContainsFunc(toy.acks.All(), func(m brokertest.Message) bool { return strings.Contains(string(m.Payload), `"msgId":77,`) })
		s := b.state()
		return acknowledged && s.Volume == 34 && !s.Turn.Flags.Muted && ready(s)
	})
	brokertest.Eventually(t, "the status is right", func() bool {
		for _, m := range m.Watch(own + "status").All() {
			if string(m.Payload) == "online" {
				return true
			}
		}
		return false
	})
	if _, err := os.Stat(planted); err == nil {
		t.Error("a command was run")
	}
	began := time.Now()
	b.stop()
	t.Logf("stopping took %v", time.Since(began))
}
