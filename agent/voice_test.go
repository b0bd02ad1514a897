package agent

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"lintod/agent/broker/brokertest"
	"lintod/agent/turn"
	"lintod/audio"
	"lintod/audio/player"
	"lintod/behaviors"
)

// talkative returns a running device on which every text takes ten seconds.
func talkative(t *testing.T) (*Agent, *turn.Subscription) {
	cfg := quiet(t)
	cfg.TTS.Engine, cfg.TTS.Rate = "command", 16000
	cfg.TTS.Command = []string{"sh", "-c", "cat >/dev/null; head -c 320000 /dev/zero"}
	a := New(cfg, slog.New(slog.DiscardHandler))
	notices := a.bus.Subscribe(noticeQueue)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	for _, run := range []func(context.Context) error{a.player.Run, a.turns.Run} {
		go func() { ended <- run(ctx) }()
	}
	t.Cleanup(func() {
		cancel()
		<-ended
		<-ended
		notices.Close()
	})
	return a, notices
}

// hear waits for the next notice of an announcement.
func hear(t *testing.T, notices *turn.Subscription, what turn.What, text string) {
	t.Helper()
	var n turn.Notice
	brokertest.Eventually(t, string(what), func() bool {
		select {
		case n = <-notices.C:
			return n.What == turn.Announcing || n.What == turn.Announced || n.What == turn.Problem
		default:
			return false
		}
	})
	if n.What != what || n.Text != text {
		t.Fatalf("got %s %q, want %s %q", n.What, n.Text, what, text)
	}
}

// A new say interrupts the last one; stop ends all announcements, including
// those of scripts.
func TestAnnouncements(t *testing.T) {
	a, notices := talkative(t)
	d := a.box()
	began, ended := make(chan string, 10), make(chan error, 10)
	for _, text := range []string{"first", "second"} {
		if err := d.Say(text, behaviors.Progress{Began: func() { began <- text }, Ended: func(err error) { ended <- err }}); err != nil {
			t.Fatal(err)
		}
		if text == "second" {
			hear(t, notices, turn.Announced, player.ErrReplaced.Error())
			if err := <-ended; !errors.Is(err, behaviors.ErrCut) {
				t.Errorf("the first ended with %v", err)
			}
		}
		hear(t, notices, turn.Announcing, text)
		if got := <-began; got != text {
			t.Errorf("%q began, want %q", got, text)
		}
	}
	if line := a.monitor.activity().Line(); line != "speaking, offline" {
		t.Errorf("status %q", line)
	}
	if err := a.voice.Announce("", "of a script", behaviors.Progress{}); err != nil {
		t.Fatal(err)
	}
	a.turns.Post(turn.Stop)
	hear(t, notices, turn.Announced, player.ErrSilenced.Error())
	hear(t, notices, turn.Announced, player.ErrSilenced.Error())
	if err := <-ended; !errors.Is(err, behaviors.ErrCut) || len(began)+len(ended) > 0 {
		t.Errorf("the second ended with %v, and %d more", err, len(began)+len(ended))
	}
	if line := a.monitor.activity().Line(); line != "idle, offline" {
		t.Errorf("status %q", line)
	}
}

// Interrupting `lintod say` with ^C silences the device.
func TestSayEndsWithItsCaller(t *testing.T) {
	a, notices := talkative(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	script, gone := make(chan error, 1), errors.New("the client has gone")
	go func() { script <- a.voice.Say(ctx, "a long story") }()
	hear(t, notices, turn.Announcing, "a long story")
	cancel(gone)
	if err := <-script; !errors.Is(err, gone) {
		t.Error(err)
	}
	hear(t, notices, turn.Announced, gone.Error()) // without an error
	if _, playing := a.player.Playing(); playing {
		t.Error("the device still speaks")
	}
}

func TestMuteIsAudible(t *testing.T) {
	a, _ := talkative(t)
	ctx, cancel := context.WithCancel(t.Context())
	hub := make(chan error, 1)
	go func() { hub <- a.hub.Run(ctx) }()
	defer func() { cancel(); <-hub }()
	d := a.box()
	for _, step := range []struct{ muted, heard bool }{{false, false}, {true, true}, {true, false}, {false, true}} {
		before := a.player.Stats().Frames
		if err := d.SetMuted(ctx, step.muted); err != nil {
			t.Fatal(err)
		}
		// An announcement of one frame, before which a chime would be audible.
		open := func(context.Context) (audio.Sound, error) { return player.PCM(make([]int16, 10), a.player.Rate), nil }
		if err := a.player.Play(ctx, player.Item{Class: player.Announcement, Open: open}); err != nil {
			t.Fatal(err)
		}
		if n := a.player.Stats().Frames - before; (n > 1) != step.heard {
			t.Errorf("%+v: %d frames", step, n)
		}
	}
}

// A text that is too long is spoken up to the limit, and an error is reported at
// its end.
func TestTruncatedTextIsReported(t *testing.T) {
	a, notices := talkative(t)
	for text, fails := range map[string]bool{"short": false, strings.Repeat("A sentence. ", 1000): true} {
		told := make(chan error, 4)
		if err := a.box().Say(text, behaviors.Progress{Ended: func(err error) { told <- err }}); err != nil {
			t.Fatal(err)
		}
		hear(t, notices, turn.Announcing, text)
		a.voice.Hush()
		brokertest.Eventually(t, "silence", func() bool { return !a.voice.Announcing() })
		hear(t, notices, turn.Announced, player.ErrSilenced.Error())
		if err := <-told; err == nil || errors.Is(err, behaviors.ErrCut) == fails {
			t.Errorf("%d bytes: ended with %v", len(text), err)
		}
	}
}
