package player

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"lintod/audio"
)

var (
	answer  = kind{Answer, ""}
	chime   = kind{Chime, ""}
	news    = kind{Announcement, ""}
	keyed   = kind{Announcement, "platform"}
	another = kind{Announcement, "button"}
	media   = kind{Media, ""}
)

// TestAdmit is the table of the package comment, cell by cell.
func TestAdmit(t *testing.T) {
	full := slices.Repeat([]kind{news}, maxWaiting)
	tests := []struct {
		name        string
		newcomer    kind
		playing     *kind
		waiting     []kind
		refuse, end error
		replace     int
	}{
		{"answer, nothing plays", answer, nil, nil, nil, nil, -1},
		{"chime, nothing plays", chime, nil, nil, nil, nil, -1},
		{"announcement, nothing plays", news, nil, nil, nil, nil, -1},
		{"media, nothing plays", media, nil, nil, nil, nil, -1},

		{"answer, media", answer, &media, nil, nil, ErrOutranked, -1},
		{"chime, media", chime, &media, nil, ErrMissed, nil, -1},
		{"announcement, media", news, &media, nil, nil, ErrOutranked, -1},
		{"media, media", media, &media, nil, nil, ErrReplaced, -1},

		{"answer, announcement", answer, &news, nil, nil, ErrOutranked, -1},
		{"chime, announcement", chime, &news, nil, ErrMissed, nil, -1},
		{"announcement, announcement", news, &news, nil, nil, nil, -1},
		{"announcement, its like", keyed, &keyed, nil, nil, ErrReplaced, -1},
		{"announcement, of another", keyed, &another, nil, nil, nil, -1},
		{"media, announcement", media, &news, nil, nil, nil, -1},

		{"answer, chime", answer, &chime, nil, nil, ErrOutranked, -1},
		{"chime, chime", chime, &chime, nil, nil, ErrReplaced, -1},
		{"announcement, chime", news, &chime, nil, nil, nil, -1},
		{"media, chime", media, &chime, nil, nil, nil, -1},

		{"answer, answer", answer, &answer, nil, nil, ErrReplaced, -1},
		{"chime, answer", chime, &answer, nil, ErrMissed, nil, -1},
		{"announcement, answer", keyed, &answer, nil, nil, nil, -1},
		{"media, answer", media, &answer, nil, nil, nil, -1},

		{"its like waits", keyed, &answer, []kind{news, keyed, another}, nil, nil, 1},
		{"one of its kind plays and one waits", keyed, &keyed, []kind{news, keyed}, nil, ErrReplaced, 1},
		{"media wait", media, &news, []kind{news, media}, nil, nil, 1},
		{"a chime waits", chime, nil, []kind{news, chime}, nil, nil, 1},
		{"one too many", news, &answer, full, ErrBusy, nil, -1},
		{"one too many interrupts nothing", news, &media, full, ErrBusy, nil, -1},
		{"one too many, except for one of its kind", keyed, &answer, append([]kind{keyed}, full...), nil, nil, 0},
		{"a full queue does not delay an answer", answer, &news, full, nil, ErrOutranked, -1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got, want := admit(tt.newcomer, tt.playing, tt.waiting), (fate{tt.refuse, tt.end, tt.replace}); got != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
		})
	}
}

