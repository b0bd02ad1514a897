package linto

import (
	"slices"
	"testing"
)

func TestStreamTable(t *testing.T) {
	aTurn, dictation := streamNature{}, streamNature{dictated: true}
	goingOn := streamNature{dictated: true, listened: true}
	tests := []struct {
		name   string
		nature streamNature
		from   streamState
		kind   streamKind
		to     streamState
		limit  streamLimit
		do     []streamStep
	}{
		{"the broker is there", aTurn, connecting, streamConnected, starting, forStart, []streamStep{askStart}},
		{"the broker stays offline", aTurn, connecting, streamDue, over, unlimited, []streamStep{fail}},
		{"a dictation is stopped offline", dictation, connecting, streamQuit, over, unlimited, []streamStep{conclude}},

		{"started starts the stream", aTurn, starting, streamStarted, opening, forOpening, []streamStep{rewind}},
		{"already started is a refusal", aTurn, starting, streamAlready, held, forRelease, []streamStep{release}},
		{"the platform fails to start", aTurn, starting, streamFailed, over, unlimited, []streamStep{fail}},
		{"the platform fails to start this time", goingOn, starting, streamFailed, pausing, forPause, nil},
		{"a new dictation fails immediately", dictation, starting, streamFailed, over, unlimited, []streamStep{fail}},
		{"no answer to a start", aTurn, starting, streamDue, over, unlimited, []streamStep{fail}},
		{"no answer to a start, this time", goingOn, starting, streamDue, pausing, forPause, nil},
		{"the connection is lost before the answer", aTurn, starting, streamLost, pausing, forPause, nil},
		{"old text before the answer", aTurn, starting, streamText, starting, unchanged, []streamStep{hearOld}},
		{"old partial text before the answer", aTurn, starting, streamPartial, starting, unchanged, []streamStep{hearOld}},
		{"the old result before the answer", aTurn, starting, streamFinal, starting, unchanged, []streamStep{hearOld}},
		{"a dictation is stopped before it started", dictation, starting, streamQuit, over, unlimited, []streamStep{askStop, conclude}},

		{"trying again to start", aTurn, held, streamDue, starting, forStart, []streamStep{askStart}},
		{"held for too long", aTurn, held, streamExpired, over, unlimited, []streamStep{fail}},
		{"a dictation that is held keeps trying", goingOn, held, streamExpired, pausing, forPause, nil},
		{"a late answer while held", aTurn, held, streamStarted, opening, forOpening, []streamStep{rewind}},
		{"the answer to an earlier start while held", aTurn, held, streamAlready, held, unchanged, nil},
		{"the answer to the stop while held", aTurn, held, streamStopped, held, unchanged, nil},
		{"the connection is lost while held", aTurn, held, streamLost, pausing, forPause, nil},
		{"old text while held", aTurn, held, streamText, held, unchanged, []streamStep{hearOld}},
		{"old partial text while held", aTurn, held, streamPartial, held, unchanged, []streamStep{hearOld}},
		{"the old result while held", aTurn, held, streamFinal, held, unchanged, []streamStep{hearOld}},
		{"a dictation is stopped while held", dictation, held, streamQuit, over, unlimited, []streamStep{conclude}},

		{"the recogniser's start-up time has passed", aTurn, opening, streamDue, sending, unlimited, []streamStep{begun}},
		{"started, for an earlier start", aTurn, opening, streamStarted, opening, forOpening, []streamStep{rewind}},
		{"followed by the real answer", aTurn, opening, streamAlready, held, forRelease, []streamStep{release}},
		{"stopped, for an earlier stop", aTurn, opening, streamStopped, opening, unchanged, nil},
		{"no stream, for an earlier stop", aTurn, opening, streamMissing, opening, unchanged, nil},
		{"the recogniser cannot be reached", aTurn, opening, streamFailed, over, unlimited, []streamStep{fail}},
		{"the recogniser cannot be reached this time", goingOn, opening, streamFailed, pausing, forPause, nil},
		{"the connection is lost while opening", aTurn, opening, streamLost, pausing, forPause, []streamStep{interrupted}},
		{"old text while opening", aTurn, opening, streamText, opening, unchanged, []streamStep{hearOld}},
		{"old partial text while opening", aTurn, opening, streamPartial, opening, unchanged, []streamStep{hearOld}},
		{"the old result while opening", aTurn, opening, streamFinal, opening, unchanged, []streamStep{hearOld}},

		{"sound", aTurn, sending, streamSound, sending, unchanged, []streamStep{send}},
		{"the user has finished", aTurn, sending, streamFinished, stopping, forLastWord, []streamStep{askStop}},
		{"the microphone fails", aTurn, sending, streamBroken, over, unlimited, []streamStep{fail}},
		{"partial text", aTurn, sending, streamPartial, sending, unchanged, []streamStep{hear}},
		{"an utterance", aTurn, sending, streamText, sending, unchanged, []streamStep{hear}},
		{"the platform ends the stream", aTurn, sending, streamStopped, closing, forLastWord, []streamStep{enough}},
		{"the platform ends the stream with the result", aTurn, sending, streamFinal, over, unlimited, []streamStep{enough, hear}},
		{"the start was refused after all", aTurn, sending, streamAlready, held, forRelease, []streamStep{interrupted, release}},
		{"the platform has forgotten the stream", aTurn, sending, streamMissing, pausing, forPause, []streamStep{interrupted}},
		{"the platform forgets the stream twice", streamNature{forgotten: true}, sending, streamMissing, over, unlimited, []streamStep{fail}},
		{"errors about chunks of the previous stream", streamNature{listened: true, forgotten: true}, opening, streamMissing, opening, unchanged, nil},
		{"a dictation is forgotten twice", streamNature{dictated: true, listened: true, forgotten: true}, sending, streamMissing, pausing, forPause, []streamStep{interrupted}},
		{"the connection is lost", aTurn, sending, streamLost, pausing, forPause, []streamStep{interrupted}},
		{"the recogniser fails", aTurn, sending, streamFailed, over, unlimited, []streamStep{fail}},
		{"the recogniser of a dictation fails", goingOn, sending, streamFailed, pausing, forPause, []streamStep{interrupted}},

		{"text before the stop is confirmed", aTurn, stopping, streamText, stopping, unchanged, []streamStep{hear}},
		{"partial text before the stop is confirmed", aTurn, stopping, streamPartial, stopping, unchanged, []streamStep{hear}},
		{"the stop is confirmed", aTurn, stopping, streamStopped, closing, forLastWord, nil},
		{"the result instead", aTurn, stopping, streamFinal, over, unlimited, []streamStep{hear}},
		{"the stream is unknown", aTurn, stopping, streamMissing, pausing, forPause, []streamStep{interrupted}},
		{"the stream of a dictation is unknown", goingOn, stopping, streamMissing, over, unlimited, []streamStep{conclude}},
		{"the connection is lost at the end", aTurn, stopping, streamLost, pausing, forPause, []streamStep{interrupted}},
		{"a stopped dictation does not wait for the connection", goingOn, stopping, streamLost, over, unlimited, []streamStep{conclude}},
		{"the recogniser fails at the end", aTurn, stopping, streamFailed, over, unlimited, []streamStep{conclude}},
		{"no answer to the stop", aTurn, stopping, streamDue, over, unlimited, []streamStep{conclude}},

		{"the last text", aTurn, closing, streamText, closing, forMore, []streamStep{hear}},
		{"more follows", aTurn, closing, streamPartial, closing, forLastWord, []streamStep{hear}},
		{"the result", aTurn, closing, streamFinal, over, unlimited, []streamStep{hear}},
		{"nothing more", aTurn, closing, streamDue, over, unlimited, []streamStep{conclude}},
		{"errors about chunks in flight", aTurn, closing, streamMissing, closing, unchanged, nil},
		{"the recogniser fails while it finishes", aTurn, closing, streamFailed, over, unlimited, []streamStep{conclude}},
		{"the connection is lost before the last text", aTurn, closing, streamLost, pausing, forPause, []streamStep{interrupted}},

		{"the next attempt", aTurn, pausing, streamDue, connecting, forBroker, nil},
		{"old text meanwhile", aTurn, pausing, streamText, pausing, unchanged, []streamStep{hearOld}},
		{"old partial text meanwhile", aTurn, pausing, streamPartial, pausing, unchanged, []streamStep{hearOld}},
		{"the old result meanwhile", aTurn, pausing, streamFinal, pausing, unchanged, []streamStep{hearOld}},
		{"a dictation is stopped meanwhile", dictation, pausing, streamQuit, over, unlimited, []streamStep{conclude}},
	}
	covered := map[streamWhen]bool{}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			then, _ := tt.nature.next(tt.from, tt.kind)
			if then.state != tt.to || then.limit != tt.limit || !slices.Equal(then.do, tt.do) {
				t.Errorf("%s with %v (limit %d), want %s with %v (limit %d)", describe(tt.from, tt.kind, then.state), then.do, then.limit,
					describe(tt.from, tt.kind, tt.to), tt.do, tt.limit)
			}
		})
		covered[streamWhen{tt.from, tt.nature.admit(tt.from, tt.kind)}] = true
	}
	for row := range streamTable {
		if !covered[row] {
			t.Errorf("no test covers the row %v, %v", row.state, row.kind)
		}
	}
}

