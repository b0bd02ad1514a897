package gateway

import (
	"context"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// quick returns answers without programs: five frames of silence.
func quick(o Options) Options {
	o.Recognise = func(context.Context, []int16, int) (string, error) { return "hello", nil }
	o.Speak = func(context.Context, string) ([][]byte, error) {
		return [][]byte{silentFrame, silentFrame, silentFrame, silentFrame, silentFrame, silentFrame, silentFrame, silentFrame}, nil
	}
	return o
}

// talk opens a session and lets the chat answer a sentence of silence.
func talk(t *testing.T, g *Gateway) (*peer, *sound) {
	t.Helper()
	p := dialPeer(t, g.MQTT(), g.login(aMAC))
	g.await(t, Is(Listed))
	p.say(goodHello)
	hello := p.message("hello", 1)
	s := soundOf(t, hello)
	p.say(map[string]any{"session_id": hello["session_id"], "type": "listen", "state": "start", "mode": "manual"})
	g.await(t, Is(Listening))
	s.send(silentFrame)
	s.send(silentFrame)
	n := 0
	g.await(t, func(e Event) bool {
		if e.Kind == Sounded && e.FromDevice {
			n++
		}
		return n == 2
	})
	p.say(map[string]any{"session_id": hello["session_id"], "type": "listen", "state": "stop"})
	return p, s
}

// order returns the names of messages and sound to the device, with sound once.
func order(g *Gateway) string {
	var names []string
	for _, e := range g.Events() {
		name := e.Name
		if e.Kind == Sounded {
			name = "sound"
		}
		if e.FromDevice || name == "" || strings.HasPrefix(name, "mcp") || len(names) > 0 && names[len(names)-1] == name {
			continue
		}
		names = append(names, name)
	}
	return strings.Join(names, ", ")
}

func TestFaultsOfAnAnswer(t *testing.T) {
	for _, c := range []struct {
		name string
		f    Faults
		want string
	}{
		{"none", Faults{}, "hello, stt, tts start, llm, tts sentence_start, sound, tts stop"},
		{"early", Faults{Early: 60 * time.Millisecond}, "hello, stt, llm, sound, tts start, sound, tts stop"},
		{"tail", Faults{Tail: 100 * time.Millisecond}, "hello, stt, tts start, llm, tts sentence_start, sound, tts stop, sound"},
		{"no stop", Faults{NoStop: true}, "hello, stt, tts start, llm, tts sentence_start, sound"},
		{"goodbye while speaking", Faults{Goodbye: speaking}, "hello, stt, tts start, llm, tts sentence_start, goodbye"},
		{"goodbye when idle", Faults{Goodbye: idle}, "hello, stt, tts start, llm, tts sentence_start, sound, tts stop, goodbye"},
		{"goodbye while thinking", Faults{Goodbye: thinking}, "hello, goodbye"},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := start(t, quick(Options{Faults: c.f}))
			talk(t, g)
			if c.f.Goodbye != "" {
				g.await(t, Sent("goodbye"))
			} else {
				g.await(t, Is(Answered))
			}
			if got := order(g); got != c.want {
				t.Errorf("order %s\nwant  %s", got, c.want)
			}
		})
	}
}

func TestFaultsOfAHello(t *testing.T) {
	for fault, want := range map[HelloFault]string{
		"error": "goodbye, error", "broken": "hello", "foreign": "hello", "garbage": "",
	} {
		g := start(t, quick(Options{Faults: Faults{Hello: fault}}))
		p := dialPeer(t, g.MQTT(), g.login(aMAC))
		g.await(t, Is(Listed))
		p.say(goodHello)
		switch fault {
		case "garbage":
			p.until("broken JSON", func() bool { return len(p.got) > 0 && p.got[len(p.got)-1]["broken"] != nil })
		case "error":
			p.message("error", 1)
		default:
			hello := p.message("hello", 1)
			if udp, _ := hello["udp"].(map[string]any); udp["key"] != nil && hello["transport"] == "udp" {
				t.Errorf("%s: %v", fault, hello)
			}
		}
		if got := order(g); want != "" && got != want {
			t.Errorf("%s: %s, want %s", fault, got, want)
		}
	}
	g := start(t, quick(Options{Faults: Faults{Cut: connecting}}))
	p := dialPeer(t, g.MQTT(), g.login(aMAC))
	g.await(t, Is(Listed))
	p.say(goodHello)
	p.untilClosed()
}