func TestNext(t *testing.T) {
	for _, tt := range []struct {
		name    string
		waiting []kind
		turn    bool
		want    int
	}{
		{"nothing waits", nil, false, -1},
		{"the highest class", []kind{media, news, chime, answer}, false, 3},
		{"the oldest of a class", []kind{media, news, keyed}, false, 1},
		{"in a turn, no external sound", []kind{media, news}, true, -1},
		{"in a turn, chimes", []kind{news, chime}, true, 1},
		{"in a turn, its answer", []kind{chime, news, answer}, true, 2},
	} {
		if got := next(tt.waiting, tt.turn); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
}

// outcome is the result of a sound of a rig.
type outcome struct {
	name string
	at   time.Duration
	err  error
}

// queue puts a second of sound into the queue, and sends its result to ends.
func (p *rig) queue(name string, k kind, ends chan<- outcome) {
	from := time.Now()
	it := Item{Class: k.class, Key: k.key, Open: ready(PCM(make([]int16, rate), rate))}
	done := func(err error) { ends <- outcome{name, time.Since(from), err} }
	if err := p.Queue(it, done); err != nil {
		done(err)
	}
	synctest.Wait()
}

// Schedule: two announcements of the platform during another one, and a chime; at
// 500 ms a turn starts, its answer is available at 2 s, and the turn ends when that
// has been played.
func TestQueueInATurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, stop := start(t)
		defer stop()
		ends := make(chan outcome, 10)
		p.queue("first", news, ends)
		p.queue("old", keyed, ends)
		p.queue("chime", chime, ends)
		p.queue("new", keyed, ends)
		time.Sleep(500 * time.Millisecond)
		p.SetTurn(true)
		time.Sleep(1500 * time.Millisecond)
		synctest.Wait()
		if len(p.cards) != 1 || p.cards[0].flushes != 1 {
			t.Error("the turn is disturbed, or no sound was interrupted")
		}
		if err := p.Play(t.Context(), Item{Class: Answer, Open: ready(PCM(make([]int16, rate), rate))}); err != nil {
			t.Error(err)
		}
		p.SetTurn(false)
		time.Sleep(2 * time.Second)
		want := []outcome{
			{"chime", 0, ErrMissed},
			{"old", 0, ErrReplaced},
			{"first", 500 * time.Millisecond, ErrOutranked},
			{"new", 4 * time.Second, nil},
		}
		for _, w := range want {
			if got := <-ends; got != w {
				t.Errorf("got %v, want %v", got, w)
			}
		}
		if d := p.Stats().Dropped; d != 2 {
			t.Errorf("%d dropped, want the chime and the old announcement", d)
		}
	})
}

func TestSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, stop := start(t)
		defer stop()
		ends := make(chan outcome, 10)
		p.queue("playing", news, ends)
		p.queue("waiting", news, ends)
		p.queue("music", media, ends)
		if c, ok := p.Playing(); !ok || c != Announcement {
			t.Errorf("playing %v, %v", c, ok)
		}
		p.Silence()
		for range 3 {
			if got := <-ends; got.at != 0 || !errors.Is(got.err, ErrSilenced) {
				t.Errorf("%+v", got)
			}
		}
		if _, ok := p.Playing(); ok {
			t.Error("a sound is playing")
		}
		p.queue("later", news, ends)
		if got := <-ends; got.err != nil {
			t.Errorf("after the silence: %v", got)
		}
	})
}

// Waiting sounds get the end of Run as their result, and a sound that is slow to
// start ends at once.
func TestEndOfRunEndsTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, stop := start(t)
		ends := make(chan outcome, 10)
		slow := func(ctx context.Context) (audio.Sound, error) { <-ctx.Done(); return nil, context.Cause(ctx) }
		if err := p.Queue(Item{Class: Answer, Open: slow}, func(err error) { ends <- outcome{"slow", 0, err} }); err != nil {
			t.Fatal(err)
		}
		p.queue("waiting", news, ends)
		stop()
		for range 2 {
			if got := <-ends; !errors.Is(got.err, context.Canceled) {
				t.Errorf("%+v", got)
			}
		}
	})
}

func TestSoundThatCannotStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, stop := start(t)
		defer stop()
		broken := errors.New("no such voice")
		open := func(context.Context) (audio.Sound, error) { return nil, broken }
		if err := p.Play(t.Context(), Item{Open: open}); !errors.Is(err, broken) || len(p.cards) != 0 {
			t.Errorf("%v, %d cards", err, len(p.cards))
		}
	})
}
