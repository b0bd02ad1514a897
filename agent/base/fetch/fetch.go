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
	// idleLimit is the timeout for receiving no data.
	idleLimit = 10 * time.Second
	// In rateWindow of waiting for a server, at least minRate bytes per second
	// must be received. Speech has at least 700.
	rateWindow = 20 * time.Second
	minRate    = 250
)

// Why a fetch is aborted.
var (
	ErrIdle   = fmt.Errorf("the server has sent nothing for %v", idleLimit)
	ErrSlow   = fmt.Errorf("the server has sent less than %d bytes per second for %v", minRate, rateWindow)
	errClosed = errors.New("the fetch was closed")
)

// StatusError is an HTTP status other than 200.
type StatusError int

func (e StatusError) Error() string {
	return fmt.Sprintf("the server answered %d %s", int(e), http.StatusText(int(e)))
}

// Answer is the answer from a server while it is being received. It must not be read
// concurrently.
type Answer struct {
	Header http.Header
	Size   int64 // announced size in bytes; -1 if unknown

	ctx    context.Context
	cancel context.CancelCauseFunc
	body   io.ReadCloser
	idle   *time.Timer // aborts the fetch when it fires

	waited time.Duration // for the server, in the current window
	got    int           // bytes in that time
}

// Get starts to fetch a URL, and returns within half a minute. ctx applies to the
// Answer until its end. The error contains only the scheme and host of the URL.
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
			err = wrapped.Err // without the complete URL
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

// Read aborts if a server sends nothing, or too slowly. Only the time of
// waiting counts: a station is not slow while the speaker has enough sound.
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

// Close ends the fetch. It may be called repeatedly.
func (a *Answer) Close() error {
	a.cancel(errClosed)
	if a.body == nil {
		return nil
	}
	return a.body.Close()
}
