// Package gateway simulates platforms of the xiaozhi family: an OTA server that provisions and
// activates devices, an MQTT gateway with its UDP server, a WebSocket chat server, and a chat that
// listens, recognises a few sentences, and answers aloud.
//
// It behaves like real servers, whose source was read and which were run: xinnan's gateway with its
// subset of MQTT, the Go server of hackers365, and Cheeko's broker. If a real server closes a
// connection or does not answer, so does this one; but it reports which rule the device violated,
// and tests fail on that:
//
//	sim := gateway.New(gateway.Options{})
//	if err := sim.Start(); err != nil { … }
//	defer sim.Close()
//	… start a device with ota_url = sim.OTA() …
//	sim.WaitFor(ctx, gateway.Is(gateway.Answered))
//	if broken := sim.Broken(); len(broken) > 0 { … }
//
// This package must not use the device's implementation of this protocol. Packets, encryption, and
// parsers are implemented independently, so that a mistake is not in both.
package gateway

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"lintod/cmd/lintosim/speech"
	"lintod/cmd/lintosim/tracked"
)

// Server is a simulated server.
type Server string

// The servers.
const (
	Xinnan Server = "xinnan" // xinnan's MQTT gateway, with its chat server
	Golang Server = "golang" // the Go server of hackers365
	Cheeko Server = "cheeko" // Cheeko's broker and gateway
)

// Servers are all simulated servers.
var Servers = []Server{Xinnan, Golang, Cheeko}

// Activation is when a device is activated.
type Activation string

// The activations.
const (
	Free   Activation = ""       // every device is activated from the start
	ByHand Activation = "manual" // when Activate is called
	ByPost Activation = "post"   // at the third activation request
)

// Options configure a gateway. The zero value simulates xinnan's on free loopback ports, with every
// device activated.
type Options struct {
	Server Server
	// HTTP is the address of the OTA and WebSocket server, MQTT and UDP those of the gateway;
	// default 127.0.0.1:0.
	HTTP, MQTT, UDP string
	// Host is the host that devices get for MQTT and UDP; default: the host of the listener or, if
	// that is unspecified, of the device's request.
	Host string
	// NoMQTT and NoWebSocket omit the transport from OTA answers.
	NoMQTT, NoWebSocket bool
	// FrameVersion of the WebSocket, 1 to 3; 0 omits it from OTA answers.
	FrameVersion int
	// TLS is used for OTA, WebSocket, and MQTT; nil disables it. Devices use MQTT over TLS if the
	// port is 8883.
	TLS *tls.Config
	// Key signs credentials; default: a random one.
	Key string
	// Token is required by the WebSocket server; empty for none.
	Token string
	// Activation is when a device is activated; CodeLife is how long a code is valid, 0 without
	// limit.
	Activation Activation
	CodeLife   time.Duration
	// Answers is the number of answers after which the server ends a session, as after a farewell;
	// 0 for never.
	Answers int
	// Cards are the answers to card_lookup, whole messages by UID. Other cards are unknown.
	Cards map[string]map[string]any
	// Echo sends back the user's speech instead of an answer.
	Echo bool
	// ChatCloses is how long the chat server's socket takes to close. More than 100 ms reverses the
	// order of a second hello and the goodbye, G18.
	ChatCloses time.Duration
	// Faults from the start; see SetFaults.
	Faults Faults
	// Recognise replaces pocketsphinx, Speak espeak-ng and opusenc.
	Recognise speech.Script
	Speak     func(ctx context.Context, text string) ([][]byte, error)
	// Now is the clock for "what time is it"; default time.Now.
	Now func() time.Time
	// Observe gets all events. It is called from several goroutines and must not block.
	Observe func(Event)
}

