package recorder

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"lintod/agent/base/loop"
	"lintod/agent/base/retry"
	"lintod/agent/base/textfile"
)

const (
	uploadBackoff    = 5 * time.Second // and twice as much after each failure,
	uploadBackoffMax = 15 * time.Minute
	uploadBase       = time.Minute // an upload may take this long,
	uploadRate       = 8 << 10     // plus one second per this many bytes
	// maxRefused is how often a server may refuse one recording; then it is no longer uploaded.
	maxRefused = 5
)

// Uploads is the state of uploads.
type Uploads struct {
	Waiting int    `json:"waiting"`         // recordings not yet uploaded
	Done    int    `json:"done"`            // since the start
	Failed  int    `json:"failed"`          // attempts, since the start
	Refused int    `json:"refused"`         // recordings that the server refuses; they are kept on the device
	Error   string `json:"error,omitempty"` // of the last attempt
}

// uploader uploads finished recordings with PUT, the oldest first. Completion is stored in a file
// next to the recording, so a recording may be sent twice, but is never skipped.
type uploader struct {
	*Recorder
	shelf  *shelf
	client *http.Client
	woken  loop.Signal
	faults map[string]int // number of failures of a recording itself, by path
}

func newUploader(r *Recorder, s *shelf) *uploader {
	u := &uploader{Recorder: r, shelf: s, client: r.HTTP, woken: loop.NewSignal(), faults: map[string]int{}}
	if u.client == nil {
		u.client = &http.Client{}
	}
	client := *u.client
	// The token must not be sent to the target of a redirect.
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	u.client = &client
	return u
}

// wake reports that a recording was finished.
func (u *uploader) wake() {
	u.woken.Set()
}

func (u *uploader) run(ctx context.Context) {
	if u.Config.UploadURL == "" {
		return
	}
	defer u.client.CloseIdleConnections()
	backoff := retry.Backoff{First: uploadBackoff, Most: uploadBackoffMax}
	for ctx.Err() == nil {
		err := u.all(ctx)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			backoff.Succeeded()
			u.wait(ctx, nil)
			continue
		}
		pause, isNew := backoff.Failed(err)
		if isNew { // one that repeats is counted
			u.Log.Warn("recording not uploaded; will retry", "error", err)
		}
		t := time.NewTimer(pause)
		u.wait(ctx, t.C)
		t.Stop()
	}
}

func (u *uploader) wait(ctx context.Context, t <-chan time.Time) {
	select {
	case <-ctx.Done():
	case <-u.woken:
	case <-t:
	}
}

// refusedError is an answer that concerns only this recording.
type refusedError struct{ status string }

func (e refusedError) Error() string { return "the server answered " + e.status }

// all uploads pending recordings, those that have failed themselves last. It stops if the server
// seems to be down: if two consecutive uploads have failed without being refused. A recording has
// failed itself if it is refused, or fails while another succeeds; after some failures it is not
// tried again.
func (u *uploader) all(ctx context.Context) error {
	waiting, refused, err := u.waiting()
	if err != nil {
		return err
	}
	u.setStatus(func(s *Status) { s.Uploads.Waiting, s.Uploads.Refused = len(waiting), refused })
	slices.SortStableFunc(waiting, func(a, b shelved) int { return cmp.Compare(u.faults[a.path], u.faults[b.path]) })
	var failed error
	var unclear []shelved // failed, possibly because the server is down
	taken, inRow := false, 0
	for _, r := range waiting {
		err := u.one(ctx, r)
		if ctx.Err() != nil {
			return err
		}
		u.count(err)
		var refusal refusedError
		switch {
		case err == nil:
			taken, inRow = true, 0
			continue
		case errors.As(err, &refusal):
			u.fault(r, err)
		default:
			unclear = append(unclear, r)
			inRow++
		}
		failed = errors.Join(failed, fmt.Errorf("upload %s: %w", r.path, err))
		if inRow == 2 {
			break
		}
	}
	if taken {
		for _, r := range unclear {
			u.fault(r, failed)
		}
	}
	return failed
}

