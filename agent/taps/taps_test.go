package taps

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"lintod/agent/cards"
	"lintod/agent/link"
	"lintod/agent/turn"
	"lintod/audio"
	"lintod/audio/filecard"
	"lintod/audio/player"
	"lintod/gpio"
	"lintod/gpio/rfid"
)

const track = 60 * time.Second

// rig is a device with a silent speaker, a platform that follows the test, and
// tracks of a minute, in a bubble.
type rig struct {
	*testing.T
	*Taps
	mu      sync.Mutex
	opened  []string // names of files
	pressed []gpio.Action
	cues    []turn.Cue
	asked   []link.Card
	removed []string
	refuse  error                // error of LookUpCard
	reply   func(card link.Card) // called by LookUpCard
	broken  error                // error of opened sounds
}

func (r *rig) LookUpCard(_ context.Context, c link.Card) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked = append(r.asked, c)
	if r.refuse == nil && r.reply != nil {
		go r.reply(c)
	}
	return r.refuse
}

func (r *rig) CardRemoved(uid string) { r.removed = append(r.removed, uid) }

func (r *rig) open(_ context.Context, path string, from time.Duration) (audio.Sound, time.Duration, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.opened = append(r.opened, filepath.Base(path))
	if r.broken != nil {
		return nil, 0, r.broken
	}
	at := from.Truncate(10 * time.Second) // it starts earlier
	return player.PCM(make([]int16, int((track-at).Seconds())*8000), 8000), at, nil
}

// run runs a device with the content of a directory, while f runs.
func run(t *testing.T, dir string, list map[string]string, f func(*rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := &rig{T: t}
		log := slog.New(slog.NewTextHandler(t.Output(), nil))
		store := &cards.Store{Config: cards.Defaults(), Log: log}
		store.Config.Directory = dir
		if err := store.Open(); err != nil {
			t.Fatal(err)
		}
		loudspeaker := &player.Player{Open: filecard.Card("null").OpenOutput, Rate: 8000, Log: log}
		r.Taps = &Taps{
			Config: Config{Map: list}, Store: store, Player: loudspeaker, Open: r.open, Log: log,
			Press: func(a gpio.Action) { r.pressed = append(r.pressed, a) },
			Cue:   func(c turn.Cue) { r.cues = append(r.cues, c) },
		}
		r.Taps.Platforms = []Platform{r}
		store.Done = r.Downloaded
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		for _, part := range []func(context.Context) error{r.Taps.Run, loudspeaker.Run, store.Run} {
			running.Go(func() { _ = part(ctx) })
		}
		f(r)
		cancel()
		running.Wait()
	})
}

// tap places a card on the device, a moment after the last one.
func (r *rig) tap(uid string, want Result) {
	r.Helper()
	time.Sleep(settle)
	got, err := r.Tap(r.Context(), uid)
	if got != want || (err == nil) != (want != "") {
		r.Errorf("card %s: %q, %v; want %q", uid, got, err, want)
	}
	synctest.Wait()
}

// at checks what plays: the name of the track, and the position in seconds.
func (r *rig) at(name string, second int64, paused bool) {
	r.Helper()
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.Status()
	if p == nil {
		r.Errorf("nothing plays; want %s", name)
		return
	}
	if got := r.opened[len(r.opened)-1]; got != name || p.Paused != paused || p.Seconds < second-2 || p.Seconds > second+2 {
		r.Errorf("%s at %d s, paused %v; want %s at %d s, paused %v", got, p.Seconds, p.Paused, name, second, paused)
	}
}

