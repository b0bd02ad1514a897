package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"lintod/audio"
	"lintod/audio/audiotest"
	"lintod/audio/wav"
)

// liveGoal is the time by which the sound from before a trigger should have arrived: a frame and 10
// ms.
const liveGoal = 30 * time.Millisecond

// live measures the time from the trigger to the first audio at the platform, including the
// platform's answer to the request, and how much sound has arrived after liveGoal, most of it from
// before the trigger.
func (b *bench) live(ctx context.Context, rounds int) (rows []row, err error) {
	return rows, withRig(ctx, func(_ *tb, rig *audiotest.Rig) error {
		t, stop, err := b.terminal(ctx, "live", settings{
			linto: "mode = \"stream\"\nchunk = \"20ms\"\ntext_request = \"none\"\n", audio: realSound, env: rig.Env(),
		})
		if err != nil {
			return err
		}
		defer stop()
		var firsts, lengths []float64
		for range rounds {
			first, length, err := t.liveTurn(ctx)
			if err != nil {
				return err
			}
			firsts, lengths = append(firsts, ms(first)), append(lengths, ms(length))
		}
		frame := ms(audio.FrameTime)
		rows = []row{
			{"trigger → first audio at the platform, median", "ms", quantile(firsts, 0.5), &frame, "a frame; the platform's own answer is in ours", "≤ 30 ms"},
			{"  sound that is there after 30 ms, median", "ms", quantile(lengths, 0.5), nil, "", "≥ 500 ms"},
		}
		return nil
	})
}

// liveTurn runs a turn, and returns when its first audio arrived, and how much had arrived after
// liveGoal.
func (t terminal) liveTurn(ctx context.Context) (first, length time.Duration, err error) {
	if err := pause(ctx, time.Second); err != nil { // the pre-roll fills
		return 0, 0, err
	}
	began := time.Now()
	if err := t.talk(ctx, false); err != nil {
		return 0, 0, err
	}
	if _, err := t.next("streaming/start"); err != nil {
		return 0, 0, err
	}
	if err := t.tell(ctx, "streaming/start", started); err != nil {
		return 0, 0, err
	}
	chunk, err := t.next("streaming/chunk")
	first = chunk.at.Sub(began)
	for ; err == nil && chunk.at.Sub(began) <= liveGoal; chunk, err = t.next("streaming/chunk") {
		length += time.Duration(len(chunk.Payload)/2) * time.Second / audio.CaptureRate
	}
	err = errors.Join(err, t.talk(ctx, true), t.tell(ctx, "streaming/stop", `{"behavior":{"streaming":{"status":"stop"}}}`), t.wait(ctx, "idle", idle))
	return first, length, err
}

// request measures the time from the end of speech to the request at the platform.
func (b *bench) request(ctx context.Context, rounds int) ([]row, error) {
	t, stop, err := b.terminal(ctx, "file", settings{})
	if err != nil {
		return nil, err
	}
	defer stop()
	file := filepath.Join(b.dir, "utterance.wav")
	if err := os.WriteFile(file, wav.Encode(make([]int16, 3*audio.CaptureRate), audio.CaptureRate), 0o600); err != nil {
		return nil, err
	}
	var ours, theirs []float64
	for range min(rounds, 5) {
		if err := errors.Join(t.talk(ctx, false), pause(ctx, 2500*time.Millisecond)); err != nil {
			return nil, err
		}
		began := time.Now()
		if err := t.talk(ctx, true); err != nil {
			return nil, err
		}
		m, err := t.next("nlp/file/")
		if err != nil {
			return nil, err
		}
		ours = append(ours, ms(m.at.Sub(began)))
		_, answer, _ := strings.Cut(m.Topic, t.serial+"/")
		if err := errors.Join(t.tell(ctx, answer, `{"behavior":{}}`), t.wait(ctx, "idle", idle)); err != nil {
			return nil, err
		}
		began = time.Now()
		if err := exec.CommandContext(ctx, "base64", file).Run(); err != nil {
			return nil, err
		}
		theirs = append(theirs, ms(time.Since(began)))
	}
	reference := quantile(theirs, 0.5)
	return []row{{"end of 3 s of speech → request at the platform, median", "ms", quantile(ours, 0.5), &reference, "base64(1) of the same WAV, from start to end", "≤ 10 ms"}}, nil
}

func ms(d time.Duration) float64 { return d.Seconds() * 1000 }
