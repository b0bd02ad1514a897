package retry

import (
	"errors"
	"strconv"
	"testing"
	"time"
)

func TestBackoff(t *testing.T) {
	b := Backoff{First: time.Second, Most: 5 * time.Second}
	one, other := errors.New("one"), errors.New("other")
	for range 2 {
		if b.Failing() {
			t.Error("Failing before the first attempt")
		}
		for i, step := range []struct {
			err   error
			pause time.Duration
			isNew bool
		}{{one, 1, true}, {one, 2, false}, {other, 4, true}, {one, 5, false}, {other, 5, false}} {
			pause, isNew := b.Failed(step.err)
			middle := step.pause * time.Second
			if pause < middle/2 || pause >= 3*middle/2 || isNew != step.isNew || !b.Failing() {
				t.Errorf("failure %d: %v, new: %v", i, pause, isNew)
			}
		}
		b.Succeeded()
	}
}

// Failures that all differ, because their text comes from a server or the network,
// do not fill the log.
func TestBackoffLimitsNewFailures(t *testing.T) {
	b := Backoff{First: time.Second, Most: time.Second}
	news := 0
	for i := range 1000 {
		if _, isNew := b.Failed(errors.New(strconv.Itoa(i))); isNew {
			news++
		}
	}
	if news != maxWordings {
		t.Errorf("%d of 1000 failures are new", news)
	}
}

// Two devices that fail at the same time do not try again at the same time.
func TestBackoffIsRandomized(t *testing.T) {
	seen := map[time.Duration]bool{}
	for range 100 {
		b := Backoff{First: time.Second, Most: time.Second}
		pause, _ := b.Failed(errors.New("x"))
		seen[pause] = true
	}
	if len(seen) < 90 {
		t.Errorf("%d different pauses of 100", len(seen))
	}
}
