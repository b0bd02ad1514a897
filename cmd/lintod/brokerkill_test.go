package main

import (
	"bytes"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"lintod/agent"
	"lintod/agent/broker/brokertest"
	"lintod/agent/turn"
	"lintod/audio/audiotest"
	"lintod/audio/wav"
)

// TestBrokerIsKilledRepeatedly kills the broker 3 times, 50 with LINTOD_FULL: during
// a turn, a stream, and a recording in turn. Each time the device reconnects by
// itself, its last will works, and the recording has no gap.
func TestBrokerIsKilledRepeatedly(t *testing.T) {
	rounds := 3
	if os.Getenv("LINTOD_FULL") != "" {
		rounds = 50
	}
	b := newBox(t, brokertest.Start(t), settings{
		linto: "mode = \"stream\"",
		tts:   "[behaviors.managemeeting]\nenabled = true\nformat = \"wav\"\nmin_free = \"10MB\"\n",
	}).start()
	k := &killer{box: b}
	for i := range rounds * 2 / 3 {
		if i%2 == 0 {
			k.withinTurn()
		} else {
			k.withinStream()
		}
	}
	b.send("managemeeting", `{"command":"startlocalrecording","sessionname":"long"}`)
	b.next("managemeeting")
	b.wait("the recording has started", func(s agent.Status) bool { return s.Recording != nil && s.Recording.Duration > 0 })
	began := time.Now()
	for range rounds - rounds*2/3 {
		k.kill()
	}
	b.wait("all sound is recorded", func(s agent.Status) bool { return s.Recording.Duration > time.Since(began)-time.Second })
	b.send("managemeeting", `{"command":"stoplocalrecording","sessionname":"long"}`)
	b.next("managemeeting")
	b.wait("the recording has ended", func(s agent.Status) bool { return s.Recording == nil })
	files, _ := filepath.Glob(b.path("state/meetings/*/*.wav"))
	if len(files) != 1 {
		t.Fatalf("%q: the recording broke", files)
	}
	raw, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	pcm, _, err := wav.Read(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d kills: online again after %v at most, %v on average; recorded %v",
		rounds, k.longest.Round(time.Millisecond), (k.all / time.Duration(rounds)).Round(time.Millisecond), audiotest.Duration(pcm))
	b.stop()
}

// killer kills the broker of a box and measures the recovery.
type killer struct {
	*box
	all, longest time.Duration // from the restart of the broker to the status
}

// kill stops the broker and waits for the device; then it ends the device's
// connection, so that the broker must publish the last will.
func (k *killer) kill() {
	k.t.Helper()
	k.broker.Kill()
	k.wait("offline", func(s agent.Status) bool { return s.Turn.Flags.Offline })
	k.broker.Restart()
	back := time.Now()
	k.wait("online again", func(s agent.Status) bool { return !s.Turn.Flags.Offline })
	took := time.Since(back)
	k.all, k.longest = k.all+took, max(k.longest, took)
	k.watch = k.broker.Watch("blk/fromlinto/#")
	k.takePlace()
	k.status("offline")
	k.status("online")
	k.send("ping", "{}")
	k.next("pong")
}

// takePlace connects with the client id of the device, whose connection the broker
// then closes [MQTT-3.1.4-2]. It sends nothing else, because the device may
// reconnect, and take over the client id again, at any moment.
func (k *killer) takePlace() {
	k.t.Helper()
	conn, err := net.Dial("tcp", k.broker.Addr())
	if err != nil {
		k.t.Fatal(err)
	}
	defer conn.Close()
	id := "lintod-blk-" + serial
	packet := append([]byte{0x10, byte(12 + len(id)), 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 60, 0, byte(len(id))}, id...)
	_ = conn.SetDeadline(time.Now().Add(brokertest.Limit))
	if _, err := conn.Write(packet); err != nil {
		k.t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, make([]byte, 4)); err != nil {
		k.t.Fatalf("no CONNACK: %v", err)
	}
}

func (k *killer) withinTurn() {
	k.t.Helper()
	if code, out := k.run("talk"); code != 0 {
		k.t.Fatal(out)
	}
	k.kill()
	k.wait("the turn is over", func(s agent.Status) bool { return s.Turn.State == turn.Idle })
}

func (k *killer) withinStream() {
	k.t.Helper()
	c := k.background("stream")
	k.next("streaming/start")
	k.send("streaming/start", `{"behavior":{"streaming":{"status":"started"}}}`)
	if r := k.ends(c); r.code != 0 {
		k.t.Fatal(r.out)
	}
	k.next("streaming/chunk")
	k.kill()
	c = k.background("stream", "-stop")
	var r result
	brokertest.Eventually(k.t, "the stream is over", func() bool {
		k.send("streaming/stop", `{"behavior":{"streaming":{"status":"stop"}}}`)
		k.send("streaming/final", `{"behavior":{"streaming":{"status":"final","result":"{\"text\":\"x\"}"}}}`)
		select {
		case r = <-c:
			return true
		default:
			return false
		}
	})
	if r.code != 0 {
		k.t.Error(r.out)
	}
}
