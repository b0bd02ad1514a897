package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

const (
	// idleLimit is how long a server may send nothing.
	idleLimit = 10 * time.Second
	// Of rateWindow of waiting for a server, minRate bytes a second must come of
	// it. Speech has 700 at least.
	rateWindow = 20 * time.Second
	minRate    = 250
)

// Why a fetch ends early.
var (
	ErrIdle   = fmt.Errorf("the server has sent nothing for %v", idleLimit)
	ErrSlow   = fmt.Errorf("the server has sent less than %d bytes per second for %v", minRate, rateWindow)
	errClosed = errors.New("the fetch was closed")
)

// StatusError is an HTTP status other than 200.
type StatusError int

func (e StatusError) Error() string {
	return fmt.Sprintf("the server answers %d %s", int(e), http.StatusText(int(e)))
}

// Answer is one of a server, while it lasts. One goroutine reads it.
type Answer struct {
	Header http.Header
	Size   int64 // what the server says, in bytes; -1 where it says nothing

	ctx    context.Context
	cancel context.CancelCauseFunc
	body   io.ReadCloser
	idle   *time.Timer // ends it when it fires

	waited time.Duration // for the server, in the present window
	got    int           // bytes in that time
}

// Get begins to receive what is at an address, and returns within half a minute. ctx
// governs the Answer to its end. The error holds nothing of the address but its scheme
// and host.
func (g Guard) Get(ctx context.Context, u *url.URL) (*Answer, error) {
	if err := g.check(u); err != nil {
		return nil, err
	}
	a := &Answer{}
	a.ctx, a.cancel = context.WithCancelCause(ctx)
	a.idle = time.AfterFunc(headerLimit, func() { a.cancel(ErrIdle) })
	err := a.start(g.client(), u)
	a.idle.Stop()
	if err != nil {
		if cause := context.Cause(a.ctx); cause != nil {
			err = cause
		}
		a.Close()
		if wrapped := (*url.Error)(nil); errors.As(err, &wrapped) {
			err = wrapped.Err // without the whole address
		}
		return nil, err
	}
	return a, nil
}

func (a *Answer) start(client *http.Client, u *url.URL) error {
	request, err := http.NewRequestWithContext(a.ctx, http.MethodGet, u.String(), http.NoBody)
	if err != nil {
		return err
	}
	request.Header.Set("User-Agent", "lintod")
	got, err := client.Do(request) //nolint:bodyclose // Close does
	if err != nil {
		return err
	}
	a.body, a.Header, a.Size = got.Body, got.Header, got.ContentLength
	if got.StatusCode != http.StatusOK {
		return StatusError(got.StatusCode)
	}
	return nil
}

// Read gives up a server that sends nothing, or drop by drop. Only the time of
// waiting counts: a station is not slow while the loudspeaker has enough.
func (a *Answer) Read(b []byte) (int, error) {
	a.idle.Reset(idleLimit)
	began := time.Now()
	n, err := a.body.Read(b)
	a.idle.Stop()
	a.waited += time.Since(began)
	a.got += n
	if a.waited >= rateWindow {
		if a.got < minRate*int(a.waited/time.Second) {
			return n, ErrSlow
		}
		a.waited, a.got = 0, 0
	}
	if err != nil && !errors.Is(err, io.EOF) && a.ctx.Err() != nil {
		err = context.Cause(a.ctx)
	}
	return n, err
}

// Close ends the fetch. It may be called twice.
func (a *Answer) Close() error {
	a.cancel(errClosed)
	if a.body == nil {
		return nil
	}
	return a.body.Close()
}
