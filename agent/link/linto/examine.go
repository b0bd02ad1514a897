package linto

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"lintod/agent/base/config"
	"lintod/agent/link"
)

// brokerLimit bounds one address: connecting, subscribing, and one message.
const brokerLimit = 30 * time.Second

// examination looks at what a link needs, for the doctor.
type examination struct {
	Config
	at      link.Place
	running *link.Status
	tell    func(link.Finding)
}

// Examine tries each broker with the device's own credentials. running is how a
// daemon's link is, nil when none runs. It takes up to half a minute for each broker,
// and ends early with ctx.
func (c Config) Examine(ctx context.Context, at link.Place, running *link.Status, tell func(link.Finding)) {
	c.PasswordFile = at.Readable(c.PasswordFile)
	x := examination{c, at, running, tell}
	switch {
	case c.Login.Enabled():
		x.login()
		return
	case unreadable(c.PasswordFile):
		x.broker(link.Warn, c.PasswordFile+" is not ours to read", "ask the doctor as root: sudo lintod doctor")
		return
	}
	const do = "correct [linto], or what it names"
	faults, reached := map[string]error{}, false
	for _, address := range c.Broker {
		err := tryBroker(ctx, c, address, at)
		faults[address] = err
		reached = reached || err == nil
	}
	for _, address := range c.Broker {
		switch err := faults[address]; {
		case err == nil:
			x.broker(link.OK, fmt.Sprintf("%s lets the device in and passes messages on", address), "")
			x.serverCertificate(ctx, address)
		case reached: // the others are tried in turn
			x.report("broker", link.Warn, err, do)
		default:
			x.report("broker", link.Fail, err, do)
		}
	}
	x.deviceCertificate()
}

// unreadable tells that a file is another user's.
func unreadable(path string) bool {
	return path != "" && errors.Is(unix.Access(path, unix.R_OK), unix.EACCES)
}

func tryBroker(ctx context.Context, c Config, address string, at link.Place) error {
	ctx, cancel := context.WithTimeoutCause(ctx, brokerLimit, fmt.Errorf("%s: no answer within %v", address, brokerLimit))
	defer cancel()
	c.Broker = config.Strings{address}
	err := c.Try(ctx, at)
	if ctx.Err() != nil && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil && !strings.Contains(err.Error(), "://") {
		err = fmt.Errorf("%s: %w", address, err)
	}
	return err
}

// login relies on the daemon: a second login would end its session.
func (x examination) login() {
	switch {
	case x.running == nil:
		x.broker(link.Warn, "the login at "+x.Login.URL+" can be judged only while lintod runs", "sudo systemctl start lintod")
	case !x.running.Connected:
		x.report("broker", link.Fail, errors.New(x.running.Line), "correct [linto.login]")
	default:
		x.broker(link.OK, x.running.Line, "")
	}
}

func (x examination) serverCertificate(ctx context.Context, address string) {
	cert, err := x.ServerCertificate(ctx, address)
	if err != nil || cert == nil {
		return // no TLS; or gone since it was tried
	}
	x.tell(link.JudgeCertificate("the certificate of "+address, "renew it at the broker", cert, time.Now()))
}

func (x examination) deviceCertificate() {
	cert, err := x.ClientCertificate()
	switch {
	case err != nil:
		x.report("certificate", link.Fail, err, "correct [linto] cert_file and key_file")
	case cert != nil:
		x.tell(link.JudgeCertificate("the device's own certificate "+x.CertFile, "have it renewed", cert, time.Now()))
	}
}

func (x examination) broker(l link.Level, text, do string) {
	x.tell(link.Finding{Subject: "broker", Level: l, Text: text, Do: do})
}

func (x examination) report(subject string, l link.Level, err error, otherwise string) {
	x.tell(link.Report(subject, l, err, otherwise))
}
