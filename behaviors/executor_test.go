package behaviors

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"lintod/agent/base/journal/journaltest"
	"lintod/agent/base/state"
)

// office is an Executor in its own directory, and what it produced.
type office struct {
	*Executor
	dir string
	log *journaltest.Buffer

	mu      sync.Mutex
	answers []Answer
	stop    context.CancelFunc
}

// openOffice opens an Executor over dir; Run has not been called yet.
func openOffice(t *testing.T, dir string, verbs ...Verb) *office {
	t.Helper()
	log := &journaltest.Buffer{}
	logger := slog.New(slog.NewTextHandler(log, nil))
	ledger, err := state.OpenLedger(dir, logger)
	if err != nil {
		t.Fatal(err)
	}
	registry := &Registry{}
	registry.Add(verbs...)
	return &office{dir: dir, log: log, Executor: &Executor{
		Registry: registry,
		Ledger:   ledger,
		Audit:    &Audit{Path: filepath.Join(dir, "audit.log"), Log: logger},
		Log:      logger,
	}}
}

// run runs the Executor until the test ends or close is called.
func (o *office) run(t *testing.T) *office {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { o.Run(ctx); close(ended) }()
	o.stop = func() { cancel(); <-ended }
	t.Cleanup(func() { o.stop() })
	for o.context() == nil {
		time.Sleep(time.Millisecond)
	}
	return o
}

func (o *office) context() context.Context {
	o.Executor.mu.Lock()
	defer o.Executor.mu.Unlock()
	return o.ctx
}

func (o *office) take() {
	o.Deliver("link", func(a Answer) error {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.answers = append(o.answers, a)
		return nil
	})
}

func (o *office) got() []Answer {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]Answer{}, o.answers...)
}

// ask submits a request and returns its rejection, or waits for its answer.
func (o *office) ask(t *testing.T, q Request) Answer {
	t.Helper()
	answered := make(chan struct{})
	q.Link, q.Source = "link", "scope/sn/"+q.Verb
	q.Answered = func() { o.take(); close(answered) }
	if refusal, ok := o.Submit(q); !ok {
		return refusal
	}
	select {
	case <-answered:
	case <-time.After(2 * time.Minute):
		t.Fatalf("no answer; log:\n%s", o.log)
	}
	answers := o.got()
	return answers[len(answers)-1]
}

