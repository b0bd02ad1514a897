package setup

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"lintod/agent"
	"lintod/agent/base/config"
	"lintod/audio"
	"lintod/audio/cardtest"
	"lintod/audio/native"
)

// Cards are the microphones and speakers of the machine.
type Cards interface {
	List(ctx context.Context) ([]audio.Device, error)
	Record(ctx context.Context, name string, d time.Duration) (cardtest.Reading, error)
	// Play plays pcm at the given sample rate in Hz.
	Play(ctx context.Context, name string, pcm []int16, rate int) error
}

// Hardware is the real sound hardware.
type Hardware struct{}

// List implements Cards.
func (Hardware) List(ctx context.Context) ([]audio.Device, error) {
	return agent.Devices(ctx, slog.New(slog.DiscardHandler))
}

// Record implements Cards.
func (Hardware) Record(ctx context.Context, name string, d time.Duration) (r cardtest.Reading, err error) {
	p := &native.Process{Input: []string{name}, Log: slog.New(slog.DiscardHandler)}
	err = p.Use(ctx, func(ctx context.Context) (err error) {
		r, err = cardtest.Record(ctx, p, d)
		return err
	})
	return r, err
}

// Play implements Cards.
func (Hardware) Play(ctx context.Context, name string, pcm []int16, rate int) error {
	p := &native.Process{Output: []string{name}, Log: slog.New(slog.DiscardHandler)}
	return p.Use(ctx, func(ctx context.Context) error { return cardtest.Play(ctx, p, pcm, rate) })
}

const (
	recordTime = 3 * time.Second
	toneRate   = 48000
	none       = "null"
)

// sound selects the speaker with a tone, and the microphone with a recording
// that is played back.
func (s *Setup) sound(ctx context.Context) error {
	if s.Given[Input] != "" && s.Given[Output] != "" {
		return nil
	}
	devices, err := s.Cards.List(ctx)
	if err != nil {
		s.Terminal.say("Cannot list sound cards: %s", sentence(err))
	}
	if s.Given[Output] == "" {
		if err := s.loudspeaker(ctx, devices); err != nil {
			return err
		}
	}
	if s.Given[Input] == "" {
		return s.microphone(ctx, devices)
	}
	return nil
}

func (s *Setup) loudspeaker(ctx context.Context, devices []audio.Device) error {
	names, labels := list(devices, func(d audio.Device) int { return d.Outputs })
	for {
		s.Terminal.say("\nLoudspeakers:")
		name, err := s.Terminal.choose(ctx, "Loudspeaker", names, labels, cmp.Or(s.Answers[Output], "default"))
		if err != nil {
			return err
		}
		if !s.possible("default", name) {
			continue
		}
		s.Answers[Output] = name
		if virtual(name) {
			return nil
		}
		s.Terminal.say("Playing a tone.")
		question := "Did you hear it?"
		if err := s.Cards.Play(ctx, name, cardtest.Tone(toneRate), toneRate); err != nil {
			s.Terminal.say("Failed: %s", sentence(err))
			question = "Use it anyway?"
		}
		if yes, err := s.Terminal.confirm(ctx, question); err != nil || yes {
			return err
		}
	}
}

func (s *Setup) microphone(ctx context.Context, devices []audio.Device) error {
	names, labels := list(devices, func(d audio.Device) int { return d.Inputs })
	for {
		s.Terminal.say("\nMicrophones:")
		name, err := s.Terminal.choose(ctx, "Microphone", names, labels, cmp.Or(s.Answers[Input], "default"))
		if err != nil {
			return err
		}
		if !s.possible(name, cmp.Or(s.Answers[Output], "default")) {
			continue
		}
		s.Answers[Input] = name
		if virtual(name) {
			return nil
		}
		if yes, err := s.Terminal.confirm(ctx, s.tryMicrophone(ctx, name)); err != nil || yes {
			return err
		}
	}
}

// tryMicrophone records, evaluates and plays back; it returns the question to ask
// then.
func (s *Setup) tryMicrophone(ctx context.Context, name string) (question string) {
	s.Terminal.say("Say something: recording %v.", recordTime)
	r, err := s.Cards.Record(ctx, name, recordTime)
	if err != nil {
		s.Terminal.say("Failed: %s", sentence(err))
		return "Use it anyway?"
	}
	_, verdict, do := r.Judge()
	if do != "" {
		verdict += "; " + do
	}
	s.Terminal.say("%s.", verdict)
	if virtual(s.Answers[Output]) {
		return "Use it?"
	}
	if err := s.Cards.Play(ctx, cmp.Or(s.Answers[Output], "default"), r.PCM, audio.CaptureRate); err != nil {
		s.Terminal.say("Cannot play the recording: %s", sentence(err))
		return "Use it?"
	}
	return "Did you hear yourself?"
}

// possible reports whether the configuration accepts these names; if not, it
// prints what is expected.
func (s *Setup) possible(input, output string) bool {
	c := agent.Defaults().Audio
	c.Input, c.Output = config.Strings{input}, config.Strings{output}
	problems := c.Validate()
	if len(problems) > 0 {
		s.Terminal.say("Invalid; want %s.", problems[0].Want)
	}
	return len(problems) == 0
}

// virtual reports whether a name is not a real device, so that there is nothing to
// hear.
func virtual(name string) bool { return name == none || strings.HasPrefix(name, "file:") }

// list returns "default", all suitable devices, and "none".
func list(devices []audio.Device, channels func(audio.Device) int) (names, labels []string) {
	names, labels = []string{"default"}, []string{"the system default"}
	for _, d := range devices {
		if channels(d) > 0 && !slices.Contains(names, d.Name) {
			names, labels = append(names, d.Name), append(labels, fmt.Sprintf("%s (%d channels)", d.Label, channels(d)))
		}
	}
	return append(names, none), append(labels, "none")
}