func (o Options) withDefaults() Options {
	for _, address := range []*string{&o.HTTP, &o.MQTT, &o.UDP} {
		if *address == "" {
			*address = "127.0.0.1:0"
		}
	}
	if o.Server == "" {
		o.Server = Xinnan
	}
	if o.Key == "" {
		o.Key = rand.Text()
	}
	if o.ChatCloses == 0 {
		o.ChatCloses = 5 * time.Millisecond
	}
	if o.Speak == nil {
		o.Speak = Voice
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

// A line is a live connection to a device.
type line interface {
	send(message)
	current() *chat // the session, nil for none
	drop()
}

// device is what is known about a device, independent of its connections.
type device struct {
	mac       string
	activated bool
	posts     int
	code      string
	challenge string
	coded     time.Time
	session   string // of server E, kept across connections
	tools     []Tool
	line      line
}

const (
	maxDevices = 1000
	maxVoices  = 64
)

// Gateway is a running gateway. Its methods may be called from any goroutine.
type Gateway struct {
	opts       Options
	history    history
	recogniser *speech.Recogniser
	udp        *udpServer
	mqtt       net.Listener
	broker     *broker // of E and Cheeko
	http       *http.Server
	listen     net.Listener

	mu      sync.Mutex
	faults  Faults
	devices map[string]*device // by MAC address
	lines   map[string]line    // by MQTT client id
	voices  map[string][][]byte
	rules   []Event

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// New creates a gateway; Start opens it.
func New(o Options) *Gateway {
	o = o.withDefaults()
	g := &Gateway{
		opts: o, faults: o.Faults, recogniser: speech.NewRecogniser(o.Recognise),
		devices: map[string]*device{}, lines: map[string]line{}, voices: map[string][][]byte{},
	}
	g.ctx, g.cancel = context.WithCancel(context.Background())
	return g
}

// Start opens the gateway; when it returns nil, devices can connect. The caller
// must Close.
func (g *Gateway) Start() error {
	if !slices.Contains(Servers, g.opts.Server) {
		return fmt.Errorf("unknown server %q; want one of %q", g.opts.Server, Servers)
	}
	if err := g.recogniser.Open(); err != nil {
		return err
	}
	if err := g.open(); err != nil {
		return errors.Join(err, g.Close())
	}
	return nil
}

func (g *Gateway) open() error {
	var err error
	if g.udp, err = listenUDP(g.opts.UDP, g.currentFaults); err != nil {
		return err
	}
	g.wg.Go(g.udp.serve)
	l, err := tracked.Listen(g.opts.MQTT)
	if err != nil {
		return fmt.Errorf("listen for MQTT; choose another address: %w", err)
	}
	l.Listener = g.secure(l.Listener)
	if g.opts.Server == Xinnan {
		g.mqtt = l.Listener
		g.wg.Go(func() { g.serveXinnan(l.Listener) })
	} else if g.broker, err = openBroker(g, l); err != nil {
		return errors.Join(err, l.Close())
	} else {
		g.mqtt = l
	}
	if g.listen, err = net.Listen("tcp", g.opts.HTTP); err != nil {
		return fmt.Errorf("listen for HTTP; choose another address: %w", err)
	}
	g.listen = g.secure(g.listen)
	g.http = &http.Server{Handler: g.routes(), ReadHeaderTimeout: 10 * time.Second}
	g.wg.Go(func() { _ = g.http.Serve(g.listen) }) // until Close
	return nil
}

// secure adds TLS to l, if enabled.
func (g *Gateway) secure(l net.Listener) net.Listener {
	if g.opts.TLS == nil {
		return l
	}
	return tls.NewListener(l, g.opts.TLS)
}

// scheme returns "http" or "ws", or the same with TLS.
func (g *Gateway) scheme(plain string) string {
	if g.opts.TLS == nil {
		return plain
	}
	return plain + "s"
}

// Close ends all connections and returns when everything has stopped.
func (g *Gateway) Close() error {
	g.cancel()
	var err error
	if g.http != nil {
		err = g.http.Close()
	}
	if g.broker != nil {
		err = errors.Join(err, g.broker.close())
	} else if g.mqtt != nil {
		_ = g.mqtt.Close()
	}
	if g.udp != nil {
		g.udp.close()
	}
	g.wg.Wait()
	return errors.Join(err, g.recogniser.Close())
}

// OTA returns the ota_url for devices, "http://127.0.0.1:41833/xiaozhi/ota/".
func (g *Gateway) OTA() string {
	path := "/xiaozhi/ota/"
	if g.opts.Server == Cheeko {
		path = "/toy/ota/"
	}
	return g.scheme("http") + "://" + g.listen.Addr().String() + path
}

// MQTT returns the address of the gateway, "127.0.0.1:41834".
func (g *Gateway) MQTT() string { return g.mqtt.Addr().String() }

// WebSocket returns the URL of the chat server, "ws://127.0.0.1:41833/xiaozhi/v1/".
func (g *Gateway) WebSocket() string {
	return g.scheme("ws") + "://" + g.listen.Addr().String() + "/xiaozhi/v1/"
}

// UDP returns the address for sound, "127.0.0.1:41835".
func (g *Gateway) UDP() string { return g.udp.conn.LocalAddr().String() }

// Credentials returns the MQTT settings of a device, as in OTA answers.
func (g *Gateway) Credentials(mac, clientUUID string) (clientID, username, password string) {
	clientID = "GID_test@@@" + underscored(strings.ToLower(mac)) + "@@@" + clientUUID
	username = "eyJpcCI6IjEyNy4wLjAuMSJ9" // {"ip":"127.0.0.1"}
	return clientID, username, sign(g.opts.Key, clientID, username)
}

// SetFaults changes the injected faults.
func (g *Gateway) SetFaults(f Faults) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.faults = f
}

func (g *Gateway) currentFaults() Faults {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.faults
}

// Events returns the stored events, oldest first.
func (g *Gateway) Events() []Event {
	events, _, _ := g.history.from(0)
	return events
}

// WaitFor returns the first event that matches, past or future. When ctx ends, the error lists what
// happened instead.
func (g *Gateway) WaitFor(ctx context.Context, match func(Event) bool) (Event, error) {
	return g.history.waitFor(ctx, match)
}

// Is matches events of a kind.
func Is(k Kind) func(Event) bool { return func(e Event) bool { return e.Kind == k } }

// Got matches a message of a device by its type and subtype, "listen start"; Sent matches one to a
// device.
func Got(name string) func(Event) bool {
	return func(e Event) bool { return e.Kind == Exchanged && e.FromDevice && e.Name == name }
}

// Sent matches a message to a device.
func Sent(name string) func(Event) bool {
	return func(e Event) bool { return e.Kind == Exchanged && !e.FromDevice && e.Name == name }
}

// Broken returns the rules that devices violated.
func (g *Gateway) Broken() []Event {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.rules)
}

// Device describes a device.
type Device struct {
	MAC       string
	Activated bool
	Code      string
	Online    bool // over MQTT, or in a session over WebSocket
	InSession bool
	Tools     []Tool
}

// Devices lists the devices seen, sorted by address.
func (g *Gateway) Devices() []Device {
	g.mu.Lock()
	var list []Device
	var lines []line
	for _, d := range g.devices {
		list = append(list, Device{MAC: d.mac, Activated: d.activated, Code: d.code, Online: d.line != nil, Tools: slices.Clone(d.tools)})
		lines = append(lines, d.line)
	}
	g.mu.Unlock()
	for i, l := range lines {
		list[i].InSession = l != nil && l.current() != nil
	}
	slices.SortFunc(list, func(a, b Device) int { return strings.Compare(a.MAC, b.MAC) })
	return list
}

// Activate activates a device that shows its code; an empty address means all that wait.
func (g *Gateway) Activate(mac string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, d := range g.devices {
		if mac == "" || d.mac == mac {
			d.activated = true
		}
	}
}

// Send sends JSON to a device.
func (g *Gateway) Send(mac string, payload map[string]any) error {
	l, err := g.reach(mac)
	if err != nil {
		return err
	}
	l.send(maps.Clone(payload))
	return nil
}

// card is the answer to a card_lookup.
func (g *Gateway) card(mac, uid string) message {
	if uid == "" || strings.Trim(uid, "0123456789ABCDEF") != "" {
		g.broken(mac, "2.6 rfid_uid", fmt.Sprintf("card_lookup of %q; want upper-case hexadecimal digits", uid))
	}
	if known, ok := g.opts.Cards[uid]; ok {
		return maps.Clone(known)
	}
	return message{"type": "card_unknown", "rfid_uid": uid}
}

// Goodbye ends the session of a device from the server's side; Drop closes its connection.
func (g *Gateway) Goodbye(mac string) error {
	l, err := g.reach(mac)
	if err != nil {
		return err
	}
	c := l.current()
	if c == nil {
		return errors.New("no session is open")
	}
	c.end("on demand")
	return nil
}

// Drop closes the connection to a device.
func (g *Gateway) Drop(mac string) error {
	l, err := g.reach(mac)
	if err != nil {
		return err
	}
	l.drop()
	return nil
}

// Call calls a tool of a device in its session, and returns the text of the result.
func (g *Gateway) Call(ctx context.Context, mac, tool string, arguments any) (string, error) {
	l, err := g.reach(mac)
	if err != nil {
		return "", err
	}
	client, err := clientOf(l)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, commandLimit)
	defer cancel()
	return client.call(ctx, tool, arguments)
}

