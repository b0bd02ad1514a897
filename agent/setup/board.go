package setup

import (
	"context"
	"fmt"
	"slices"
)

// board offers the buttons and LEDs of the detected board.
func (s *Setup) board(ctx context.Context) error {
	if s.Given[Preset] != "" || len(s.Boards) == 0 {
		return nil
	}
	if len(s.Boards) == 1 {
		b := s.Boards[0]
		yes, err := s.Terminal.confirm(ctx, fmt.Sprintf("\nThis looks like a %s (%s). Use its buttons and LEDs?", b.Preset.Title, b.Why))
		if yes {
			s.Answers[Preset] = b.Preset.Name
		}
		return err
	}
	names, labels := []string{"none"}, []string{"of them"}
	for _, b := range s.Boards {
		names, labels = append(names, b.Preset.Name), append(labels, b.Preset.Title)
	}
	s.Terminal.say("\nThe system cannot distinguish these boards:")
	for {
		name, err := s.Terminal.choose(ctx, "Which one is it", names, labels, names[1])
		if err != nil || name == names[0] {
			return err
		}
		if slices.Contains(names, name) {
			s.Answers[Preset] = name
			return nil
		}
		s.Terminal.say("Not in the list.")
	}
}

// takeBoard selects the board if it was detected without ambiguity.
func (s *Setup) takeBoard() {
	if s.Answers[Preset] == "" && len(s.Boards) == 1 {
		s.Answers[Preset] = s.Boards[0].Preset.Name
	}
}
