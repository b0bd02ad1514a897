package setup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"lintod/agent"
	"lintod/agent/link/linto"
	"lintod/agent/process"
	"lintod/gpio"
	"lintod/packaging"
)

// Setup is one run of "lintod setup".
type Setup struct {
	Path  string // of the configuration
	Force bool   // replace what somebody wrote
	Yes   bool   // ask nothing
	// Given are answers that are not asked for; Answers are presets, and in the
	// end all answers.
	Given, Answers Answers
	Terminal       *Terminal
	Cards          Cards
	Boards         []gpio.Found
	// Start starts the service; nil where there is none.
	Start func(ctx context.Context) error

	refused bool // the broker did not let the device in
}

// ErrRefused is returned when all is done, but without being asked for a better
// answer, and with a broker that did not let the device in.
var ErrRefused = errors.New("the configuration is written, but the broker did not let the device in")

// Run asks, tries, writes, and starts the service. Until it writes, nothing has
// changed.
func (s *Setup) Run(ctx context.Context) error {
	if err := mayWrite(s.Path, s.Force); err != nil {
		return err
	}
	s.Answers = s.Given.over(s.Answers)
	if err := s.prepare(ctx); err != nil {
		return fmt.Errorf("nothing was written: %w", err)
	}
	if err := s.write(); err != nil {
		return err
	}
	if err := s.start(ctx); err != nil {
		return err
	}
	if s.refused {
		return ErrRefused
	}
	return nil
}

// prepare completes the answers, and tries them.
func (s *Setup) prepare(ctx context.Context) error {
	if err := s.takePassword(ctx); err != nil {
		return err
	}
	if s.Yes {
		s.takeBoard()
	} else if err := s.interview(ctx); err != nil {
		return err
	}
	s.Answers = s.Answers.normal()
	if _, err := s.render(); err != nil { // before a password is written
		return err
	}
	if s.Yes {
		s.refused = !s.tryBroker(ctx)
	}
	return nil
}

// render is the file's text, which the daemon will accept.
func (s *Setup) render() (string, error) {
	text, err := s.Answers.Fill(packaging.Sample())
	if err != nil {
		return "", err
	}
	_, err = check(s.Path, text)
	return text, err
}

func (s *Setup) write() error {
	if s.Answers.Password != "" {
		file, err := writePassword(s.Path, s.Answers.Password)
		if err != nil {
			return err
		}
		s.Answers.PasswordFile = file
	}
	text, err := s.render()
	if err != nil {
		return err
	}
	backup, err := write(s.Path, text)
	if err != nil {
		return fmt.Errorf("write the configuration: %w", err)
	}
	if backup != "" {
		s.Terminal.say("The old configuration is kept as %s.", backup)
	}
	s.Terminal.say("%s is written. Every other key is explained there.", s.Path)
	return nil
}

func (s *Setup) start(ctx context.Context) error {
	if s.Start == nil {
		s.Terminal.say("lintod -config %s runs it.", s.Path)
		return nil
	}
	if !s.Yes {
		yes, err := s.Terminal.confirm(ctx, "Start the service now, and with the box?")
		if err != nil || !yes {
			return err
		}
	}
	if err := s.Start(ctx); err != nil {
		return fmt.Errorf("start the service: %w", err)
	}
	s.Terminal.say("The service runs. `lintod doctor` examines everything; `lintod talk -wait` is a first word.")
	return nil
}

// takePassword reads the password that is given in a file. The service is another
// user than who runs setup, and has a file of its own.
func (s *Setup) takePassword(ctx context.Context) (err error) {
	if s.Start == nil || s.Given.PasswordFile == "" || s.Given.PasswordFile == servicePassword {
		return nil
	}
	s.Answers.Password, err = await(ctx, func() (string, error) { return readPassword(s.Given.PasswordFile) })
	return err
}

