package broker

import (
	"context"
	"log/slog"
	"strings"
	"time"
)

// summaryEvery is how often a repeating line is logged again.
const summaryEvery = 5 * time.Minute

// reporter logs new events immediately, and repeated ones only from time to
// time, with a count. It is used by one goroutine.
type reporter struct {
	log  *slog.Logger
	seen map[string]*sighting
}

type sighting struct {
	at    time.Time
	times int // repetitions since at
}

// say reports whether it has logged the line.
func (r *reporter) say(level slog.Level, event, key, value string) bool {
	id := event + withoutDigits(value)
	s := r.seen[id]
	if s != nil && time.Since(s.at) < summaryEvery {
		s.times++
		return false
	}
	attrs := []slog.Attr{slog.String(key, value)}
	if s != nil && s.times > 0 {
		attrs = append(attrs, slog.Int("repeats", s.times))
	}
	r.log.LogAttrs(context.Background(), level, event, attrs...)
	r.remember(id)
	return true
}

// renew makes an event new again, for any value.
func (r *reporter) renew(event string) {
	for id := range r.seen {
		if strings.HasPrefix(id, event) {
			delete(r.seen, id)
		}
	}
}

func (r *reporter) remember(id string) {
	if r.seen == nil || len(r.seen) >= 32 {
		r.seen = map[string]*sighting{}
	}
	r.seen[id] = &sighting{at: time.Now()}
}

// forget makes everything new again.
func (r *reporter) forget() { r.seen = nil }

// withoutDigits makes sentences equal that differ only in a clock or port.
func withoutDigits(s string) string {
	return strings.Map(func(c rune) rune {
		if c >= '0' && c <= '9' {
			return -1
		}
		return c
	}, s)
}
