package gateway

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"

	"lintod/cmd/lintosim/tracked"
)

const (
	publishTopic = "device-server"
	ingestTopic  = "internal/server-ingest" // Cheeko's rule publishes devices' messages there
	brokerLimit  = 1 << 20
)

// broker is a real MQTT broker, with the rules of the Go server or of Cheeko.
type broker struct {
	mqtt.HookBase
	g      *Gateway
	server *mqtt.Server
	tcp    *tracked.Listener

	mu      sync.Mutex
	clients map[string]*brokered
}

func openBroker(g *Gateway, l *tracked.Listener) (*broker, error) {
	capabilities := mqtt.NewDefaultServerCapabilities()
	capabilities.MaximumPacketSize = brokerLimit
	b := &broker{g: g, tcp: l, clients: map[string]*brokered{}}
	b.server = mqtt.New(&mqtt.Options{
		InlineClient: true, Logger: slog.New(slog.DiscardHandler), Capabilities: capabilities,
	})
	if err := b.server.AddHook(b, nil); err != nil {
		return nil, fmt.Errorf("prepare the broker: %w", err)
	}
	if err := b.server.AddListener(listeners.NewNet("tcp", l)); err != nil {
		return nil, fmt.Errorf("prepare the broker: %w", err)
	}
	if g.opts.Server == Cheeko {
		if err := b.server.Subscribe(ingestTopic, 1, b.ingest); err != nil {
			return nil, fmt.Errorf("prepare the broker: %w", err)
		}
	}
	if err := b.server.Serve(); err != nil {
		return nil, fmt.Errorf("start the broker: %w", err)
	}
	return b, nil
}

func (b *broker) close() error {
	err := b.tcp.CloseBroker(b.server)
	b.mu.Lock()
	clients := b.clients
	b.clients = nil
	b.mu.Unlock()
	for _, d := range clients {
		d.leave()
	}
	return err
}

// ID implements mqtt.Hook.
func (b *broker) ID() string { return "gateway" }

// Provides implements mqtt.Hook.
func (b *broker) Provides(hook byte) bool {
	switch hook {
	case mqtt.OnConnectAuthenticate, mqtt.OnACLCheck, mqtt.OnSessionEstablished, mqtt.OnDisconnect,
		mqtt.OnPublish, mqtt.OnSubscribed:
		return true
	}
	return false
}

// OnConnectAuthenticate refuses wrong credentials with CONNACK 5, E1.
func (b *broker) OnConnectAuthenticate(cl *mqtt.Client, pk packets.Packet) bool {
	if pk.Connect.WillFlag {
		b.g.broken("", "G2", "CONNECT with a will")
	}
	_, err := login(b.g.opts.Key, connect{
		clientID: cl.ID, username: string(pk.Connect.Username), password: string(pk.Connect.Password),
	}, false)
	if err != nil {
		b.g.tell(Event{Kind: Refused, Wire: MQTT, Text: "E1: CONNACK 5: " + err.Error()})
	}
	return err == nil
}

// OnACLCheck is called for topics to publish, for filters to subscribe, and again before each
// delivery. The Go server allows devices to publish to one topic, and to subscribe only to the
// topic that it subscribes for them, C17.
func (b *broker) OnACLCheck(cl *mqtt.Client, topic string, write bool) bool {
	if b.g.opts.Server == Cheeko {
		return write || !strings.HasPrefix(topic, "internal/")
	}
	if write {
		return topic == publishTopic
	}
	return topic == deviceTopic(cl.ID)
}

// deviceTopic returns the topic on which the Go server sends to a device.
func deviceTopic(clientID string) string {
	parts := strings.Split(clientID, "@@@")
	if len(parts) != 3 {
		return ""
	}
	return "/p2p/device_sub/" + parts[1]
}

// OnSessionEstablished subscribes for a device of the Go server, and starts serving it.
func (b *broker) OnSessionEstablished(cl *mqtt.Client, _ packets.Packet) {
	if cl.Net.Inline {
		return
	}
	mac := strings.ReplaceAll(strings.Split(cl.ID, "@@@")[1], "_", ":") // ensured by login
	d := newBrokered(b, cl, mac)
	b.mu.Lock()
	old := b.clients[cl.ID]
	if b.clients != nil {
		b.clients[cl.ID] = d
	}
	b.mu.Unlock()
	if old != nil {
		old.leave()
	}
	b.g.tell(Event{Kind: Connected, Device: mac, Wire: MQTT, Text: cl.Net.Remote})
	if b.g.opts.Server == Golang {
		b.server.Topics.Subscribe(cl.ID, packets.Subscription{Filter: deviceTopic(cl.ID)})
	}
	b.g.join(cl.ID, mac, d)
	d.begin()
}

