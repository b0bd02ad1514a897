package folotoy

import (
	"context"

	"lintod/agent/turn"
)

// follow publishes what is said to and by the device, and the results of commands,
// until ctx ends. Notices for which it is too slow are dropped; turns never wait.
func (l *Link) follow(ctx context.Context) {
	notices := l.Follow()
	defer notices.Close()
	for {
		select {
		case <-ctx.Done():
			return
		case publish := <-l.out:
			publish(ctx)
		case n := <-notices.C:
			l.missed.Store(notices.Dropped())
			l.handleNotice(ctx, n)
		}
	}
}

// handleNotice posts the event for a notice of a turn with any link.
func (l *Link) handleNotice(ctx context.Context, n turn.Notice) {
	if n.Turn == 0 {
		return
	}
	if n.Turn > l.turn.number {
		l.turn = spoke{number: n.Turn}
	}
	silent := n.Turn == l.turn.number && l.turn.sentences == 0
	switch {
	case n.What == turn.GotTranscript:
		l.event(ctx, "recording_transcribed", transcribed{l.memory.recording(n.Turn), n.Text, l.currentRole()})
	case l.Config.Answers == integrator: // the platform's answer is not played
	case n.What == turn.GotSentence:
		l.event(ctx, "voice_generated", l.sentence(n.Turn, n.Text))
	case n.What == turn.TurnOver && silent && !n.Record.Sounded.IsZero(): // sound without text
		l.event(ctx, "voice_generated", l.sentence(n.Turn, ""))
	}
}

// sentence numbers a sentence that is played, within the answer of a turn.
func (l *Link) sentence(number int, text string) generated {
	order := 1
	if number == l.turn.number { // otherwise a late notice of an earlier turn
		l.turn.sentences++
		order = l.turn.sentences
	}
	return generated{l.memory.recording(number), order, text, l.currentRole()}
}

// currentRole is the last role that an integrator has set, initially 1.
func (l *Link) currentRole() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.role
}

// say posts a text that an integrator has spoken, as part of the answer to the
// latest turn.
func (l *Link) say(ctx context.Context, text string) {
	l.event(ctx, "voice_generated", l.sentence(l.turn.number, text))
}

func (l *Link) event(ctx context.Context, identifier string, params any) {
	l.send(ctx, l.Config.topic("event/post"), encode(event{l.memory.nextMessage(), identifier, params}))
}
