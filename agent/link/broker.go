package link

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"lintod/agent/base/certificate"
	"lintod/agent/base/config"
	"lintod/agent/base/textfile"
	"lintod/agent/broker"
)

const (
	// trialLimit is the time limit for one address: connecting, subscribing, and one
	// message.
	trialLimit = 30 * time.Second
	// echoLimit is how long our own message may take to be delivered to us.
	echoLimit = 3 * time.Second
)

// Trial is an attempt to connect to a broker as a link does, while a daemon may be
// running.
type Trial struct {
	Table string // of the configuration
	// Config has a client id of its own, so that a running daemon stays connected.
	broker.Config
	Subscribe []string // as the link does
	// Echo is one of the topics that Subscribe covers, and that has no handler. The
	// trial sends itself a message there.
	Echo string
	// Unheard is the error if that message is not delivered.
	Unheard error
}

var errDisconnects = errors.New("the broker accepts this device, but disconnects it on its first message; see the broker's log")

// Run returns nil when the message was delivered, or a one-sentence error.
func (t Trial) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	heard := make(chan struct{}, 1)
	var verdict error // of Offline or Online: Run calls one at a time
	conn := &broker.Conn{
		Config:    t.Config,
		Subscribe: t.Subscribe,
		Offline:   func(err error) { verdict = err; cancel() },
		Handle: func(_ context.Context, m broker.Message) {
			if m.Topic == t.Echo && !m.Retain {
				select {
				case heard <- struct{}{}:
				default:
				}
			}
		},
		Log: slog.New(slog.DiscardHandler),
	}
	conn.Online = func(online context.Context) {
		defer cancel()
		// Whether it was accepted shows when it is delivered.
		_ = conn.Publish(online, broker.Message{Topic: t.Echo, Payload: []byte("{}")})
		select {
		case <-heard:
		case <-time.After(echoLimit):
			verdict = t.Unheard
		case <-online.Done():
			verdict = errDisconnects
		}
	}
	if err := conn.Run(ctx); err != nil {
		return err
	}
	return verdict
}

// BrokerStatus is the status of a link's connection to its broker. dropped is the
// number of messages that the link dropped in addition to those that the connection
// has counted; refused means that the broker does not let the device in.
func BrokerStatus(s broker.Stats, dropped int64, refused bool) Status {
	return Status{
		Connected: s.Connected, Line: BrokerLine(s, dropped),
		Failed: !s.Connected && s.Error != "", Refused: !s.Connected && refused,
	}
}

// BrokerLine is the status as text for people.
func BrokerLine(s broker.Stats, dropped int64) string {
	if !s.Connected {
		return "offline: " + cmp.Or(s.Error, "connecting")
	}
	return fmt.Sprintf("connected to %s since %s; messages: %d in, %d out, %d dropped",
		s.Broker, s.Since.Format(time.DateTime), s.Received, s.Published, s.Dropped+uint64(dropped))
}

// lookLimit is how long a broker may take to answer Look.
const lookLimit = 3 * time.Second

// Look reports whether an MQTT broker answers at an address, and whether it
// accepts anonymous clients.
func Look(ctx context.Context, address string) (answers, open bool) {
	ctx, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	cfg := broker.Defaults()
	cfg.Broker, cfg.ClientID = config.Strings{address}, broker.ClientID("lintod-look-"+rand.Text())
	conn := &broker.Conn{
		Config:  cfg,
		Online:  func(context.Context) { answers, open = true, true; cancel() },
		Offline: func(err error) { answers = answers || broker.Refused(err); cancel() },
		Handle:  func(context.Context, broker.Message) {},
		Log:     slog.New(slog.DiscardHandler),
	}
	_ = conn.Run(ctx) // the results are set above
	return answers, open
}

