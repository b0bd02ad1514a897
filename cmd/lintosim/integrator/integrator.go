// Package integrator simulates a FoloToy integration: a program that follows devices over MQTT,
// answers what their users say, and has texts and sounds played. It behaves like public ones, and
// reports violations of the protocol (docs/folotoy.md) by a device.
//
// Flags and screen output do not belong here.
package integrator

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"

	"lintod/agent/broker"
	"lintod/cmd/lintosim/tracked"
)

const (
	// ackLimit is how long a device may take to acknowledge a command: its timeout for sound
	// servers is shorter.
	ackLimit     = 75 * time.Second
	publishLimit = 5 * time.Second
)

// Options are set before Start.
type Options struct {
	Listen string         // MQTT address of its own broker
	Join   *broker.Config // instead, an existing broker
	HTTP   string         // address of the web server with the sounds
	Prefix string         // of all topics
	// Answers is how a transcript is answered.
	Answers Answers
	// Delay is how long the integration waits before it answers.
	Delay time.Duration
	Fault Fault
	// Observe gets all events. It must not block.
	Observe func(Event)
}

// Answers is the kind of an integration's answers.
type Answers string

// Kinds of answers: a text to be spoken, the address of a sound, or none.
const (
	Text  Answers = "text"
	Sound Answers = "sound"
	None  Answers = "none"
)

// Kind is the kind of an Event.
type Kind string

// The kinds of events.
const (
	Exchanged Kind = "message" // Topic, Payload
	Broken    Kind = "broken"  // Text: the rule that a device violated, and how
	Noted     Kind = "note"    // Text
)

// Event is an event of the integration.
type Event struct {
	At         time.Time
	Kind       Kind
	Serial     string // of the device; "" for all
	FromDevice bool
	Topic      string // relative to the device's, such as event/post
	Payload    []byte
	Text       string
}

// Integrator is one integration. Create it with New.
type Integrator struct {
	opts   Options
	ctx    context.Context
	cancel context.CancelFunc
	broker *mqtt.Server // nil if an existing one is used
	tcp    *tracked.Listener
	conn   *broker.Conn
	web    *http.Server
	sounds string     // the address of the web server
	joined chan error // what Conn.Run returned
	tasks  sync.WaitGroup

	mu      sync.Mutex
	number  int // of the last command
	role    int
	devices map[string]*device
	waiting map[string]int // acknowledgements, by the members that they repeat
	broken  []Event
}

// device is what is known about a device.
type device struct {
	message, recording int64
	order              int
}

// New creates an integration; Start starts it.
func New(o Options) *Integrator {
	i := &Integrator{opts: o, role: 1, devices: map[string]*device{}, waiting: map[string]int{}, joined: make(chan error, 1)}
	i.ctx, i.cancel = context.WithCancel(context.Background())
	return i
}

// Start returns when devices can connect. After an error, nothing is running.
func (i *Integrator) Start() (err error) {
	defer func() {
		if err != nil {
			_ = i.Close()
		}
	}()
	if err := i.serveSounds(); err != nil {
		return fmt.Errorf("listen for HTTP; choose another address: %w", err)
	}
	cfg := broker.Defaults()
	if i.opts.Join != nil {
		cfg = *i.opts.Join
	} else {
		if err := i.openBroker(); err != nil {
			return err
		}
		cfg.Broker = []string{i.URL()}
	}
	cfg.ClientID = "lintosim-" + strings.ToLower(rand.Text()[:8])
	if problems := cfg.Validate(); len(problems) > 0 {
		return problems
	}
	first := make(chan error, 1)
	news := func(err error) {
		select {
		case first <- err:
		default:
		}
		if err != nil {
			i.tell(Event{Kind: Noted, Text: err.Error()})
		}
	}
	i.conn = &broker.Conn{
		Config:    cfg,
		Subscribe: []string{i.topic("+", "event/post"), i.topic("+", "command/callAck"), i.opts.Prefix + "/configAck"},
		Online:    func(context.Context) { news(nil) },
		Offline:   news,
		Handle:    func(_ context.Context, m broker.Message) { i.receive(m) },
		Log:       slog.New(slog.DiscardHandler),
	}
	go func() { i.joined <- i.conn.Run(i.ctx) }()
	if err := <-first; err != nil {
		return fmt.Errorf("connect to the broker: %w", err)
	}
	return nil
}

func (i *Integrator) openBroker() error {
	i.broker = mqtt.New(&mqtt.Options{Logger: slog.New(slog.DiscardHandler)})
	if err := i.broker.AddHook(new(auth.AllowHook), nil); err != nil {
		return fmt.Errorf("prepare the broker: %w", err)
	}
	var err error
	if i.tcp, err = tracked.Listen(i.opts.Listen); err != nil {
		return fmt.Errorf("listen for MQTT; choose another address, or use -broker to connect to the broker there: %w", err)
	}
	if err := i.broker.AddListener(listeners.NewNet("tcp", i.tcp)); err != nil {
		return fmt.Errorf("listen for MQTT: %w", err)
	}
	return i.broker.Serve()
}

// Close stops the integration.
func (i *Integrator) Close() error {
	i.cancel()
	var errs []error
	if i.conn != nil {
		errs = append(errs, <-i.joined)
	}
	if i.web != nil {
		errs = append(errs, i.web.Close())
	}
	i.tasks.Wait()
	if i.tcp != nil {
		errs = append(errs, i.tcp.CloseBroker(i.broker))
	}
	return errors.Join(errs...)
}

