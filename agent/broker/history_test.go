package broker

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"lintod/agent/base/config"
	"lintod/agent/broker/brokertest"
)

func TestReasonsForDrops(t *testing.T) {
	drop := func(lived, quiet time.Duration) ending {
		return ending{dropped: true, unexplained: true, lived: lived, quiet: quiet}
	}
	s := time.Second
	away, onMessage := ending{away: true}, ending{dropped: true, lived: s}
	for _, row := range []struct {
		name    string
		endings []ending
		idle    []int // numbers of the drops after which the silence is reported, from 1
		taken   []int // numbers of the drops after which the client id is reported
		aged    []int // numbers of the drops after which an age limit is also reported
	}{
		{"two drops", []ending{drop(s, s), drop(s, s)}, nil, nil, nil},
		{"taken over immediately", []ending{drop(s/2, s/2), drop(3*s, 3*s), drop(s, s), drop(s/3, s/3)}, nil, []int{3, 4}, nil},
		{"a proxy that closes idle connections", []ending{drop(5*s, 5*s), drop(9*s, 5*s+100*time.Millisecond), drop(5*s, 5*s)}, []int{3}, nil, nil},
		{"such a proxy, after half a minute", []ending{drop(31*s, 30*s), drop(90*s, 30*s), drop(30*s, 30*s)}, []int{3}, nil, nil},
		{"a duplicate client that connects after equal pauses", []ending{drop(5*s, 5*s), drop(5*s, 5*s), drop(5*s, 5*s), drop(5*s, s/2), drop(5*s, 5*s)}, []int{3}, nil, []int{4, 5}},
		{"a proxy that limits the age", []ending{drop(5*s, 2*s), drop(5*s, s/2), drop(5*s+100*time.Millisecond, 3*s), drop(5*s, s)}, nil, nil, []int{3, 4}},
		{"a duplicate client that connects after different pauses", []ending{drop(2*s, 2*s), drop(4*s, 4*s), drop(3*s, 3*s), drop(3*s, s/2), drop(2*s, 2*s)}, nil, []int{4, 5}, nil},
		{"a broker that restarts between", []ending{drop(s, s), drop(s, s), away, drop(s, s), drop(s, s), away}, nil, nil, nil},
		{"a message that is not accepted", []ending{onMessage, onMessage, onMessage, onMessage}, nil, nil, nil},
		{"days between", []ending{drop(24*time.Hour, 5*s), drop(48*time.Hour, 5*s), drop(24*time.Hour, 5*s)}, nil, nil, nil},
		{"minutes between, without a pattern", []ending{drop(60*s, s), drop(120*s, 9*s), drop(240*s, 4*s)}, nil, nil, nil},
	} {
		var h history
		var idle, taken, aged []int
		for i, e := range row.endings {
			err := h.note(e)
			var silence *idleError
			if errors.As(err, &silence) {
				idle = append(idle, i+1)
				if silence.ping*2 > silence.after {
					t.Errorf("%s: a ping each %v does not interrupt silences of %v", row.name, silence.ping, silence.after)
				}
			}
			if errors.Is(err, errTakeover) {
				taken = append(taken, i+1)
			}
			if limit := (*ageError)(nil); errors.As(err, &limit) {
				aged = append(aged, i+1)
			}
		}
		if !slices.Equal(idle, row.idle) || !slices.Equal(taken, row.taken) || !slices.Equal(aged, row.aged) {
			t.Errorf("%s: silence reported at %v, want %v; client id at %v, want %v; age at %v, want %v", row.name, idle, row.idle, taken, row.taken, aged, row.aged)
		}
	}
}

// idler returns a proxy that closes connections without traffic.
func idler(t *testing.T, target string, after time.Duration) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			device, err := l.Accept()
			if err != nil {
				return
			}
			broker, err := net.Dial("tcp", target)
			if err != nil {
				device.Close()
				continue
			}
			idle := time.AfterFunc(after, func() { device.Close(); broker.Close() })
			pump := func(to io.WriteCloser, from io.Reader) {
				defer to.Close()
				buf := make([]byte, 4096)
				for {
					n, err := from.Read(buf)
					if err != nil {
						return
					}
					idle.Reset(after)
					if _, err := to.Write(buf[:n]); err != nil {
						return
					}
				}
			}
			go pump(device, broker)
			go pump(broker, device)
		}
	}()
	return "mqtt://" + l.Addr().String()
}

