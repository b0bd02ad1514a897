package broker

import (
	"context"
	"errors"
	"testing"

	"lintod/agent/broker/brokertest"
)

// A refusal by a NATS cluster is reported once, and has no other effect on the
// device: a message that is too large ends the connection, because NATS sends no
// error.
func TestDeviceContinuesAfterARefusalOfTheCluster(t *testing.T) {
	c := brokertest.StartCluster(t)
	bad := start(t, c.URLs(), func(d *device) { d.Config.ClientID = "device.1" })
	var refused *refusedID
	if err := next(t, "refused", bad.offline); !errors.As(err, &refused) || refused.id != "device.1" {
		t.Errorf("the reason is %v", err)
	} else {
		t.Log(err)
	}
	bad.end(t)

	d := start(t, c.URLs(), func(d *device) { d.Config.ClientID = ClientID("device.1") })
	next(t, "online", d.online)
	for _, size := range []int{1 << 20, 7_900_000} { // an utterance of 30 s has 1.3 MB
		d.say(t, Message{Topic: "taken", QoS: 1, Payload: make([]byte, size)})
	}
	for qos := range byte(endings) {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		err := d.Publish(ctx, Message{Topic: "big", QoS: qos, Payload: make([]byte, 9_000_000)})
		cancel()
		if qos == 1 && !errors.Is(err, ErrEnded) {
			t.Errorf("QoS %d: %v", qos, err)
		}
		t.Log(err)
		var on *hungUp
		if lost := next(t, "lost", d.offline); !errors.As(lost, &on) || on.on.topic != "big" {
			t.Errorf("QoS %d: the reason is %v", qos, lost)
		} else {
			t.Log(lost)
		}
		next(t, "online again", d.online)
	}
	if err := d.Publish(t.Context(), Message{Topic: "big", QoS: 1, Payload: make([]byte, 9_000_000)}); !errors.Is(err, ErrNotTaken) {
		t.Errorf("another attempt: %v", err)
	} else {
		t.Log(err)
	}
	d.say(t, Message{Topic: "taken", QoS: 1, Payload: make([]byte, 1<<20)})
	d.end(t)
}
