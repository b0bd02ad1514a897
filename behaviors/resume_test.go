package behaviors

import (
	"context"
	"strings"
	"testing"
)

// A resumable request survives ends of the daemon, also several: it is carried out
// once, resumed until it is finished, and answered on the link of the request.
func TestResume(t *testing.T) {
	dir := t.TempDir()
	did := 0
	started := make(chan Call, 1)
	hang := func(ctx context.Context, call Call) (any, error) {
		started <- call
		<-ctx.Done()
		return nil, ctx.Err()
	}
	verb := Verb{
		Name: "upgrade", Power: Privileged, Limits: on(),
		Params: []Param{{Name: "version", Kind: Text, Max: 10}},
		Do:     func(ctx context.Context, call Call) (any, error) { did++; return hang(ctx, call) },
		Resume: hang,
	}
	q := asking(t, "upgrade", `{"version":"2","id":"u1"}`)
	q.Link = "link"
	first := openOffice(t, dir, verb).run(t)
	if refusal, ok := first.Submit(q); !ok {
		t.Fatalf("%+v", refusal)
	}
	<-started
	first.stop()

	second := openOffice(t, dir, verb).run(t)
	if call := <-started; call.Link != "link" || call.ID != "u1" || call.Seq == 0 || len(call.Args) > 0 {
		t.Errorf("resumed with %+v", call)
	}
	// A repeated request during execution is answered at its end, and not carried
	// out again.
	if refusal, ok := second.Submit(q); !ok {
		t.Errorf("repeated: %+v", refusal)
	}
	second.stop()
	second.take()
	if answers := second.got(); len(answers) > 0 {
		t.Errorf("answered before the end: %+v", answers)
	}

	verb.Resume = func(context.Context, Call) (any, error) { return map[string]string{"version": "2"}, nil }
	third := openOffice(t, dir, verb)
	answered := make(chan string, 1)
	third.Answered = func(link string) { answered <- link }
	third.run(t)
	if link := <-answered; link != "link" {
		t.Errorf("an answer is waiting on %q", link)
	}
	third.take()
	if answers := third.got(); len(answers) != 1 || answers[0].ID != "u1" || answers[0].Code != OK || string(answers[0].Result) != `{"version":"2"}` {
		t.Errorf("answers %+v", answers)
	}
	if did != 1 {
		t.Errorf("carried out %d times", did)
	}
	if n := strings.Count(third.auditFile(t), `"msg":"behaviour ended"`); n != 1 {
		t.Errorf("%d ends in the audit", n)
	}
}

// A verb that fails when it is resumed gives its error as the answer, and is
// finished.
func TestResumeThatFails(t *testing.T) {
	dir := t.TempDir()
	started := make(chan bool, 1)
	verb := Verb{
		Name: "upgrade", Power: Privileged, Limits: on(),
		Do: func(ctx context.Context, _ Call) (any, error) { started <- true; <-ctx.Done(); return nil, ctx.Err() },
		Resume: func(context.Context, Call) (any, error) {
			return nil, Fail(Failed, "the version that runs is another")
		},
	}
	first := openOffice(t, dir, verb).run(t)
	first.Submit(Request{Link: "link", Verb: "upgrade", ID: "u1"})
	<-started
	first.stop()
	second := openOffice(t, dir, verb)
	answered := make(chan string, 1)
	second.Answered = func(link string) { answered <- link }
	second.run(t)
	<-answered
	second.take()
	if answers := second.got(); len(answers) != 1 || answers[0].Code != Failed {
		t.Errorf("answers %+v", answers)
	}
	if left := second.Ledger.Unfinished(); len(left) > 0 {
		t.Errorf("unfinished: %+v", left)
	}
}

// Repetitions until the answer arrives do not count towards the rate limit.
func TestRepetitionsDuringExecutionAreNotCounted(t *testing.T) {
	release := make(chan struct{})
	slow := Verb{Name: "slow", Power: Privileged, Limits: Limits{Enabled: true, PerMinute: 2}, Do: func(context.Context, Call) (any, error) {
		<-release
		return nil, nil
	}}
	o := openOffice(t, t.TempDir(), slow).run(t)
	q := asking(t, "slow", `{"id":"x"}`)
	q.Link = "link"
	answered := make(chan bool)
	q.Answered = func() { answered <- true }
	for i := range 20 {
		if refusal, ok := o.Submit(q); !ok {
			t.Fatalf("attempt %d: %+v", i, refusal)
		}
	}
	close(release)
	<-answered
	o.take()
	if answers := o.got(); len(answers) != 1 || answers[0].Code != OK {
		t.Errorf("answers %+v", answers)
	}
	// Repetitions of a finished request count: each is answered.
	if _, ok := o.Submit(q); !ok {
		t.Error("a repetition after its end was rejected")
	}
	<-answered
	if refusal, ok := o.Submit(q); ok || refusal.Code != Busy {
		t.Errorf("a flood after its end: %+v", refusal)
	}
}
