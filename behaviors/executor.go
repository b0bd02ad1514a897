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

// duplicateWindow is how long a redelivery is recognised by its digest only: long enough for a
// command that runs until its limit while the link is down.
const duplicateWindow = 15 * time.Minute

// A Request is a request for a verb that is not Safe.
type Request struct {
	Link   string // the link that it came by, which also gets the answer
	Source string // its source on the link, in the link's terms; for the audit
	Verb   string
	Word   string    // the link's name of the verb, if the owner may know it by that name
	Args   Arguments // "id" among them names the request, where ID does not
	// ID identifies the request, if the protocol has a field for it.
	ID string
	// Digest is the digest of the original message. It identifies a redelivery, also for a later
	// version of lintod, so a link never changes how it is computed.
	Digest string
	// Duplicate reports that the transport may have delivered the message before.
	Duplicate bool
	// Signer is the signer of the request, or "".
	Signer string
	// Order is the original signed message, or nil.
	Order []byte
	// Again reports that a request with this ID was accepted before, even if the ledger no longer
	// has it. It may be answered again, but is not executed.
	Again bool
	// Answered, if set, is called as soon as an answer for the link is available: the link then
	// calls Deliver. It is called from another goroutine.
	Answered func()
}

// An Answer is the result of a request.
type Answer struct {
	Verb   string          `json:"verb"`
	ID     string          `json:"id,omitempty"` // the request's
	Code   Code            `json:"code"`
	Error  string          `json:"error,omitempty"`  // one sentence, "" when Code is OK
	Result json.RawMessage `json:"result,omitempty"` // the verb's result, a JSON object; may accompany an error
}

var (
	// ErrUndeliverable in an error of Deliver's send means that an answer of this length will never
	// be accepted.
	ErrUndeliverable = errors.New("the answer cannot be delivered")
	// ErrAnswerFailed in an error of Deliver's send means that sending this answer failed, for
	// example because it ended the connection, possibly by coincidence.
	ErrAnswerFailed = errors.New("the answer was not delivered")
)

const (
	// fullTries is how often an answer may fail before its result is omitted.
	fullTries = 2
	// allTries is how often it may fail in total before it is discarded.
	allTries = 2 * fullTries
	// When a result is omitted, its members of at most shortMember bytes are kept. A result of at
	// most shortResult bytes is never omitted.
	shortMember = 100
	shortResult = 1 << 10
)

// Executor executes the verbs that are not Safe: it applies the policy, writes the audit, executes
// nothing twice, and keeps each answer on disk until its link has delivered it, also across
// restarts. Fields are set before use; the agent calls Run.
type Executor struct {
	Registry *Registry
	Ledger   *state.Ledger
	Audit    *Audit
	Log      *slog.Logger
	// Answered, if set, is called when there is an answer to a request from before a restart. The
	// link with this name then calls Deliver.
	Answered func(link string)

	jobs     sync.WaitGroup
	delivery sync.Map // a *sync.Mutex per link

	recovery  sync.Mutex // held while the ledger is opened
	recovered bool

	failing sync.Mutex
	fails   map[uint64]int // how often sending the answer of an entry failed

	mu          sync.Mutex
	ctx         context.Context // of Run; nil while it is not running
	policy      policy
	interrupted []state.Entry // to be resumed when Run starts
}

// Run executes verbs until ctx ends, then cancels running ones, and returns when their answers are
// on disk.
func (x *Executor) Run(ctx context.Context) error {
	_ = x.recover() // otherwise at the next request
	x.setContext(ctx)
	<-ctx.Done()
	x.setContext(ctx) // a request that is being admitted has started its job before the wait
	x.jobs.Wait()
	return nil
}

func (x *Executor) setContext(ctx context.Context) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.ctx = ctx
	x.resume()
}

// resume continues requests that survive a restart of the daemon; x.mu is held.
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

// recover opens the ledger, unless it is open, and answers requests that the end of the daemon has
// interrupted, unless they can be resumed. They are never executed again: repeating a half-executed
// command may do harm.
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
		err := Fail(Interrupted, "lintod stopped while %s was running; it is not run again", entry.Verb)
		x.finish(entry, Answer{Verb: entry.Verb, ID: entry.ID}, err, 0)
	}
	return nil
}

// Submit accepts or refuses a request. The answer to an accepted one is sent by Deliver, after
// seconds or minutes, and possibly after a restart; for a redelivery, the first answer is sent
// again. The link sends a refusal immediately; it is not stored. Submit blocks only for the disk.
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
		x.Refuse(q, err)
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

// runs reports whether a request was accepted before and is still running: its repetitions are
// answered at its end, and do not count against the limit per minute.
func (x *Executor) runs(q Request) bool {
	first, found := x.before(state.Entry{Link: q.Link, Verb: q.Verb, ID: q.ID}, false)
	return found && !first.Done && first.Digest == q.Digest
}

// refusalsPerMinute is how many of a link's refusals of one verb are recorded per minute; of those
// beyond, one is recorded.
const refusalsPerMinute = 10

// Refuse records that a link has refused a request, for a verb of any power. A flood of them adds
// one line.
func (x *Executor) Refuse(q Request, why error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	kind := Verb{Name: "refused " + q.Verb, Limits: Limits{PerMinute: refusalsPerMinute}}
	if _, tell := x.policy.count(kind, time.Now()); tell {
		x.note("behaviour refused", append(q.attrs(), outcome(why)...)...)
	}
}

