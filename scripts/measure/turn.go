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

	"lintod/agent"
	"lintod/agent/broker"
	"lintod/agent/control"
	"lintod/agent/turn"
	"lintod/audio"
	"lintod/audio/soundtest"
	"lintod/audio/wav"
)

// terminal is a device whose turns are measured.
type terminal struct {
	*bench
	serial string
	pid    int
}

// terminal starts a device and waits until its microphone is warm.
func (b *bench) terminal(ctx context.Context, serial string, s settings) (t terminal, stop func(), err error) {
	cmd, err := b.device(ctx, serial, s)
	if err != nil {
		return t, nil, err
	}
	t = terminal{b, serial, cmd.Process.Pid}
	warm := func(s agent.Status) bool { return s.Mic.Frames > 50 && !s.Turn.Flags.Offline }
	if err := t.wait(ctx, "warm", warm); err != nil {
		end(cmd)
		return t, nil, err
	}
	return t, func() { end(cmd) }, nil
}

func (t terminal) status(ctx context.Context) (s agent.Status, err error) {
	return s, control.Call(ctx, t.socket(t.serial), "status", nil, &s)
}

func (t terminal) wait(ctx context.Context, what string, ok func(agent.Status) bool) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		if s, err := t.status(ctx); err == nil && ok(s) {
			return nil
		}
		if pause(ctx, 20*time.Millisecond) != nil {
			return fmt.Errorf("%s never became %s", t.serial, what)
		}
	}
}

func idle(s agent.Status) bool { return s.Turn.State == turn.Idle }

func (t terminal) talk(ctx context.Context, stop bool) error {
	return control.Call(ctx, t.socket(t.serial), "talk", agent.TalkArgs{Stop: stop}, nil)
}

func (t terminal) tell(ctx context.Context, topic, payload string) error {
	return t.conn.Publish(ctx, broker.Message{Topic: "bench/tolinto/" + t.serial + "/" + topic, Payload: []byte(payload), QoS: 1})
}

// next waits for a message whose topic begins so.
func (t terminal) next(topic string) (seen, error) {
	return t.expect("bench/fromlinto/" + t.serial + "/" + topic)
}

// live measures from the trigger to the first audio at the platform, and how
// much of what came before the trigger is there at once.
func (b *bench) live(ctx context.Context, rounds int) (rows []row, err error) {
	const goal = 30 * time.Millisecond // a frame and 10 ms
	return rows, withRig(ctx, func(_ *tb, rig *soundtest.Rig) error {
		t, stop, err := b.terminal(ctx, "live", settings{
			linto: "mode = \"stream\"\nchunk = \"20ms\"\ntext_request = \"none\"\n", audio: realSound, env: rig.Env(),
		})
		if err != nil {
			return err
		}
		defer stop()
		var first, before []float64
		for range rounds {
			if err := pause(ctx, time.Second); err != nil { // the pre-roll fills
				return err
			}
			began := time.Now()
			if err := t.talk(ctx, false); err != nil {
				return err
			}
			if _, err := t.next("streaming/start"); err != nil {
				return err
			}
			if err := t.tell(ctx, "streaming/start", started); err != nil {
				return err
			}
			chunk, err := t.next("streaming/chunk")
			if err != nil {
				return err
			}
			first = append(first, ms(chunk.at.Sub(began)))
			length := time.Duration(0)
			for ; err == nil && chunk.at.Sub(began) <= goal; chunk, err = t.next("streaming/chunk") {
				length += time.Duration(len(chunk.Payload)/2) * time.Second / audio.CaptureRate
			}
			before = append(before, ms(length))
			err = errors.Join(err, t.talk(ctx, true), t.tell(ctx, "streaming/stop", `{"behavior":{"streaming":{"status":"stop"}}}`), t.wait(ctx, "idle", idle))
			if err != nil {
				return err
			}
		}
		frame := ms(audio.FrameTime)
		rows = []row{
			{"trigger → first audio at the platform, median", "ms", quantile(first, 0.5), &frame, "a frame; the platform's own answer is in ours", "≤ 30 ms"},
			{"  sound that is there after 30 ms, median", "ms", quantile(before, 0.5), nil, "", "≥ 500 ms"},
		}
		return nil
	})
}

// request measures from the end of what was said to the request at the
// platform.
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

// say measures from a command of the platform to the first sample at the card,
// for texts that are new and for the same ones when they are said again.
func (b *bench) say(ctx context.Context, rounds int) (rows []row, err error) {
	return rows, withRig(ctx, func(_ *tb, rig *soundtest.Rig) error {
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

// events are what a device tells of announcements, from now on: one has been
// said, and heard of.
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
				limit = nil // it was said before anybody listened
			}
		}
	}
}

// sounded has a text said, and returns the milliseconds until it was heard, when
// all of it has been.
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

// firstByte is how long espeak-ng takes to its first sample, behind the header.
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

// bargeIn measures from a trigger to silence, at the loudspeaker.
func (b *bench) bargeIn(ctx context.Context, rounds int) (rows []row, err error) {
	return rows, withRig(ctx, func(_ *tb, rig *soundtest.Rig) error {
		story := filepath.Join(b.dir, "story.wav")
		if err := os.WriteFile(story, wav.Encode(soundtest.Chirp(20*time.Second), soundtest.Rate), 0o600); err != nil {
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
			ear := rig.Hear()
			if err := t.tell(ctx, "say", `{"value":"a story"}`); err != nil {
				return err
			}
			ear.WaitFor("the story", func(pcm []int16) bool { return len(pcm) > 8000 && soundtest.Loud(pcm[len(pcm)-8000:]) })
			began := time.Now()
			if err := errors.Join(t.talk(ctx, false), pause(ctx, 300*time.Millisecond)); err != nil {
				return err
			}
			heard := ear.Stop()
			for i, s := range slices.Backward(heard) {
				if s > 300 || s < -300 {
					times = append(times, ms(ear.At(i).Sub(began)))
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

func ms(d time.Duration) float64 { return d.Seconds() * 1000 }