// Examine tries each address separately and checks the certificates, for the
// doctor. It reports whether a broker accepts the device. It takes up to half a
// minute for each address, and stops early when ctx ends.
func (t Trial) Examine(ctx context.Context, report func(Finding)) (reached bool) {
	if Unreadable(t.PasswordFile) {
		report(Finding{"broker", Warn, t.PasswordFile + " is not readable by this user", "run as root: sudo lintod doctor"})
		return false
	}
	faults := map[string]error{}
	for _, address := range t.Broker {
		faults[address] = t.address(ctx, address)
		reached = reached || faults[address] == nil
	}
	for _, address := range t.Broker {
		level := Fail
		if reached { // one is enough: the device tries them in turn
			level = Warn
		}
		if err := faults[address]; err != nil {
			report(Report("broker", level, err, "correct ["+t.Table+"], or the files named there"))
			continue
		}
		report(Finding{"broker", OK, address + " accepts the device and delivers messages for [" + t.Table + "]", ""})
		if cert, err := t.ServerCertificate(ctx, address); err == nil && cert != nil { // otherwise there is no TLS, or the broker has just stopped answering
			report(JudgeCertificate("the certificate of "+address, "renew it at the broker", cert, time.Now()))
		}
	}
	cert, err := t.ClientCertificate()
	switch {
	case err != nil:
		report(Report("certificate", Fail, err, "correct ["+t.Table+"] cert_file and key_file"))
	case cert != nil:
		report(JudgeCertificate("the device's own certificate "+t.CertFile, "renew it", cert, time.Now()))
	}
	return reached
}

// address tries one address.
func (t Trial) address(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, trialLimit, fmt.Errorf("%s: no answer within %v", address, trialLimit))
	defer cancel()
	t.Broker = config.Strings{address}
	err := t.Run(ctx)
	if ctx.Err() != nil && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil && !strings.Contains(err.Error(), "://") {
		err = fmt.Errorf("%s: %w", address, err)
	}
	return err
}

// Unreadable reports whether only another user may read a file.
func Unreadable(path string) bool {
	return path != "" && errors.Is(unix.Access(path, unix.R_OK), unix.EACCES)
}

// BrokerWarnings describes valid but probably mistaken settings of a broker in a
// table of the configuration: a password that is sent unprotected, files that
// cannot be used, and secrets that others can read.
func BrokerWarnings(table string, c broker.Config, at Place) (list []string) {
	for _, address := range c.Broker {
		if c.PasswordFile != "" && broker.Unprotected(address) {
			list = append(list, table+".broker: "+address+" sends the password unencrypted; use mqtts:// or wss:// if the broker supports it")
		}
	}
	pair := func(string) error {
		_, err := certificate.Pair(at.Readable(c.CertFile), at.Readable(c.KeyFile))
		return err
	}
	list = append(list, SecretWarnings(table+".password_file", c.PasswordFile, at)...)
	list = append(list, PoolWarnings(table+".ca_file", c.CAFile, at)...)
	list = append(list, fileWarnings(table+".cert_file", c.CertFile, at, pair, false)...)
	return append(list, fileWarnings(table+".key_file", c.KeyFile, at, func(string) error { return nil }, true)...)
}

// SecretWarnings describes problems of a file with a secret in its first line;
// path may be "".
func SecretWarnings(key, path string, at Place) []string {
	return fileWarnings(key, path, at, func(path string) error { _, err := textfile.Secret(path); return err }, true)
}

// PoolWarnings describes problems of a file with CA certificates; path may be "".
func PoolWarnings(key, path string, at Place) []string {
	return fileWarnings(key, path, at, func(path string) error { _, err := certificate.Pool(path); return err }, false)
}

func fileWarnings(key, path string, at Place, read func(path string) error, secret bool) (list []string) {
	if path == "" {
		return nil
	}
	path = at.Readable(path)
	info, err := os.Stat(path)
	if err != nil {
		return []string{fmt.Sprintf("%s: %v", key, err)}
	}
	if secret && info.Mode().Perm()&0o077 != 0 && !at.Protected(path) {
		list = append(list, fmt.Sprintf("%s: %s is readable by other users; chmod 600 it", key, path))
	}
	// The user who runs the check may lack permission: only the service's user needs it.
	if err := read(path); err != nil && !errors.Is(err, fs.ErrPermission) {
		list = append(list, fmt.Sprintf("%s: %v", key, err))
	}
	return list
}
