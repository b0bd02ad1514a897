package behaviors

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"regexp"
	"slices"
	"sync"
	"time"

	"lintod/agent/base/plainjson"
	"lintod/agent/base/state"
)

// duplicateWindow is how long a redelivery is recognised by its digest alone: long enough for a command that runs until its limit while the
// link is down.
const duplicateWindow = 15 * time.Minute

// A Request is one message that asks for a verb which is not Safe.
type Request struct {
	Link   string // the link it came by; its answer goes the same way
	Source string // where on the link it came from, as the link calls that; for the audit
	Verb   string
	Word   string    // what the link calls the verb, where the owner may know it by that name
	Args   Arguments // "id" among them names the request, where ID does not
	// ID names the request, where the protocol has a place for it.
	ID string
	// Digest is of the message as it came. By it a redelivery is recognised, also by a
	// later version of lintod, so a link never changes what it makes it of.
	Digest string
	// Duplicate says that the wire may have delivered the message before.
	Duplicate bool
	// Signer is who signed the request; "" where nobody has.
	Signer string
	// Order is the signed message, as it came; nil where nobody has signed.
	Order []byte
	// Again says that a request with this id was taken before, whatever the ledger
	// remembers. It may be answered again, and is not carried out.
	Again bool
	// Answered, when set, is called as soon as an answer for the link waits: the
	// link then calls Deliver. It is called from another goroutine.
	Answered func()
}

// An Answer is what became of a request.
type Answer struct {
	Verb   string          `json:"verb"`
	ID     string          `json:"id,omitempty"` // the request's
	Code   Code            `json:"code"`
	Error  string          `json:"error,omitempty"`  // one sentence, "" when Code is OK
	Result json.RawMessage `json:"result,omitempty"` // the verb's own, a JSON object; may stand beside an error
}

var (
	// ErrUndeliverable in an error of Deliver's send says that an answer so long
	// will not be taken, however often it is sent.
	ErrUndeliverable = errors.New("the answer cannot be delivered")
	// ErrAnswerFailed in an error of Deliver's send says that sending this answer
	// failed, for example because it ended the connection. That may be chance.
	ErrAnswerFailed = errors.New("the answer was not delivered")
)

const (
	// fullTries is how often an answer may fail; then its result is left out.
	fullTries = 2
	// allTries is how often it may fail in all; then it is given up.
	allTries = 2 * fullTries
	// shortMember is the longest member of a result that is kept when it is left
	// out, and shortResult the longest result that is not, in bytes.
	shortMember = 100
	shortResult = 1 << 10
)

// Executor performs the verbs that are not Safe: it lets the policy decide,
// writes the audit, carries nothing out twice, and keeps each answer on the
// disk until its link has delivered it, also after a restart. Fields are set
// before use; the agent runs Run.
type Executor struct {
	Registry *Registry
	Ledger   *state.Ledger
	Audit    *Audit
	Log      *slog.Logger
	// Answered, when set, is called when an answer waits whose request came before the daemon
	// ended. The link of that name then calls Deliver.
	Answered func(link string)

	jobs     sync.WaitGroup
	delivery sync.Map // a *sync.Mutex for each link

	recovery  sync.Mutex // held while the ledger is opened
	recovered bool

	failing sync.Mutex
	fails   map[uint64]int // how often sending the answer of an entry failed

	mu          sync.Mutex
	ctx         context.Context // of Run; nil while it does not run
	policy      policy
	interrupted []state.Entry // to be resumed as soon as Run runs
}

// Run lets verbs run until ctx ends, then ends those that do, and returns when
// their answers are on the disk.
func (x *Executor) Run(ctx context.Context) error {
	_ = x.recover() // or when somebody asks
	x.setContext(ctx)
	<-ctx.Done()
	x.setContext(ctx) // a request that is being admitted has begun its job before the wait
	x.jobs.Wait()
	return nil
}

func (x *Executor) setContext(ctx context.Context) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.ctx = ctx
	x.resume()
}