// commandLimit is how long gateway A's management waits for a device.
const commandLimit = 5 * time.Second

// clientOf returns the client of a device's tools. Gateway A's needs no session.
func clientOf(l line) (*mcp, error) {
	if x, ok := l.(*xinnan); ok {
		return x.mcp, nil
	}
	c := l.current()
	if c == nil {
		return nil, errors.New("no session is open")
	}
	return c.tools, nil
}

// AllTools requests the tools of a device, including those that are for users only, like xinnan's
// management, G27.
func (g *Gateway) AllTools(ctx context.Context, mac string) ([]Tool, error) {
	l, err := g.reach(mac)
	if err != nil {
		return nil, err
	}
	client, err := clientOf(l)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, commandLimit)
	defer cancel()
	return client.list(ctx, 0, true)
}

// Say makes the server speak to a device: in its session or, with the Go server, by a request to
// open one.
func (g *Gateway) Say(mac, text string, autoListen bool) error {
	l, err := g.reach(mac)
	if err != nil {
		return err
	}
	if c := l.current(); c != nil {
		c.put(func() {
			c.answer(func(context.Context) (string, speech.Order) { return text, speech.Order{} }, "")
		})
		return nil
	}
	b, ok := l.(*brokered)
	if !ok || g.opts.Server != Golang {
		return errors.New("no session is open, and this server cannot request one")
	}
	b.speakRequest(text, autoListen)
	return nil
}

