package broker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"

	"lintod/agent/base/config"
	"lintod/agent/base/nettest"
	"lintod/agent/broker/brokertest"
)

func TestMessagesOverEachKindOfAddress(t *testing.T) {
	ca := newAuthority(t)
	now := time.Now()
	secured := ca.tlsLines(t, "127.0.0.1", now.Add(-time.Hour), now.Add(time.Hour))
	cert, key := ca.issue(t, "device", now.Add(-time.Hour), now.Add(time.Hour))
	// Mosquitto 2.0.11 starts a websocket listener only with another one.
	other := fmt.Sprintf("listener %d 127.0.0.1", nettest.FreePort(t))
	for _, row := range []struct {
		scheme string
		lines  []string
		conf   Config
	}{
		{"mqtt", nil, Config{}},
		{"mqtts", []string{secured}, Config{CAFile: ca.File}},
		{"mqtts", []string{secured, "require_certificate true"}, Config{CAFile: ca.File, CertFile: cert, KeyFile: key}},
		{"ws", []string{"protocol websockets", other}, Config{}},
		{"wss", []string{"protocol websockets", secured, other}, Config{CAFile: ca.File}},
	} {
		t.Run(row.scheme, func(t *testing.T) {
			m := newMosquitto(t, row.lines...)
			d := start(t, []string{row.scheme + "://" + m.Addr()}, func(d *device) {
				d.Config.CAFile, d.Config.CertFile, d.Config.KeyFile = row.conf.CAFile, row.conf.CertFile, row.conf.KeyFile
				d.Subscribe = []string{"to/#"}
			})
			next(t, "online", d.online)
			small, large := []byte("hello"), bytes.Repeat([]byte("0123456789abcdef"), 64<<10)
			if strings.HasPrefix(row.scheme, "ws") {
				large = large[:64<<10] // Mosquitto 2.0.11 sends 40 kB/s on a websocket
			}
			for i, payload := range [][]byte{small, large, nil} {
				d.say(t, Message{Topic: fmt.Sprintf("to/%d", i), Payload: payload, QoS: byte(i % 2)})
				got := next(t, "message", d.messages)
				if got.Topic != fmt.Sprintf("to/%d", i) || !bytes.Equal(got.Payload, payload) {
					t.Fatalf("message %d: got %s with %d bytes", i, got.Topic, len(got.Payload))
				}
			}
			d.end(t)
			leakCheck(t)
		})
	}
}

func TestRestartedBrokerIsSubscribedAgain(t *testing.T) {
	m := newMosquitto(t)
	d := start(t, []string{m.URL()}, func(d *device) { d.Subscribe = []string{"a/#", "b/+"} })
	next(t, "online", d.online)
	for round := range 3 {
		m.Kill()
		err := next(t, "offline", d.offline)
		if log := d.log.String(); round == 1 && strings.LastIndex(log, "msg=connected") < strings.Index(log, "no connection") {
			t.Errorf("the reconnect was not logged:\n%s", log)
		}
		if d.Connected() {
			t.Error("still reports connected")
		}
		if err.Error() == "" || strings.Contains(err.Error(), "\n") {
			t.Errorf("the reason is not a sentence: %q", err)
		}
		m.Restart()
		next(t, "online again", d.online)
		for len(d.offline) > 0 {
			<-d.offline // one for each attempt before the broker was back
		}
		for _, topic := range []string{"a/x/y", "b/x"} {
			d.say(t, Message{Topic: topic, Payload: []byte{byte(round)}})
			if got := next(t, "message", d.messages); got.Topic != topic || got.Payload[0] != byte(round) {
				t.Errorf("got %v", got)
			}
		}
	}
	if st := d.Stats(); st.Connects != 4 || !st.Connected || st.Published != 6 || st.Received != 6 || st.Dropped != 0 || st.Error == "" {
		t.Errorf("stats: %+v", st)
	}
	d.end(t)
	leakCheck(t)
	if d.Connected() {
		t.Error("connected after Run has returned")
	}
}