// OnSubscribed reports the subscriptions of a device.
func (b *broker) OnSubscribed(cl *mqtt.Client, pk packets.Packet, codes []byte) {
	d := b.client(cl.ID)
	if d == nil {
		return
	}
	for i, f := range pk.Filters {
		b.g.tell(Event{
			Kind: Exchanged, Device: d.mac, Wire: MQTT, FromDevice: true, Name: "SUBSCRIBE",
			Text: fmt.Sprintf("%s (granted %#02x)", f.Filter, codes[i]),
		})
	}
	if len(pk.Filters) > 1 {
		d.broken("G7", "SUBSCRIBE has more than one topic; only the first is read by others")
	}
}

// OnDisconnect ends the session of a device.
func (b *broker) OnDisconnect(cl *mqtt.Client, err error, _ bool) {
	b.mu.Lock()
	d := b.clients[cl.ID]
	if d != nil && d.cl == cl {
		delete(b.clients, cl.ID)
	}
	b.mu.Unlock()
	if d == nil || d.cl != cl {
		return
	}
	b.g.left(cl.ID, d)
	b.g.tell(Event{Kind: Disconnected, Device: d.mac, Wire: MQTT, Text: reason(err)})
	b.g.wg.Go(d.leave) // this runs on the client's own goroutine
}

func (b *broker) client(id string) *brokered {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.clients[id]
}

// OnPublish handles what devices publish.
func (b *broker) OnPublish(cl *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	d := b.client(cl.ID)
	if cl.Net.Inline || d == nil {
		return pk, nil
	}
	if pk.FixedHeader.Qos != 0 || pk.FixedHeader.Retain {
		d.broken("C39", fmt.Sprintf("PUBLISH with QoS %d, retain %v; other gateways close the connection", pk.FixedHeader.Qos, pk.FixedHeader.Retain))
	}
	if len(pk.TopicName)+len(pk.Payload)+5 > packetLimit {
		d.broken("G9", fmt.Sprintf("a payload of %d bytes; other gateways close the connection", len(pk.Payload)))
	}
	if pk.TopicName != publishTopic {
		d.g.notef(d.mac, "publish to %q has no subscriber", pk.TopicName)
		return pk, nil
	}
	if b.g.opts.Server == Cheeko {
		wrapped, err := json.Marshal(map[string]string{"sender_client_id": cl.ID, "orginal_payload": string(pk.Payload)})
		if err == nil {
			err = b.server.Publish(ingestTopic, wrapped, false, 0)
		}
		return pk, err
	}
	d.take(append([]byte(nil), pk.Payload...))
	return pk, nil
}

// ingest is Cheeko's gateway, which gets messages by the broker's rule, 2.10.
func (b *broker) ingest(_ *mqtt.Client, _ packets.Subscription, pk packets.Packet) {
	var wrapped struct {
		Sender  string `json:"sender_client_id"`
		Payload string `json:"orginal_payload"` // the spelling of the protocol
	}
	if json.Unmarshal(pk.Payload, &wrapped) != nil {
		return
	}
	if d := b.client(wrapped.Sender); d != nil {
		d.take([]byte(wrapped.Payload))
	}
}

// deliver publishes to a device.
func (b *broker) deliver(d *brokered, payload []byte) {
	topic := deviceTopic(d.client)
	if b.g.opts.Server == Cheeko {
		topic = "devices/p2p/" + d.client
		if len(b.server.Topics.Subscribers(topic).Subscriptions) == 0 {
			d.g.notef(d.mac, "nobody has subscribed to %s", topic)
		}
	}
	e, _ := readEnvelope(payload)
	b.g.tell(Event{Kind: Exchanged, Device: d.mac, Wire: MQTT, Name: e.name(), Payload: payload})
	_ = b.server.Publish(topic, payload, false, 0) // fails if the broker is closing
}
