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
	// patience is how long a call may take before its caller is told that it goes on; a
	// server waits 3 s (protocol 2.7.4).
	patience = 2500 * time.Millisecond
	// callLimit ends a call that would otherwise take one of the places forever.
	callLimit = 10 * time.Minute

	maxWaiting = 16 // calls that have not begun
	maxRunning = 4  // calls at once
	// headStart is how long a call keeps the next from beginning, so that calls that
	// are quick, of a volume say, are over in the order in which they came.
	headStart = 200 * time.Millisecond
	// resultKept is how long the result of a call that took too long waits to be asked for.
	resultKept = time.Minute
)

// call is a request for a tool.
type call struct {
	tool    *tool
	args    json.RawMessage
	arrived time.Time
	reply   func(result any, err error)
	room    int // bytes for the text of the result, encoded
}

// call queues the call of a tool. The error is the answer where nothing is queued.
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
		return fmt.Errorf("the device is busy: %d calls wait", maxWaiting)
	}
}

// job is a call at work, or one that took so long that its result is still to be asked for.
type job struct {
	tool string
	args string
	late atomic.Bool // its caller was told that it goes on
	told atomic.Bool // a caller has got the result

	done  chan struct{} // closed when the rest is there
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

// awaited tells whether a caller may come back for the result.
func (j *job) awaited() bool { return j.late.Load() && !j.told.Load() }

// Run performs calls until ctx ends, and returns when they have ended.
func (s *Server) Run(ctx context.Context) error {
	var work sync.WaitGroup
	defer work.Wait()
	var jobs []*job // that run, and whose result is awaited
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

// find returns the job whose result a call asks for: the same was called before, and its caller
// was told that it goes on.
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

// forgotten tells whether nobody will ask for the result any more.
func (j *job) forgotten() bool {
	return !j.running() && (!j.awaited() || time.Since(j.ended) > resultKept)
}

// perform runs the tool. A panic in it is its failure: one tool must not take the device down.
func (s *Server) perform(ctx context.Context, t *tool, j *job) {
	began := time.Now()
	ctx, cancel := context.WithTimeoutCause(ctx, callLimit, fmt.Errorf("it took longer than %v", callLimit))
	defer cancel()
	defer close(j.done)
	defer func() {
		if p := recover(); p != nil {
			j.err = errors.New("a bug in lintod; its log tells more")
			s.log.Error("a tool panicked", "tool", t.Name, "error", p, "stack", string(debug.Stack()))
		}
		j.ended = time.Now()
		if j.late.Load() {
			s.log.Info("a tool that took long has ended", "tool", t.Name, "took", j.ended.Sub(began).Round(time.Millisecond))
		}
	}()
	if j.text, j.err = t.Call(ctx, json.RawMessage(j.args)); j.err != nil {
		s.log.Warn("a tool failed", "tool", t.Name, "error", j.err)
	}
}

// answer answers a call when its job is done, and in time at the latest. A job that takes longer
// goes on, and that is not a failure: of a failure the language model would tell the user, who
// would ask for the same again while it happens. The result can be asked for by the same call.
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
		c.reply(content(fmt.Sprintf("still running: %s has begun and goes on; its result is not known yet. "+
			"To get it, call the tool again with the same arguments, some seconds from now.", j.tool)), nil)
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

// fit cuts a text to room bytes, encoded, and says so in it. JSON is not cut: half of it has no
// meaning to who reads it.
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