func (o *office) auditFile(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(o.Audit.Path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return string(text)
}

func on() Limits { return Limits{Enabled: true, PerMinute: 1000, AtOnce: 10} }

// asking is a request with a JSON object, or with a link's error for anything else.
func asking(t testing.TB, verb, text string) Request {
	t.Helper()
	q := Request{Verb: verb, Digest: Digest([]byte(text))}
	if json.Unmarshal([]byte(text), &q.Args.Values) != nil || q.Args.Values == nil {
		q.Args.Problem = &ArgumentError{Field: "payload", Want: "a JSON object", Got: "another"}
	}
	return q
}

// counter is a verb that counts its calls.
func counter(limits Limits) (Verb, *atomic.Int64) {
	var n atomic.Int64
	return Verb{
		Name: "count", Power: Privileged, Limits: limits,
		Params: []Param{
			{Name: "cmd", Kind: Text, Max: 1000, Show: Sealed},
			{Name: "key", Kind: Text, Max: 1000, Show: Hidden},
			{Name: "port", Kind: Whole, Min: 1, Max: 65535, Exact: true},
		},
		Rule: func(Args) string { return "a rule" },
		Do:   func(context.Context, Call) (any, error) { return map[string]int64{"n": n.Add(1)}, nil },
	}, &n
}

func TestAnswerComesBack(t *testing.T) {
	verb, _ := counter(on())
	failing := Verb{Name: "fail", Power: Recording, Limits: on(), Do: func(context.Context, Call) (any, error) {
		return map[string]string{"stderr": "<no>"}, Fail(Timeout, "after a while")
	}}
	panicking := Verb{Name: "panic", Power: Privileged, Limits: on(), Do: func(context.Context, Call) (any, error) { panic("planted-detail") }}
	o := openOffice(t, t.TempDir(), verb, failing, panicking).run(t)
	if a := o.ask(t, asking(t, "count", `{"id":"x-1"}`)); a.Code != OK || a.ID != "x-1" || string(a.Result) != `{"n":1}` || a.Error != "" {
		t.Errorf("answer %+v", a)
	}
	if a := o.ask(t, Request{Verb: "fail"}); a.Code != Timeout || string(a.Result) != `{"stderr":"<no>"}` || a.Error != "timeout: after a while" {
		t.Errorf("answer %+v", a)
	}
	if a := o.ask(t, Request{Verb: "panic"}); a.Code != Failed || strings.Contains(a.Error, "planted") || !strings.Contains(o.log.String(), "planted-detail") {
		t.Errorf("answer %+v", a)
	}
}

func TestRejections(t *testing.T) {
	verb, n := counter(on())
	off, _ := counter(Limits{Key: "enabled = true in [behaviors.off]"})
	off.Name = "off"
	everyday := Verb{Name: "ping", Power: Safe}
	o := openOffice(t, t.TempDir(), verb, off, everyday).run(t)
	for _, tt := range []struct {
		verb, payload string
		code          Code
		says          string
	}{
		{"off", `{"id":"i7"}`, Disabled, "set enabled = true in [behaviors.off]"},
		{"off", `nonsense`, Disabled, "set enabled = true"},
		{"ping", `{}`, Unsupported, "no such"},
		{"selfdestruct", `{}`, Unsupported, "no such"},
		{"count", `[]`, BadRequest, "payload"},
		{"count", `{"cmd":[1]}`, BadRequest, "cmd"},
		{"count", `{"cmd":"a\u0000b"}`, BadRequest, "cmd"},
		{"count", "{\"cmd\":\"\xff\"}", BadRequest, "cmd"},
		{"count", `{"cmd":"` + strings.Repeat("x", 1<<20) + `"}`, BadRequest, "cmd"},
		{"count", `{"key":{}}`, BadRequest, "key"},
		{"count", `{"port":0}`, BadRequest, "port"},
		{"count", `{"port":"65536"}`, BadRequest, "port"},
		{"count", `{"port":"22; reboot"}`, BadRequest, "port"},
		{"count", `{"port":22.5}`, BadRequest, "port"},
		{"count", `{"port":"Inf"}`, BadRequest, "port"},
		{"count", `{"id":7}`, BadRequest, "id"},
		{"count", `{"id":"../x"}`, BadRequest, "id"},
		{"count", `{"id":"` + strings.Repeat("x", 65) + `"}`, BadRequest, "id"},
	} {
		a := o.ask(t, asking(t, tt.verb, tt.payload))
		if a.Code != tt.code || !strings.Contains(a.Error, tt.says) || len(a.Error) > 250 {
			t.Errorf("%s %.40s: %+v", tt.verb, tt.payload, a)
		}
	}
	if a := o.ask(t, asking(t, "off", `{"id":"i7"}`)); a.ID != "i7" {
		t.Errorf("the rejection does not contain its request: %+v", a)
	}
	if n.Load() != 0 || len(o.got()) != 0 {
		t.Errorf("performed %d times, answers %+v", n.Load(), o.got())
	}
}

func TestRejectedUntilItRuns(t *testing.T) {
	verb, n := counter(on())
	o := openOffice(t, t.TempDir(), verb)
	if a := o.ask(t, Request{Verb: "count"}); a.Code != Busy {
		t.Errorf("before: %+v", a)
	}
	o.run(t).stop()
	if a := o.ask(t, Request{Verb: "count"}); a.Code != Busy || n.Load() != 0 {
		t.Errorf("after: %+v", a)
	}
}

func TestRatePerMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		verb, n := counter(Limits{Enabled: true, PerMinute: 3, AtOnce: 10})
		o := openOffice(t, t.TempDir(), verb)
		ctx, cancel := context.WithCancel(t.Context())
		go o.Run(ctx)
		synctest.Wait()
		accepted := 0
		for range 60 { // one a second
			if _, ok := o.Submit(Request{Verb: "count"}); ok {
				accepted++
			}
			time.Sleep(time.Second)
		}
		if accepted != 3 || n.Load() != 3 {
			t.Errorf("%d accepted, %d performed in a minute", accepted, n.Load())
		}
		if lines := strings.Count(o.auditFile(t), "behaviour refused"); lines != 1 {
			t.Errorf("a flood wrote %d lines", lines)
		}
		if refusal, ok := o.Submit(Request{Verb: "count"}); !ok {
			t.Errorf("a minute later: %+v", refusal)
		}
		cancel()
		synctest.Wait()
	})
}

