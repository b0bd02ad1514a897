package runs

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A Stage is the total number of devices, counted from the first, that are done before the next
// pause: a number, or a percentage of all.
type Stage struct {
	Count   int // 0 if Percent is used
	Percent int
}

// ParseStage reads "5" or "10%".
func ParseStage(text string) (Stage, error) {
	digits, share := strings.CutSuffix(text, "%")
	n, err := strconv.Atoi(digits)
	switch {
	case err != nil || n < 1 || share && n > 100:
		return Stage{}, fmt.Errorf("%q is not a number of devices, such as 5, or a percentage, such as 10%%", text)
	case share:
		return Stage{Percent: n}, nil
	}
	return Stage{Count: n}, nil
}

// of returns the number of devices in the stage, at least one.
func (s Stage) of(total int) int {
	n := s.Count
	if n == 0 {
		n = (total*s.Percent + 99) / 100
	}
	return min(max(n, 1), total)
}

// An Engine sends requests to devices, stage by stage.
type Engine struct {
	// Stages are executed in order; without any, there is one stage with all devices. Devices
	// beyond the last stage are skipped.
	Stages []Stage
	// Pause is the time between two stages.
	Pause time.Duration
	// MaxFailed is how many devices may fail, refuse, or not answer; with one more, the run stops.
	// Devices that are away do not count. A negative value means no limit.
	MaxFailed int
	// Parallel is the number of concurrent requests.
	Parallel int
	// Ask sends the request to one device, and blocks until it has answered or the attempt has
	// failed. It calls away when the device is offline, so that the stage no longer waits for it.
	// waiting ends when the run stops.
	Ask func(ctx, waiting context.Context, serial string, away func()) Result
	// Check, if set, is called after a pause for each device that has succeeded: an error makes it
	// a failed one.
	Check func(ctx context.Context, serial string) error
	// Done gets each result, one at a time. A device that fails its check has two.
	Done func(Result)

	mu     sync.Mutex
	stage  []string
	failed int
	done   []string // in this stage and earlier, except those that failed a check
	stop   context.CancelCauseFunc
}

// Run sends the request to all devices, and returns when each has a result, or soon after ctx
// ended.
func (e *Engine) Run(ctx context.Context, serials []string) {
	waiting, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	e.stop = stop
	stages := e.Stages
	if len(stages) == 0 {
		stages = []Stage{{Percent: 100}}
	}
	var all sync.WaitGroup
	asked := 0
	for i, s := range stages {
		if i > 0 && !e.pause(ctx, waiting) {
			break
		}
		end := max(s.of(len(serials)), asked)
		asked += e.ask(ctx, waiting, serials[asked:end], &all)
		if waiting.Err() != nil {
			break
		}
	}
	all.Wait()
	reason := "beyond the last stage"
	if cause := context.Cause(waiting); cause != nil {
		reason = cause.Error()
	}
	for _, serial := range serials[asked:] {
		e.note(Result{Serial: serial, State: Skipped, Reason: reason})
	}
}

// Stage returns the devices of the current stage.
func (e *Engine) Stage() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.stage
}

// ask sends the request to devices until each has answered, failed, or is away, and returns how
// many were asked. all counts those that are not finished.
func (e *Engine) ask(ctx, waiting context.Context, serials []string, all *sync.WaitGroup) int {
	e.mu.Lock()
	e.stage = serials
	e.mu.Unlock()
	slots := make(chan struct{}, e.Parallel)
	var present sync.WaitGroup
	defer present.Wait()
	for i, serial := range serials {
		select {
		case slots <- struct{}{}:
		case <-waiting.Done():
			return i
		}
		if waiting.Err() != nil {
			return i
		}
		present.Add(1)
		all.Go(func() {
			leave := sync.OnceFunc(func() { <-slots; present.Done() })
			defer leave()
			e.note(e.Ask(ctx, waiting, serial, leave))
		})
	}
	return len(serials)
}

// pause waits and checks; it reports whether the next stage may start.
func (e *Engine) pause(ctx, waiting context.Context) bool {
	select {
	case <-time.After(e.Pause):
	case <-waiting.Done():
		return false
	}
	if e.Check == nil || e.Pause == 0 {
		return true
	}
	e.mu.Lock()
	check := e.done
	e.done = nil
	e.mu.Unlock()
	slots := make(chan struct{}, e.Parallel)
	var checks sync.WaitGroup
	for _, serial := range check {
		slots <- struct{}{}
		checks.Go(func() {
			defer func() { <-slots }()
			err := e.Check(ctx, serial)
			switch {
			case ctx.Err() != nil:
			case err != nil:
				e.note(Result{Serial: serial, State: Failed, Reason: err.Error()})
			default:
				e.mu.Lock()
				e.done = append(e.done, serial)
				e.mu.Unlock()
			}
		})
	}
	checks.Wait()
	return waiting.Err() == nil
}

// note reports a result, and stops the run if too many have failed.
func (e *Engine) note(r Result) {
	r.Time = time.Now()
	e.mu.Lock()
	defer e.mu.Unlock()
	if r.State == Done {
		e.done = append(e.done, r.Serial)
	}
	if r.State.counts() {
		e.failed++
		if e.MaxFailed >= 0 && e.failed > e.MaxFailed {
			e.stop(fmt.Errorf("stopped: more than %d have failed", e.MaxFailed))
		}
	}
	e.Done(r)
}
