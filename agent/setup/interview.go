package setup

import (
	"context"
	"maps"
	"os"
	"slices"
)

// interview asks the questions whose answers were not given.
func (s *Setup) interview(ctx context.Context) error {
	// Given answers are not asked for, so they must be valid before the first question.
	problems, err := wrong(s.Answers, slices.Collect(maps.Keys(s.Given))...)
	if err != nil {
		return err
	}
	if len(problems) > 0 {
		return problems
	}
	s.Terminal.say("Press Enter to accept the value in brackets.\n")
	for _, ask := range []func(context.Context) error{s.serial, s.askPlatform, s.offer, s.sound, s.board, s.wakeWord} {
		if err := ask(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (s *Setup) serial(ctx context.Context) error {
	if s.Given[Serial] != "" {
		return nil
	}
	preset := s.Answers[Serial]
	if preset == "" {
		preset, _ = os.Hostname()
	}
	return s.answer(ctx, "Serial, the device's name on the platform", preset, Serial)
}

func (s *Setup) askPlatform(ctx context.Context) error { return s.link(ctx, &s.platform) }