func TestConcurrentRequests(t *testing.T) {
	release, running := make(chan struct{}), make(chan struct{}, 9)
	verb := Verb{Name: "slow", Power: Privileged, Limits: Limits{Enabled: true, PerMinute: 100, AtOnce: 2}, Do: func(context.Context, Call) (any, error) {
		running <- struct{}{}
		<-release
		return nil, nil
	}}
	o := openOffice(t, t.TempDir(), verb).run(t)
	for range 2 {
		if refusal, ok := o.Submit(Request{Link: "link", Verb: "slow"}); !ok {
			t.Fatalf("refused: %+v", refusal)
		}
		<-running
	}
	if refusal, ok := o.Submit(Request{Link: "link", Verb: "slow"}); ok || refusal.Code != Busy {
		t.Errorf("the third: %+v, %v", refusal, ok)
	}
	close(release)
	o.stop()
	o.take()
	if len(o.got()) != 2 {
		t.Errorf("answers: %+v", o.got())
	}
}

func TestRedelivery(t *testing.T) {
	verb, n := counter(on())
	o := openOffice(t, t.TempDir(), verb).run(t)
	plain := asking(t, "count", `{"cmd":"a"}`)
	dup := plain
	dup.Duplicate = true
	first := o.ask(t, plain)
	if again := o.ask(t, dup); string(again.Result) != string(first.Result) || n.Load() != 1 {
		t.Errorf("performed %d times, answers %s and %s", n.Load(), first.Result, again.Result)
	}
	o.ask(t, plain) // the same request sent twice is not a redelivery
	if n.Load() != 2 {
		t.Errorf("performed %d times, want 2", n.Load())
	}
	other := asking(t, "count", `{"cmd":"b"}`)
	other.Duplicate = true // marked as a duplicate, but its first delivery was lost
	o.ask(t, other)
	if n.Load() != 3 {
		t.Errorf("performed %d times, want 3", n.Load())
	}
	named := asking(t, "count", `{"cmd":"a","id":"one"}`)
	first = o.ask(t, named)
	if again := o.ask(t, named); string(again.Result) != string(first.Result) || n.Load() != 4 {
		t.Errorf("with an id: performed %d times, answers %s and %s", n.Load(), first.Result, again.Result)
	}
	reused := asking(t, "count", `{"cmd":"b","id":"one"}`)
	if a := o.ask(t, reused); a.Code != BadRequest || !strings.Contains(a.Error, "id") || n.Load() != 4 {
		t.Errorf("an id used twice: %+v, performed %d times", a, n.Load())
	}
}

func TestRedeliveryDuringExecution(t *testing.T) {
	release, running := make(chan struct{}), make(chan struct{}, 9)
	verb := Verb{Name: "slow", Power: Privileged, Limits: on(), Do: func(context.Context, Call) (any, error) {
		running <- struct{}{}
		<-release
		return nil, nil
	}}
	o := openOffice(t, t.TempDir(), verb).run(t)
	q := Request{Link: "link", Verb: "slow", ID: "x"}
	for range 2 {
		if refusal, ok := o.Submit(q); !ok {
			t.Fatalf("refused: %+v", refusal)
		}
	}
	close(release)
	o.stop()
	o.take()
	if len(o.got()) != 1 || len(running) != 1 {
		t.Errorf("%d answers, %d times performed", len(o.got()), len(running))
	}
}

func TestRedeliveryIsForgottenAfterATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		verb, n := counter(on())
		o := openOffice(t, t.TempDir(), verb)
		ctx, cancel := context.WithCancel(t.Context())
		go o.Run(ctx)
		synctest.Wait()
		for range 2 {
			o.Submit(Request{Verb: "count", Duplicate: true})
			synctest.Wait()
			time.Sleep(duplicateWindow)
		}
		if n.Load() != 2 {
			t.Errorf("performed %d times", n.Load())
		}
		cancel()
		synctest.Wait()
	})
}