// The second hello of a session, G18: the goodbye of the old session comes first,
// or, if the chat server's socket is slow, last and with the id of the new one.
func TestSecondHello(t *testing.T) {
	for _, slow := range []bool{false, true} {
		o := quick(Options{})
		if slow {
			o.ChatCloses = 400 * time.Millisecond
		}
		g := start(t, o)
		p := dialPeer(t, g.MQTT(), g.login(aMAC))
		g.await(t, Is(Listed))
		p.say(goodHello)
		first := p.message("hello", 1)
		p.say(goodHello)
		second := p.message("hello", 2)
		want := first["session_id"]
		if slow {
			want = second["session_id"]
		}
		goodbyes := func() (n int) { // of the session; a late mcp answer causes one without an id
			for _, m := range p.got {
				if m["type"] == "goodbye" && m["session_id"] == want {
					n++
				}
			}
			return n
		}
		p.until("goodbye", func() bool { return goodbyes() == 1 })
		if first["session_id"] == second["session_id"] {
			t.Errorf("both sessions are %v", want)
		}
		a, b := soundOf(t, first), soundOf(t, second)
		if a.id != b.id || a.key == b.key {
			t.Errorf("connection %x and %x, the same key: %v", a.id, b.id, a.key == b.key)
		}
		if slow { // the new session does not work
			p.say(map[string]any{"session_id": second["session_id"], "type": "listen", "state": "start", "mode": "auto"})
			p.until("second goodbye", func() bool { return goodbyes() == 2 })
		}
		g.wantRules(t, "G18")
	}
}

// Rules G21 and G14.
func TestSameClientIDAgain(t *testing.T) {
	g := start(t, quick(Options{}))
	first := dialPeer(t, g.MQTT(), g.login(aMAC))
	first.until("CONNACK", func() bool { return len(first.codes) == 1 })
	g.await(t, Is(Listed))
	second := dialPeer(t, g.MQTT(), g.login(aMAC))
	first.untilClosed()
	second.until("CONNACK", func() bool { return len(second.codes) == 1 })
}

func TestHelloBeforeTheInventoryHasNoTools(t *testing.T) {
	g := start(t, quick(Options{}))
	id, user, password := g.Credentials(aMAC, aUUID)
	p := dialPeer(t, g.MQTT(), connectPacket(4, 0xc2, 60, id, user, password))
	p.change(func() { p.silent = true })
	p.say(goodHello)
	g.await(t, rule("G14"))
}

func TestTooManyTools(t *testing.T) {
	for _, c := range []struct{ tools, pages, want int }{{32, 32, 32}, {33, 33, 0}, {40, 20, 20}, {32, 10, 32}} {
		g := start(t, quick(Options{}))
		conn := dialPeer(t, g.MQTT(), nil)
		conn.change(func() { conn.tools, conn.pages = c.tools, c.pages })
		conn.write(g.login(aMAC))
		if e := g.await(t, Is(Listed)); len(e.Tools) != c.want {
			t.Errorf("%d tools, %d per page: %d are known, want %d", c.tools, c.pages, len(e.Tools), c.want)
		}
		if c.tools > 32 {
			g.await(t, rule("G15"))
		} else {
			g.wantRules(t)
		}
	}
}

// NoUDPDown announces an answer, but its sound does not arrive.
func TestUDPToTheDeviceIsBlocked(t *testing.T) {
	g := start(t, quick(Options{Faults: Faults{NoUDPDown: true}}))
	p, s := talk(t, g)
	p.message("tts start", 1)
	g.await(t, Is(Answered))
	_ = s.conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if n, err := s.conn.Read(make([]byte, 100)); err == nil {
		t.Errorf("%d bytes arrived", n)
	}
}

// The network loses, delays and reorders as many datagrams as configured.
func TestSimulatedNetwork(t *testing.T) {
	f := Faults{Loss: 0.1, Reorder: 0.05, Duplicate: 0.02, Delay: 50 * time.Millisecond, Jitter: 100 * time.Millisecond}
	now := time.Now()
	var last time.Time
	lost, twice, overtaken, most := 0, 0, 0, time.Duration(0)
	const n = 20000
	var before time.Time
	for i := range n {
		sent := now.Add(time.Duration(i) * 60 * time.Millisecond)
		arrivals := f.journey(sent, &last)
		switch len(arrivals) {
		case 0:
			lost++
			continue
		case 2:
			twice++
		}
		most = max(most, arrivals[0].Sub(sent))
		if arrivals[0].Before(before) {
			overtaken++
		}
		before = arrivals[0]
		if arrivals[0].Before(sent.Add(f.Delay)) {
			t.Fatal("a datagram arrived too early")
		}
	}
	for what, got := range map[string][2]int{"lost": {lost, n / 10}, "duplicated": {twice, n / 50}, "overtaken": {overtaken, n / 20}} {
		if got[0] < got[1]*6/10 || got[0] > got[1]*13/10 {
			t.Errorf("%s: %d of %d, want about %d", what, got[0], n, got[1])
		}
	}
	if most < 140*time.Millisecond || most > 290*time.Millisecond {
		t.Errorf("the longest delay was %v", most)
	}
	if got := (Faults{NoUDP: true}).journey(now, &last); got != nil {
		t.Errorf("a datagram arrived through a closed port at %v", got)
	}
}

