package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"lintod/agent/control"
	"lintod/agent/turn"
	"lintod/audio/audiotest"
	"lintod/audio/wav"
)

// say measures the time from a command of the platform to the first sample at the card, for new and
// for repeated texts.
func (b *bench) say(ctx context.Context, rounds int) (rows []row, err error) {
	return rows, withRig(ctx, func(_ *tb, rig *audiotest.Rig) error {
		t, stop, err := b.terminal(ctx, "says", settings{audio: realSound, env: rig.Env()})
		if err != nil {
			return err
		}
		defer stop()
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		notices, err := t.events(ctx)
		if err != nil {
			return err
		}
		var fresh, again, theirs []float64
		for i := range rounds {
			text := fmt.Sprintf("It is %d minutes past ten o'clock.", i)
			alone, err := firstByte(ctx, text)
			if err != nil {
				return err
			}
			theirs = append(theirs, ms(alone))
			for _, figure := range []*[]float64{&fresh, &again} {
				took, err := t.sounded(ctx, notices, text)
				if err != nil {
					return err
				}
				*figure = append(*figure, took)
			}
		}
		engine := quantile(theirs, 0.5)
		rows = []row{
			{"say → first sample at the card, median", "ms", quantile(fresh, 0.5), &engine, "espeak-ng alone, to its first sample", "reference + 15 ms"},
			{"say of what was said before → first sample at the card, median", "ms", quantile(again, 0.5), &engine, "the same", "≤ 15 ms"},
		}
		return nil
	})
}

// events returns the device's events about announcements, starting after one has been spoken.
func (t terminal) events(ctx context.Context) (<-chan turn.Notice, error) {
	notices := make(chan turn.Notice, 100)
	ended := make(chan error, 1)
	go func() {
		ended <- control.Stream(ctx, t.socket(t.serial), "events", nil, func(raw json.RawMessage) error {
			var n turn.Notice
			if err := json.Unmarshal(raw, &n); err != nil {
				return err
			}
			if n.What == turn.Announcing || n.What == turn.Announced {
				notices <- n
			}
			return nil
		})
	}()
	for {
		if err := t.tell(ctx, "say", `{"value":"One."}`); err != nil {
			return nil, err
		}
		for limit := time.After(5 * time.Second); limit != nil; {
			select {
			case n := <-notices:
				if n.What == turn.Announced && n.Text == "" {
					return notices, nil
				}
			case err := <-ended:
				return nil, err
			case <-limit:
				limit = nil // it was spoken before the subscription
			}
		}
	}
}

// sounded has a text spoken, and returns the milliseconds until its first sample, after its last
// sample.
func (t terminal) sounded(ctx context.Context, notices <-chan turn.Notice, text string) (took float64, err error) {
	began := time.Now()
	if err := t.tell(ctx, "say", `{"value":"`+text+`"}`); err != nil {
		return 0, err
	}
	for limit := time.After(patience); ; {
		select {
		case n := <-notices:
			if n.What == turn.Announced {
				return took, nil
			}
			took = ms(n.At.Sub(began))
		case <-limit:
			return 0, errors.New("nothing was said")
		}
	}
}

// firstByte returns how long espeak-ng takes to its first sample, after the header.
func firstByte(ctx context.Context, text string) (time.Duration, error) {
	cmd := exec.CommandContext(ctx, "espeak-ng", "-v", "en-us", "--stdin", "--stdout")
	cmd.Stdin = strings.NewReader(text)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	_, err = io.ReadFull(out, make([]byte, 46))
	took := time.Since(began)
	_, _ = io.Copy(io.Discard, out)
	return took, errors.Join(err, cmd.Wait())
}

// bargeIn measures the time from a trigger to silence at the speaker.
func (b *bench) bargeIn(ctx context.Context, rounds int) (rows []row, err error) {
	return rows, withRig(ctx, func(_ *tb, rig *audiotest.Rig) error {
		story := filepath.Join(b.dir, "story.wav")
		if err := os.WriteFile(story, wav.Encode(audiotest.Chirp(20*time.Second), audiotest.Rate), 0o600); err != nil {
			return err
		}
		t, stop, err := b.terminal(ctx, "speaks", settings{
			audio: realSound, env: rig.Env(),
			more: fmt.Sprintf("[tts]\nengine = \"command\"\ncommand = [\"cat\", %q]\n", story),
		})
		if err != nil {
			return err
		}
		defer stop()
		var times []float64
		for range rounds {
			played := rig.Hear()
			if err := t.tell(ctx, "say", `{"value":"a story"}`); err != nil {
				return err
			}
			played.WaitFor("the story", func(pcm []int16) bool { return len(pcm) > 8000 && audiotest.Loud(pcm[len(pcm)-8000:]) })
			began := time.Now()
			if err := errors.Join(t.talk(ctx, false), pause(ctx, 300*time.Millisecond)); err != nil {
				return err
			}
			heard := played.Stop()
			for i, s := range slices.Backward(heard) {
				if s > 300 || s < -300 {
					times = append(times, ms(played.At(i).Sub(began)))
					break
				}
			}
			if err := errors.Join(t.talk(ctx, true), t.wait(ctx, "idle", idle)); err != nil {
				return err
			}
		}
		rows = []row{{"trigger while speaking → silence, median", "ms", quantile(times, 0.5), nil, "", "≤ 40 ms"}}
		return nil
	})
}