// TestEveryPairOfTheStream checks the invariants of all rows, including future
// ones.
func TestEveryPairOfTheStream(t *testing.T) {
	for bits := range 8 {
		n := streamNature{dictated: bits&1 != 0, listened: bits&2 != 0, forgotten: bits&4 != 0}
		for from := connecting; from < numStates; from++ {
			for k := streamKind(0); k < numKinds; k++ {
				then, known := n.next(from, k)
				has := func(s streamStep) bool { return slices.Contains(then.do, s) }
				step := describe(from, k, then.state)
				switch {
				case from == over && known:
					t.Errorf("%s leaves the final state", step)
				case then.state == opening && k != streamStarted && from != opening:
					t.Errorf("%s: only started starts a stream", step)
				case then.state == opening && from != opening && !has(rewind):
					t.Errorf("%s: the new stream does not get the sound of the old one", step)
				case k == streamMissing && known && from != sending && from != stopping:
					t.Errorf("%s: such an error is about an earlier stream", step)
				case has(send) && from != sending:
					t.Errorf("%s sends sound before the platform is ready", step)
				case has(hear) && from != sending && from != stopping && from != closing:
					t.Errorf("%s attributes text of an earlier stream to this one", step)
				case then.state == over && from != over && !has(conclude) && !has(fail) && !(k == streamFinal && has(hear)):
					t.Errorf("%s ends without a result", step)
				case then.state != from && then.limit == unchanged:
					t.Errorf("%s: the new state has no time limit", step)
				case then.limit == unlimited && then.state != over && then.state != sending:
					t.Errorf("%s may last forever", step)
				case has(askStart) != (then.state == starting && from != starting):
					t.Errorf("%s: a start without waiting for its answer, or the reverse", step)
				case k == streamLost && known && from != connecting && then.state != pausing && then.state != over:
					t.Errorf("%s: publishes without a connection", step)
				case k == streamQuit && n.dictated && known && then.state != over:
					t.Errorf("%s: a stopped dictation continues", step)
				}
				// A platform that stops responding must not block the stream.
				if from != over && from != sending && !(from == connecting && n.dictated) {
					if _, ok := n.next(from, streamDue); !ok {
						t.Errorf("%v waits forever", from)
					}
				}
			}
		}
	}
}
