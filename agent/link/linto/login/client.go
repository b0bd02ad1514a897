package login

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"lintod/agent/base/loop"
	"lintod/agent/base/retry"
	"lintod/agent/base/textfile"
)

const (
	// checkEvery is how often the token is checked with the platform: another login
	// with the same account invalidates it immediately.
	checkEvery = time.Hour
	// loginEvery is how often a broker that refuses us may cause a new login.
	loginEvery = 5 * time.Minute
	// askEvery is how often unanswered requests may cause a check.
	askEvery = time.Minute
	// settleTime is how long the platform may take after a login to recognize its own
	// token.
	settleTime = time.Second
	// logoutLimit must fit into the time that the agent gives its parts to stop,
	// after the farewell to the broker.
	logoutLimit = 600 * time.Millisecond
)

// Client keeps the device logged in. Make one with New, then Run it once; the
// other methods may be called at any time, from any goroutine.
type Client struct {
	config Config
	file   string
	log    *slog.Logger
	limit  time.Duration // for one request

	refusals loop.Signal // the broker refused the device
	doubts   loop.Signal // the platform did not answer, or returned an error
	backoff  retry.Backoff
	again    bool      // log in regardless of the tokens
	ask      bool      // check the token
	entered  time.Time // the last login of this process
	asked    time.Time // the last check

	mu      sync.Mutex
	login   login // zero before the first one
	problem string
}

// New returns a client that stores its tokens in file, readable only by the
// owner.
func New(c Config, file string, log *slog.Logger) *Client {
	return &Client{config: c, file: file, log: log, limit: answerLimit, refusals: loop.NewSignal(), doubts: loop.NewSignal(), backoff: retry.Backoff{First: shortest}}
}

// Run keeps the device logged in until ctx ends. Once there is a session it
// calls serve, in a goroutine of its own. serve must stay connected to the
// broker until its context ends. If a later login returns another session,
// that context ends and serve is called again; a new token alone does not
// cause that: see Token. When ctx has ended and serve has returned, Run logs
// out if configured. It returns an error only if serve returned one early.
func (c *Client) Run(ctx context.Context, serve func(context.Context, Session) error) error {
	c.restore()
	var now service
	defer func() {
		now.stop()
		c.leave(ctx)
	}()
	for pause := time.Duration(0); ; pause = c.step(ctx) {
		if s := c.session(); s != now.session {
			now.stop()
			now = startService(ctx, s, serve)
		}
		if err, ended := c.wait(ctx, pause, now.done); ended {
			return err
		}
	}
}

// Token is the "auth_token" of every message; empty before a login.
func (c *Client) Token() string {
	l := c.present()
	if l.Auth == "" {
		return ""
	}
	return bearer(l.Auth)
}

// Problem describes why the device is not logged in, or an error of the login;
// empty if there is none.
func (c *Client) Problem() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.problem
}

// Refused reports that the broker does not accept the session's credentials, so
// that a new login is attempted. It does not block, and may be called often.
func (c *Client) Refused() {
	c.refusals.Set()
}

// Doubt reports that the platform did not answer a message, or returned an error,
// as older ones do when its token is no longer valid. It does not block, and may
// be called often.
func (c *Client) Doubt() {
	c.doubts.Set()
}

// Pending describes what Run is doing while there is neither a session nor a
// problem.
func (c *Client) Pending() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.problem != "" || c.login.Auth != "" {
		return ""
	}
	return "logging in to " + c.config.URL
}

func (c *Client) present() login {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.login
}

func (c *Client) session() Session { return c.present().Session }

// restore continues the login of the previous run. The first step checks it.
func (c *Client) restore() {
	kept, err := load(c.file, c.config)
	if err != nil {
		c.log.Warn("logging in again", "error", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.login = kept
}

// wait returns when the next step is due, or when the client must stop.
func (c *Client) wait(ctx context.Context, pause time.Duration, served <-chan error) (err error, ended bool) {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil, true
		case err := <-served:
			if ctx.Err() != nil {
				err = nil
			}
			return err, true
		case <-timer.C:
			return nil, false
		case <-c.refusals:
			if !c.backoff.Failing() && time.Since(c.entered) >= loginEvery {
				c.again = true
				return nil, false
			}
		case <-c.doubts:
			if !c.backoff.Failing() && time.Since(c.asked) >= askEvery {
				c.ask, c.asked = true, time.Now()
				return nil, false
			}
		}
	}
}

// step performs what is due, and returns how long to wait for the next step.
func (c *Client) step(ctx context.Context) time.Duration {
	err := c.due(ctx)
	if ctx.Err() != nil {
		return 0
	}
	c.report(err)
	if err != nil {
		c.backoff.Most = patience(err)
		pause, _ := c.backoff.Failed(err)
		return pause
	}
	c.backoff.Succeeded()
	refresh := time.Until(c.present().refreshAt())
	return max(time.Second, min(refresh, checkEvery/2+rand.N(checkEvery)))
}

func (c *Client) due(ctx context.Context) error {
	s, err := newServer(c.config, c.limit)
	if err != nil {
		return err
	}
	l := c.present()
	switch {
	case c.again || l.Auth == "":
		return c.enter(ctx, s)
	case !time.Now().Before(l.refreshAt()):
		return c.refresh(ctx, s, l)
	case c.ask:
		return c.verify(ctx, s, l)
	}
	return c.check(ctx, s, l)
}