// resume goes on with what outlives an end of the daemon; x.mu is held.
func (x *Executor) resume() {
	if x.ctx == nil || x.ctx.Err() != nil {
		return
	}
	for _, entry := range x.interrupted {
		verb, _ := x.Registry.Find(entry.Verb)
		verb.Do = verb.Resume
		x.policy.begin(verb)
		ctx := x.ctx
		x.jobs.Go(func() {
			x.run(ctx, verb, Call{Link: entry.Link, ID: entry.ID, Seq: entry.Seq}, Arguments{}, entry)
			if x.Answered != nil {
				x.Answered(entry.Link)
			}
		})
	}
	x.interrupted = nil
}

// recover opens the ledger, if that is not done yet, and answers what the last end
// of the daemon has interrupted, unless it can be resumed. That is never run again: a
// command that was half done may do harm when done once more.
func (x *Executor) recover() error {
	x.recovery.Lock()
	defer x.recovery.Unlock()
	if x.recovered {
		return nil
	}
	if err := x.Ledger.Open(); err != nil {
		return err
	}
	x.recovered = true
	for _, entry := range x.Ledger.Unfinished() {
		if verb, _ := x.Registry.Find(entry.Verb); verb.Resume != nil {
			x.mu.Lock()
			x.interrupted = append(x.interrupted, entry)
			x.mu.Unlock()
			continue
		}
		err := Fail(Interrupted, "lintod ended while %s was running; it is not run again", entry.Verb)
		x.finish(entry, Answer{Verb: entry.Verb, ID: entry.ID}, err, 0)
	}
	return nil
}

// Submit accepts a request or refuses it. The answer to an accepted one comes
// through Deliver, after seconds or minutes, and possibly after a restart; so
// does the first answer again when the request is a redelivery. A refusal is
// for the link to send at once; it is not kept. Submit waits for the disk and
// for nothing else.
func (x *Executor) Submit(q Request) (refusal Answer, accepted bool) {
	if q.ID == "" {
		q.ID = q.Args.ID()
	}
	if err := x.submit(q); err != nil {
		return Answer{Verb: q.Verb, ID: q.ID, Code: CodeOf(err), Error: err.Error()}, false
	}
	return Answer{}, true
}