func TestUndeliveredAnswersSurviveARestart(t *testing.T) {
	dir := t.TempDir()
	verb, n := counter(on())
	o := openOffice(t, dir, verb).run(t)
	for i := range 3 {
		if refusal, ok := o.Submit(Request{Link: "link", Verb: "count", ID: fmt.Sprint(i)}); !ok {
			t.Fatalf("refused: %+v", refusal)
		}
	}
	o.stop()
	sent := 0
	err := o.Deliver("link", func(Answer) error {
		if sent++; sent == 2 {
			return errors.New("the link is down")
		}
		return nil
	})
	if err == nil || sent != 2 {
		t.Errorf("%d sent, error %v", sent, err)
	}

	o = openOffice(t, dir, verb)
	o.Deliver("other", func(a Answer) error { t.Errorf("another link got %+v", a); return nil })
	o.take()
	o.take()
	if got := o.got(); len(got) != 2 || got[0].ID != "1" || got[1].ID != "2" || n.Load() != 3 {
		t.Errorf("answers %+v, performed %d times", got, n.Load())
	}
}

// An answer that ends the connection each time it is sent is eventually dropped, and
// does not delay others, whatever the reason is.
func TestUndeliverableAnswerIsDropped(t *testing.T) {
	const tooLong = 5_000
	for name, row := range map[string]struct {
		long    string // the result in the undeliverable answer
		takes   func(Answer) error
		ends    int  // how often that ended the connection
		arrives bool // eventually, without its result
	}{
		"connection ended because of its length": {strings.Repeat("x", 10_000), func(a Answer) error {
			if len(a.Result) > tooLong {
				return ErrAnswerFailed
			}
			return nil
		}, fullTries, true},
		"known to be too long": {strings.Repeat("x", 10_000), func(a Answer) error {
			if len(a.Result) > tooLong {
				return ErrUndeliverable
			}
			return nil
		}, 0, true},
		"connection ended at any length":  {strings.Repeat("x", 10_000), func(Answer) error { return ErrAnswerFailed }, allTries, false},
		"connection ended by a short one": {"x", func(Answer) error { return ErrAnswerFailed }, fullTries, false},
	} {
		t.Run(name, func(t *testing.T) {
			verb := func(name, text string) Verb {
				return Verb{Name: name, Power: Privileged, Limits: on(), Do: func(context.Context, Call) (any, error) {
					return map[string]any{"stdout": text, "exit_code": 0}, nil
				}}
			}
			dir := t.TempDir()
			o := openOffice(t, dir, verb("bad", row.long), verb("good", "y")).run(t)
			for _, name := range []string{"bad", "good", "good"} {
				done := make(chan struct{})
				if _, ok := o.Submit(Request{Link: "link", Verb: name, Answered: func() { close(done) }}); !ok {
					t.Fatal("refused")
				}
				<-done
			}
			var good, bad []Answer
			ended := 0
			for connection := 1; len(o.Ledger.Unsent("link")) > 0; connection++ {
				if connection > 2*allTries {
					t.Fatalf("the answer was not dropped after %d connections", connection)
				}
				open := true
				_ = o.Deliver("link", func(a Answer) error {
					switch {
					case !open:
						return errors.New("offline")
					case a.Verb == "good":
						good = append(good, a)
						return nil
					}
					err := row.takes(a)
					if errors.Is(err, ErrAnswerFailed) {
						ended++
						open = false
					}
					if err == nil {
						bad = append(bad, a)
					}
					return err
				})
				if connection == 2 && len(good) != 2 {
					t.Errorf("the others are delayed: %d arrived", len(good))
				}
			}
			if ended != row.ends || len(good) != 2 || (len(bad) == 1) != row.arrives {
				t.Errorf("%d connections ended, want %d; %d others, %d of the bad", ended, row.ends, len(good), len(bad))
			}
			if row.arrives && (bad[0].Error == "" || !strings.Contains(string(bad[0].Result), "exit_code") || len(bad[0].Result) > shortMember) {
				t.Errorf("it arrives as %+v", bad[0])
			}
			o.stop()
			again := openOffice(t, dir)
			if left := again.Ledger.Unsent("link"); len(left) > 0 {
				t.Errorf("after a restart it is sent again: %v", left)
			}
		})
	}
}