func TestSecondAddressIsUsedWhenTheFirstRefuses(t *testing.T) {
	m := newMosquitto(t)
	dead := fmt.Sprintf("mqtt://127.0.0.1:%d", nettest.FreePort(t))
	d := start(t, []string{dead, m.URL()}, nil)
	next(t, "online", d.online)
	if got := d.Stats().Broker; got != m.URL() {
		t.Errorf("connected to %s", got)
	}
	m.Kill()
	brokertest.Eventually(t, "the error names both addresses", func() bool {
		e := d.Stats().Error
		return strings.Contains(e, dead) && strings.Contains(e, m.URL()) && strings.Count(e, "connection refused") == 1
	})
	d.end(t)
}

func TestLastWillOnlyAfterAnUncleanEnd(t *testing.T) {
	m := newMosquitto(t)
	w := watch(t, m.URL(), "status")
	p := newProxy(t, m.Addr())
	wills := 0 // used by Run's goroutine only
	d := start(t, []string{p.url()}, func(d *device) {
		d.Subscribe = []string{"status"} // as a link does to correct its status
		d.Will = func() Message {
			wills++
			return Message{Topic: "status", Payload: fmt.Appendf(nil, "will %d", wills), Retain: true}
		}
		d.Online = func(ctx context.Context) {
			if err := d.Publish(ctx, Message{Topic: "status", Payload: []byte("online"), Retain: true}); err != nil {
				t.Errorf("publish in Online: %v", err)
			}
			d.online <- struct{}{}
		}
		d.Farewell = func() Message { return Message{Topic: "status", Payload: []byte("farewell"), Retain: true} }
	})
	expect := func(want string) {
		t.Helper()
		if got := string(next(t, want, w.messages).Payload); got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
	}
	// The watcher may receive a message before Publish returns, and Publish must not be interrupted.
	online := func() {
		t.Helper()
		expect("online")
		next(t, "published", d.online)
	}
	for round := range 5 {
		online()
		p.cut()
		expect(fmt.Sprintf("will %d", round+1))
	}
	online()
	began := time.Now()
	d.end(t)
	t.Logf("stopped within %v", time.Since(began))
	expect("farewell")
	brokertest.Eventually(t, "both sides have closed the connection", func() bool { return p.pumps.Load() == 0 })
	// Messages before this one are caused by the end of the connection.
	w.say(t, Message{Topic: "status", Payload: []byte("end")})
	expect("end")
	leakCheckAfter(t, w)
}

func leakCheckAfter(t *testing.T, devices ...*device) {
	t.Helper()
	for _, d := range devices {
		d.end(t)
	}
	leakCheck(t)
}

func TestOldLastWillPrecedesTheNewOnline(t *testing.T) {
	m := newMosquitto(t)
	w := watch(t, m.URL(), "status")
	p := newProxy(t, m.Addr())
	d := start(t, []string{p.url()}, func(d *device) {
		d.Config.Keepalive = config.Duration(time.Second)
		d.Will = func() Message { return Message{Topic: "status", Payload: []byte("will")} }
		d.Online = func(ctx context.Context) { _ = d.Publish(ctx, Message{Topic: "status", Payload: []byte("online")}) }
	})
	if got := next(t, "online", w.messages); string(got.Payload) != "online" {
		t.Fatalf("got %q", got.Payload)
	}
	// The device gives up first, but the broker's half of the connection stays
	// open: the broker detects the end only when the same client id connects
	// again.
	close(p.frozen)
	next(t, "offline", d.offline)
	p.mu.Lock()
	p.frozen = make(chan struct{})
	p.mu.Unlock()
	var order []string
	for len(order) < 2 {
		order = append(order, string(next(t, "status", w.messages).Payload))
	}
	if order[0] != "will" || order[1] != "online" {
		t.Errorf("the broker delivered %q, want will, online", order)
	}
	d.end(t)
	w.end(t)
}