// fault counts a failure of a recording itself, and eventually gives up on it.
func (u *uploader) fault(r shelved, err error) {
	u.faults[r.path]++
	if u.faults[r.path] < maxRefused {
		return
	}
	delete(u.faults, r.path)
	u.Log.Error("the server refuses a recording; it is kept on the device and not uploaded again", "file", r.path, "mark", r.path+refusedMark, "error", err)
	if err := u.shelf.mark(r.path+refusedMark, time.Now().UTC().Format(time.RFC3339)); err != nil {
		u.Log.Error("cannot mark a recording as refused; it is uploaded again after a restart", "error", err)
	}
}

// waiting lists pending recordings, and counts refused ones.
func (u *uploader) waiting() (some []shelved, refused int, err error) {
	all, err := u.shelf.list()
	for _, r := range all {
		switch {
		case r.uploaded, r.open:
		case r.refused:
			refused++
		default:
			some = append(some, r)
		}
	}
	return some, refused, err
}

func (u *uploader) count(err error) {
	u.setStatus(func(s *Status) {
		if err != nil {
			s.Uploads.Failed++
			s.Uploads.Error = err.Error()
			return
		}
		s.Uploads.Done++
		s.Uploads.Waiting--
		s.Uploads.Error = ""
	})
}

func (u *uploader) one(ctx context.Context, r shelved) error {
	f, err := u.shelf.root.Open(r.path)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	size, err := io.Copy(h, f)
	if err != nil {
		return err
	}
	sum := h.Sum(nil)
	ctx, cancel := context.WithTimeout(ctx, uploadBase+time.Duration(size/uploadRate)*time.Second)
	defer cancel()
	if err := u.put(ctx, r, io.NewSectionReader(f, 0, size), size, sum); err != nil {
		return err
	}
	u.Log.Info("recording uploaded", "file", r.path, "bytes", size)
	return u.shelf.markUploaded(r.path, hex.EncodeToString(sum))
}

func (u *uploader) put(ctx context.Context, r shelved, body io.Reader, size int64, sum []byte) error {
	target, err := url.JoinPath(u.Config.UploadURL, r.path)
	if err != nil {
		return errors.New("upload_url is not an address")
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, target, body)
	if err != nil {
		return errors.New("upload_url is not an address")
	}
	req.ContentLength = size
	req.Header.Set("Content-Type", "audio/"+format(r.path))
	// RFC 9530; If-None-Match is not set, because sending it again is harmless.
	req.Header.Set("Content-Digest", "sha-256=:"+base64.StdEncoding.EncodeToString(sum)+":")
	if err := u.authorize(req); err != nil {
		return err
	}
	resp, err := u.client.Do(req)
	if err != nil {
		var withURL *url.Error // which may contain a secret
		if errors.As(err, &withURL) {
			err = withURL.Err
		}
		return err
	}
	defer resp.Body.Close()
	return verdict(resp)
}

// verdict classifies the answers: accepted, to be retried, or refused.
func verdict(resp *http.Response) error {
	switch code := resp.StatusCode; {
	case code >= 200 && code < 300:
		return nil
	case code == http.StatusRequestTimeout, code == http.StatusTooManyRequests, code == http.StatusUnauthorized,
		code == http.StatusForbidden, code >= 500, code < 400:
		return fmt.Errorf("the server answered %d %s", code, http.StatusText(code))
	default:
		return refusedError{fmt.Sprintf("%d %s", code, http.StatusText(code))}
	}
}

// authorize reads the token each time, because the owner may replace it.
func (u *uploader) authorize(req *http.Request) error {
	if u.Config.UploadTokenFile == "" {
		return nil
	}
	token, err := textfile.Secret(u.Config.UploadTokenFile)
	if err != nil {
		return fmt.Errorf("upload_token_file: %w", err)
	}
	token = strings.TrimSpace(token)
	req.Header.Set("Authorization", "Bearer "+token)
	return nil
}

// markUploaded records that a recording was uploaded.
func (s *shelf) markUploaded(path, sum string) error {
	return s.mark(path+uploadedMark, "sha256 "+sum)
}

// mark writes a file next to a recording.
func (s *shelf) mark(path, text string) error {
	f, err := s.root.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err == nil {
		_, err = f.WriteString(text + "\n")
		err = errors.Join(err, f.Sync(), f.Close())
	}
	if err != nil {
		return fmt.Errorf("mark a recording: %w", err)
	}
	return nil
}
