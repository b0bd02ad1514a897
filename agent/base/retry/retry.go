// Package retry decides how long to wait before something that failed is tried
// again, and which of its failures are news.
//
// What must not live here: the waiting, and the log.
package retry

import (
	"math/rand/v2"
	"slices"
	"time"
)

// maxWordings is how many different failures in a row are news.
const maxWordings = 8

// Backoff is the pause before the next try. It doubles from one failure to the
// next, and is spread over 50 % to 150 %, so that a fleet that lost the same thing
// does not come back in step. One goroutine uses it.
type Backoff struct {
	First, Most time.Duration // before they are spread

	pause time.Duration
	seen  []string // failures since the last success
}

// Failed takes in a failure. It returns the pause before the next try, and
// whether the failure is the first of its wording since the last success: a server
// that is away for hours fails in turn in two or three ways, each of which is logged
// once.
func (b *Backoff) Failed(err error) (pause time.Duration, isNew bool) {
	b.pause = min(max(2*b.pause, b.First), b.Most)
	text := err.Error()
	if isNew = len(b.seen) < maxWordings && !slices.Contains(b.seen, text); isNew {
		b.seen = append(b.seen, text)
	}
	return b.pause/2 + rand.N(b.pause), isNew
}

// Succeeded makes the next failure the first one.
func (b *Backoff) Succeeded() { b.pause, b.seen = 0, nil }

// Failing tells whether the last try failed.
func (b *Backoff) Failing() bool { return b.pause > 0 }