func TestHalfOpenConnectionIsDetectedAfterOneAndAHalfKeepalives(t *testing.T) {
	const keepalive = 2 * time.Second
	m := newMosquitto(t)
	p := newProxy(t, m.Addr())
	d := start(t, []string{p.url()}, func(d *device) { d.Config.Keepalive = config.Duration(keepalive) })
	next(t, "online", d.online)
	// An idle connection that works is kept for longer than patience.
	select {
	case err := <-d.offline:
		t.Fatalf("a working connection was closed: %v", err)
	case <-time.After(2 * keepalive):
	}
	close(p.frozen)
	err := next(t, "offline", d.offline)
	silent := time.Since(p.lastByte())
	t.Logf("detected %v (%.2f keepalives) after the last byte: %v", silent, float64(silent)/float64(keepalive), err)
	if !errors.Is(err, errSilent) {
		t.Errorf("the reason is %v", err)
	}
	if silent < keepalive {
		t.Errorf("closed after only %v", silent)
	}
	if silent > 3*keepalive { // 1.5, plus a margin for a slow machine
		t.Errorf("detected only after %v", silent)
	}
	d.end(t)
	leakCheck(t)
}

func TestPublishEndsWithItsContextWhenNothingFlows(t *testing.T) {
	m := newMosquitto(t)
	p := newProxy(t, m.Addr())
	d := start(t, []string{p.url()}, nil)
	next(t, "online", d.online)
	p.stall(t)
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			// More than the socket buffers hold.
			err := d.Publish(ctx, Message{Topic: "big", Payload: make([]byte, 11<<20)})
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("publish on a stalled connection: %v", err)
			}
		})
	}
	all.Wait()
	began := time.Now()
	d.end(t)
	t.Logf("a stalled connection was closed within %v", time.Since(began))
	leakCheck(t)
}

func TestPublishReturnsTheRightError(t *testing.T) {
	m := newMosquitto(t)
	ctx := context.Background()
	if err := (&Conn{}).Publish(ctx, Message{Topic: "x"}); !errors.Is(err, ErrOffline) {
		t.Errorf("before Run: %v", err)
	}
	d := start(t, []string{m.URL()}, nil)
	next(t, "online", d.online)
	for _, bad := range []Message{
		{Topic: ""},
		{Topic: "a/+/b"},
		{Topic: "#"},
		{Topic: "a\x00"},
		{Topic: "\xff"},
		{Topic: strings.Repeat("x", 1<<16)},
		{Topic: "x", QoS: 2},
		{Topic: "x", Payload: make([]byte, maxPacket)},
	} {
		if err := d.Publish(ctx, bad); err == nil || errors.Is(err, ErrOffline) {
			t.Errorf("%.20q, QoS %d, %d bytes: %v", bad.Topic, bad.QoS, len(bad.Payload), err)
		}
	}
	for qos := range byte(2) {
		if err := d.Publish(ctx, Message{Topic: "x", QoS: qos}); err != nil {
			t.Errorf("QoS %d: %v", qos, err)
		}
	}
	m.Kill()
	next(t, "offline", d.offline)
	for qos := range byte(2) {
		if err := d.Publish(ctx, Message{Topic: "x", QoS: qos}); !errors.Is(err, ErrOffline) {
			t.Errorf("QoS %d offline: %v", qos, err)
		}
	}
	if got := d.Stats().Published; got != 2 {
		t.Errorf("%d counted as published, want 2", got)
	}
	d.end(t)
	if err := d.Publish(ctx, Message{Topic: "x"}); !errors.Is(err, ErrOffline) {
		t.Errorf("after Run: %v", err)
	}
}

func TestWaitForAnAcknowledgementEndsWithTheConnection(t *testing.T) {
	p := newProxy(t, serveMochi(t, &silentAcks{}, new(auth.AllowHook)))
	d := start(t, []string{p.url()}, nil)
	next(t, "online", d.online)
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := d.Publish(ctx, Message{Topic: "x", QoS: 1}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("unacknowledged: %v", err)
	}
	// It does not block other messages.
	d.say(t, Message{Topic: "y"})
	result := make(chan error)
	go func() { result <- d.Publish(context.Background(), Message{Topic: "x", QoS: 1}) }()
	d.say(t, Message{Topic: "y"})
	p.cut()
	if err := next(t, "result", result); !errors.Is(err, ErrOffline) {
		t.Errorf("connection lost: %v", err)
	}
	d.end(t)
	leakCheck(t)
}