// verify checks the token, because an error occurred that an invalid token
// would explain.
func (c *Client) verify(ctx context.Context, s *server, l login) error {
	c.ask = false
	err := s.isAuth(ctx, l.BasePath, l.Auth)
	if absent(err) {
		return c.check(ctx, s, l)
	}
	return c.judge(ctx, s, l, err)
}

// judge handles the answer to a request with the token. If there was no answer, or
// the connection was closed, the next attempt is a login: the platform may fail on
// the token.
func (c *Client) judge(ctx context.Context, s *server, l login, err error) error {
	if refused(err) {
		c.log.Warn("the platform rejects the token before it expires; probably another device has logged in "+
			"with the same account: use a separate account for each", "user", l.User)
		return c.refresh(ctx, s, l)
	}
	c.again = c.again || isUnanswered(err)
	return err
}

// check requests the scopes, which shows whether the token is valid and
// whether the scope still belongs to the account.
func (c *Client) check(ctx context.Context, s *server, l login) error {
	scopes, err := s.scopes(ctx, l.BasePath, l.Auth)
	if err != nil {
		return c.judge(ctx, s, l, err)
	}
	return c.adopt(l, scopes)
}

func (c *Client) refresh(ctx context.Context, s *server, l login) error {
	if l.Refresh == "" {
		return c.enter(ctx, s)
	}
	t, err := s.refresh(ctx, l.BasePath, l.Refresh)
	if err != nil && status(err) == 0 {
		c.again = isUnanswered(err) // otherwise it was unreachable, and no login is needed
		return err
	}
	if err == nil {
		err = t.check()
	}
	if err != nil {
		c.log.Info("cannot refresh the token; logging in", "error", err)
		c.again = true
		return c.enter(ctx, s)
	}
	c.keep(l.renewed(t))
	return nil
}

// enter performs a complete login.
func (c *Client) enter(ctx context.Context, s *server) error {
	password, err := c.password()
	if err != nil {
		return err
	}
	methods, err := s.methods(ctx)
	if err != nil {
		return err
	}
	how, err := local(methods)
	if err != nil {
		return err
	}
	a, err := s.login(ctx, how.BasePath, c.config.User, password)
	if err == nil {
		err = a.User.check()
	}
	if err != nil {
		return err
	}
	l := login{URL: c.config.URL, User: c.config.User, Wanted: c.config.Scope, BasePath: how.BasePath}.renewed(a.User)
	l.Session.Username, l.Session.Password = a.MQTT.credentials()
	if l.Session.Broker, err = a.MQTT.address(); err != nil {
		return err
	}
	scopes, err := c.firstScopes(ctx, s, l)
	if err != nil {
		return err
	}
	if err := c.adopt(l, scopes); err != nil {
		return err
	}
	c.again, c.entered = false, time.Now()
	c.log.Info("logged in", "user", l.User, "session", c.session())
	return nil
}

// firstScopes requests the scopes right after a login. The platform answers the
// login before it has stored the data for checking its tokens, so the first refusal
// may be premature.
func (c *Client) firstScopes(ctx context.Context, s *server, l login) ([]scope, error) {
	scopes, err := s.scopes(ctx, l.BasePath, l.Auth)
	if !refused(err) {
		return scopes, err
	}
	select {
	case <-time.After(settleTime):
		return s.scopes(ctx, l.BasePath, l.Auth)
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// local selects the platform's own accounts; the other method, LDAP, is
// unfinished there (protocol 1.2.2).
func local(methods []method) (method, error) {
	for _, m := range methods {
		if m.Type == "local" {
			return m, nil
		}
	}
	if len(methods) == 0 {
		return method{}, errors.New("the platform offers no login method")
	}
	return methods[0], nil
}

// adopt uses l if the account has the wanted scope.
func (c *Client) adopt(l login, scopes []scope) error {
	chosen, err := choose(scopes, c.config.Scope)
	if err != nil {
		return err
	}
	l.Session.Scope = chosen.Topic
	c.keep(l)
	return nil
}

// keep makes l the current login, and saves it.
func (c *Client) keep(l login) {
	c.mu.Lock()
	same := c.login == l
	c.login = l
	c.mu.Unlock()
	if same {
		return
	}
	if err := l.save(c.file); err != nil {
		c.log.Error("the login is not saved; the next start must log in again", "error", err)
	}
}

// password reads the first line of its file.
func (c *Client) password() (Secret, error) {
	line, err := textfile.Secret(c.config.PasswordFile)
	if err != nil {
		return "", fmt.Errorf("read password_file of the login: %w", err)
	}
	return Secret(line), nil
}

// report logs changes; a repeated failure is logged once.
func (c *Client) report(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	c.mu.Lock()
	before := c.problem
	c.problem = text
	c.mu.Unlock()
	switch {
	case text == before:
	case err != nil:
		c.log.Warn("not logged in", "error", text)
	default:
		c.log.Info("the platform accepts this device again")
	}
}

// leave logs out, if configured.
func (c *Client) leave(ctx context.Context) {
	l := c.present()
	if !c.config.LogoutOnStop || l.Auth == "" {
		return
	}
	s, err := newServer(c.config, logoutLimit)
	if err == nil {
		err = s.logout(context.WithoutCancel(ctx), l.BasePath, l.Auth)
	}
	if err == nil || refused(err) {
		err = forget(c.file)
	}
	if err != nil {
		c.log.Warn("not logged out", "error", err)
	}
}