// interview asks whatever is not given.
func (s *Setup) interview(ctx context.Context) error {
	// What is given is not asked for: it has to be right before the first question.
	given := Setup{Path: s.Path, Answers: s.Given.over(Answers{Serial: "serial", Broker: "broker"}).normal()}
	if _, err := given.render(); err != nil {
		return err
	}
	s.Terminal.say("An empty answer takes what stands in brackets.\n")
	for _, ask := range []func(context.Context) error{s.serial, s.broker, s.sound, s.board} {
		if err := ask(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (s *Setup) serial(ctx context.Context) error {
	if s.Given.Serial != "" {
		return nil
	}
	preset := s.Answers.Serial
	if preset == "" {
		preset, _ = os.Hostname()
	}
	for {
		answer, err := s.Terminal.ask(ctx, "Serial, the device's name at the platform", preset)
		if err != nil {
			return err
		}
		d := agent.Defaults().Device
		d.Serial = answer
		problems := d.Validate()
		if len(problems) == 0 {
			s.Answers.Serial = answer
			return nil
		}
		s.Terminal.say("Not possible; want %s.", problems[0].Want)
	}
}

// broker asks for the platform until it lets us in, or the owner insists.
func (s *Setup) broker(ctx context.Context) error {
	for {
		if err := s.address(ctx); err != nil {
			return err
		}
		if err := s.credentials(ctx); err != nil {
			return err
		}
		if s.tryBroker(ctx) || s.allGiven() {
			return nil
		}
		again, err := s.Terminal.confirm(ctx, "Change the answers?")
		if err != nil || !again {
			return err
		}
		if s.Given.PasswordFile == "" {
			s.Answers.Password = ""
		}
		if s.Given.Username == "" && s.Answers.Username == s.Answers.Serial {
			s.Answers.Username = "" // it follows the serial
		}
		if err := s.serial(ctx); err != nil {
			return err
		}
	}
}

// allGiven tells that there is nothing to be asked about the broker.
func (s *Setup) allGiven() bool {
	return s.Given.Broker != "" && s.Given.Scope != "" && s.Given.Username != "" && s.Given.PasswordFile != ""
}

func (s *Setup) address(ctx context.Context) (err error) {
	for s.Given.Broker == "" {
		if s.Answers.Broker, err = s.Terminal.ask(ctx, "Broker, such as mqtt://192.168.1.2 or mqtts://broker.example", s.Answers.Broker); err != nil {
			return err
		}
		c := agent.Defaults().Linto.Config
		c.Broker = []string{s.Answers.normal().Broker}
		problems := c.Validate()
		if s.Answers.Broker != "" && len(problems) == 0 {
			break
		}
		if len(problems) > 0 {
			s.Terminal.say("Not possible; want %s.", problems[0].Want)
		}
		s.Answers.Broker = ""
	}
	if s.Given.Scope == "" {
		s.Answers.Scope, err = s.Terminal.ask(ctx, "Scope, the application's name in topics", orDefault(s.Answers.Scope, agent.Defaults().Linto.Scope))
	}
	return err
}

func (s *Setup) credentials(ctx context.Context) (err error) {
	const nobody = "-"
	if s.Given.Username == "" {
		if s.Answers.Username, err = s.Terminal.ask(ctx, "User at the broker (- for none)", orDefault(s.Answers.Username, s.Answers.Serial)); err != nil {
			return err
		}
	}
	if s.Answers.Username == nobody {
		s.Answers.Username, s.Answers.Password, s.Answers.PasswordFile = "", "", ""
		return nil
	}
	if s.Given.PasswordFile != "" {
		return nil
	}
	question := "Password (is not shown)"
	if s.Answers.Password != "" {
		question += " [that of the old client]"
	}
	password, err := s.Terminal.secret(ctx, question)
	if password != "" {
		s.Answers.Password = password
	}
	return err
}

// tryBroker logs in as the device will, and tells how that went.
func (s *Setup) tryBroker(ctx context.Context) bool {
	a := s.Answers.normal()
	c := agent.Defaults()
	c.Device.Serial = a.Serial
	c.Linto.Broker = []string{a.Broker}
	c.Linto.Scope = orDefault(a.Scope, c.Linto.Scope)
	c.Linto.Username, c.Linto.PasswordFile = a.Username, agent.Credential(a.PasswordFile)
	if a.Password != "" {
		file, err := temporary(a.Password)
		if err != nil {
			s.Terminal.say("The broker cannot be tried: %s", sentence(err))
			return false
		}
		defer func() { _ = os.Remove(file) }()
		c.Linto.PasswordFile = file
	}
	s.Terminal.say("\nTrying %s …", a.Broker)
	if err := linto.Try(ctx, c.LinkLinto(), a.Serial); err != nil {
		s.Terminal.say("%s", sentence(err))
		return false
	}
	s.Terminal.say("The broker lets the device in.")
	return true
}

// temporary is a file of mode 0600, because a connection reads its password
// from one.
func temporary(secret string) (string, error) {
	f, err := os.CreateTemp("", "lintod-setup-")
	if err != nil {
		return "", err
	}
	_, err = f.WriteString(secret + "\n")
	return f.Name(), errors.Join(err, f.Close())
}

// board offers the buttons and LEDs of what sits on the header.
func (s *Setup) board(ctx context.Context) error {
	if s.Given.Preset != "" || len(s.Boards) == 0 {
		return nil
	}
	if len(s.Boards) == 1 {
		b := s.Boards[0]
		yes, err := s.Terminal.confirm(ctx, fmt.Sprintf("\nThis looks like a %s (%s). Use its buttons and LEDs?", b.Preset.Title, b.Why))
		if yes {
			s.Answers.Preset = b.Preset.Name
		}
		return err
	}
	names, labels := []string{"none"}, []string{"of them"}
	for _, b := range s.Boards {
		names, labels = append(names, b.Preset.Name), append(labels, b.Preset.Title)
	}
	s.Terminal.say("\nThese boards look alike to the system:")
	for {
		name, err := s.Terminal.choose(ctx, "Which one is it", names, labels, names[1])
		if err != nil || name == names[0] {
			return err
		}
		if slices.Contains(names, name) {
			s.Answers.Preset = name
			return nil
		}
		s.Terminal.say("That is none of these.")
	}
}

// takeBoard takes what there is no doubt about.
func (s *Setup) takeBoard() {
	if s.Answers.Preset == "" && len(s.Boards) == 1 {
		s.Answers.Preset = s.Boards[0].Preset.Name
	}
}

// StartService enables and starts lintod.service; it takes up a changed
// configuration, too.
func StartService(ctx context.Context) error {
	for _, verb := range []string{"enable", "restart"} {
		child, err := process.Start(ctx, process.Command{
			Argv:  []string{"systemctl", verb, "lintod.service"},
			Stdin: strings.NewReader(""),
		})
		if err != nil {
			return err
		}
		if err := child.Wait(); err != nil {
			return err
		}
	}
	return nil
}

// HasService tells whether systemd runs here and knows lintod, with that
// configuration.
func HasService(config string) bool {
	if filepath.Clean(config) != unitConfig {
		return false
	}
	for _, path := range []string{"/run/systemd/system", unitFile} {
		if _, err := os.Stat(path); err != nil {
			return false
		}
	}
	return true
}
