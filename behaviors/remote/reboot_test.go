package remote

import (
	"context"
	"errors"
	"testing"

	"lintod/behaviors"
)

// A reboot is complete when the device has booted again, and not when only lintod
// was restarted.
func TestReboot(t *testing.T) {
	dir := t.TempDir()
	boot := "one"
	r := restart{stateDir: dir, boot: func(context.Context) (string, error) { return boot, nil }}
	call := behaviors.Call{Seq: 7}
	ctx, shutDown := context.WithCancelCause(t.Context())
	ending := errors.New("lintod ends")
	r.reboot = func(context.Context) error { shutDown(ending); return nil }
	if _, err := r.do(ctx, call); !errors.Is(err, ending) {
		t.Errorf("answered before the end: %v", err)
	}
	if _, err := r.resume(t.Context(), call); behaviors.CodeOf(err) != behaviors.Interrupted {
		t.Errorf("in the same boot: %v", err)
	}
	boot = "two"
	if result, err := r.resume(t.Context(), call); err != nil || result == nil {
		t.Errorf("in the next boot: %v, %v", result, err)
	}
	if _, err := r.resume(t.Context(), behaviors.Call{Seq: 8}); behaviors.CodeOf(err) != behaviors.Interrupted {
		t.Errorf("another request: %v", err)
	}
	refused := errors.New("interactive authentication required")
	r.reboot = func(context.Context) error { return refused }
	if _, err := r.do(t.Context(), call); !errors.Is(err, refused) {
		t.Errorf("systemd rejects it: %v", err)
	}
}