// A request whose entry is forgotten or unreadable is not run again.
func TestIdOutlivesItsEntry(t *testing.T) {
	dir := t.TempDir()
	verb, ran := counter(on())
	o := openOffice(t, dir, verb).run(t)
	if a := o.ask(t, asking(t, verb.Name, `{"id":"42"}`)); a.Code != OK {
		t.Fatal(a)
	}
	o.stop()
	files, err := filepath.Glob(filepath.Join(dir, "ledger", "*.json"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	if err := os.WriteFile(files[0], bytes.Repeat([]byte{0}, 4096), 0o600); err != nil { // a power cut
		t.Fatal(err)
	}
	o = openOffice(t, dir, verb).run(t)
	if a := o.ask(t, asking(t, verb.Name, `{"id":"42"}`)); a.Code != Refused {
		t.Errorf("repeated: %+v", a)
	}
	if a := o.ask(t, asking(t, verb.Name, `{"id":"42","more":1}`)); a.Code != BadRequest {
		t.Errorf("the same id for another request: %+v", a)
	}
	if ran.Load() != 1 {
		t.Errorf("the verb ran %d times", ran.Load())
	}
}

func TestStopInterrupts(t *testing.T) {
	running := make(chan struct{})
	verb := Verb{Name: "slow", Power: Privileged, Limits: on(), Do: func(ctx context.Context, _ Call) (any, error) {
		close(running)
		<-ctx.Done()
		return map[string]string{"stdout": "so far"}, ctx.Err()
	}}
	o := openOffice(t, t.TempDir(), verb).run(t)
	if refusal, ok := o.Submit(Request{Link: "link", Verb: "slow"}); !ok {
		t.Fatalf("refused: %+v", refusal)
	}
	<-running
	o.stop()
	o.take()
	if got := o.got(); len(got) != 1 || got[0].Code != Interrupted || !strings.Contains(string(got[0].Result), "so far") {
		t.Errorf("answers %+v", got)
	}
}

// The ledger after a kill: started, and without an answer.
func TestInterruptedIsAnsweredAndNotRunAgain(t *testing.T) {
	dir := t.TempDir()
	verb, n := counter(on())
	o := openOffice(t, dir, verb)
	q := asking(t, "count", `{"cmd":"halfway"}`)
	q.Duplicate = true
	if _, err := o.Ledger.Begin(state.Entry{Link: "link", Verb: "count", ID: "", Digest: q.Digest, Asked: time.Now()}); err != nil {
		t.Fatal(err)
	}
	o = openOffice(t, dir, verb).run(t)
	o.take()
	if got := o.got(); len(got) != 1 || got[0].Code != Interrupted {
		t.Errorf("answers %+v", got)
	}
	a := o.ask(t, q)
	if a.Code != Interrupted || n.Load() != 0 {
		t.Errorf("the redelivery: %+v, performed %d times", a, n.Load())
	}
}

func TestNothingRunsWithoutADisk(t *testing.T) {
	verb, n := counter(on())
	o := openOffice(t, t.TempDir(), verb).run(t)
	blocked := filepath.Join(o.dir, "ledger")
	if err := errors.Join(os.RemoveAll(blocked), os.WriteFile(blocked, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if a := o.ask(t, Request{Verb: "count"}); a.Code != Refused || n.Load() != 0 {
		t.Errorf("without a ledger: %+v, performed %d times", a, n.Load())
	}
	o = openOffice(t, t.TempDir(), verb).run(t)
	o.Audit.Path = filepath.Join(o.dir, "no", "such", "folder")
	if a := o.ask(t, Request{Verb: "count"}); a.Code != Refused || n.Load() != 0 {
		t.Errorf("without an audit: %+v, performed %d times", a, n.Load())
	}
}

// While the directory is not available at the start, each request is rejected with
// the reason, also for a verb that is off; once it is available, its contents are
// answered and the next request is carried out.
func TestDirectoryThatIsAvailableLate(t *testing.T) {
	verb, n := counter(on())
	off, _ := counter(Limits{Key: "the key"})
	off.Name = "off"
	dir := filepath.Join(t.TempDir(), "state")
	before := openOffice(t, dir, verb)
	if _, err := before.Ledger.Begin(state.Entry{Link: "link", Verb: "count", Asked: time.Now()}); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Rename(dir, dir+".away"), os.WriteFile(dir, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	ledger, err := state.OpenLedger(dir, log)
	if err == nil {
		t.Fatal("a ledger in a file")
	}
	registry := &Registry{}
	registry.Add(verb, off)
	o := &office{dir: dir, Executor: &Executor{Registry: registry, Ledger: ledger, Audit: &Audit{Path: filepath.Join(dir, "audit.log"), Log: log}, Log: log}}
	o.run(t)
	if a := o.ask(t, Request{Verb: "count"}); a.Code != Refused || !strings.Contains(a.Error, dir) || n.Load() != 0 {
		t.Errorf("without a disk: %+v, performed %d times", a, n.Load())
	}
	if a := o.ask(t, Request{Verb: "off"}); a.Code != Disabled {
		t.Errorf("off: %+v", a)
	}
	if o.take(); len(o.got()) != 0 {
		t.Errorf("answers %+v", o.got())
	}
	if err := errors.Join(os.Remove(dir), os.Rename(dir+".away", dir)); err != nil {
		t.Fatal(err)
	}
	if a := o.ask(t, Request{Verb: "count"}); a.Code != OK || n.Load() != 1 {
		t.Errorf("with the disk again: %+v, performed %d times", a, n.Load())
	}
	if got := o.got(); len(got) != 2 || got[0].Code != Interrupted {
		t.Errorf("answers %+v, want that of the first interrupted request", got)
	}
}

func TestAuditRecordsRequestSenderAndResult(t *testing.T) {
	verb, _ := counter(on())
	o := openOffice(t, t.TempDir(), verb).run(t)
	o.ask(t, asking(t, "count", `{"cmd":"uptime -p","port":22,"id":"i"}`))
	o.ask(t, asking(t, "count", `{"port":"x"}`))
	o.stop()
	want := []map[string]any{
		{"msg": "behaviour asked", "verb": "count", "link": "link", "source": "scope/sn/count", "id": "i", "seq": 1.0, "arg_port": 22.0, "rule": "a rule"},
		{"msg": "behaviour ended", "verb": "count", "link": "link", "id": "i", "seq": 1.0, "result": "ok", "bytes": 7.0},
		{"msg": "behaviour refused", "verb": "count", "link": "link", "result": "bad_request"},
	}
	lines := strings.Split(strings.TrimSpace(o.auditFile(t)), "\n")
	if len(lines) != len(want) {
		t.Fatalf("%d lines:\n%s", len(lines), strings.Join(lines, "\n"))
	}
	for i, line := range lines {
		var got map[string]any
		if err := json.Unmarshal([]byte(line), &got); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		for key, value := range want[i] {
			if got[key] != value {
				t.Errorf("line %d: %s is %v, want %v\n%s", i, key, got[key], value, line)
			}
		}
		if !strings.Contains(o.log.String(), fmt.Sprintf("msg=%q", got["msg"])) {
			t.Errorf("not in the journal: %s", got["msg"])
		}
	}
	info, err := os.Stat(o.Audit.Path)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestPlantedSecretsAreNotWritten(t *testing.T) {
	const planted = "hunter2-PLANTED"
	verb, _ := counter(on())
	o := openOffice(t, t.TempDir(), verb).run(t)
	pem := `-----BEGIN OPENSSH PRIVATE KEY-----\n` + planted + `\n-----END OPENSSH PRIVATE KEY-----`
	payloads := []string{
		`{"key":"` + planted + `"}`, `{"key":["` + planted + `"]}`, `{"key":"` + pem + `"}`,
		`{"cmd":{"x":"` + planted + `"}}`, `{"key":"` + planted + strings.Repeat("x", 2000) + `"}`,
	}
	for _, cmd := range []string{
		"PGPASSWORD=%s psql", "export TOKEN='a %s b'; x", `MYSQL_PWD=\"%s\" mysql`, "env -i SECRET=%s true", "SOME_VAR=%s true",
		"curl -u admin:%s http://x", "curl http://u:%s@host/x", "curl -H 'Authorization: Bearer %s' x", "curl -H \\\"X-Api-Key: %s\\\" x",
		"mysql -p%s db", "sshpass -p %s ssh x", "tool --password %s", "tool --password=%s", "tool --api-key '%s'", "tool -token %s",
		"echo %s | passwd --stdin pi", "echo 'pi:%s' | chpasswd", "echo %s | sudo -S reboot", pem[:0] + "echo '" + strings.ReplaceAll(pem, planted, "%s") + "' > key",
		"docker login -u x --password=%s", "wifi_password=%s ./join", "printf '%s\\n' | sudo -S true",
		"nmcli device wifi connect home password %s", "wpa_passphrase home %s", "chpasswd <<< pi:%s", "mosquitto_pub -P %s -t x -m y",
		"smbclient //h/s -U u%%%s", "redis-cli -a %s", "openssl enc -k %s", "zip -e -P %s x y", "net user x %s", "X=\\\"$(echo %s)\\\"",
	} {
		payloads = append(payloads, `{"cmd":"`+strings.Replace(cmd, "%s", planted, 1)+`"}`)
	}
	for _, payload := range payloads {
		before := len(o.log.String())
		a := o.ask(t, asking(t, "count", payload))
		if strings.Contains(a.Error, planted) {
			t.Errorf("%s: answered with %s", payload, a.Error)
		}
		if log := o.log.String()[before:]; strings.Contains(log, planted) {
			t.Errorf("%s: logged as %s", payload, log)
		}
	}
	if strings.Contains(o.auditFile(t), planted) {
		t.Error("the audit file holds a secret")
	}
	files, err := filepath.Glob(filepath.Join(o.dir, "ledger", "*"))
	if err != nil || len(files) == 0 {
		t.Fatal(err, files)
	}
	for _, file := range files {
		if text, err := os.ReadFile(file); err != nil || bytes.Contains(text, []byte(planted)) {
			t.Errorf("%s holds %s, %v", file, text, err)
		}
	}
}

// Two commands can be distinguished, and a known one recognised, without their
// contents.
func TestCommandLinesShowTheirDigest(t *testing.T) {
	line := CommandLine("uptime -p")
	var buf bytes.Buffer
	slog.New(slog.NewJSONHandler(&buf, nil)).Info("x", "c", line)
	sum := sha256.Sum256([]byte(line))
	for _, shown := range []string{buf.String(), fmt.Sprintf("%v", line), fmt.Sprintf("%#v", line), fmt.Sprintf("%v", Args{"c": line})} {
		if !strings.Contains(shown, hex.EncodeToString(sum[:8])) || strings.Contains(shown, "uptime") {
			t.Errorf("shown as %s", shown)
		}
	}
}

func TestSecretsAreNotPrinted(t *testing.T) {
	s := Secret("planted")
	var buf bytes.Buffer
	slog.New(slog.NewJSONHandler(&buf, nil)).Info("x", "a", s, "b", []Secret{s}, "c", map[string]Secret{"k": s}, "d", Args{"k": s})
	fmt.Fprintf(&buf, "%v %+v %#v %s %q %v %#v", s, s, s, s, s, struct{ S Secret }{s}, struct{ S Secret }{s})
	if strings.Contains(buf.String(), "planted") {
		t.Error(buf.String())
	}
}

func TestAuditRotates(t *testing.T) {
	dir := t.TempDir()
	a := &Audit{Path: filepath.Join(dir, "audit.log"), Log: slog.New(slog.DiscardHandler)}
	filler := slog.String("filler", strings.Repeat("x", 300<<10))
	for i := range 30 {
		if err := a.Write("line", slog.Int("n", i), filler); err != nil {
			t.Fatal(err)
		}
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != auditKeep+1 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		if info, err := file.Info(); err != nil || info.Size() > auditSize {
			t.Errorf("%s has %d bytes, %v", file.Name(), info.Size(), err)
		}
	}
	if text, err := os.ReadFile(a.Path); err != nil || !strings.Contains(string(text), `"n":29`) {
		t.Errorf("the newest line is not in the newest file: %v", err)
	}
	if text, err := os.ReadFile(a.Path + ".1"); err != nil || !strings.Contains(string(text), `"n":26`) {
		t.Errorf("the earlier lines are not in the previous file: %v", err)
	}
}

func TestAuditRejectsUnusualFiles(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "audit.log")
	if err := os.Symlink(filepath.Join(dir, "elsewhere"), path); err != nil {
		t.Fatal(err)
	}
	a := &Audit{Path: path, Log: slog.New(slog.DiscardHandler)}
	if err := a.Write("line"); err == nil {
		t.Error("wrote through a symlink")
	}
}

func FuzzPowerfulArguments(f *testing.F) {
	f.Add([]byte(`{"cmd":"x","key":"y","port":"22","id":"z"}`))
	f.Add([]byte(`{"port":{"cmd":1}}`))
	verb, _ := counter(on())
	f.Fuzz(func(t *testing.T, payload []byte) {
		q := asking(t, "count", string(payload))
		args, err := verb.check(q.Args)
		var bad *ArgumentError
		if err != nil && (!errors.As(err, &bad) || len(err.Error()) > 250) {
			t.Errorf("%v", err)
		}
		if n, ok := args["port"].(int); ok && (n < 1 || n > 65535) {
			t.Errorf("port %d", n)
		}
		if strings.ContainsRune(args.Text("cmd"), 0) || len(args.Text("cmd")) > 1000 {
			t.Errorf("cmd %q", args.Text("cmd"))
		}
	})
}