func (g *Gateway) reach(mac string) (line, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	d := g.devices[mac]
	if d == nil || d.line == nil {
		return nil, fmt.Errorf("device %s is not connected", mac)
	}
	return d.line, nil
}

// device finds or creates the record of a device; nil if there are too many.
func (g *Gateway) device(mac string) *device {
	d := g.devices[mac]
	if d == nil && len(g.devices) < maxDevices {
		d = &device{mac: mac, activated: g.opts.Activation == Free}
		g.devices[mac] = d
	}
	return d
}

// join makes l the connection of a device, and closes the older connection of the same client ID,
// G21.
func (g *Gateway) join(client, mac string, l line) {
	g.mu.Lock()
	old := g.lines[client]
	g.lines[client] = l
	if d := g.device(mac); d != nil {
		d.line = l
	}
	g.mu.Unlock()
	if old != nil && old != l {
		g.notef(mac, "client ID %s connects again: the older connection is closed, G21", client)
		old.drop()
	}
}

func (g *Gateway) left(client string, l line) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.lines[client] == l {
		delete(g.lines, client)
	}
	for _, d := range g.devices {
		if d.line == l {
			d.line = nil
		}
	}
}

func (g *Gateway) listed(mac string, tools []Tool) {
	g.mu.Lock()
	if d := g.device(mac); d != nil {
		d.tools = tools
	}
	g.mu.Unlock()
	g.tell(Event{Kind: Listed, Device: mac, Tools: names(tools)})
}

// connectionNumber generates the connection ID for UDP packets.
func (g *Gateway) connectionNumber() uint32 {
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails
	return binary.BigEndian.Uint32(b[:])
}

func (g *Gateway) tell(e Event) {
	e.At = time.Now()
	g.history.add(e)
	if g.opts.Observe != nil {
		g.opts.Observe(e)
	}
}

func (g *Gateway) notef(mac, format string, args ...any) {
	g.tell(Event{Kind: Noted, Device: mac, Text: fmt.Sprintf(format, args...)})
}

const keptRules = 1000

func (g *Gateway) broken(mac, rule, text string) {
	e := Event{At: time.Now(), Kind: Broken, Device: mac, Rule: rule, Text: text}
	g.mu.Lock()
	if len(g.rules) < keptRules {
		g.rules = append(g.rules, e)
	}
	g.mu.Unlock()
	g.tell(e)
}

// sendSound sends one Opus packet to a device.
func (g *Gateway) sendSound(mac string, s *stream, opus []byte, timestamp uint32) {
	if g.udp.send(s, opus, timestamp) {
		g.tell(Event{Kind: Sounded, Device: mac, Wire: UDP, Bytes: len(opus)})
		return
	}
	g.tell(Event{Kind: Noted, Device: mac, Wire: UDP, Text: "sound is lost: the device has sent no datagram yet"})
}