// The brokers of the Go server and of Cheeko are real brokers: an independent client
// can use them, under their rules.
func TestBrokersWithMosquitto(t *testing.T) {
	if _, err := exec.LookPath("mosquitto_sub"); err != nil {
		t.Skip("SKIPPED: mosquitto_sub is not installed; scripts/test installs it")
	}
	for _, c := range []struct {
		server           Server
		topic, password  string
		want, wantStatus string
	}{
		{Golang, "/p2p/device_sub/aa_bb_cc_dd_ee_01", "", `"method":"initialize"`, ""},
		{Golang, "/p2p/device_sub/aa_bb_cc_dd_ee_01", "wrong", "", "not authori"},
		{Cheeko, "devices/p2p/GID_test@@@aa_bb_cc_dd_ee_01@@@" + aUUID, "", "", ""},
		{Cheeko, "devices/p2p/GID_test@@@aa_bb_cc_dd_ee_01@@@" + aUUID, "wrong", "", "not authori"},
	} {
		g := start(t, quick(Options{Server: c.server}))
		id, user, password := g.Credentials(aMAC, aUUID)
		if c.password != "" {
			password = c.password
		}
		host, port, _ := strings.Cut(g.MQTT(), ":")
		cmd := exec.CommandContext(t.Context(), "mosquitto_sub", "-h", host, "-p", port, "-i", id, "-u", user, "-P", password, "-t", c.topic, "-C", "1", "-W", "20")
		if c.want == "" && c.wantStatus == "" {
			// Messages to the full client id arrive.
			go func() {
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				if _, err := g.WaitFor(ctx, Got("SUBSCRIBE")); err == nil {
					_ = g.Send(aMAC, map[string]any{"type": "alert", "message": "here"})
				}
			}()
			c.want = `"message":"here"`
		}
		out, err := cmd.CombinedOutput()
		if !strings.Contains(strings.ToLower(string(out)), strings.ToLower(c.want+c.wantStatus)) {
			t.Errorf("%s %s: %s, %v", c.server, c.topic, out, err)
		}
	}
}

// E11: speech requested by the server.
func TestSpeakRequest(t *testing.T) {
	g := start(t, quick(Options{Server: Golang}))
	p := dialPeer(t, g.MQTT(), g.login(aMAC))
	g.await(t, Is(Listed))
	if err := g.Say(aMAC, "Dinner is ready.", false); err != nil {
		t.Fatal(err)
	}
	request := p.message("speak_request", 1)
	p.say(goodHello)
	s := soundOf(t, p.message("hello", 1))
	s.send(silentFrame)
	g.await(t, func(e Event) bool { return e.Kind == Sounded && e.FromDevice })
	p.say(map[string]any{"session_id": request["session_id"], "type": "speak_ready", "state": "ready", "udp_config": map[string]any{"ready": true, "reuse_existing": false}})
	if e := g.await(t, Is(Answered)); e.Text != "Dinner is ready." {
		t.Errorf("answered %q", e.Text)
	}
	g.wantRules(t)
}

// A card is looked up without a session.
func TestCardLookup(t *testing.T) {
	content := map[string]any{"type": "card_content", "rfid_uid": "04A1B2C3", "skill_id": "fox1"}
	g := start(t, quick(Options{Cards: map[string]map[string]any{"04A1B2C3": content}}))
	p := dialPeer(t, g.MQTT(), g.login(aMAC))
	g.await(t, Is(Listed))
	p.say(map[string]any{"session_id": "", "type": "card_lookup", "rfid_uid": "04A1B2C3"})
	if m := p.message("card_content", 1); m["skill_id"] != "fox1" {
		t.Errorf("content %v", m)
	}
	p.say(map[string]any{"session_id": "", "type": "card_lookup", "rfid_uid": "04A1B2C4"})
	if m := p.message("card_unknown", 1); m["rfid_uid"] != "04A1B2C4" {
		t.Errorf("unknown %v", m)
	}
	g.wantRules(t)
}
