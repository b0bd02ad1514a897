package linto

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"

	"lintod/agent/base/config"
	"lintod/agent/broker"
	"lintod/agent/link/linto/login"
)

// A device has static credentials, or it logs in over HTTP, which returns
// the broker's address and the device's identity there (protocol 1.2).

// place is one connection and its names in the topic tree.
type place struct {
	*broker.Conn
	scope, serial string
}

func (p *place) ingress(command string) string {
	return p.scope + "/tolinto/" + p.serial + "/" + command
}

func (p *place) egress(command string) string {
	return p.scope + "/fromlinto/" + p.serial + "/" + command
}

// connection is the link's current place: always the same with static
// credentials; with a login, one for each session, and none before the first
// one.
type connection struct {
	now   atomic.Pointer[place]
	token func() string // included in each JSON message; nil with static credentials
}

func (c *connection) place() *place {
	if p := c.now.Load(); p != nil {
		return p
	}
	return &place{}
}

// Publish is broker.Conn's Publish, with the token of the login.
func (c *connection) Publish(ctx context.Context, m broker.Message) error {
	p := c.place()
	if p.Conn == nil {
		return fmt.Errorf("publish %s: not logged in: %w", m.Topic, broker.ErrOffline)
	}
	return p.Conn.Publish(ctx, c.sign(m))
}

// Stats is broker.Conn's Stats.
func (c *connection) Stats() broker.Stats {
	p := c.place()
	if p.Conn == nil {
		return broker.Stats{}
	}
	return p.Conn.Stats()
}

// sign adds the token to a JSON message: the newest servers ignore it, older ones
// require it in requests (protocol 1.2.2). Sound has no room for it. A status does
// not need it, and a broker may retain the status for any subscriber: the token
// would give access to the account for 60 days.
func (c *connection) sign(m broker.Message) broker.Message {
	if c.token == nil || strings.HasSuffix(m.Topic, "/streaming/chunk") || strings.HasSuffix(m.Topic, "/status") {
		return m
	}
	rest, ok := bytes.CutPrefix(m.Payload, []byte("{"))
	if !ok {
		return m
	}
	token, _ := json.Marshal(c.token()) // a string always marshals
	signed := append([]byte(`{"auth_token":`), token...)
	if !bytes.HasPrefix(rest, []byte("}")) {
		signed = append(signed, ',')
	}
	m.Payload = append(signed, rest...)
	return m
}

// connect keeps the connection until ctx ends.
func (l *Link) connect(ctx context.Context) error {
	if l.login == nil {
		return l.conn.place().Run(ctx)
	}
	return l.login.Run(ctx, l.serve)
}

func (l *Link) newLogin() *login.Client {
	client := login.New(l.Config.Login, filepath.Join(l.StateDir, "linto-login.json"), l.Log)
	l.conn.token = client.Token
	return client
}

// doubt checks the token: older platforms do not answer requests with an
// invalid token, or answer with an error.
func (l *Link) doubt() {
	if l.login != nil {
		l.login.Doubt()
	}
}

// serve connects as the login specifies, until that changes.
func (l *Link) serve(ctx context.Context, s login.Session) error {
	p := l.sessionPlace(s)
	for _, address := range p.Config.Broker {
		if broker.Unprotected(address) {
			l.Log.Warn("password and token of the login are sent unencrypted; use mqtts:// or wss:// if the broker supports it", "broker", address)
		}
	}
	l.conn.now.Store(p)
	err := p.Run(ctx)
	l.connected(false) // the next session may take a while
	return err
}

func (l *Link) sessionPlace(s login.Session) *place {
	cfg := l.Config.Config
	if len(cfg.Broker) == 0 {
		cfg.Broker = config.Strings{s.Broker}
	}
	cfg.Username = s.Username
	if cfg.ClientID == "" {
		// The session belongs to the account: a second device with it must not
		// disconnect us repeatedly.
		cfg.ClientID = broker.ClientID("lintod-" + s.Scope + "-" + s.ID + "-" + l.Serial)
	}
	p := l.newPlace(cfg, s.Scope, s.ID)
	p.Password = func() (string, error) { return string(s.Password), nil }
	p.Refusal = "they come from the platform's login: correct user and password_file in [linto.login]"
	p.Offline = func(err error) {
		l.offline(err)
		if broker.Refused(err) {
			l.login.Refused()
		}
	}
	return p
}

// validateLogin checks the combination of login and static credentials.
func (c Config) validateLogin() config.Problems {
	var ps config.Problems
	const want = "no value, because [linto.login] has a url: the platform provides the broker's user and password"
	if c.Username != "" {
		ps.Add("username", c.Username, want)
	}
	if c.PasswordFile != "" {
		ps.Add("password_file", c.PasswordFile, want)
	}
	broker := c.Config
	broker.Username, broker.PasswordFile = "", ""
	if len(broker.Broker) == 0 {
		broker.Broker = config.Strings{"mqtt://provided-by-the-platform"}
	}
	return append(ps, broker.Validate()...)
}
