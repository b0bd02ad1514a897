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
		{"the broker stays away", aTurn, connecting, streamDue, over, unlimited, []streamStep{fail}},
		{"a dictation is stopped offline", dictation, connecting, streamQuit, over, unlimited, []streamStep{conclude}},

		{"only started starts", aTurn, starting, streamStarted, opening, forOpening, []streamStep{rewind}},
		{"already started is a refusal", aTurn, starting, streamAlready, held, forRelease, []streamStep{release}},
		{"the platform cannot", aTurn, starting, streamFailed, over, unlimited, []streamStep{fail}},
		{"the platform cannot now", goingOn, starting, streamFailed, pausing, forPause, nil},
		{"a new dictation is told at once", dictation, starting, streamFailed, over, unlimited, []streamStep{fail}},
		{"no answer to a start", aTurn, starting, streamDue, over, unlimited, []streamStep{fail}},
		{"no answer to a start, now", goingOn, starting, streamDue, pausing, forPause, nil},
		{"the connection breaks before the answer", aTurn, starting, streamLost, pausing, forPause, nil},
		{"old words before the answer", aTurn, starting, streamText, starting, unchanged, []streamStep{hearOld}},
		{"old partial words before the answer", aTurn, starting, streamPartial, starting, unchanged, []streamStep{hearOld}},
		{"the old result before the answer", aTurn, starting, streamFinal, starting, unchanged, []streamStep{hearOld}},
		{"a dictation is stopped before it began", dictation, starting, streamQuit, over, unlimited, []streamStep{askStop, conclude}},

		{"trying again to start", aTurn, held, streamDue, starting, forStart, []streamStep{askStart}},
		{"held forever", aTurn, held, streamExpired, over, unlimited, []streamStep{fail}},
		{"a dictation that is held goes on trying", goingOn, held, streamExpired, pausing, forPause, nil},
		{"a late answer while held", aTurn, held, streamStarted, opening, forOpening, []streamStep{rewind}},
		{"the answer to an earlier start while held", aTurn, held, streamAlready, held, unchanged, nil},
		{"the answer to the stop while held", aTurn, held, streamStopped, held, unchanged, nil},
		{"the connection breaks while held", aTurn, held, streamLost, pausing, forPause, nil},
		{"old words while held", aTurn, held, streamText, held, unchanged, []streamStep{hearOld}},
		{"old partial words while held", aTurn, held, streamPartial, held, unchanged, []streamStep{hearOld}},
		{"the old result while held", aTurn, held, streamFinal, held, unchanged, []streamStep{hearOld}},
		{"a dictation is stopped while held", dictation, held, streamQuit, over, unlimited, []streamStep{conclude}},

		{"the recogniser has had its time", aTurn, opening, streamDue, sending, unlimited, []streamStep{begun}},
		{"started of an earlier start", aTurn, opening, streamStarted, opening, forOpening, []streamStep{rewind}},
		{"the real answer behind it", aTurn, opening, streamAlready, held, forRelease, []streamStep{release}},
		{"stop of an earlier stop", aTurn, opening, streamStopped, opening, unchanged, nil},
		{"no stream for an earlier stop", aTurn, opening, streamMissing, opening, unchanged, nil},
		{"the recogniser cannot be reached", aTurn, opening, streamFailed, over, unlimited, []streamStep{fail}},
		{"the recogniser cannot be reached now", goingOn, opening, streamFailed, pausing, forPause, nil},
		{"the connection breaks while opening", aTurn, opening, streamLost, pausing, forPause, []streamStep{interrupted}},
		{"old words while opening", aTurn, opening, streamText, opening, unchanged, []streamStep{hearOld}},
		{"old partial words while opening", aTurn, opening, streamPartial, opening, unchanged, []streamStep{hearOld}},
		{"the old result while opening", aTurn, opening, streamFinal, opening, unchanged, []streamStep{hearOld}},

		{"sound", aTurn, sending, streamSound, sending, unchanged, []streamStep{send}},
		{"the user has finished", aTurn, sending, streamFinished, stopping, forLastWord, []streamStep{askStop}},
		{"the microphone fails", aTurn, sending, streamBroken, over, unlimited, []streamStep{fail}},
		{"partial words", aTurn, sending, streamPartial, sending, unchanged, []streamStep{hear}},
		{"an utterance", aTurn, sending, streamText, sending, unchanged, []streamStep{hear}},
		{"the platform has heard enough", aTurn, sending, streamStopped, closing, forLastWord, []streamStep{enough}},
		{"the platform has heard enough and says all", aTurn, sending, streamFinal, over, unlimited, []streamStep{enough, hear}},
		{"the start was refused after all", aTurn, sending, streamAlready, held, forRelease, []streamStep{interrupted, release}},
		{"the platform has forgotten the stream", aTurn, sending, streamMissing, pausing, forPause, []streamStep{interrupted}},
		{"and once more", streamNature{forgotten: true}, sending, streamMissing, over, unlimited, []streamStep{fail}},
		{"complaints of chunks to the stream before", streamNature{listened: true, forgotten: true}, opening, streamMissing, opening, unchanged, nil},
		{"a dictation is forgotten twice", streamNature{dictated: true, listened: true, forgotten: true}, sending, streamMissing, pausing, forPause, []streamStep{interrupted}},
		{"the connection breaks", aTurn, sending, streamLost, pausing, forPause, []streamStep{interrupted}},
		{"the recogniser fails", aTurn, sending, streamFailed, over, unlimited, []streamStep{fail}},
		{"the recogniser of a dictation fails", goingOn, sending, streamFailed, pausing, forPause, []streamStep{interrupted}},

		{"words before the stop is confirmed", aTurn, stopping, streamText, stopping, unchanged, []streamStep{hear}},
		{"partial words before the stop is confirmed", aTurn, stopping, streamPartial, stopping, unchanged, []streamStep{hear}},
		{"the stop is confirmed", aTurn, stopping, streamStopped, closing, forLastWord, nil},
		{"the result instead", aTurn, stopping, streamFinal, over, unlimited, []streamStep{hear}},
		{"the stream was gone", aTurn, stopping, streamMissing, pausing, forPause, []streamStep{interrupted}},
		{"the stream of a dictation was gone", goingOn, stopping, streamMissing, over, unlimited, []streamStep{conclude}},
		{"the connection breaks at the end", aTurn, stopping, streamLost, pausing, forPause, []streamStep{interrupted}},
		{"nobody waits for a dictation that was stopped", goingOn, stopping, streamLost, over, unlimited, []streamStep{conclude}},
		{"the recogniser fails at the end", aTurn, stopping, streamFailed, over, unlimited, []streamStep{conclude}},
		{"nothing is said to the stop", aTurn, stopping, streamDue, over, unlimited, []streamStep{conclude}},

		{"the last word", aTurn, closing, streamText, closing, forMore, []streamStep{hear}},
		{"more is to come", aTurn, closing, streamPartial, closing, forLastWord, []streamStep{hear}},
		{"the result", aTurn, closing, streamFinal, over, unlimited, []streamStep{hear}},
		{"nothing more", aTurn, closing, streamDue, over, unlimited, []streamStep{conclude}},
		{"complaints of chunks that were on the way", aTurn, closing, streamMissing, closing, unchanged, nil},
		{"the recogniser fails while it ends", aTurn, closing, streamFailed, over, unlimited, []streamStep{conclude}},
		{"the connection breaks before the last word", aTurn, closing, streamLost, pausing, forPause, []streamStep{interrupted}},

		{"the next attempt", aTurn, pausing, streamDue, connecting, forBroker, nil},
		{"old words meanwhile", aTurn, pausing, streamText, pausing, unchanged, []streamStep{hearOld}},
		{"old partial words meanwhile", aTurn, pausing, streamPartial, pausing, unchanged, []streamStep{hearOld}},
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
			t.Errorf("no test has the row %v, %v", row.state, row.kind)
		}
	}
}

