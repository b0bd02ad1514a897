package gateway

import (
	"encoding/hex"
	"strings"
	"testing"
	"time"
)

// A whole exchange with each server: tools known, a sentence recognised, the answer
// received by another decoder and understood.
func TestWholeExchange(t *testing.T) {
	question := spoken(t, "what time is it")
	for _, server := range Servers {
		t.Run(string(server), func(t *testing.T) {
			g := start(t, Options{Server: server, Now: func() time.Time { return time.Date(2026, 11, 22, 9, 5, 0, 0, time.UTC) }})
			p := dialPeer(t, g.MQTT(), g.login(aMAC))
			p.until("CONNACK", func() bool { return len(p.codes) == 1 && p.codes[0] == 0 })
			if server == Cheeko {
				id, _, _ := g.Credentials(aMAC, aUUID)
				p.write(packetOf(0x82, append(append([]byte{0, 9}, fieldOf("devices/p2p/"+id)...), 0)))
				p.until("SUBACK", func() bool { return len(p.ids) == 1 && p.ids[0] == 9 })
			} else {
				g.await(t, Is(Listed))
			}
			p.say(goodHello)
			hello := p.message("hello", 1)
			s := soundOf(t, hello)
			session := hello["session_id"]
			s.send(silentFrame)
			p.say(map[string]any{"session_id": session, "type": "listen", "state": "start", "mode": "manual"})
			g.await(t, Is(Listening)) // earlier sound is lost, as in practice
			for _, frame := range question {
				s.send(frame)
			}
			heard := uint32(0)
			g.await(t, func(e Event) bool { // the message over TCP must not overtake them
				if e.Kind == Sounded && e.FromDevice {
					heard++
				}
				return heard == s.seq
			})
			p.say(map[string]any{"session_id": session, "type": "listen", "state": "stop"})
			if e := g.await(t, Is(Understood)); e.Heard.Text != "what time is it" {
				t.Errorf("understood %q", e.Heard.Text)
			}
			if stt := p.message("stt", 1); stt["text"] != "what time is it" {
				t.Errorf("stt %v", stt)
			}
			answered := g.await(t, Is(Answered))
			if answered.Text != "It is 09:05." {
				t.Errorf("answer %q", answered.Text)
			}
			sent := 0
			for _, e := range g.Events() {
				if e.Kind == Sounded && !e.FromDevice {
					sent++
				}
			}
			packets, headers := s.receive(func(n int) bool { return n == sent })
			d := newDecoder()
			samples := 0
			for _, packet := range packets {
				pcm, err := d.decode(packet)
				if err != nil {
					t.Fatal(err)
				}
				samples += len(pcm)
			}
			if len(packets) != sent || samples < 16000/2 || headers[0].sequence != 1 || headers[0].connection != s.id {
				t.Errorf("%d of %d packets, %d samples, first header %+v", len(packets), sent, samples, headers[0])
			}
			p.message("tts start", 1)
			p.message("tts stop", 1)
			p.say(map[string]any{"session_id": session, "type": "goodbye"})
			g.await(t, Is(Closed))
			if server == Xinnan {
				if m := p.message("goodbye", 1); m["session_id"] != session { // G17
					t.Errorf("echo %v", m)
				}
			}
			g.wantRules(t)
		})
	}
}

// What a user of the platform can do with a device remotely.
func TestRemoteUse(t *testing.T) {
	g := start(t, quick(Options{}))
	if err := g.Goodbye(aMAC); err == nil {
		t.Error("an unconnected device got a goodbye")
	}
	p := dialPeer(t, g.MQTT(), g.login(aMAC))
	g.await(t, Is(Listed))
	tools, err := g.AllTools(t.Context(), aMAC)
	if err != nil || len(tools) != 2 || tools[0].Name != "self.audio_speaker.set_volume" {
		t.Errorf("tools %v, %v", tools, err)
	}
	if result, err := g.Call(t.Context(), aMAC, "self.audio_speaker.set_volume", map[string]any{"volume": 40}); result != "true" || err != nil {
		t.Errorf("result %q, %v", result, err)
	}
	if err := g.Say(aMAC, "hello", false); err == nil {
		t.Error("xinnan's server spoke without a session")
	}
	p.say(goodHello)
	p.message("hello", 1)
	if err := g.Say(aMAC, "Dinner is ready.", false); err != nil {
		t.Error(err)
	}
	p.message("tts start", 1)
	if d := g.Devices(); len(d) != 1 || !d[0].InSession || !d[0].Online || !d[0].Activated {
		t.Errorf("devices %+v", d)
	}
	if err := g.Goodbye(aMAC); err != nil {
		t.Error(err)
	}
	p.message("goodbye", 1)
	if err := g.Drop(aMAC); err != nil {
		t.Error(err)
	}
	p.untilClosed()
}

