package runs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func serials(n int) (list []string) {
	for i := range n {
		list = append(list, fmt.Sprintf("device-%04d", i))
	}
	return list
}

func stages(t *testing.T, texts ...string) (list []Stage) {
	t.Helper()
	for _, text := range texts {
		s, err := ParseStage(text)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, s)
	}
	return list
}

// Each stage of a thousand devices begins a pause after the end of the previous one,
// at most 50 requests are open at once, and an offline device does not delay the
// others.
func TestStages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var atOnce, most atomic.Int32
		times := map[time.Duration]int{}
		e := &Engine{
			Stages: stages(t, "1", "10%", "100%"), Pause: 5 * time.Minute, MaxFailed: 0, Parallel: 50,
			Ask: func(_, _ context.Context, serial string, away func()) Result {
				if serial == "device-0005" {
					away()
					time.Sleep(time.Hour)
					return Result{Serial: serial, State: Away}
				}
				for n := atOnce.Add(1); n > most.Load(); {
					most.Store(n)
				}
				time.Sleep(time.Second)
				atOnce.Add(-1)
				return Result{Serial: serial, State: Done}
			},
			Done: func(r Result) {
				if r.State == Done {
					times[time.Since(began).Truncate(time.Minute)]++
				}
			},
		}
		e.Run(t.Context(), serials(1000))
		// 1 s, then 5 min; 99 in 2 s, then 5 min; 900 in 18 s.
		if times[0] != 1 || times[5*time.Minute] != 98 || times[10*time.Minute] != 900 || most.Load() > 50 {
			t.Errorf("done in the minutes %v, %d at once", times, most.Load())
		}
		if after := time.Since(began).Truncate(time.Minute); after != time.Hour+5*time.Minute {
			t.Errorf("ended after %v", after)
		}
	})
}

func TestStopsWhenTooManyFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		states := map[State]int{}
		e := &Engine{
			Stages: stages(t, "10", "100%"), Pause: time.Minute, MaxFailed: 2, Parallel: 1000,
			Ask: func(_, waiting context.Context, serial string, away func()) Result {
				switch serial {
				case "device-0000": // waits until no other device is left
					away()
					<-waiting.Done()
					return Result{Serial: serial, State: Away}
				case "device-0001", "device-0002":
					return Result{Serial: serial, State: Failed}
				}
				return Result{Serial: serial, State: Done}
			},
			Check: func(_ context.Context, serial string) error {
				if serial == "device-0003" {
					return errors.New("no longer answers")
				}
				return nil
			},
			Done: func(r Result) { states[r.State]++ },
		}
		e.Run(t.Context(), serials(100))
		if states[Failed] != 3 || states[Skipped] != 90 || states[Away] != 1 || states[Done] != 7 {
			t.Errorf("ended as %v", states)
		}
	})
}

func TestInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, errors.New("interrupted"))
		defer cancel()
		var results []Result
		e := &Engine{
			Parallel: 2, MaxFailed: -1,
			Ask: func(ctx, _ context.Context, serial string, _ func()) Result {
				<-ctx.Done()
				return Result{Serial: serial, State: NoAnswer}
			},
			Done: func(r Result) { results = append(results, r) },
		}
		e.Run(ctx, serials(5))
		skipped := slices.DeleteFunc(slices.Clone(results), func(r Result) bool { return r.State != Skipped || r.Reason != "interrupted" })
		if len(results) != 5 || len(skipped) != 3 {
			t.Errorf("ended as %v", results)
		}
	})
}

func TestStageTexts(t *testing.T) {
	for _, text := range []string{"", "0", "-1", "101%", "0%", "ten", "1.5", "5 %"} {
		if s, err := ParseStage(text); err == nil {
			t.Errorf("%q was parsed as %+v", text, s)
		}
	}
	for text, want := range map[string]int{"1": 1, "500": 200, "10%": 20, "1%": 2, "100%": 200} {
		if got := stages(t, text)[0].of(200); got != want {
			t.Errorf("%s of 200 is %d", text, got)
		}
	}
	if got := (Stage{Percent: 1}).of(0); got != 0 {
		t.Errorf("of no devices, %d", got)
	}
}

func TestRecordIsReadBack(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "runs")
	now := time.Now()
	id := NewID(now)
	if later := NewID(now.Add(time.Millisecond)); later <= id {
		t.Errorf("%s, a millisecond after %s, sorts before it", later, id)
	}
	r, err := Create(dir, Header{ID: id, Verb: "say", Orders: []Order{{Topic: "say", Args: json.RawMessage(`{"value":"hi"}`)}}, Devices: serials(4)})
	if err != nil {
		t.Fatal(err)
	}
	for _, result := range []Result{{Serial: "device-0000", State: Done}, {Serial: "device-0001", State: Failed, Reason: "x"}, {Serial: "device-0002", State: Away}} {
		if err := r.Add(result); err != nil {
			t.Fatal(err)
		}
	}
	r.Close()
	// Killed in the middle of a line.
	path := filepath.Join(dir, id+suffix)
	raw, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path, append(raw, `{"serial":"device-0003","sta`...), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	again, err := Open(dir, "last")
	if err != nil {
		t.Fatal(err)
	}
	if got := again.Undone(); !slices.Equal(got, serials(4)[1:]) {
		t.Errorf("not done: %v", got)
	}
	if err := again.Add(Result{Serial: "device-0003", State: Done}); err != nil {
		t.Fatal(err)
	}
	again.Close()
	third, err := Open(dir, id)
	if err != nil {
		t.Fatal(err)
	}
	defer third.Close()
	if got := third.Undone(); !slices.Equal(got, serials(4)[1:3]) || string(third.Orders[0].Args) != `{"value":"hi"}` {
		t.Errorf("not done: %v, header %+v", got, third.Header)
	}
	groups := Summary(third.All())
	if len(groups) != 3 || groups[0].State != Done || groups[0].Count != 2 {
		t.Errorf("summary %+v", groups)
	}
	if _, err := Open(dir, "../x"); err == nil {
		t.Error("an unknown run was opened")
	}
}

func TestOldRunsAreRemoved(t *testing.T) {
	dir := t.TempDir()
	for i := range kept + 3 {
		r, err := Create(dir, Header{ID: fmt.Sprintf("run-%04d", i)})
		if err != nil {
			t.Fatal(err)
		}
		r.Close()
	}
	if ids, err := IDs(dir); err != nil || len(ids) != kept || ids[0] != "run-0003" {
		t.Errorf("%d runs remain, %v", len(ids), err)
	}
}

func FuzzRecord(f *testing.F) {
	f.Add([]byte("{\"v\":1,\"run\":\"a\",\"devices\":[\"x\"]}\n{\"serial\":\"x\",\"state\":\"done\"}\n"))
	f.Add([]byte("{\"v\":1}\n\n[1]\n{"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "a"+suffix), raw, 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := Open(dir, "a")
		if err != nil {
			return
		}
		defer r.Close()
		if len(r.All()) != len(r.Devices) || len(r.Undone()) > len(r.Devices) {
			t.Errorf("%d results of %d devices", len(r.All()), len(r.Devices))
		}
	})
}