// TestEveryPairOfTheStream holds what must be true of any row, also of one added
// later.
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
					t.Errorf("%s leaves the end", step)
				case then.state == opening && k != streamStarted && from != opening:
					t.Errorf("%s: only started starts", step)
				case then.state == opening && from != opening && !has(rewind):
					t.Errorf("%s: the new stream does not get what the old one had", step)
				case k == streamMissing && known && from != sending && from != stopping:
					t.Errorf("%s: such a complaint is about an earlier stream", step)
				case has(send) && from != sending:
					t.Errorf("%s sends sound before the platform listens", step)
				case has(hear) && from != sending && from != stopping && from != closing:
					t.Errorf("%s takes the words of an earlier stream for this one's", step)
				case then.state == over && from != over && !has(conclude) && !has(fail) && !(k == streamFinal && has(hear)):
					t.Errorf("%s ends without a result", step)
				case then.state != from && then.limit == unchanged:
					t.Errorf("%s: nothing limits the new state", step)
				case then.limit == unlimited && then.state != over && then.state != sending:
					t.Errorf("%s may last forever", step)
				case has(askStart) != (then.state == starting && from != starting):
					t.Errorf("%s: a start without waiting for its answer, or the reverse", step)
				case k == streamLost && known && from != connecting && then.state != pausing && then.state != over:
					t.Errorf("%s: the connection is gone", step)
				case k == streamQuit && n.dictated && known && then.state != over:
					t.Errorf("%s: a dictation that was stopped goes on", step)
				}
				// A platform that says nothing more must not hold anybody up.
				if from != over && from != sending && !(from == connecting && n.dictated) {
					if _, ok := n.next(from, streamDue); !ok {
						t.Errorf("%v waits forever", from)
					}
				}
			}
		}
	}
}
