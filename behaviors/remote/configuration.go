package remote

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"lintod/agent/base/config"
	"lintod/agent/base/state"
	"lintod/agent/base/textfile"
	"lintod/behaviors"
)

const (
	// maxText is the maximum size of a configuration, in bytes.
	maxText = 256 << 10
	// maxState is the maximum size of the state file, which contains three configurations as JSON.
	maxState = 8 << 20
	// stateFile is in the state directory.
	stateFile = "configuration.json"
	// linkBeat is how often a configuration on probation is checked.
	linkBeat = 200 * time.Millisecond
)

// ConfigTable is the [behaviors.config] table.
type ConfigTable struct {
	Switch
	// Probation is how long the link that a new configuration came by may take to reconnect; then
	// the configuration is reverted.
	Probation config.Duration `toml:"probation"`
}

// Keeper changes the configuration of the device. A new configuration is on probation: the daemon
// runs with it, and the file is replaced when the link that requested it is connected again. Until
// then it is stored only in the state directory, so the end of the daemon or a power failure
// reverts it. One Keeper serves all agents of a process.
type Keeper struct {
	Path     string // of the configuration file
	StateDir string
	// Parse returns the errors of a new configuration, or the reason why signer ("" if unsigned)
	// may not make this change.
	Parse func(text []byte, signer string) error
	// Seal hides possible secrets in a configuration.
	Seal func(text []byte) ([]byte, error)
	// Merge changes single keys of a configuration.
	Merge func(text, change []byte) ([]byte, error)
	// Apply makes the daemon run with Trial, or with the file if there is none. It returns
	// immediately.
	Apply func()
	Log   *slog.Logger

	mu      sync.Mutex
	state   keeperState
	changed chan struct{} // closed when a trial is decided
}

// keeperState is the persistent state.
type keeperState struct {
	Trial *trial `json:"trial,omitempty"`
	// Previous is the configuration before the last confirmed change.
	Previous string    `json:"previous,omitempty"`
	Last     *decision `json:"last,omitempty"`
}

// trial is a configuration on probation.
type trial struct {
	Seq  uint64 `json:"seq"`  // of the request, in the ledger
	Link string `json:"link"` // that it came by
	Text string `json:"text"`
	Base string `json:"base"` // the replaced configuration
	// Order is the signed order that requested it, or nil.
	Order []byte `json:"order,omitempty"`
}

// decision is the result of a trial.
type decision struct {
	Seq      uint64 `json:"seq"`
	Digest   string `json:"digest"`             // of the configuration in force
	Reverted string `json:"reverted,omitempty"` // why; "" if the new one was kept
}

func digest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// Open reads the state. A configuration that was on probation when the process ended is reverted,
// unless its file has already been replaced.
func (k *Keeper) Open() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.changed = make(chan struct{})
	raw, err := state.ReadFile(filepath.Join(k.StateDir, stateFile), maxState)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err == nil:
		err = json.Unmarshal(raw, &k.state)
	}
	if err != nil {
		k.state = keeperState{}
		return fmt.Errorf("read the state of the configuration's changes: %w", err)
	}
	t := k.state.Trial
	if t == nil {
		return nil
	}
	now, err := k.read()
	if err != nil {
		return err
	}
	if now == t.Text {
		return k.decide("")
	}
	k.Log.Warn("a configuration on probation is reverted, because lintod stopped")
	return k.decide("lintod stopped while it was on probation")
}

func (k *Keeper) read() (string, error) {
	text, err := textfile.ReadRaw(k.Path, maxText)
	if err != nil {
		return "", fmt.Errorf("read the configuration: %w", err)
	}
	return string(text), nil
}

func (k *Keeper) save() error {
	raw, err := json.Marshal(k.state)
	if err != nil {
		return err
	}
	return state.ReplaceFile(filepath.Join(k.StateDir, stateFile), raw)
}

// decide ends the trial; k.mu is held. The configuration is kept if reverted is "".
func (k *Keeper) decide(reverted string) error {
	t := k.state.Trial
	inForce := t.Base
	if reverted == "" {
		inForce, k.state.Previous = t.Text, t.Base
	}
	k.state.Last = &decision{Seq: t.Seq, Digest: digest(inForce), Reverted: reverted}
	k.state.Trial = nil
	close(k.changed)
	k.changed = make(chan struct{})
	if err := k.save(); err != nil {
		return fmt.Errorf("save the result of a configuration on probation: %w", err)
	}
	return nil
}

