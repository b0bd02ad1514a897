package mcp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"lintod/agent/base/printable"
)

const (
	// patience is how long a call may take before its caller is answered that it
	// continues; a server waits 3 s (protocol 2.7.4).
	patience = 2500 * time.Millisecond
	// callLimit ends a call that would otherwise occupy a slot forever.
	callLimit = 10 * time.Minute

	maxWaiting = 16 // queued calls
	maxRunning = 4  // concurrent calls
	// headStart delays the next call, so that quick calls, for example of a volume,
	// finish in the order in which they arrived.
	headStart = 200 * time.Millisecond
	// resultKept is how long the result of a call that took too long is kept.
	resultKept = time.Minute
)

// call is a request for a tool.
type call struct {
	tool    *tool
	args    json.RawMessage
	arrived time.Time
	reply   func(result any, err error)
	room    int // maximum size of the encoded result, in bytes
}

// call queues the call of a tool. An error is the answer if nothing was queued.
func (s *Server) call(q request, reply func(result any, err error)) error {
	params, err := object(q.params)
	if err != nil {
		return &CallError{codeParams, "params: " + err.Error()}
	}
	var name string
	if json.Unmarshal(params["name"], &name) != nil || name == "" {
		return &CallError{codeParams, "Missing name"}
	}
	t := s.find(name)
	if t == nil {
		return &CallError{codeMethod, "Unknown tool: " + printable.Clip(name, 64)}
	}
	args, err := t.schema.arguments(params["arguments"])
	if err != nil {
		return err
	}
	head := len(q.answer(content(""), nil))
	select {
	case s.calls <- &call{t, args, time.Now(), reply, MaxAnswer - head}:
		return nil
	default:
		return fmt.Errorf("the device is busy: %d calls are waiting", maxWaiting)
	}
}

// job is a running call, or a finished one whose result has not been delivered.
type job struct {
	tool string
	args string
	late atomic.Bool // its caller was answered that it continues
	told atomic.Bool // a caller has received the result

	done  chan struct{} // closed when the result is set
	text  string
	err   error
	ended time.Time
}

func (j *job) running() bool {
	select {
	case <-j.done:
		return false
	default:
		return true
	}
}

// awaited reports whether a caller may call again for the result.
func (j *job) awaited() bool { return j.late.Load() && !j.told.Load() }

// Run executes calls until ctx ends, and returns when they have ended.
func (s *Server) Run(ctx context.Context) error {
	var work sync.WaitGroup
	defer work.Wait()
	var jobs []*job // running, or with an awaited result
	for {
		select {
		case <-ctx.Done():
			return nil
		case c := <-s.calls:
			jobs = slices.DeleteFunc(jobs, (*job).forgotten)
			j := find(jobs, c)
			if j == nil && running(jobs) >= maxRunning {
				c.reply(nil, fmt.Errorf("the device is busy: %d calls are running; try again later", maxRunning))
				continue
			}
			if j == nil {
				j = &job{tool: c.tool.Name, args: string(c.args), done: make(chan struct{})}
				jobs = append(jobs, j)
				work.Go(func() { s.perform(ctx, c.tool, j) })
			}
			work.Go(func() { c.answer(ctx, j) })
			select {
			case <-j.done:
			case <-time.After(headStart):
			case <-ctx.Done():
			}
		}
	}
}

// find returns the job whose result a call requests: the same call was made before,
// and answered that it continues.
func find(jobs []*job, c *call) *job {
	for _, j := range jobs {
		if j.tool == c.tool.Name && j.args == string(c.args) && j.awaited() {
			return j
		}
	}
	return nil
}

func running(jobs []*job) (n int) {
	for _, j := range jobs {
		if j.running() {
			n++
		}
	}
	return n
}

// forgotten reports whether the result is no longer needed.
func (j *job) forgotten() bool {
	return !j.running() && (!j.awaited() || time.Since(j.ended) > resultKept)
}

// perform runs the tool. A panic in it counts as a failure: one tool must not
// terminate the daemon.
func (s *Server) perform(ctx context.Context, t *tool, j *job) {
	began := time.Now()
	ctx, cancel := context.WithTimeoutCause(ctx, callLimit, fmt.Errorf("the call took longer than %v", callLimit))
	defer cancel()
	defer close(j.done)
	defer func() {
		if p := recover(); p != nil {
			j.err = errors.New("a bug in lintod; see its log")
			s.log.Error("tool panicked", "tool", t.Name, "error", p, "stack", string(debug.Stack()))
		}
		j.ended = time.Now()
		if j.late.Load() {
			s.log.Info("slow tool finished", "tool", t.Name, "took", j.ended.Sub(began).Round(time.Millisecond))
		}
	}()
	if j.text, j.err = t.Call(ctx, json.RawMessage(j.args)); j.err != nil {
		s.log.Warn("tool failed", "tool", t.Name, "error", j.err)
	}
}

// answer answers a call when its job is done, or when patience has passed. A slow
// job continues, and is not reported as a failure: the language model would report
// the failure to the user, who would repeat the request while it is being executed.
// The same call returns the result later.
func (c *call) answer(ctx context.Context, j *job) {
	limit := time.NewTimer(time.Until(c.arrived.Add(patience)))
	defer limit.Stop()
	select {
	case <-j.done:
		j.told.Store(true)
	case <-ctx.Done():
		c.reply(nil, errors.New("the device is stopping"))
		return
	case <-limit.C:
		j.late.Store(true)
		c.reply(content(fmt.Sprintf("still running: %s was started and continues; its result is not available yet. "+
			"To get it, call the tool again with the same arguments in some seconds.", j.tool)), nil)
		return
	}
	if j.err != nil {
		c.reply(nil, j.err)
		return
	}
	text, err := fit(j.text, c.room)
	c.reply(content(text), err)
}

// content is the result of a tool (protocol 2.8): always text.
func content(text string) any {
	type part struct {
		Type string `json:"type"`
		Text string `json:"text"`
	}
	return struct {
		Content []part `json:"content"`
		IsError bool   `json:"isError"`
	}{[]part{{"text", text}}, false}
}

// fit truncates a text to room bytes, encoded, with a note. JSON is not truncated,
// because a part of it would be invalid.
func fit(text string, room int) (string, error) {
	text = strings.ToValidUTF8(text, "\ufffd")
	if encoded(text) <= room {
		return text, nil
	}
	if trimmed := strings.TrimSpace(text); json.Valid([]byte(trimmed)) {
		return "", fmt.Errorf("the result of %d bytes is too long for the connection", len(text))
	}
	const note = " … (cut: %d of %d bytes)"
	left := room - len(note) - 2*len("1234567890")
	end := 0
	for i, r := range text {
		if left -= encoded(string(r)); left < 0 {
			break
		}
		end = i + utf8.RuneLen(r)
	}
	return text[:end] + fmt.Sprintf(note, end, len(text)), nil
}

// encoded is the length of a text in a message.
func encoded(text string) int { return len(encode(text)) - len(`""`) }
