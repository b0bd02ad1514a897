package native

import "context"

// Use runs the process while f runs; f's context ends with the process. It returns f's error, or
// why the process ended first.
func (p *Process) Use(ctx context.Context, f func(context.Context) error) error {
	run, stop := context.WithCancelCause(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		stop(p.Run(run))
	}()
	err := f(run)
	if died := context.Cause(run); died != nil {
		err = died
	}
	stop(nil)
	<-ended
	return err
}
