package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func newSupervisor(log *bytes.Buffer) *supervisor {
	return &supervisor{log: slog.New(slog.NewTextHandler(log, nil))}
}

// A part that fails immediately is restarted after pauses that grow to
// backoffMost, each between half and one and a half times its nominal
// length.
func TestFailingPartIsRestartedWithBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		s := newSupervisor(&log)
		ctx, cancel := context.WithCancel(t.Context())
		var starts []time.Time
		s.keep(ctx, "card", func(context.Context) error {
			if starts = append(starts, time.Now()); len(starts) == 12 {
				cancel()
			}
			return errors.New("no such card")
		})
		nominal := backoffFirst
		for i := 1; i < len(starts); i++ {
			if pause := starts[i].Sub(starts[i-1]); pause < nominal/2 || pause > nominal*3/2 {
				t.Errorf("pause %d is %v, want %v ± 50 %%", i, pause, nominal)
			}
			nominal = min(2*nominal, backoffMost)
		}
		if p := s.status()["card"]; p.Restarts != 11 || p.Reasons["no such card"] != 11 || p.Running {
			t.Errorf("counted %+v", p)
		}
		if n := strings.Count(log.String(), "no such card"); n != 1 {
			t.Errorf("the repeated reason was logged %d times, want once", n)
		}
	})
}

func TestSteadyRunResetsTheBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		s := newSupervisor(&log)
		ctx, cancel := context.WithCancel(t.Context())
		runs := 0
		var failed time.Time
		s.keep(ctx, "card", func(ctx context.Context) error {
			runs++
			switch {
			case runs < 8:
			case runs == 8: // the pause has reached its maximum
				time.Sleep(steadyRun)
				failed = time.Now()
			default:
				if pause := time.Since(failed); pause > backoffFirst*3/2 {
					t.Errorf("after a steady run the pause was %v", pause)
				}
				cancel()
			}
			return errors.New("gone")
		})
		if n := strings.Count(log.String(), "gone"); n != 2 {
			t.Errorf("the reason was logged %d times, want again after the steady run", n)
		}
	})
}

func TestReasonsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSupervisor(&bytes.Buffer{})
		ctx, cancel := context.WithCancel(t.Context())
		n := 0
		s.keep(ctx, "card", func(context.Context) error {
			if n++; n == 100 {
				cancel()
			}
			return fmt.Errorf("reason %d", n)
		})
		p := s.status()["card"]
		if len(p.Reasons) > maxReasons+1 || p.Reasons["other"] != p.Restarts-maxReasons {
			t.Errorf("%d reasons kept, %d others of %d", len(p.Reasons), p.Reasons["other"], p.Restarts)
		}
	})
}

func TestEndOfTheContextIsNotAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		s := newSupervisor(&log)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Minute, cancel)
		s.keep(ctx, "card", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
		if p := s.status()["card"]; p.Restarts != 0 || log.Len() != 0 {
			t.Errorf("counted %+v, logged %s", p, log.String())
		}
	})
}