// Test vectors of the protocol document, computed elsewhere.
func TestPacketVectors(t *testing.T) {
	key, _ := hex.DecodeString("0102030405060708090a0b0c0d0e0f10")
	const p = "f8f7f6f5f4f3f2f1f0efeeedecebeae9e8e7e6e5"
	for name, c := range map[string]struct {
		h            header
		plain, bytes string
	}{
		"A1": {header{1, 0, 20, 0x3ade68b1, 60, 1}, p, "010000143ade68b10000003c000000013958847711024da6c51a5bfcbd4207cee3295c5f"},
		"A2": {header{1, 0, 20, 0x3ade68b1, 120, 2}, p, "010000143ade68b10000007800000002fdfacbe86f945d21e663a1e3a9545045cf345b0d"},
		"B":  {header{1, 0, 20, 0x3ade68b1, 60, 0xffffffff}, p, "010000143ade68b10000003cffffffff4e2629ce4e07664114f50fee54fc56963a3b4c3e"},
		"C":  {header{1, 0, 3, 0x3ade68b1, 0x01020304, 7}, "fcfffe", "010000033ade68b10102030400000007227072"},
		"D":  {header{1, 0, 0, 0x3ade68b1, 0, 3}, "", "010000003ade68b10000000000000003"},
		"E":  {header{1, 0, 8, 0x3ade68b1, 0, 1}, hex.EncodeToString([]byte("ping:abc")), "010000083ade68b10000000000000001e81e7eb977fdadc0"},
		"F":  {header{1, 0, 8, 0x3ade68b1, 0, 1}, "fb03fffefffefffe", "010000083ade68b100000000000000016374ef20b262305d"},
		"G":  {header{1, 0, 20, 0x3ade68b1, 0x6a1f3c00, 1}, p, "010000143ade68b16a1f3c0000000001e04a7188a4cca28cd719186cdcdfcafb49869abf"},
		"H":  {header{1, 0, 8, 0x3ade68b1, 0, 2}, "bb03fffefffefffe", "010000083ade68b100000000000000023635a96ba0de1129"},
	} {
		plain, _ := hex.DecodeString(c.plain)
		h := c.h.bytes()
		got := append(h, crypt([16]byte(key), h, plain)...)
		if hex.EncodeToString(got) != c.bytes {
			t.Errorf("%s: %x, want %s", name, got, c.bytes)
		}
		if back := readHeader(got); back != c.h {
			t.Errorf("%s: header %+v, want %+v", name, back, c.h)
		}
	}
}

func TestFrameVectors(t *testing.T) {
	opus, _ := hex.DecodeString("fb03fffefffefffe")
	for version, want := range map[int]string{
		1: "fb03fffefffefffe", 2: "00020000000000000000003c00000008fb03fffefffefffe", 3: "00000008fb03fffefffefffe",
	} {
		frame := wrap(version, opus, 60)
		back, text, err := unwrap(version, frame)
		if hex.EncodeToString(frame) != want || string(back) != string(opus) || text != nil || err != nil {
			t.Errorf("version %d: %x, back %x %q %v", version, frame, back, text, err)
		}
	}
	const stop = `{"type":"tts","state":"stop"}`
	head, _ := hex.DecodeString("0002000100000000000000000000001d")
	if _, text, err := unwrap(2, append(head, stop...)); string(text) != stop || err != nil {
		t.Errorf("JSON in a frame of version 2: %q, %v", text, err)
	}
	for _, bad := range []struct {
		version int
		frame   string
	}{{2, "0002"}, {2, "00030000000000000000003c00000000"}, {2, "00020000000000000000003cffffffff"}, {2, "00020007000000000000003c00000000"}, {3, "00"}, {3, "0000ffff"}, {3, "07000000"}, {4, "00"}} {
		frame, _ := hex.DecodeString(bad.frame)
		if _, _, err := unwrap(bad.version, frame); err == nil {
			t.Errorf("version %d accepted %s", bad.version, bad.frame)
		}
	}
}

func TestCredentialVector(t *testing.T) {
	const id = "GID_test@@@11_22_33_44_55_66@@@36c98363-3656-43cb-a00f-8bced2391a90"
	const user = "eyJpcCI6IjIyMi4yMjIuMjIyLjIyMiJ9"
	const want = "w2B12WThyLSpneux4CZEAMUqb4OoDGpcyagDKuQLYEQ="
	if got := sign("UnitTestKey01A", id, user); got != want {
		t.Errorf("password %s, want %s", got, want)
	}
}

func TestFaultsAreParsed(t *testing.T) {
	f, err := ParseFaults("loss=10,jitter=100ms,reorder=5%,duplicate=1,tail=100ms,no-stop,goodbye=speaking,hello=late,refuse=401,ota=hang")
	want := Faults{Loss: 0.1, Jitter: 100 * time.Millisecond, Reorder: 0.05, Duplicate: 0.01, Tail: 100 * time.Millisecond, NoStop: true, Goodbye: speaking, Hello: "late", Refuse: "401", OTA: "hang"}
	if err != nil || f != want {
		t.Errorf("%+v, %v", f, err)
	}
	for _, none := range []string{"", "none"} {
		if f, err := ParseFaults(none); err != nil || f != (Faults{}) {
			t.Errorf("%q: %+v, %v", none, f, err)
		}
	}
	for _, bad := range []string{"fire", "loss", "loss=101", "loss=NaN", "jitter=soon", "jitter=1h", "mute=1", "hello=no", "goodbye=", ","} {
		if _, err := ParseFaults(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
	for _, name := range FaultNames() {
		if strings.ContainsAny(name, "=, ") {
			t.Errorf("name %q cannot be typed", name)
		}
	}
}
