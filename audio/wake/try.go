package wake

import (
	"context"
	"errors"
	"log/slog"

	"lintod/audio"
)

var errHears = errors.New("the engine works")

// Try starts the engine or connects to it, without sound, and stops it again. It returns why wake
// words cannot be detected.
func Try(ctx context.Context, c Config) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	l := &Listener{
		Config: c,
		Awake:  func() bool { return true },
		Heard:  func(Detection) {},
		Log:    slog.New(slog.DiscardHandler),
		Listen: func() Stream { cancel(errHears); return nothing{} },
	}
	if err := l.Run(ctx); !errors.Is(err, errHears) {
		return err
	}
	return nil
}

// nothing is a microphone that never delivers a frame.
type nothing struct{}

func (nothing) Read(ctx context.Context, _ *audio.Frame) error {
	<-ctx.Done()
	return context.Cause(ctx)
}

func (nothing) Dropped() uint64 { return 0 }
func (nothing) Close() error    { return nil }