// folder returns a directory with some tracks, and other files.
func folder(t *testing.T, names ...string) string {
	dir := t.TempDir()
	for _, name := range append(names, "cover.jpg", "notes.txt") {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestTheOwnersMap(t *testing.T) {
	tales := folder(t, "1.mp3", "2.MP3", "3.flac")
	run(t, t.TempDir(), map[string]string{
		"04:a1": tales, "04A2": "https://radio.example/live.mp3", "04-a3": "say good night",
		"04A4": `behavior volume {"percent": 30}`, "04A5": "/nowhere/at/all", "04A6": filepath.Join(tales, "2.MP3"),
	}, func(r *rig) {
		r.tap("04A1", Plays)
		time.Sleep(30 * time.Second)
		r.at("1.mp3", 30, false)
		time.Sleep(track)
		r.at("2.MP3", 30, false)
		r.tap("04A2", Plays)
		r.at("live.mp3", 0, false)
		r.tap("04A6", Plays)
		r.at("2.MP3", 0, false)
		r.tap("04A3", Done)
		r.tap("04A4", Done)
		if len(r.pressed) != 2 || r.pressed[0].Verb != gpio.Say || r.pressed[1].Name != "volume" {
			t.Errorf("actions %v", r.pressed)
		}
		if r.tap("04A5", ""); len(r.cues) != 1 {
			t.Errorf("a card that cannot play plays the cues %v", r.cues)
		}
		r.tap("04A1", Plays) // at the saved position
		r.at("2.MP3", 31, false)
		if len(r.asked) != 0 {
			t.Errorf("the platform was asked about cards of the owner's map: %v", r.asked)
		}
	})
}

func TestMovingInAStory(t *testing.T) {
	state := t.TempDir()
	tales := map[string]string{"04A1": folder(t, "1.mp3", "2.mp3", "3.mp3")}
	run(t, state, tales, func(r *rig) {
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Error(err)
			}
		}
		if err := r.Pause(); !errors.Is(err, errNothing) {
			t.Errorf("pause without a story: %v", err)
		}
		r.tap("04A1", Plays)
		time.Sleep(20 * time.Second)
		must(r.Skip(1))
		r.at("2.mp3", 0, false)
		must(r.Skip(-1))
		r.at("1.mp3", 0, false)
		must(r.Skip(-1))
		r.at("1.mp3", 0, false)
		must(r.Skip(1))
		time.Sleep(20 * time.Second)
		must(r.Skip(-1)) // the start of this track
		r.at("2.mp3", 0, false)
		time.Sleep(30 * time.Second)
		r.tap("04A1", Paused)
		r.at("2.mp3", 31, true)
		time.Sleep(time.Hour)
		r.at("2.mp3", 31, true)
		must(r.Pause())
		time.Sleep(5 * time.Second)
		r.at("2.mp3", 36, false)
		if got, err := r.Tap(r.Context(), "04A1"); got != Paused || err != nil {
			t.Errorf("%v, %v", got, err)
		}
		if got, err := r.Tap(r.Context(), "04a1"); got != Ignored || err != nil { // a repeated read
			t.Errorf("%v, %v", got, err)
		}
		must(r.Pause())
		synctest.Wait()
		r.Player.SetTurn(true) // a turn is running
		time.Sleep(time.Second)
		r.at("2.mp3", 36, true)
		r.Player.SetTurn(false)
		time.Sleep(time.Minute)
		r.at("2.mp3", 36, true)
		r.tap("04A1", Plays)
		time.Sleep(5 * time.Second)
	})
	run(t, state, tales, func(r *rig) { // after a restart
		r.tap("04A1", Plays)
		r.at("2.mp3", 41, false)
		time.Sleep(2 * track)
		synctest.Wait()
		if p := r.Status(); p != nil {
			t.Errorf("%+v after the last track", p)
		}
		r.tap("04A1", Plays) // from its start
		r.at("1.mp3", 0, false)
	})
}

