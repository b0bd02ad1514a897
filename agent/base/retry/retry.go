// Package retry decides how long to wait before a failed operation is tried
// again, and which failures are new.
//
// What must not live here: waiting, and logging.
package retry

import (
	"math/rand/v2"
	"slices"
	"time"
)

// maxWordings is how many different failures in a row are reported as new.
const maxWordings = 8

// Backoff is the pause before the next attempt. It doubles with each failure, and
// is randomized between 50 % and 150 %, so that a fleet does not reconnect in
// step. It must not be used concurrently.
type Backoff struct {
	First, Most time.Duration // before randomization; both must be positive

	pause time.Duration
	seen  []string // failures since the last success
}

// Failed records a failure. It returns the pause before the next attempt, and
// whether the failure is the first with its text since the last success: a server
// that is unavailable for hours fails alternately in two or three ways, each of
// which is logged once.
func (b *Backoff) Failed(err error) (pause time.Duration, isNew bool) {
	b.pause = min(max(2*b.pause, b.First), b.Most)
	text := err.Error()
	if isNew = len(b.seen) < maxWordings && !slices.Contains(b.seen, text); isNew {
		b.seen = append(b.seen, text)
	}
	return b.pause/2 + rand.N(b.pause), isNew
}

// Succeeded resets the pause and the known failures.
func (b *Backoff) Succeeded() { b.pause, b.seen = 0, nil }

// Failing reports whether the last attempt failed.
func (b *Backoff) Failing() bool { return b.pause > 0 }
