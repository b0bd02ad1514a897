// Package media opens sound that somebody names by its address, and files, as
// streams: radio is played as it comes, and a long file is never held in memory.
//
// An address may come from a stranger. So the owner lists what may be opened,
// nothing inside the network is reached by a detour, and every wait, redirect,
// byte and second of sound is counted.
//
// What must not live here: decoding (codec), and who goes first (player).
package media

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"lintod/agent/config"
	"lintod/audio"
	"lintod/audio/codec"
)

// Config is the [behaviors.play] table: what a platform may have played.
type Config struct {
	// Allow are the beginnings of the addresses that may be opened, for example
	// "https://media.example/"; none means that nothing may.
	Allow config.Strings `toml:"allow"`
	// MaxTime is how much of a stream is played.
	MaxTime config.Duration `toml:"max_time"`
	// MaxSize is how much of it is fetched.
	MaxSize config.Size `toml:"max_size"`
}

// Defaults allows nothing.
func Defaults() Config {
	return Config{MaxTime: config.Duration(time.Hour), MaxSize: 500_000_000}
}

// Validate reports values that cannot work.
func (c Config) Validate() config.Problems {
	var ps config.Problems
	for _, entry := range c.Allow {
		if _, err := parseEntry(entry); err != nil {
			ps.Add("allow", entry, "the beginning of an address, such as \"https://media.example/\"")
		}
	}
	ps.Within("max_time", c.MaxTime, time.Second, 24*time.Hour)
	if c.MaxSize < 1_000_000 {
		ps.Add("max_size", c.MaxSize, "at least \"1MB\"")
	}
	return ps
}

// Opener opens media within the limits of its Config.
type Opener struct {
	Config Config
	// Trusted addresses need not be on the list: the owner's own hand gives them.
	Trusted bool
}

// Check tells whether the address may be opened, without opening it.
func (o *Opener) Check(address string) error {
	_, err := o.parse(address)
	return err
}

// Open fetches address as far as its first samples. ctx governs the sound to
// its end; the caller closes it. The errors name the address.
func (o *Opener) Open(ctx context.Context, address string) (audio.Sound, error) {
	u, err := o.parse(address)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	f := &fetch{opener: o, cancel: cancel}
	sound, err := f.start(ctx, u)
	if err != nil {
		cause := context.Cause(ctx)
		f.Close()
		if wrapped := (*url.Error)(nil); errors.As(err, &wrapped) {
			err = wrapped.Err // without the whole address
		}
		return nil, fmt.Errorf("play %s: %w", u, cmp.Or(cause, err))
	}
	return sound, nil
}

// File plays what r holds, and closes it after the sound.
func (o *Opener) File(r io.ReadCloser) (audio.Sound, error) {
	s, err := o.decode(r, r)
	if err != nil {
		r.Close()
	}
	return s, err
}

func (o *Opener) decode(r io.Reader, c io.Closer) (audio.Sound, error) {
	s, err := codec.Open(&limited{r, int64(o.Config.MaxSize)})
	if err != nil {
		return nil, err
	}
	return &sound{s, c, int64(o.Config.MaxTime.Std().Seconds() * float64(s.Rate()))}, nil
}

// sound ends, in peace, when it has lasted for long enough.
type sound struct {
	audio.Sound
	source io.Closer
	left   int64 // samples
}

// Read implements audio.Sound. It may outlast its ctx, but not the one of Open.
func (s *sound) Read(ctx context.Context, pcm []int16) (int, error) {
	if s.left <= 0 {
		return 0, io.EOF
	}
	n, err := s.Sound.Read(ctx, pcm[:min(int64(len(pcm)), s.left)])
	s.left -= int64(n)
	return n, err
}

// Close implements audio.Sound.
func (s *sound) Close() error { return errors.Join(s.Sound.Close(), s.source.Close()) }

// limited fails when more is read than may be.
type limited struct {
	r    io.Reader
	left int64
}

func (l *limited) Read(b []byte) (int, error) {
	if l.left <= 0 {
		return 0, errors.New("there is more of it than max_size in [behaviors.play] allows")
	}
	n, err := l.r.Read(b[:min(int64(len(b)), l.left)])
	l.left -= int64(n)
	return n, err
}

// fetch is one answer of a server, while it lasts.
type fetch struct {
	opener *Opener
	cancel context.CancelCauseFunc
	body   io.ReadCloser
	idle   *time.Timer // ends it when it fires
}

// Close ends the fetch. It may be called twice.
func (f *fetch) Close() error {
	f.cancel(audio.ErrClosed)
	if f.body == nil {
		return nil
	}
	return f.body.Close()
}

// Read lets a server that sends nothing wait no longer than idleLimit.
func (f *fetch) Read(b []byte) (int, error) {
	f.idle.Reset(idleLimit)
	defer f.idle.Stop()
	return f.body.Read(b)
}

func (f *fetch) start(ctx context.Context, u *address) (audio.Sound, error) {
	f.idle = time.AfterFunc(headerLimit, func() { f.cancel(errIdle) })
	defer f.idle.Stop()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, u.URL.String(), http.NoBody)
	if err != nil {
		return nil, err
	}
	request.Header.Set("User-Agent", "lintod")
	answer, err := f.opener.client().Do(request) //nolint:bodyclose // f.Close does
	if err != nil {
		return nil, err
	}
	f.body = answer.Body
	switch {
	case answer.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("the server answers %d %s", answer.StatusCode, http.StatusText(answer.StatusCode))
	case answer.ContentLength > int64(f.opener.Config.MaxSize):
		return nil, fmt.Errorf("%d bytes are more than max_size in [behaviors.play] allows", answer.ContentLength)
	}
	return f.opener.decode(f, f)
}