// shelved is a content directory with a skill of two tracks, and its card.
func shelved(t *testing.T, uid, skill string) string {
	dir := t.TempDir()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "ID3\x04\x00\x00\x00\x00\x00\x00")
	}))
	defer server.Close()
	done := make(chan error, 1)
	s := &cards.Store{
		Config: cards.Defaults(), Log: slog.New(slog.DiscardHandler),
		Done: func(_ []string, _ string, err error) { done <- err },
	}
	s.Config.Directory = dir
	if err := s.Open(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	running.Go(func() { _ = s.Run(ctx) })
	c := cards.Content{Skill: skill, Version: "1", Hosts: []string{"127.0.0.1"}, Files: []cards.File{
		{Kind: cards.Audio, Index: 1, URL: server.URL}, {Kind: cards.Audio, Index: 2, URL: server.URL},
	}}
	if err := s.Fetch(uid, c); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestContentOnTheDisk(t *testing.T) {
	run(t, shelved(t, "04A1", "fox1"), nil, func(r *rig) {
		r.refuse = errors.New("no network")
		r.tap("04A1", Plays)
		r.at("track1.mp3", 0, false)
		time.Sleep(track)
		r.at("track2.mp3", 0, false)
		if want := (link.Card{UID: "04A1", Skill: "fox1", Version: "1"}); !slices.Equal(r.asked, []link.Card{want}) {
			t.Errorf("asked %v", r.asked)
		}
		if len(r.cues) != 0 {
			t.Errorf("cues without a network: %v", r.cues)
		}
		r.broken = io.ErrUnexpectedEOF
		if err := r.Skip(-1); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if len(r.cues) != 1 || r.Status() != nil {
			t.Errorf("content that cannot be played: cues %v, %+v", r.cues, r.Status())
		}
	})
}

func TestPlatform(t *testing.T) {
	run(t, shelved(t, "04A1", "fox1"), nil, func(r *rig) {
		r.tap("04B1", "") // no platform answers
		if len(r.cues) != 1 {
			t.Errorf("cues %v", r.cues)
		}
		began := time.Now()
		r.reply = func(c link.Card) { time.Sleep(9 * time.Second); r.Unknown(c.UID, "who?") }
		if r.tap("04B2", ""); time.Since(began) > 11*time.Second {
			t.Errorf("the result of an answer after 9 s arrived after %v", time.Since(began))
		}
		r.reply = func(c link.Card) { r.Current(c.UID, "fox1") }
		r.tap("04B3", Plays)
		r.at("track1.mp3", 0, false)
		r.reply = nil
		r.tap("04B3", Paused) // the card is known now
		r.reply = func(c link.Card) { r.Current(c.UID, "nonesuch") }
		r.tap("04B4", "")
		r.reply = func(c link.Card) { r.Assistant(c.UID) }
		r.tap("04B5", Assistant)
		r.reply = func(c link.Card) { r.Content(c.UID, cards.Content{Skill: "../x"}) }
		r.tap("04B6", "")
		r.refuse = errors.New("no network")
		time.Sleep(settle)
		if _, err := r.Tap(r.Context(), "04B7"); !errors.Is(err, r.refuse) {
			t.Errorf("without a network: %v", err)
		}
		time.Sleep(time.Minute) // late timers have no effect
	})
}

// Of two cards in a row the latest counts, and one that was removed does not play.
func TestReplacedAndRemovedCards(t *testing.T) {
	run(t, t.TempDir(), nil, func(r *rig) {
		results := make(chan error, 2)
		for _, uid := range []string{"04A1", "04A2"} {
			go func() { _, err := r.Tap(r.Context(), uid); results <- err }()
			synctest.Wait()
		}
		if err := <-results; !errors.Is(err, errReplaced) {
			t.Errorf("the first card: %v", err)
		}
		if err := r.Remove("04:A2"); err != nil {
			t.Fatal(err)
		}
		if err := <-results; !errors.Is(err, errGone) {
			t.Errorf("the second card: %v", err)
		}
		synctest.Wait()
		r.Downloaded([]string{"04A1", "04A2"}, "fox1", nil)
		synctest.Wait()
		if r.Status() != nil || len(r.cues) != 0 || !slices.Equal(r.removed, []string{"04A2"}) {
			t.Errorf("plays %v, cues %v, removed %v", r.Status(), r.cues, r.removed)
		}
	})
}

// A card on a reader is a tap, and a card that was removed does not play.
func TestReader(t *testing.T) {
	run(t, t.TempDir(), map[string]string{"04A1": folder(t, "1.mp3")}, func(r *rig) {
		r.Read(rfid.Event{UID: "04A1"})
		r.at("1.mp3", 0, false)
		time.Sleep(5 * time.Second)
		r.Read(rfid.Event{UID: "04A1", Removed: true})
		r.at("1.mp3", 5, false) // playing continues: cards need not stay on the reader
		r.Read(rfid.Event{UID: "04A1"})
		r.at("1.mp3", 5, true)
		r.Read(rfid.Event{UID: "04B1"})
		r.Read(rfid.Event{UID: "04B1", Removed: true})
		synctest.Wait()
		r.Downloaded([]string{"04B1"}, "fox1", nil)
		r.at("1.mp3", 5, true)
		if !slices.Equal(r.removed, []string{"04A1", "04B1"}) {
			t.Errorf("removed %v", r.removed)
		}
	})
}

func TestValidate(t *testing.T) {
	c := Defaults()
	c.Map = map[string]string{
		"04A1B2C3": "/srv/tales", "04:A1:B2:C4": "http://radio.example/", "04A1B2C5": "say hello", "04A1B2C6": "stop",
		"nonsense": "/srv/tales", "04A1B2C7": "talk", "04A1B2C8": "shutdown", "04A1B2C9": "tales", "04A1B2CA": "",
	}
	if ps := c.Validate(); len(ps) != 5 {
		t.Errorf("%d problems: %v", len(ps), ps)
	}
	c = Defaults()
	c.Reader = rfid.Config{SPI: "0"}
	if ps := c.Validate(); len(ps) != 1 || ps[0].Key != "reader.spi" {
		t.Errorf("problems of the reader: %v", ps)
	}
	if ps := Defaults().Validate(); len(ps) != 0 {
		t.Errorf("the defaults are invalid: %v", ps)
	}
}
