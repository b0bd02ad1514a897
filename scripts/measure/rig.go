package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"

	"lintod/audio/audiotest"
)

// tb makes the rig of the tests usable in a program. Failures panic, which use converts to an
// error.
type tb struct {
	testing.TB // nil: only the methods that the rig calls are implemented
	ctx        context.Context
	cleanups   []func()
}

type failure struct{ error }

func (*tb) Helper()                    {}
func (*tb) Log(args ...any)            { fmt.Fprintln(os.Stderr, args...) }
func (*tb) Logf(text string, a ...any) { fmt.Fprintf(os.Stderr, text+"\n", a...) }
func (*tb) Fatal(args ...any)          { panic(failure{fmt.Errorf("%s", fmt.Sprint(args...))}) }
func (*tb) Fatalf(text string, a ...any) {
	panic(failure{fmt.Errorf(text, a...)})
}
func (*tb) Skipf(text string, a ...any) { panic(failure{fmt.Errorf(text, a...)}) }
func (t *tb) Context() context.Context  { return t.ctx }
func (t *tb) Cleanup(f func())          { t.cleanups = append(t.cleanups, f) }
func (t *tb) TempDir() string {
	dir, err := os.MkdirTemp("", "lintod-bench.")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// use calls f, and returns its failure as an error.
func use(ctx context.Context, f func(*tb)) (err error) {
	t := &tb{ctx: ctx}
	defer func() {
		for _, clean := range slices.Backward(t.cleanups) {
			clean()
		}
		switch failed := recover().(type) {
		case nil:
		case failure:
			err = failed.error
		default:
			panic(failed)
		}
	}()
	f(t)
	return nil
}

// withRig calls f with a rig.
func withRig(ctx context.Context, f func(*tb, *audiotest.Rig) error) error {
	var err error
	failed := use(ctx, func(t *tb) { err = f(t, audiotest.Start(t)) })
	return errors.Join(failed, err)
}