// silentAcks is a broker that accepts QoS 1 and never acknowledges it.
type silentAcks struct{ mochi.HookBase }

func (*silentAcks) ID() string           { return "silent-acks" }
func (*silentAcks) Provides(b byte) bool { return b == mochi.OnPacketEncode }

func (*silentAcks) OnPacketEncode(_ *mochi.Client, p packets.Packet) packets.Packet {
	if p.FixedHeader.Type == packets.Puback {
		p.FixedHeader.Type = packets.Pingresp
	}
	return p
}

// onlyMine is a broker that denies reading outside of mine/.
type onlyMine struct{ mochi.HookBase }

func (*onlyMine) ID() string { return "only-mine" }
func (*onlyMine) Provides(b byte) bool {
	return b == mochi.OnACLCheck || b == mochi.OnConnectAuthenticate
}

func (*onlyMine) OnConnectAuthenticate(*mochi.Client, packets.Packet) bool { return true }

func (*onlyMine) OnACLCheck(_ *mochi.Client, topic string, _ bool) bool {
	return strings.HasPrefix(topic, "mine/")
}

func serveMochi(t *testing.T, hooks ...mochi.Hook) string {
	t.Helper()
	server := mochi.New(&mochi.Options{Logger: discard()})
	for _, h := range hooks {
		if err := server.AddHook(h, nil); err != nil {
			t.Fatal(err)
		}
	}
	l := listeners.NewTCP(listeners.Config{ID: "t", Address: "127.0.0.1:0"})
	if err := server.AddListener(l); err != nil {
		t.Fatal(err)
	}
	if err := server.Serve(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	return l.Address()
}

func TestSlowHandlerGetsTheNewestInOrder(t *testing.T) {
	const sent = 10_000
	m := newMosquitto(t, "max_queued_messages 0")
	gate := make(chan struct{})
	var mu sync.Mutex
	var got []int
	d := start(t, []string{m.URL()}, func(d *device) {
		d.Subscribe = []string{"burst"}
		d.Handle = func(_ context.Context, m Message) {
			<-gate
			mu.Lock()
			defer mu.Unlock()
			var n int
			if _, err := fmt.Sscan(string(m.Payload), &n); err != nil {
				t.Error(err)
			}
			got = append(got, n)
		}
	})
	next(t, "online", d.online)
	sender := watch(t, m.URL())
	for i := range sent {
		sender.say(t, Message{Topic: "burst", Payload: fmt.Append(nil, i)})
	}
	brokertest.Eventually(t, "all received", func() bool { return d.Stats().Received == sent })
	dropped := d.Stats().Dropped
	close(gate)
	brokertest.Eventually(t, "all handled or dropped", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return uint64(len(got))+dropped == sent
	})
	if len(got) > inboxMessages+1 { // one was being handled
		t.Errorf("%d messages were kept", len(got))
	}
	for i, n := range got[1:] {
		if want := sent - len(got) + 1 + i; n != want {
			t.Fatalf("kept message %d is %d, want %d", i, n, want)
		}
	}
	d.end(t)
	sender.end(t)
	leakCheck(t)
}

func TestOversizedMessageIsSkipped(t *testing.T) {
	m := newMosquitto(t)
	m.Publish("to/huge", string(make([]byte, maxPacket)), "-r") // delivered at each connect
	d := start(t, []string{m.URL()}, func(d *device) { d.Subscribe = []string{"to/#"} })
	next(t, "online", d.online)
	m.Publish("to/small", "hello")
	if got := next(t, "message", d.messages); got.Topic != "to/small" {
		t.Errorf("got %s", got.Topic)
	}
	if st := d.Stats(); st.Connects != 1 || st.Dropped != 1 || st.Received != 2 {
		t.Errorf("stats: %+v", st)
	}
	if !strings.Contains(d.log.String(), "topic=to/huge") {
		t.Errorf("the log does not name the topic:\n%s", d.log.String())
	}
	d.end(t)
}