// voice synthesises text, or returns it from the cache.
func (g *Gateway) voice(ctx context.Context, text string) ([][]byte, error) {
	g.mu.Lock()
	frames := g.voices[text]
	g.mu.Unlock()
	if frames != nil {
		return frames, nil
	}
	frames, err := g.opts.Speak(ctx, text)
	if err != nil {
		return nil, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.voices) >= maxVoices {
		clear(g.voices)
	}
	g.voices[text] = frames
	return frames, nil
}

// host returns the address of a listener for a device.
func (g *Gateway) host(listener, asked string) string {
	if g.opts.Host != "" {
		return g.opts.Host
	}
	host, _, _ := net.SplitHostPort(listener)
	if ip, err := netip.ParseAddr(host); err == nil && !ip.IsUnspecified() {
		return host
	}
	if h, _, err := net.SplitHostPort(asked); err == nil {
		return h
	}
	return asked
}

func (g *Gateway) udpHost() string { return g.host(g.UDP(), "127.0.0.1") }

// helloMessage contains the members of a hello that servers use. A wrong type makes the hello
// invalid.
type helloMessage struct {
	Version     any             `json:"version"`
	Transport   string          `json:"transport"`
	Features    json.RawMessage `json:"features"`
	SessionID   *string         `json:"session_id"`
	AudioParams *struct {
		Format        string `json:"format"`
		SampleRate    int    `json:"sample_rate"`
		Channels      int    `json:"channels"`
		FrameDuration int    `json:"frame_duration"`
	} `json:"audio_params"`
}

// checkHello reports what some server of the family rejects in a hello.
func (g *Gateway) checkHello(mac string, hello helloMessage, transport string) {
	var features map[string]bool
	switch a := hello.AudioParams; {
	case hello.Transport != transport:
		g.broken(mac, "2.4 transport", fmt.Sprintf("hello with transport %q, want %q", hello.Transport, transport))
	case a == nil:
		g.broken(mac, "2.4 audio_params", "hello without audio_params")
	case a.Format != "opus" || a.SampleRate != 16000 || a.Channels != 1 || a.FrameDuration != 60:
		g.broken(mac, "C61", fmt.Sprintf("hello with sound %+v, want opus, 16000 Hz, 1 channel, 60 ms", *a))
	case hello.SessionID != nil:
		g.broken(mac, "2.4 session_id", "hello with a session_id")
	case json.Unmarshal(hello.Features, &features) != nil || !features["mcp"]:
		g.broken(mac, "C50", "features of hello must be an object of booleans with mcp: "+string(hello.Features))
	}
}

// answer opens a session for a hello, or fails as set by the faults.
type answer struct {
	message message
	opened  func()       // before the message is sent
	raw     func([]byte) // to the device
	cut     func()
	refuse  func() // what this server does if there is no session
}

// answerHello reports whether the server believes that the session is open.
func (g *Gateway) answerHello(ctx context.Context, a answer) bool {
	f := g.currentFaults()
	takes := f.HelloTakes
	if takes == 0 && g.opts.Server == Xinnan {
		takes = 30 * time.Millisecond
	}
	if f.Hello == "late" {
		takes = helloLate
	}
	if !sleep(ctx, takes) {
		return false
	}
	switch {
	case f.Goodbye == connecting && a.message["udp"] != nil:
		a.raw([]byte(`{"type":"goodbye"}`))
		return false
	case f.Goodbye == connecting || f.Hello == "error":
		a.refuse()
		return false
	case f.Cut == connecting:
		a.cut()
		return false
	}
	a.opened()
	switch {
	case f.Hello == "absent":
		return true
	case f.Hello == "garbage":
		a.raw([]byte(`{"type":"hello","transport":`))
		return true
	case f.Hello == "foreign":
		a.message["transport"] = "carrier-pigeon"
	case f.Hello == "broken" && a.message["udp"] != nil:
		delete(a.message["udp"].(message), "key")
	case f.Hello == "broken":
		a.message["type"] = 7
	}
	payload, err := json.Marshal(a.message)
	if err != nil {
		panic(err) // made here, of strings and numbers
	}
	a.raw(payload)
	return true
}
