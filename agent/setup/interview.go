package setup

import (
	"context"
	"errors"
	"os"

	"lintod/agent"
)

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
	if err := c.TryLinks(ctx); err != nil {
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
