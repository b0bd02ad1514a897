package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"lintod/agent"
	"lintod/agent/control"
	"lintod/audio/audiotest"
	"lintod/audio/wav"
)

// card measures the time from tapping a card with local content to its first sample at the speaker:
// without load, and while a hundred browsers have the web page open.
func (b *bench) card(ctx context.Context, rounds int) (rows []row, err error) {
	return rows, withRig(ctx, func(_ *tb, rig *audiotest.Rig) error {
		story := filepath.Join(b.dir, "story.mp3")
		if err := os.WriteFile(story+".wav", wav.Encode(audiotest.Chirp(5*time.Minute), audiotest.Rate), 0o600); err != nil {
			return err
		}
		if out, err := exec.CommandContext(ctx, "lame", "--quiet", story+".wav", story).CombinedOutput(); err != nil {
			return fmt.Errorf("lame: %w: %s", err, out)
		}
		t, stop, err := b.terminal(ctx, "reads", settings{
			audio: realSound, env: rig.Env(), more: fmt.Sprintf("[page]\nenabled = true\nlisten = \"127.0.0.1:0\"\n[cards.map]\n04A1B2C3 = %q\n", story),
		})
		if err != nil {
			return err
		}
		defer stop()
		alone, err := t.taps(ctx, rig, rounds)
		if err != nil {
			return err
		}
		leave, err := t.view(ctx, 100)
		if err != nil {
			return err
		}
		defer leave()
		u, began := used(t.pid), time.Now()
		watched, err := t.taps(ctx, rig, rounds)
		if err != nil {
			return err
		}
		cpu := 100 * used(t.pid).since(u).cpu.Seconds() / time.Since(began).Seconds()
		lonely := quantile(alone, 0.5)
		rows = []row{
			{"card → first sample, median", "ms", lonely, nil, "", "≤ 300 ms"},
			{"card → first sample, slowest", "ms", quantile(alone, 1), nil, "", "≤ 300 ms"},
			{"card → first sample beside 100 browsers, median", "ms", quantile(watched, 0.5), &lonely, "without browsers", "reference + 5 ms"},
			{"CPU of lintod meanwhile", "% core", cpu, nil, "", ""},
		}
		return nil
	})
}

// taps taps a card, waits for its sound, and pauses it again.
func (t terminal) taps(ctx context.Context, rig *audiotest.Rig, rounds int) (times []float64, err error) {
	tap := func(want string) error {
		var reply agent.CardReply
		if err := control.Call(ctx, t.socket(t.serial), "card", agent.CardArgs{UID: "04A1B2C3"}, &reply); err != nil {
			return err
		}
		if string(reply.Result) != want {
			return fmt.Errorf("the card %q; want %q", reply.Result, want)
		}
		return nil
	}
	for range rounds {
		if err := pause(ctx, 1200*time.Millisecond); err != nil { // two taps within a second count as one
			return nil, err
		}
		played := rig.Hear()
		began := time.Now()
		if err := tap("plays"); err != nil {
			return nil, err
		}
		played.WaitFor("the story", func(pcm []int16) bool { return len(pcm) > 8000 && audiotest.Loud(pcm[len(pcm)-8000:]) })
		for i, s := range played.Stop() {
			if s > 300 || s < -300 {
				times = append(times, ms(played.At(i).Sub(began)))
				break
			}
		}
		if err := errors.Join(pause(ctx, 1200*time.Millisecond), tap("paused")); err != nil {
			return nil, err
		}
	}
	return times, nil
}

// view opens the device's web page in browsers, until leave is called.
func (t terminal) view(ctx context.Context, n int) (leave func(), err error) {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	leave = func() { cancel(); running.Wait() }
	client := &http.Client{Transport: &http.Transport{MaxConnsPerHost: n + 1}}
	for range n {
		var reply agent.PageReply
		if err := control.Call(ctx, t.socket(t.serial), "page", nil, &reply); err != nil {
			leave()
			return nil, err
		}
		events, err := follow(ctx, client, reply.URL)
		if err != nil {
			leave()
			return nil, err
		}
		running.Go(func() { defer events.Close(); _, _ = io.Copy(io.Discard, events) })
	}
	return leave, nil
}

// follow opens a session with the key of an address, and the page's event stream.
func follow(ctx context.Context, client *http.Client, address string) (io.ReadCloser, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	base := "http://" + u.Host
	_, key, _ := strings.Cut(u.Fragment, "key=")
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, base+"/session", strings.NewReader(`{"key":"`+key+`"}`))
	if err != nil {
		return nil, err
	}
	answer, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	var session struct{ Result string }
	if err := json.NewDecoder(answer.Body).Decode(&session); err != nil || session.Result == "" {
		return nil, fmt.Errorf("no session: %s, %w", answer.Status, err)
	}
	if request, err = http.NewRequestWithContext(ctx, http.MethodGet, base+"/events", http.NoBody); err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+session.Result)
	events, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	if events.StatusCode != http.StatusOK {
		events.Body.Close()
		return nil, errors.New(events.Status)
	}
	return events.Body, nil
}
