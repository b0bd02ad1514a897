package script

import (
	"context"
	"fmt"
	"strings"
	"time"

	"lintod/agent/base/loop"
)

// A Player replays a script on a board.
type Player struct {
	Steps []Step
	// Press moves a button of the board. It must not block.
	Press func(button string, down bool) error
	// Limit is the timeout of a see step; 0 means 30 s.
	Limit time.Duration

	seen chan []string // states not yet checked
}

const (
	defaultLimit = 30 * time.Second
	tapTime      = 100 * time.Millisecond
	// maxSeen is the maximum number of queued states; beyond that, the oldest are dropped.
	maxSeen = 1024
)

// NewPlayer returns a player that is ready to receive states.
func NewPlayer(steps []Step, press func(button string, down bool) error) *Player {
	return &Player{Steps: steps, Press: press, seen: make(chan []string, maxSeen)}
}

// Saw passes a new state of the board to the player. It does not block.
func (p *Player) Saw(words []string) {
	loop.Push(p.seen, words)
}

// Run replays the script to its end. It fails at the first step that cannot be executed, with a
// LineError.
func (p *Player) Run(ctx context.Context) error {
	for _, s := range p.Steps {
		if err := p.step(ctx, s); err != nil {
			return &LineError{s.Line, err}
		}
	}
	return nil
}

func (p *Player) step(ctx context.Context, s Step) error {
	switch s.Verb {
	case "see":
		return p.see(ctx, s)
	case "after":
		return pause(ctx, s.Pause)
	case "press":
		return p.Press(s.Button, true)
	case "release":
		return p.Press(s.Button, false)
	}
	if err := p.Press(s.Button, true); err != nil {
		return err
	}
	if err := pause(ctx, tapTime); err != nil {
		return err
	}
	return p.Press(s.Button, false)
}

// see skips states until one matches.
func (p *Player) see(ctx context.Context, s Step) error {
	limit := p.Limit
	if limit == 0 {
		limit = defaultLimit
	}
	timeout := time.NewTimer(limit)
	defer timeout.Stop()
	passed := []string{}
	for {
		select {
		case words := <-p.seen:
			if s.matches(words) {
				return nil
			}
			passed = append(passed, strings.Join(words, "+"))
		case <-timeout.C:
			return &NotSeenError{strings.Join(s.Words, " "), limit, passed}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// NotSeenError is returned if the expected state does not occur.
type NotSeenError struct {
	Words string        // that the step waits for
	Limit time.Duration // that it has waited
	Seen  []string      // the states in the meantime, in order
}

func (e *NotSeenError) Error() string {
	seen := "nothing new"
	if len(e.Seen) > 0 {
		seen = strings.Join(e.Seen, ", ")
	}
	return fmt.Sprintf("%q was not seen within %v; seen: %s", e.Words, e.Limit, seen)
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
