package xiaozhi

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"time"

	"lintod/agent/base/printable"
	"lintod/agent/base/process"
	"lintod/agent/link/xiaozhi/ota"
	"lintod/agent/turn"
)

const (
	identityFile = "xiaozhi-identity.json"
	settingsFile = "xiaozhi-settings.json"
)

func (l *Link) initIdentity() {
	id, err := ota.LoadIdentity(filepath.Join(l.StateDir, identityFile), "/")
	if err != nil {
		l.Log.Warn("the device's identity", "error", err) // the error explains the consequence
	}
	l.id = id
}

func (l *Link) newProvision() *ota.Client {
	return &ota.Client{
		Config: l.Config.Config, Identity: l.id,
		Device:      ota.Device{Board: "linux", Version: l.Version, IP: localAddress},
		File:        filepath.Join(l.StateDir, settingsFile),
		Language:    func() string { return l.Settings().Language },
		Provisioned: l.provisioned,
		Changed:     l.activation,
		Log:         l.Log,
	}
}

// localAddress is the address of the interface with the default route. Nothing is
// sent.
func localAddress() string {
	conn, err := net.Dial("udp", "192.0.2.1:9")
	if err != nil {
		return ""
	}
	defer conn.Close()
	host, _, _ := net.SplitHostPort(conn.LocalAddr().String())
	return host
}

// provisioned stores what the server returned.
func (l *Link) provisioned(a ota.Answer) {
	for _, p := range a.Problems {
		l.Log.Warn("settings offered by the server not used", "reason", p)
	}
	if s := a.Skew; s > time.Minute || s < -time.Minute {
		l.Log.Warn("device and server clocks differ", "by", s.Round(time.Second))
	}
	l.settle(a)
	if f := a.Firmware; f != nil {
		l.offer(*f)
	}
}

// offer reports a firmware offer, once, and runs the owner's command for it.
func (l *Link) offer(f ota.Firmware) {
	if !l.reports.isNew("firmware", f.Version) {
		return
	}
	l.Log.Info("the server offers firmware", "version", printable.Clip(f.Version, 60), "force", f.Force)
	argv := l.Config.FirmwareCommand
	if len(argv) == 0 {
		return
	}
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), firmwareLimit)
		defer cancel()
		text, err := json.Marshal(map[string]any{"version": f.Version, "url": f.URL, "force": f.Force})
		if err == nil {
			err = run(ctx, argv, text)
		}
		if err != nil {
			l.Log.Warn("firmware_command", "error", err)
		}
	}()
}

const firmwareLimit = 10 * time.Minute

func run(ctx context.Context, argv []string, stdin []byte) error {
	child, err := process.Start(ctx, process.Command{Argv: argv, Stdin: strings.NewReader(string(stdin))})
	if err != nil {
		return err
	}
	return child.Wait()
}

// activation is called when the state of provisioning changes.
func (l *Link) activation(s ota.State) {
	l.mu.Lock()
	before := l.code
	l.code = s.Activation
	if s.Activation == nil && !l.known {
		l.problem = s.Problem
	}
	text := l.activationTextLocked()
	isNew := s.Activation != nil && (before == nil || before.Code != s.Activation.Code)
	l.mu.Unlock()
	// A press must reach Talk, which repeats the code.
	switch {
	case isNew:
		l.Connected(true)
		l.Log.Warn("the device must be bound to an account", "code", s.Activation.Code, "address", s.Activation.Address)
		l.Notify(turn.GotDisplay, text)
		if err := l.Announce(text); err != nil {
			l.Log.Warn("activation code not spoken", "error", err)
		}
	case before != nil && s.Activation == nil:
		l.Connected(false) // until it is connected
	}
}

// activationText is what the user must do before the server accepts the device; ""
// if nothing.
func (l *Link) activationText() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.activationTextLocked()
}

// activationTextLocked spells the code digit by digit, in the device's language if
// it has a translation.
func (l *Link) activationTextLocked() string {
	a := l.code
	if a == nil {
		return ""
	}
	where := strings.TrimSuffix(strings.TrimPrefix(strings.TrimPrefix(a.Address, "https://"), "http://"), "/")
	digits := strings.Join(strings.Split(printable.Clip(a.Code, 32), ""), ", ")
	words, ok := activationWords[l.language()]
	if !ok {
		words = activationWords["en"]
	}
	switch {
	case a.Code == "":
		return printable.Clip(a.Message, 500)
	case where == "":
		return fmt.Sprintf(words.code, digits)
	}
	return fmt.Sprintf(words.both, where, digits)
}

func (l *Link) language() string {
	short, _, _ := strings.Cut(l.Settings().Language, "-")
	return short
}

var activationWords = map[string]struct{ both, code string }{
	"en": {"To activate this device, go to %s and enter the code %s.", "To activate this device, enter the code %s at your platform."},
	"de": {"Um dieses Gerät zu aktivieren, öffnen Sie %s und geben Sie den Code %s ein.", "Um dieses Gerät zu aktivieren, geben Sie bei Ihrer Plattform den Code %s ein."},
	"fr": {"Pour activer cet appareil, allez sur %s et saisissez le code %s.", "Pour activer cet appareil, saisissez le code %s sur votre plateforme."},
	"es": {"Para activar este dispositivo, vaya a %s e introduzca el código %s.", "Para activar este dispositivo, introduzca el código %s en su plataforma."},
	"it": {"Per attivare questo dispositivo, vai su %s e inserisci il codice %s.", "Per attivare questo dispositivo, inserisci il codice %s nella tua piattaforma."},
	"zh": {"请打开%s，输入激活码%s。", "请在平台上输入激活码%s。"},
}
