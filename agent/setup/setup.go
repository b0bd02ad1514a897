package setup

import (
	"context"
	"errors"
	"fmt"

	"lintod/agent"
	"lintod/gpio"
	"lintod/packaging"
)

// Setup is one run of "lintod setup".
type Setup struct {
	Path  string // of the configuration
	Force bool   // replace an existing configuration
	Yes   bool   // ask no questions
	// Platform is the name of the link to set up; if it is "" the owner is asked, or
	// with Yes the first one is used.
	Platform string
	// Given are answers that are not asked for; Answers are presets, and
	// finally all answers.
	Given, Answers Answers
	// Flags are the values of the flags of Flags; those of the platform are then
	// added to Given.
	Flags    map[string]*string
	Terminal *Terminal
	Cards    Cards
	Boards   []gpio.Found
	// GetModel downloads the model of a wake word, unless it exists; nil downloads
	// none.
	GetModel func(ctx context.Context, name string) error
	// Brokers are addresses where a broker of home automation may be, the most likely
	// one first.
	Brokers []string
	// Start starts the service; nil if there is none.
	Start func(ctx context.Context) error

	platform chosenLink
	beside   []*chosenLink
	refused  bool // whether the device could not connect
}

// ErrRefused is returned with Yes if the configuration was written but the
// device could not connect.
var ErrRefused = errors.New("the configuration was written, but the device cannot connect; the reason is above")

// Run asks, tests, writes, and starts the service. Before it writes, nothing
// has changed. With Yes, a repetition with the same answers succeeds: a script
// for many devices may run twice.
func (s *Setup) Run(ctx context.Context) error {
	if err := mayWrite(s.Path, "", s.Force || s.Yes); err != nil { // before it asks questions
		return err
	}
	s.Answers = s.Given.over(s.Answers)
	if err := s.prepare(ctx); err != nil {
		return fmt.Errorf("nothing was written: %w", err)
	}
	if err := s.write(); err != nil {
		return err
	}
	if err := s.getModel(ctx); err != nil {
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

// prepare completes the answers, and tests them.
func (s *Setup) prepare(ctx context.Context) error {
	if err := s.choosePlatform(ctx); err != nil {
		return err
	}
	for _, l := range s.chosen() {
		if err := s.takeSecret(ctx, l); err != nil {
			return err
		}
	}
	if s.Yes {
		s.takeBoard()
	} else if err := s.interview(ctx); err != nil {
		return err
	}
	if err := s.takeWord(); err != nil {
		return err
	}
	for _, l := range s.chosen() {
		if l.secret != "" {
			s.Answers[l.secretKey()] = passwordFile(s.Path, l.secretFile())
		}
	}
	text, _, err := s.render(s.Answers)
	if err != nil {
		return err
	}
	if err := mayWrite(s.Path, text, s.Force); err != nil {
		return err
	}
	if s.Yes {
		for _, l := range s.chosen() {
			s.refused = !s.connects(ctx, l) || s.refused
		}
	}
	return nil
}

// render returns the text of the file, and the configuration that the daemon will
// read from it.
func (s Setup) render(answers Answers) (string, agent.Config, error) {
	text, err := answers.Fill(packaging.Sample())
	if err != nil {
		return "", agent.Config{}, err
	}
	c, err := check(s.Path, text)
	return text, c, err
}

func (s *Setup) write() error {
	for _, l := range s.chosen() {
		if l.secret == "" {
			continue
		}
		if err := writePassword(s.Path, l.secretFile(), l.secret); err != nil {
			return err
		}
	}
	text, _, err := s.render(s.Answers)
	if err != nil {
		return err
	}
	backup, err := write(s.Path, text)
	if err != nil {
		return fmt.Errorf("write the configuration: %w", err)
	}
	if backup != "" {
		s.Terminal.say("The old configuration was saved as %s.", backup)
	}
	s.Terminal.say("Wrote %s. It explains all other keys.", s.Path)
	return nil
}

func (s *Setup) start(ctx context.Context) error {
	if s.Start == nil {
		s.Terminal.say("Run it with: lintod -config %s", s.Path)
		return nil
	}
	if !s.Yes {
		yes, err := s.Terminal.confirm(ctx, "Start the service now and at boot?")
		if err != nil || !yes {
			return err
		}
	}
	if err := s.Start(ctx); err != nil {
		return fmt.Errorf("start the service: %w", err)
	}
	s.Terminal.say("The service is running. `lintod doctor` checks everything; `lintod talk -wait` starts a first turn.")
	return nil
}

// takeSecret reads a secret that was given in a file. The service runs as
// another user than setup, so the secret is copied to a file of its own.
func (s *Setup) takeSecret(ctx context.Context, l *chosenLink) (err error) {
	file := s.Given[l.secretKey()]
	if s.Start == nil || file == "" || file == serviceCredentials+l.secretFile() {
		return nil
	}
	l.secret, err = await(ctx, func() (string, error) { return readPassword(file) })
	return err
}