// unwritten refuses a request that cannot be recorded before it is executed.
func unwritten(err error) error {
	return Fail(Refused, "the start of the request could not be recorded: %v", err)
}

var validID = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

var idParam = Param{Name: "id", About: "name of the request", Kind: Text, Max: 64}

// ID returns the argument "id", by which a platform identifies a request, or "" if it is invalid.
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
			return &ArgumentError{Field: "id", Got: short([]byte(id)), Want: "1 to 64 letters, digits, dots, dashes, or underscores"}
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
		return Fail(Refused, "a request with this id was accepted before, and is not executed again")
	}
	if err := x.policy.mayRun(verb); err != nil {
		return err
	}
	return x.begin(verb, q, args, entry)
}

// Digest returns the digest of a message, for Request.Digest.
func Digest(message []byte) string {
	sum := sha256.Sum256(message)
	return hex.EncodeToString(sum[:])
}

// before finds the request that this one repeats: with the same ID, or, without IDs, with the same
// digest, if the broker has marked the message as a duplicate and it follows soon after the first.
func (x *Executor) before(entry state.Entry, duplicate bool) (state.Entry, bool) {
	if entry.ID == "" && !duplicate {
		return state.Entry{}, false
	}
	return x.Ledger.Last(func(e state.Entry) bool {
		if e.Link != entry.Link || e.Verb != entry.Verb || e.ID != entry.ID {
			return false
		}
		// The age is negative if the clock was set back in between.
		soon := entry.Asked.Sub(e.Asked) < duplicateWindow
		return entry.ID != "" || (soon && e.Digest == entry.Digest)
	})
}

// notAgain refuses a request whose first answer is no longer stored, or could not be read.
func notAgain(begun state.Begun, entry state.Entry) error {
	if begun.Digest != entry.Digest {
		return &ArgumentError{Field: "id", Got: short([]byte(entry.ID)), Want: "a different one for each request"}
	}
	return Fail(Refused, "the request with this id was started on %s; it is not run again, and its answer is no longer stored",
		begun.Asked.UTC().Format(time.RFC3339))
}

// repeat delivers the first answer again; a request that is still running will be answered anyway.
func (x *Executor) repeat(first, entry state.Entry, q Request) error {
	if first.Digest != entry.Digest {
		return &ArgumentError{Field: "id", Got: short([]byte(entry.ID)), Want: "a different one for each request"}
	}
	x.note("request repeated", append(q.attrs(), slog.Uint64("seq", first.Seq))...)
	if !first.Done {
		return nil
	}
	if err := x.Ledger.Again(first.Seq); err != nil {
		return Fail(Failed, "the first answer is lost: %v", err)
	}
	x.jobs.Go(q.answered)
	return nil
}

// begin records a request in ledger and audit, and starts it. A request that cannot be recorded is
// not executed.
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
		return // the daemon resumes it after a restart
	}
	err = asked.called(err)
	var bug *panicError
	if errors.As(err, &bug) {
		x.Log.Error("a behaviour panicked", "verb", verb.Name, "error", bug)
		err = Fail(Failed, "a bug in lintod; see its log")
	}
	if err != nil && ctx.Err() != nil {
		err = Fail(Interrupted, "lintod stopped while %s was running; it is not run again", verb.Name)
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

// finish stores the answer and writes the last audit line.
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

// Deliver passes each pending answer for link to send, oldest first, until send has returned nil
// for it. It stops at the first error. An answer that failed itself is moved to the end, so that it
// does not block the others. After two failures, or immediately after ErrUndeliverable, its result
// is omitted, and after two more it is discarded. A link calls Deliver when it comes online and
// when Answered is called; calls for one link are serialised.
func (x *Executor) Deliver(link string, send func(Answer) error) error {
	if x.recover() != nil {
		return nil // an unreadable ledger cannot be delivered; the next request tries again
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

// hand passes one answer to send. It returns nil if the answer is done, possibly because it was
// discarded.
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
		x.Log.Warn("an answer is not accepted; its result is omitted", "verb", entry.Verb, "link", entry.Link, "bytes", len(answer.Result), "error", err)
		err = send(cut)
	}
	failed := errors.Is(err, ErrAnswerFailed)
	if failed && x.failures(entry.Seq, 1) < most {
		return err
	}
	if failed || errors.Is(err, ErrUndeliverable) {
		x.Log.Error("an answer cannot be delivered and is discarded", "verb", entry.Verb, "link", entry.Link, "id", entry.ID, "error", err)
		return nil
	}
	return err
}

// failures adds to the number of failures of an answer, and returns it.
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

// withoutResult returns the answer with only the short members of its result, and an error that
// reports this. ok is false if it is not shorter.
func (a Answer) withoutResult() (cut Answer, ok bool) {
	if len(a.Result) <= shortResult {
		return a, false
	}
	text := fmt.Sprintf("the answer is too long for the connection: its result of %d bytes is omitted", len(a.Result))
	var members map[string]json.RawMessage
	_ = json.Unmarshal(a.Result, &members) // anything but an object is omitted completely
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

// note writes an audit line; an error is only logged.
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
