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
	// trialLimit bounds one address: connecting, subscribing, and one message.
	trialLimit = 30 * time.Second
	// echoLimit is how long our own message may take to come back.
	echoLimit = 3 * time.Second
)

// Trial is an attempt to connect to a broker as a link does, beside a running daemon.
type Trial struct {
	Table string // of the configuration
	// Config has a client id of its own, so that a running daemon stays connected.
	broker.Config
	Subscribe []string // as the link does
	// Echo is one of the topics that Subscribe covers, and that nobody obeys. The trial
	// sends itself a message there.
	Echo string
	// Unheard says what is wrong when that does not come back.
	Unheard error
}

var errThrownOut = errors.New("the broker accepts this device, and disconnects it on its first message; see the broker's log")

// Run returns nil when the message came back, else one sentence.
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
		// Whether it was taken is seen by its return.
		_ = conn.Publish(online, broker.Message{Topic: t.Echo, Payload: []byte("{}")})
		select {
		case <-heard:
		case <-time.After(echoLimit):
			verdict = t.Unheard
		case <-online.Done():
			verdict = errThrownOut
		}
	}
	if err := conn.Run(ctx); err != nil {
		return err
	}
	return verdict
}

// BrokerStatus is how the connection of a link is, of whose messages some were dropped beside
// those that the connection has counted. refused says that the broker does not let the device in.
func BrokerStatus(s broker.Stats, dropped int64, refused bool) Status {
	return Status{
		Connected: s.Connected, Line: BrokerLine(s, dropped),
		Failed: !s.Connected && s.Error != "", Refused: !s.Connected && refused,
	}
}

// BrokerLine is the same for people.
func BrokerLine(s broker.Stats, dropped int64) string {
	if !s.Connected {
		return "offline: " + cmp.Or(s.Error, "connecting")
	}
	return fmt.Sprintf("connected to %s since %s; messages: %d in, %d out, %d dropped",
		s.Broker, s.Since.Format(time.DateTime), s.Received, s.Published, s.Dropped+uint64(dropped))
}

// lookLimit is how long a broker may take to answer Look.
const lookLimit = 3 * time.Second

// Look reports whether an MQTT broker answers at an address, and whether it lets everybody in.
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
	_ = conn.Run(ctx) // what it has found is told above
	return answers, open
}

// Examine tries each address by itself, and looks at the certificates, for the doctor. It
// reports whether one of them lets the device in. It takes up to half a minute for each
// address, and ends early with ctx.
func (t Trial) Examine(ctx context.Context, tell func(Finding)) (reached bool) {
	if Unreadable(t.PasswordFile) {
		tell(Finding{"broker", Warn, t.PasswordFile + " is not readable by this user", "run as root: sudo lintod doctor"})
		return false
	}
	faults := map[string]error{}
	for _, address := range t.Broker {
		faults[address] = t.address(ctx, address)
		reached = reached || faults[address] == nil
	}
	for _, address := range t.Broker {
		level := Fail
		if reached { // the others are tried in turn
			level = Warn
		}
		if err := faults[address]; err != nil {
			tell(Report("broker", level, err, "correct ["+t.Table+"], or the files named there"))
			continue
		}
		tell(Finding{"broker", OK, address + " accepts the device and delivers messages for [" + t.Table + "]", ""})
		if cert, err := t.ServerCertificate(ctx, address); err == nil && cert != nil { // else no TLS, or gone since it was tried
			tell(JudgeCertificate("the certificate of "+address, "renew it at the broker", cert, time.Now()))
		}
	}
	cert, err := t.ClientCertificate()
	switch {
	case err != nil:
		tell(Report("certificate", Fail, err, "correct ["+t.Table+"] cert_file and key_file"))
	case cert != nil:
		tell(JudgeCertificate("the device's own certificate "+t.CertFile, "renew it", cert, time.Now()))
	}
	return reached
}

// address tries one.
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

// Unreadable tells that a file is another user's.
func Unreadable(path string) bool {
	return path != "" && errors.Is(unix.Access(path, unix.R_OK), unix.EACCES)
}

// BrokerWarnings are what is allowed about a broker in a table of the configuration, and
// probably not meant: a password that goes over the network unprotected, files that cannot
// be used, and secrets that others can read.
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

// SecretWarnings are about a file with a secret in its first line; "" is none.
func SecretWarnings(key, path string, at Place) []string {
	return fileWarnings(key, path, at, func(path string) error { _, err := textfile.Secret(path); return err }, true)
}

// PoolWarnings are about a file with the certificates of authorities; "" is none.
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
	// Who checks may not be who reads: only the service's user must.
	if err := read(path); err != nil && !errors.Is(err, fs.ErrPermission) {
		list = append(list, fmt.Sprintf("%s: %v", key, err))
	}
	return list
}
