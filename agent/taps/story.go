package taps

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"lintod/agent/cards"
	"lintod/audio"
	"lintod/audio/player"
)

// story is what a card plays: tracks, and the position in them.
type story struct {
	key     string // of its saved position
	skill   string // "" for an entry of the owner's map
	name    string // display name
	tracks  []string
	images  []string
	track   int
	offset  time.Duration // start position in the track
	release func()        // of the skill's files

	playing bool // not paused
	number  int  // of the current playback, so that its end is not confused with that of another
	cancel  context.CancelCauseFunc
	heard   *atomic.Int64 // played nanoseconds of the track
}

// at returns the position in the story.
func (s *story) at() cards.Position {
	p := cards.Position{Track: s.track, Offset: s.offset}
	if s.heard != nil {
		p.Offset = time.Duration(s.heard.Load())
	}
	if p.Track == 0 && p.Offset < leastHeard {
		return cards.Position{} // too short to resume
	}
	return p
}

// picture is the picture of the current track; "" for none.
func (s *story) picture() string {
	if len(s.images) == 0 {
		return ""
	}
	return s.images[min(s.track, len(s.images)-1)]
}

// outcome describes how a track has ended.
type outcome struct {
	number int
	err    error
}

var errPaused = errors.New("paused")

// start plays the story from its position.
func (t *Taps) start(ctx context.Context, s *story) {
	t.numbers++
	s.number, s.playing, s.heard = t.numbers, true, &atomic.Int64{}
	s.heard.Store(int64(s.offset))
	ctx, s.cancel = context.WithCancelCause(ctx)
	number, path, offset, heard := s.number, s.tracks[s.track], s.offset, s.heard
	t.playing.Go(func() {
		err := t.play(ctx, path, offset, heard)
		select {
		case t.ended <- outcome{number, err}:
		case <-t.stopped:
		}
	})
}

// play returns when the track has been played, or an error.
func (t *Taps) play(ctx context.Context, path string, offset time.Duration, heard *atomic.Int64) error {
	sound, at, err := t.Open(ctx, path, offset)
	if err != nil {
		return err
	}
	if err := skip(ctx, sound, offset-at); err != nil {
		sound.Close()
		return err
	}
	followed := &followed{Sound: sound, heard: heard, from: offset}
	defer followed.Close() // in case it is never played
	return t.Player.Play(ctx, player.Item{Class: player.Media, Open: func(context.Context) (audio.Sound, error) { return followed, nil }})
}

// skip reads a sound up to a position.
func skip(ctx context.Context, s audio.Sound, to time.Duration) error {
	buf := make([]int16, 8192)
	for left := int(to.Seconds() * float64(s.Rate())); left > 0; {
		n, err := s.Read(ctx, buf[:min(left, len(buf))])
		if left -= n; err != nil {
			return err // io.EOF at its end: nothing is left to play
		}
	}
	return nil
}

// followed is a sound that counts how much of it was played.
type followed struct {
	audio.Sound
	heard *atomic.Int64
	from  time.Duration
	n     int64
}

func (f *followed) Read(ctx context.Context, pcm []int16) (int, error) {
	n, err := f.Sound.Read(ctx, pcm)
	f.n += int64(n)
	f.heard.Store(int64(f.from) + f.n*int64(time.Second)/int64(f.Rate()))
	return n, err
}
