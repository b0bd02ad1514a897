package doctor

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"lintod/agent"
	"lintod/agent/base/config"
	"lintod/agent/link/linto"
)

// brokerLimit bounds one address: connecting, subscribing, and one message.
const brokerLimit = 30 * time.Second

// platform tries each broker with the device's own credentials.
func (x *exam) platform(ctx context.Context) {
	c := x.cfg.LinkLinto()
	c.PasswordFile = agent.Credential(c.PasswordFile)
	switch {
	case !c.Enabled:
		return // which the configuration's warnings tell
	case c.Login.Enabled():
		x.login(c)
		return
	case unreadable(c.PasswordFile):
		x.tell("broker", Warn, c.PasswordFile+" is not ours to read", "ask the doctor as root: sudo lintod doctor")
		return
	}
	const do = "correct [linto], or what it names"
	faults, reached := map[string]error{}, false
	for _, address := range c.Broker {
		err := tryBroker(ctx, c, address, x.cfg.Device.Serial)
		faults[address] = err
		reached = reached || err == nil
	}
	for _, address := range c.Broker {
		switch err := faults[address]; {
		case err == nil:
			x.tell("broker", OK, fmt.Sprintf("%s lets the device in and passes messages on", address), "")
			x.serverCertificate(ctx, c, address)
		case reached: // the others are tried in turn
			x.report("broker", Warn, err, do)
		default:
			x.report("broker", Fail, err, do)
		}
	}
	x.deviceCertificate(c)
}

// unreadable tells that a file is another user's.
func unreadable(path string) bool {
	return path != "" && errors.Is(unix.Access(path, unix.R_OK), unix.EACCES)
}

func tryBroker(ctx context.Context, c linto.Config, address, serial string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, brokerLimit, fmt.Errorf("%s: no answer within %v", address, brokerLimit))
	defer cancel()
	c.Broker = config.Strings{address}
	err := linto.Try(ctx, c, serial)
	if ctx.Err() != nil && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil && !strings.Contains(err.Error(), "://") {
		err = fmt.Errorf("%s: %w", address, err)
	}
	return err
}

// login relies on the daemon: a second login would end its session.
func (x *exam) login(c linto.Config) {
	switch {
	case x.daemon == nil || x.daemon.Linto == nil:
		x.tell("broker", Warn, "the login at "+c.Login.URL+" can be judged only while lintod runs", "sudo systemctl start lintod")
	case !x.daemon.Linto.Connected:
		x.report("broker", Fail, errors.New(x.daemon.Linto.Line()), "correct [linto.login]")
	default:
		x.tell("broker", OK, x.daemon.Linto.Line(), "")
	}
}

func (x *exam) serverCertificate(ctx context.Context, c linto.Config, address string) {
	cert, err := c.ServerCertificate(ctx, address)
	if err != nil || cert == nil {
		return // no TLS; or gone since it was tried
	}
	f := judgeCertificate("the certificate of "+address, "renew it at the broker", cert, time.Now())
	x.tell("certificate", f.Level, f.Text, f.Do)
}

func (x *exam) deviceCertificate(c linto.Config) {
	cert, err := c.ClientCertificate()
	switch {
	case err != nil:
		x.report("certificate", Fail, err, "correct [linto] cert_file and key_file")
	case cert != nil:
		f := judgeCertificate("the device's own certificate "+c.CertFile, "have it renewed", cert, time.Now())
		x.tell("certificate", f.Level, f.Text, f.Do)
	}
}

// judgeCertificate becomes louder 30, 7 and 1 days before the end.
func judgeCertificate(whose, do string, cert *x509.Certificate, now time.Time) Finding {
	const day = 24 * time.Hour
	left := cert.NotAfter.Sub(now)
	until := cert.NotAfter.UTC().Format(time.DateOnly)
	switch {
	case left <= 0:
		return Finding{Level: Fail, Text: fmt.Sprintf("%s expired on %s", whose, until), Do: do}
	case now.Before(cert.NotBefore):
		return Finding{Level: Fail, Text: fmt.Sprintf("%s is not valid before %s", whose, cert.NotBefore.UTC().Format(time.DateOnly)), Do: "is the clock right?"}
	case left <= day:
		return Finding{Level: Warn, Text: fmt.Sprintf("%s expires within a day, on %s", whose, until), Do: do + " today"}
	case left <= 7*day:
		return Finding{Level: Warn, Text: fmt.Sprintf("%s expires within a week, on %s", whose, until), Do: do + " now"}
	case left <= 30*day:
		return Finding{Level: Warn, Text: fmt.Sprintf("%s expires within a month, on %s", whose, until), Do: do}
	}
	return Finding{Level: OK, Text: fmt.Sprintf("%s is valid until %s", whose, until)}
}