func (x *Executor) submit(q Request) error {
	verb, ok := x.Registry.Find(q.Verb)
	if !ok || verb.Power == Safe {
		return fmt.Errorf("%w: %s", ErrUnknown, short([]byte(q.Verb)))
	}
	if err := x.Registry.permit(q.Verb, q.Word, q.Signer); err != nil {
		x.Refuse(q, err.Error())
		return err
	}
	diskErr := x.recover()
	if x.runs(q) {
		return nil
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.resume()
	within, tell := x.policy.count(verb, time.Now())
	err := x.policy.mayAsk(verb, within)
	switch {
	case err == nil && diskErr != nil:
		err = unwritten(diskErr)
	case err == nil:
		err = x.admit(verb, q)
	}
	if err != nil && tell {
		x.note("behaviour refused", append(q.attrs(), outcome(err)...)...)
	}
	return err
}

// runs reports whether a request was taken before and is not finished: who asks again while it
// runs is answered at its end, and does not count against the limit of a minute.
func (x *Executor) runs(q Request) bool {
	first, found := x.before(state.Entry{Link: q.Link, Verb: q.Verb, ID: q.ID}, false)
	return found && !first.Done && first.Digest == q.Digest
}

// refusalsPerMinute is how many refusals of one verb that a link makes are written down in a minute;
// of those that follow, one.
const refusalsPerMinute = 10

// Refuse writes down that a link has refused a request, for a verb of any power. A flood
// of them costs one line.
func (x *Executor) Refuse(q Request, why string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	kind := Verb{Name: "refused " + q.Verb, Limits: Limits{PerMinute: refusalsPerMinute}}
	if _, tell := x.policy.count(kind, time.Now()); tell {
		x.note("behaviour refused", append(q.attrs(), outcome(Fail(Refused, "%s", why))...)...)
	}
}

// unwritten refuses what cannot be written down before it happens.
func unwritten(err error) error {
	return Fail(Refused, "it could not be written down that it is about to run: %v", err)
}

var validID = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

var idParam = Param{Name: "id", About: "name of the request", Kind: Text, Max: 64}

// ID is the argument "id", by which a platform names a request; "" unless it is a
// proper one.
func (a Arguments) ID() (id string) {
	if json.Unmarshal(a.Values[idParam.Name], &id) != nil || !validID.MatchString(id) {
		return ""
	}
	return id
}

func (x *Executor) admit(verb Verb, q Request) error {
	verb.Params = append(slices.Clip(verb.Params), idParam)
	args, err := verb.check(q.Args)
	if err != nil {
		return err
	}
	for _, id := range []string{q.ID, args.Text(idParam.Name)} {
		if id != "" && !validID.MatchString(id) {
			return &ArgumentError{Field: "id", Got: short([]byte(id)), Want: "1 to 64 letters, digits, dots, dashes or underscores"}
		}
	}
	if x.ctx == nil || x.ctx.Err() != nil {
		return Fail(Busy, "the device is starting or stopping")
	}
	entry := state.Entry{Link: q.Link, Verb: verb.Name, ID: q.ID, Digest: q.Digest, Asked: time.Now()}
	if first, ok := x.before(entry, q.Duplicate); ok {
		return x.repeat(first, entry, q)
	}
	if begun, ok := x.Ledger.Begun(q.Link, verb.Name, q.ID); ok && q.ID != "" {
		return notAgain(begun, entry)
	}
	if q.Again {
		return Fail(Refused, "a request with this id was taken before, and is not carried out again")
	}
	if err := x.policy.mayRun(verb); err != nil {
		return err
	}
	return x.begin(verb, q, args, entry)
}

// Digest is that of a message, for Request.Digest.
func Digest(message []byte) string {
	sum := sha256.Sum256(message)
	return hex.EncodeToString(sum[:])
}

// before finds the request that this one repeats: the same id, or, where the
// platform gives none, the same digest of a message that the broker itself
// calls a duplicate, soon after the first.
func (x *Executor) before(entry state.Entry, duplicate bool) (state.Entry, bool) {
	if entry.ID == "" && !duplicate {
		return state.Entry{}, false
	}
	return x.Ledger.Last(func(e state.Entry) bool {
		if e.Link != entry.Link || e.Verb != entry.Verb || e.ID != entry.ID {
			return false
		}
		// A clock that was set back between the two makes the age negative.
		soon := entry.Asked.Sub(e.Asked) < duplicateWindow
		return entry.ID != "" || (soon && e.Digest == entry.Digest)
	})
}

// notAgain refuses what was begun so long ago that its answer is forgotten, or
// whose answer could not be read.
func notAgain(begun state.Begun, entry state.Entry) error {
	if begun.Digest != entry.Digest {
		return &ArgumentError{Field: "id", Got: short([]byte(entry.ID)), Want: "a new one for a new request"}
	}
	return Fail(Refused, "the request with this id was begun on %s; it is not run again, and its answer is no longer kept",
		begun.Asked.UTC().Format(time.RFC3339))
}

// repeat delivers the first answer once more; a request that is still running
// will be answered anyway.
func (x *Executor) repeat(first, entry state.Entry, q Request) error {
	if first.Digest != entry.Digest {
		return &ArgumentError{Field: "id", Got: short([]byte(entry.ID)), Want: "a new one for a new request"}
	}
	x.note("behaviour asked again", append(q.attrs(), slog.Uint64("seq", first.Seq))...)
	if !first.Done {
		return nil
	}
	if err := x.Ledger.Again(first.Seq); err != nil {
		return Fail(Failed, "the first answer is lost: %v", err)
	}
	x.jobs.Go(q.answered)
	return nil
}

// begin writes down what is about to happen, twice, and lets it happen. What
// cannot be written down does not happen.
func (x *Executor) begin(verb Verb, q Request, args Args, entry state.Entry) error {
	entry, err := x.Ledger.Begin(entry)
	if err != nil {
		return unwritten(err)
	}
	attrs := append(q.attrs(), slog.Uint64("seq", entry.Seq), slog.String("digest", entry.Digest))
	if verb.Rule != nil {
		attrs = append(attrs, slog.String("rule", verb.Rule(args)))
	}
	if err := x.Audit.Write("behaviour asked", append(attrs, args.attrs(verb.Params)...)...); err != nil {
		err = unwritten(err)
		x.finish(entry, Answer{Verb: verb.Name, ID: q.ID}, err, 0)
		x.jobs.Go(q.answered)
		return nil
	}
	ctx := x.ctx
	x.policy.begin(verb)
	x.jobs.Go(func() {
		x.run(ctx, verb, Call{Link: q.Link, ID: q.ID, Seq: entry.Seq, Signer: q.Signer, Order: q.Order, Args: args}, q.Args, entry)
		q.answered()
	})
	return nil
}

func (x *Executor) run(ctx context.Context, verb Verb, call Call, asked Arguments, entry state.Entry) {
	began := time.Now()
	result, err := perform(ctx, verb, call)
	defer func() {
		x.mu.Lock()
		defer x.mu.Unlock()
		x.policy.end(verb)
	}()
	if err != nil && ctx.Err() != nil && verb.Resume != nil {
		return // the next run of the daemon resumes it
	}
	err = asked.called(err)
	var bug *panicError
	if errors.As(err, &bug) {
		x.Log.Error("a behaviour panicked", "verb", verb.Name, "error", bug)
		err = Fail(Failed, "a bug in lintod; its log tells more")
	}
	if err != nil && ctx.Err() != nil {
		err = Fail(Interrupted, "lintod ended while %s was running; it is not run again", verb.Name)
	}
	answer := Answer{Verb: verb.Name, ID: call.ID}
	if result != nil {
		var unencodable error
		if answer.Result, unencodable = plainjson.Marshal(result); unencodable != nil {
			err = unencodable
		}
	}
	x.finish(entry, answer, err, time.Since(began))
}

// finish stores the answer and writes the last line of the audit.
func (x *Executor) finish(entry state.Entry, answer Answer, err error, took time.Duration) {
	answer.Code = CodeOf(err)
	if err != nil {
		answer.Error = err.Error()
	}
	text, encodeErr := plainjson.Marshal(answer)
	if encodeErr == nil {
		encodeErr = x.Ledger.Finish(entry.Seq, text)
	}
	if encodeErr != nil {
		x.Log.Error("an answer will be lost at the next restart", "verb", entry.Verb, "error", encodeErr)
	}
	attrs := []slog.Attr{slog.String("verb", entry.Verb), slog.String("link", entry.Link)}
	if entry.ID != "" {
		attrs = append(attrs, slog.String("id", entry.ID))
	}
	attrs = append(attrs, slog.Uint64("seq", entry.Seq), slog.Int64("duration_ms", took.Milliseconds()), slog.Int("bytes", len(answer.Result)))
	x.note("behaviour ended", append(attrs, outcome(err)...)...)
}

// Deliver hands each answer that waits for link to send, oldest first, and
// forgets to do so again once send has returned nil. It stops at the first
// error; an answer that has failed by itself goes last then, so that it does not
// keep the others waiting, and has an end: after two failures, and at once when it
// is ErrUndeliverable, its result is left out, and after two more it is given up.
// A link calls Deliver whenever it comes online and whenever it is told that it
// was Answered; calls for one link wait for each other.
func (x *Executor) Deliver(link string, send func(Answer) error) error {
	if x.recover() != nil {
		return nil // what cannot be read cannot be delivered; a request tries again
	}
	lock, _ := x.delivery.LoadOrStore(link, &sync.Mutex{})
	mu := lock.(*sync.Mutex)
	mu.Lock()
	defer mu.Unlock()
	entries := x.Ledger.Unsent(link)
	slices.SortStableFunc(entries, func(a, b state.Entry) int { return cmp.Compare(x.failures(a.Seq, 0), x.failures(b.Seq, 0)) })
	for _, entry := range entries {
		var answer Answer
		if err := json.Unmarshal(entry.Answer, &answer); err != nil {
			x.Log.Error("an answer in the ledger is unreadable; dropped", "seq", entry.Seq, "error", err)
		} else if err := x.hand(entry, answer, send); err != nil {
			return fmt.Errorf("deliver the answer of %s: %w", entry.Verb, err)
		}
		x.delivered(entry.Seq)
		if err := x.Ledger.Sent(entry.Seq); err != nil {
			x.Log.Warn("an answer may be delivered twice", "verb", entry.Verb, "error", err)
		}
	}
	return nil
}

// hand gives one answer to send. A nil error says that this is over, if need be
// because the answer is given up.
func (x *Executor) hand(entry state.Entry, answer Answer, send func(Answer) error) error {
	cut, long := answer.withoutResult()
	most := fullTries
	if long {
		most = allTries
	}
	err := ErrUndeliverable
	if x.failures(entry.Seq, 0) < fullTries {
		err = send(answer)
	}
	if long && errors.Is(err, ErrUndeliverable) {
		x.Log.Warn("an answer is not taken; its result is left out", "verb", entry.Verb, "link", entry.Link, "bytes", len(answer.Result), "error", err)
		err = send(cut)
	}
	failed := errors.Is(err, ErrAnswerFailed)
	if failed && x.failures(entry.Seq, 1) < most {
		return err
	}
	if failed || errors.Is(err, ErrUndeliverable) {
		x.Log.Error("an answer cannot be delivered and is given up", "verb", entry.Verb, "link", entry.Link, "id", entry.ID, "error", err)
		return nil
	}
	return err
}

// failures counts more to how often an answer failed.
func (x *Executor) failures(seq uint64, more int) int {
	x.failing.Lock()
	defer x.failing.Unlock()
	if more > 0 {
		if x.fails == nil {
			x.fails = map[uint64]int{}
		}
		x.fails[seq] += more
	}
	return x.fails[seq]
}

func (x *Executor) delivered(seq uint64) {
	x.failing.Lock()
	defer x.failing.Unlock()
	delete(x.fails, seq)
}

// withoutResult is the answer with the short members of its result only, and an
// error that says so. ok is false where that makes it no shorter.
func (a Answer) withoutResult() (cut Answer, ok bool) {
	if len(a.Result) <= shortResult {
		return a, false
	}
	text := fmt.Sprintf("the answer is too long for the connection: its result of %d bytes is left out", len(a.Result))
	var members map[string]json.RawMessage
	_ = json.Unmarshal(a.Result, &members) // what is no object is left out whole
	maps.DeleteFunc(members, func(_ string, v json.RawMessage) bool { return len(v) > shortMember })
	a.Result = nil
	if raw, err := plainjson.Marshal(members); err == nil && len(members) > 0 {
		a.Result = raw
	}
	if a.Error == "" {
		a.Code, a.Error = Failed, string(Failed)+": "+text
	} else {
		a.Error += "; " + text
	}
	return a, true
}

// note writes a line of the audit that decides nothing.
func (x *Executor) note(event string, attrs ...slog.Attr) {
	if err := x.Audit.Write(event, attrs...); err != nil {
		x.Log.Error("the audit is incomplete", "error", err)
	}
}

func (q Request) answered() {
	if q.Answered != nil {
		q.Answered()
	}
}

func (q Request) attrs() []slog.Attr {
	attrs := []slog.Attr{slog.String("verb", q.Verb), slog.String("link", q.Link), slog.String("source", q.Source)}
	if q.ID != "" {
		attrs = append(attrs, slog.String("id", q.ID))
	}
	if q.Signer != "" {
		attrs = append(attrs, slog.String("signer", q.Signer))
	}
	return attrs
}

func outcome(err error) []slog.Attr {
	attrs := []slog.Attr{slog.String("result", string(CodeOf(err)))}
	if err != nil {
		attrs = append(attrs, slog.String("error", err.Error()))
	}
	return attrs
}