// URL returns the address of the broker.
func (i *Integrator) URL() string {
	if i.tcp != nil {
		return "mqtt://" + i.tcp.Addr().String()
	}
	return i.conn.Stats().Broker
}

// Sounds returns the address of the web server, which devices must be allowed to play.
func (i *Integrator) Sounds() string { return i.sounds }

// Devices returns the serials of the devices seen.
func (i *Integrator) Devices() (serials []string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for serial := range i.devices {
		serials = append(serials, serial)
	}
	slices.Sort(serials)
	return serials
}

// Broken returns the rules that devices have violated.
func (i *Integrator) Broken() []Event {
	i.mu.Lock()
	defer i.mu.Unlock()
	return slices.Clone(i.broken)
}

// SetFault changes the injected fault; SetRole the role in commands.
func (i *Integrator) SetFault(f Fault) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.opts.Fault = f
}

// SetRole is described with SetFault.
func (i *Integrator) SetRole(role int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.role = role
}

func (i *Integrator) topic(serial, below string) string {
	return i.opts.Prefix + "/folotoy/" + serial + "/thing/" + below
}

func (i *Integrator) tell(e Event) {
	e.At = time.Now()
	if e.Kind == Broken {
		i.mu.Lock()
		i.broken = append(i.broken, e)
		i.mu.Unlock()
	}
	if i.opts.Observe != nil {
		i.opts.Observe(e)
	}
}

func (i *Integrator) rule(serial, format string, args ...any) {
	i.tell(Event{Kind: Broken, Serial: serial, FromDevice: true, Text: fmt.Sprintf(format, args...)})
}

// Say has a text spoken, and Play a sound played: an address, or a path on the integration's
// server.
func (i *Integrator) Say(serial, text string) error {
	return i.Call(serial, "iwantplay", map[string]any{"text": text})
}

// Play is described with Say.
func (i *Integrator) Play(serial, address string) error {
	if !strings.Contains(address, "://") {
		address = i.sounds + "/" + strings.TrimPrefix(address, "/")
	}
	return i.Call(serial, "iwantplay", map[string]any{"url": address})
}

// LoadRoles makes all devices load their roles.
func (i *Integrator) LoadRoles() error {
	return i.send("", i.opts.Prefix+"/config", i.command("load_roles_config", nil), false)
}

// Call sends a command, with the injected fault.
func (i *Integrator) Call(serial, identifier string, params map[string]any) error {
	i.mu.Lock()
	fault := i.opts.Fault
	if _, there := params["role"]; !there && identifier == "iwantplay" {
		params["role"] = i.role
	}
	i.mu.Unlock()
	topic := i.topic(serial, "command/call")
	switch fault {
	case Garbage:
		if err := i.Raw(serial, []byte(`{"msgId":7,"identifier":`)); err != nil {
			return err
		}
	case Types:
		for name, value := range params {
			params[name] = []any{value}
		}
	}
	times := 1
	if fault == Twice {
		times = 2
	}
	command := i.command(identifier, params)
	for range times {
		if err := i.send(serial, topic, command, fault == Retained); err != nil {
			return err
		}
	}
	return nil
}

// Raw sends any payload as a command, without checking the result.
func (i *Integrator) Raw(serial string, payload []byte) error {
	return i.publish(serial, i.topic(serial, "command/call"), payload, false)
}

// message is a command or an acknowledgement; MsgID is omitted if there is none.
type message struct {
	MsgID      any    `json:"msgId,omitempty"`
	Identifier string `json:"identifier"`
	Params     any    `json:"inputParams,omitempty"`
}

func (i *Integrator) command(identifier string, params map[string]any) message {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.number++
	m := message{MsgID: i.number, Identifier: identifier}
	if params != nil {
		m.Params = params
	}
	switch i.opts.Fault {
	case Constant:
		m.MsgID = 1
	case Unnumbered:
		m.MsgID = nil
	}
	return m
}

// send publishes a command and expects its acknowledgement.
func (i *Integrator) send(serial, topic string, m message, retain bool) error {
	payload, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if serial != "" { // otherwise the number of answers is unknown
		key := fmt.Sprint(serial, " ", m.Identifier, " ", m.MsgID)
		i.mu.Lock()
		i.waiting[key]++
		i.mu.Unlock()
		i.tasks.Go(func() { i.await(serial, key) })
	}
	return i.publish(serial, topic, payload, retain)
}

// await reports a command that was not acknowledged in time.
func (i *Integrator) await(serial, key string) {
	select {
	case <-i.ctx.Done():
		return
	case <-time.After(ackLimit):
	}
	i.mu.Lock()
	late := i.waiting[key] > 0
	if late {
		i.waiting[key]--
	}
	i.mu.Unlock()
	if late {
		i.rule(serial, "a command was not acknowledged within %v", ackLimit)
	}
}

// publish sends with QoS 0, like all public integrations.
func (i *Integrator) publish(serial, topic string, payload []byte, retain bool) error {
	i.tell(Event{Kind: Exchanged, Serial: serial, Topic: below(topic), Payload: payload})
	ctx, cancel := context.WithTimeout(i.ctx, publishLimit)
	defer cancel()
	return i.conn.Publish(ctx, broker.Message{Topic: topic, Payload: payload, Retain: retain})
}

// below returns the part of a topic that is the same for all devices.
func below(topic string) string {
	if _, rest, ok := strings.Cut(topic, "/thing/"); ok {
		return rest
	}
	return topic
}