func TestExpiringCertificateIsLoggedOnce(t *testing.T) {
	ca := newAuthority(t)
	began, soon := time.Now().Add(-time.Hour), time.Now().Add(13*24*time.Hour)
	for name, row := range map[string]struct {
		brokers, own time.Time
		lines        int
	}{
		"both": {soon, soon, 2},
		"none": {soon.AddDate(0, 1, 0), soon.AddDate(0, 1, 0), 0},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMosquitto(t, ca.tlsLines(t, "127.0.0.1", began, row.brokers), "require_certificate true")
			d := start(t, []string{"mqtts://" + m.Addr()}, func(d *device) {
				d.Config.CAFile = ca.File
				d.Config.CertFile, d.Config.KeyFile = ca.issue(t, "device", began, row.own)
			})
			next(t, "online", d.online)
			m.Restart()
			next(t, "online again", d.online)
			d.end(t)
			if n := strings.Count(d.log.String(), " which="); n != row.lines {
				t.Errorf("%d lines, want %d:\n%s", n, row.lines, d.log.String())
			}
		})
	}
}

func TestDuplicateClientIDIsReported(t *testing.T) {
	m := newMosquitto(t)
	same := func(d *device) { d.Config.ClientID = "twin" }
	a, b := start(t, []string{m.URL()}, same), start(t, []string{m.URL()}, same)
	for named := false; !named; {
		select {
		case err := <-a.offline:
			named = errors.Is(err, errTakeover)
		case err := <-b.offline:
			named = errors.Is(err, errTakeover)
		case <-time.After(limit):
			t.Fatal("the cause was not reported")
		}
	}
	a.end(t)
	b.end(t)
	if log := a.log.String(); strings.Count(log, "level=INFO") > 1+strings.Count(log, "level=WARN") {
		t.Errorf("each connect was logged:\n%s", a.log.String())
	}
}

func TestRefusedSubscriptionEndsTheConnection(t *testing.T) {
	host := serveMochi(t, &onlyMine{}) // Mosquitto's acl_file refuses silently
	d := start(t, []string{"mqtt://" + host}, func(d *device) { d.Subscribe = []string{"mine/#", "theirs/#"} })
	err := next(t, "offline", d.offline)
	if !strings.Contains(err.Error(), `"theirs/#"`) {
		t.Errorf("the reason is %q", err)
	}
	if len(d.online) > 0 {
		t.Error("reported as online")
	}
	d.end(t)
	leakCheck(t)
}

func TestMessageRightAfterTheConnackCanBeAnswered(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	answer := make(chan []byte, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		buf := make([]byte, 1024)
		_, _ = conn.Read(buf) // CONNECT
		_, _ = conn.Write([]byte{0x20, 2, 0, 0, 0x30, 3, 0, 1, 'q'})
		n, _ := conn.Read(buf)
		answer <- buf[:n]
	}()
	failed := make(chan error, 1)
	d := start(t, []string{"mqtt://" + l.Addr().String()}, func(d *device) {
		d.Handle = func(ctx context.Context, m Message) {
			failed <- d.Publish(ctx, Message{Topic: "a", Payload: []byte(m.Topic)})
		}
	})
	if err := next(t, "handled", failed); err != nil {
		t.Error(err)
	}
	if got := next(t, "answer", answer); !bytes.Equal(got, []byte{0x30, 4, 0, 1, 'a', 'q'}) {
		t.Errorf("the broker got % x", got)
	}
	d.end(t)
}

func TestRunRejectsInvalidConfig(t *testing.T) {
	for _, conf := range []Config{{}, {Broker: config.Strings{"http://x"}}, {Broker: config.Strings{"mqtt://x"}, Keepalive: config.Duration(time.Second)}} {
		if err := (&Conn{Config: conf, Log: discard()}).Run(context.Background()); err == nil {
			t.Errorf("%+v was accepted", conf)
		}
	}
}

func TestStopWhileConnectingIsPrompt(t *testing.T) {
	mute, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	for _, scheme := range []string{"mqtt", "mqtts", "ws", "wss"} {
		d := start(t, []string{scheme + "://" + mute.Addr().String()}, nil)
		conn, err := mute.Accept()
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		d.end(t)
		if took := time.Since(began); took > connectTimeout/2 {
			t.Errorf("%s: it took %v", scheme, took)
		}
		conn.Close()
	}
	leakCheck(t)
}
