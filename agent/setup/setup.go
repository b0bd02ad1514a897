package setup

import (
	"context"
	"errors"
	"fmt"

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

	refused bool // the device could not connect
}

// ErrRefused is returned when all is done, but without being asked for a better
// answer, and where the device could not connect.
var ErrRefused = errors.New("the configuration is written, but the device cannot connect with it; the reason is above")

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