// Trial returns the configuration on probation, or nil.
func (k *Keeper) Trial() []byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.state.Trial == nil {
		return nil
	}
	return []byte(k.state.Trial.Text)
}

// Revert reverts the configuration on probation, if there is one.
func (k *Keeper) Revert(why string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.state.Trial == nil {
		return
	}
	k.Log.Warn("a configuration on probation is reverted", "error", why)
	if err := k.decide(why); err != nil {
		k.Log.Error("result of a configuration change", "error", err)
	}
}

// Watch keeps or reverts the configuration on probation, if there is one, and returns when ctx
// ends. online reports whether a link is connected to its platform.
func (k *Keeper) Watch(ctx context.Context, probation time.Duration, online func(link string) bool) error {
	k.mu.Lock()
	t := k.state.Trial
	k.mu.Unlock()
	if t != nil {
		k.try(ctx, t, probation, online)
	}
	<-ctx.Done()
	return nil
}

func (k *Keeper) try(ctx context.Context, t *trial, probation time.Duration, online func(link string) bool) {
	limit, beat := time.NewTimer(probation), time.NewTicker(linkBeat)
	defer limit.Stop()
	defer beat.Stop()
	for !online(t.Link) {
		select {
		case <-ctx.Done():
			return
		case <-limit.C:
			k.Revert(fmt.Sprintf("the link %s did not reach its platform within %v", t.Link, probation))
			k.Apply()
			return
		case <-beat.C:
		}
	}
	if err := install(ctx, newFile{k.Path, t.Text}, t.Order); err != nil {
		k.Revert(fmt.Sprintf("it cannot be written: %v", err))
		k.Apply()
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.state.Trial != t {
		return // the owner has changed the file
	}
	k.Log.Info("the new configuration is kept", "file", k.Path)
	if err := k.decide(""); err != nil {
		k.Log.Error("result of a configuration change", "error", err)
	}
}

// replaceConfiguration replaces the file and preserves its owner and mode.
func replaceConfiguration(f newFile) error {
	path, err := filepath.EvalSymlinks(f.Path)
	if err != nil {
		return err
	}
	return state.ReplaceText(path, []byte(f.Text))
}

// configResult is the result of the verb; members that do not apply are omitted.
type configResult struct {
	Text      string   `json:"text,omitempty"`
	Digest    string   `json:"digest"`              // of the configuration in force
	Probation bool     `json:"probation,omitempty"` // another one is currently on probation
	Diff      string   `json:"diff,omitempty"`
	Becomes   string   `json:"becomes,omitempty"` // digest of the result of diff
	Problems  []string `json:"problems,omitempty"`
}

// do executes the actions of the verb that change nothing.
func (k *Keeper) do(ctx context.Context, call behaviors.Call) (any, error) {
	k.mu.Lock()
	now, err := k.read()
	if err != nil {
		k.mu.Unlock()
		return nil, err
	}
	result := configResult{Digest: digest(now), Probation: k.state.Trial != nil}
	if call.Args.Text("action") == "get" {
		k.mu.Unlock()
		sealed, err := k.Seal([]byte(now))
		result.Text = string(sealed)
		return result, err
	}
	next, err := k.next(now, call)
	if err == nil {
		err = k.check(now, next, call, &result)
	}
	if err == nil && call.Args.Text("action") == "diff" {
		err = k.diff(now, next, &result)
		k.mu.Unlock()
		return result, err
	}
	if err == nil && next != now {
		err = mayInstall(k.Path)
	}
	if err == nil && next != now {
		t := k.state
		k.state.Trial = &trial{call.Seq, call.Link, next, now, call.Order}
		if err = k.save(); err != nil {
			k.state = t
			err = behaviors.Fail(behaviors.Failed, "the start of the trial could not be recorded: %v", err)
		}
	}
	k.mu.Unlock()
	if err != nil || next == now {
		return result, err
	}
	k.Apply()
	return k.outcome(ctx, call)
}

// next returns the configuration that a request results in.
func (k *Keeper) next(now string, call behaviors.Call) (string, error) {
	text, change := call.Args.Text("text"), call.Args.Text("change")
	switch undo := call.Args.Text("action") == "undo"; {
	case undo && (text != "" || change != ""):
		return "", &behaviors.ArgumentError{Field: "text", Got: "there", Want: "no text and no change with undo"}
	case undo && k.state.Previous == "":
		return "", behaviors.Fail(behaviors.NotFound, "no configuration has been replaced remotely yet")
	case undo:
		return k.state.Previous, nil
	case (text == "") == (change == ""):
		return "", &behaviors.ArgumentError{Field: "text", Want: "either text or change"}
	case strings.Contains(text+change, config.Mask):
		return "", behaviors.Fail(behaviors.BadRequest, "the text contains %s in place of hidden values; change single keys by name instead", config.Mask)
	case text != "":
		return text, nil
	}
	merged, err := k.Merge([]byte(now), []byte(change))
	if err != nil {
		return "", behaviors.Fail(behaviors.BadRequest, "%v", err)
	}
	return string(merged), nil
}

// check rejects an invalid configuration. The errors of the parser are also in the result, one per
// line.
func (k *Keeper) check(now, next string, call behaviors.Call, result *configResult) error {
	wanted := call.Args.Text("digest")
	switch {
	case call.Args.Text("action") != "diff" && k.state.Trial != nil:
		return behaviors.Fail(behaviors.Busy, "another configuration is on probation")
	case wanted != "" && wanted != result.Digest:
		return behaviors.Fail(behaviors.Refused, "the configuration has changed; its digest is %s", result.Digest)
	case len(next) > maxText:
		return &behaviors.ArgumentError{Field: "text", Got: fmt.Sprintf("%d bytes", len(next)), Want: fmt.Sprintf("at most %d", maxText)}
	case next == now:
		return nil
	}
	err := k.Parse([]byte(next), call.Signer)
	var problems config.Problems
	if !errors.As(err, &problems) {
		return err
	}
	for _, p := range problems {
		result.Problems = append(result.Problems, p.Error())
	}
	return behaviors.Fail(behaviors.BadRequest, "the configuration is invalid: %v", problems[0])
}

// outcome waits for the result of the configuration that a request has changed.
func (k *Keeper) outcome(ctx context.Context, call behaviors.Call) (any, error) {
	for {
		k.mu.Lock()
		t, last, changed := k.state.Trial, k.state.Last, k.changed
		k.mu.Unlock()
		switch {
		case last != nil && last.Seq == call.Seq && last.Reverted != "":
			return configResult{Digest: last.Digest}, behaviors.Fail(behaviors.Failed, "the configuration was reverted: %s", last.Reverted)
		case last != nil && last.Seq == call.Seq:
			return configResult{Digest: last.Digest}, nil
		case t == nil || t.Seq != call.Seq:
			return nil, behaviors.Fail(behaviors.Interrupted, "lintod stopped before the configuration was tried")
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func (k *Keeper) diff(now, next string, result *configResult) error {
	old, err := k.Seal([]byte(now))
	if err != nil {
		return err
	}
	sealed, err := k.Seal([]byte(next))
	if err != nil {
		return err
	}
	result.Diff, result.Becomes = difference(string(old), string(sealed)), digest(next)
	return nil
}

// configVerb reads and changes the configuration. keeper is nil if the daemon has no file.
func configVerb(c ConfigTable, keeper func() *Keeper) behaviors.Verb {
	need := func(do func(*Keeper, context.Context, behaviors.Call) (any, error)) func(context.Context, behaviors.Call) (any, error) {
		return func(ctx context.Context, call behaviors.Call) (any, error) {
			k := keeper()
			if k == nil {
				return nil, behaviors.Fail(behaviors.Unsupported, "this lintod does not run with a configuration file")
			}
			return do(k, ctx, call)
		}
	}
	limits := c.limits("config")
	limits.AtOnce = 2
	return behaviors.Verb{
		Name: "config", About: "Read the configuration, or change it on probation.", Power: behaviors.Privileged,
		Params: []behaviors.Param{
			{Name: "action", About: "what to do", Kind: behaviors.OneOf, Values: []string{"get", "diff", "set", "undo"}, Required: true},
			{Name: "text", About: "the whole new configuration, for diff and set", Kind: behaviors.Text, Max: maxText, Show: behaviors.Sealed},
			{Name: "change", About: "instead of text, TOML with the changed keys", Kind: behaviors.Text, Max: maxText, Show: behaviors.Sealed},
			{Name: "digest", About: "SHA-256 of the configuration to change, in hex; any other one is not changed", Kind: behaviors.Text, Max: 64},
		},
		Limits: limits,
		Do:     need((*Keeper).do),
		Resume: need((*Keeper).outcome),
	}
}