// A proxy that closes idle connections is reported as the cause, and pings
// then keep them open. The client id is not blamed.
func TestProxyThatClosesIdleConnections(t *testing.T) {
	m := newMosquitto(t)
	d := start(t, []string{idler(t, m.Addr(), 6*time.Second)}, func(d *device) {
		d.Config.Keepalive = config.Duration(time.Minute)
		d.Subscribe = []string{"a"}
	})
	next(t, "online", d.online)
	for named := false; !named; {
		select {
		case err := <-d.offline:
			var idle *idleError
			named = errors.As(err, &idle)
			if errors.Is(err, errTakeover) {
				t.Fatalf("the client id is blamed: %v", err)
			}
		case <-time.After(2 * limit):
			t.Fatalf("the cause was not reported:\n%s", d.log.String())
		}
	}
	brokertest.Eventually(t, "online again", d.Connected)
	since := d.Stats().Since
	time.Sleep(8 * time.Second) // longer than the proxy allows
	if st := d.Stats(); !st.Connected || !st.Since.Equal(since) {
		t.Errorf("pings do not keep the connection: %+v\n%s", st, d.log.String())
	}
	t.Log(d.log.String())
	d.end(t)
}

// A message that the broker does not accept ends two connections but not a third
// one; it is reported as the cause, and other messages are sent.
func TestTooLargeMessageIsNoLongerSent(t *testing.T) {
	m := newMosquitto(t, "max_packet_size 60000")
	d := start(t, []string{m.URL()}, nil)
	next(t, "online", d.online)
	big := Message{Topic: "big", Payload: make([]byte, 70_000), QoS: 1}
	for range endings {
		d.say(t, Message{Topic: "small", QoS: 1, Payload: make([]byte, 50_000)})
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		err := d.Publish(ctx, big)
		cancel()
		if !errors.Is(err, ErrOffline) || !errors.Is(err, ErrEnded) {
			t.Fatalf("the first attempts: %v", err)
		}
		lost := next(t, "lost", d.offline)
		var on *hungUp
		if !errors.As(lost, &on) || on.on.topic != "big" || on.on.size != 70_011 {
			t.Errorf("the reason is %v", lost)
		}
		t.Log(lost)
		next(t, "online again", d.online)
	}
	connects := d.Stats().Connects
	for _, m := range []Message{big, {Topic: "other", Payload: make([]byte, 80_000)}} {
		err := d.Publish(t.Context(), m)
		if !errors.Is(err, ErrNotTaken) {
			t.Fatalf("another attempt: %v", err)
		}
		t.Log(err)
	}
	d.say(t, Message{Topic: "small", QoS: 1, Payload: make([]byte, 50_000)})
	if st := d.Stats(); st.Connects != connects || st.Refused != 2 {
		t.Errorf("%+v", st)
	}
	d.end(t)
}

func TestRefusalsAreForgotten(t *testing.T) {
	var r refusals
	big := written{kind: publish, topic: "t/1", size: 70_000}
	if r.ended(big) != 1 || r.check(Message{Topic: "t/2", Payload: make([]byte, 80_000)}) != nil {
		t.Error("refused after one connection")
	}
	if r.ended(written{kind: publish, topic: "t/3", size: 90_000}) != 2 || r.check(Message{Topic: "t/2", Payload: make([]byte, 80_000)}) == nil {
		t.Error("not refused after two connections")
	}
	if r.check(Message{Topic: "t/1", Payload: make([]byte, 60_000)}) != nil {
		t.Error("a smaller one is refused")
	}
	r.taken("t/4", 100_000) // as after raising the limit
	if r.check(Message{Topic: "t/2", Payload: make([]byte, 80_000)}) != nil {
		t.Error("an accepted size is refused")
	}
	if r.ended(big) != 0 {
		t.Error("size is blamed although larger ones were accepted")
	}
	small := written{kind: publish, topic: "secret", size: 100}
	r.ended(small)
	r.ended(small)
	if r.ended(small) != 3 || r.check(Message{Topic: "secret"}) != nil {
		t.Error("a small message must be counted, but sent")
	}
	r.taken("secret", 90)
	if r.ended(small) != 1 {
		t.Error("the count was not reset when the message was accepted")
	}
	r.restarted()
	if r.ended(small) != 1 {
		t.Error("a restart of the broker was attributed to the message")
	}
}
