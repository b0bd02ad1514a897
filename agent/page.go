package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"lintod/agent/link"
	"lintod/agent/page"
	"lintod/agent/status"
	"lintod/agent/taps"
	"lintod/agent/turn"
)

// PageArgs are the arguments of page on the unix socket.
type PageArgs struct {
	Kiosk bool `json:"kiosk,omitempty"` // for a screen on the device
}

// PageReply is the answer to page.
type PageReply struct {
	URL string `json:"url"` // works once, within ten minutes
}

// openPage gives clients of the socket access to the page.
func (a *Agent) openPage(_ context.Context, raw json.RawMessage) (any, error) {
	var args PageArgs
	if err := json.Unmarshal(raw, &args); err != nil {
		return nil, fmt.Errorf("arguments of page: %w", err)
	}
	if a.page == nil {
		return nil, errors.New("the page is not enabled; set enabled = true in [page] of the configuration")
	}
	address, err := a.page.Address(args.Kiosk)
	return PageReply{URL: string(address)}, err
}

// pageView is the device's state as the page shows it.
type pageView struct {
	status.Activity
	Serial     string          `json:"serial"`
	Line       string          `json:"line"`
	Look       string          `json:"look"` // the pattern of the LEDs
	Links      []string        `json:"links"`
	Volume     int             `json:"volume"` // percent
	Language   string          `json:"language"`
	Languages  []string        `json:"languages"`
	Activation link.Activation `json:"activation,omitzero"`
	Card       *taps.Playing   `json:"card,omitempty"` // what a card plays
}

// newPage makes the page. It offers what the owner could do at the device, and
// nothing that needs permission in the configuration.
func (a *Agent) newPage() *page.Page {
	l := a.local()
	post := func(e turn.Event) page.Command {
		return func(context.Context, json.RawMessage) (any, error) { a.turns.Post(e); return nil, nil }
	}
	return &page.Page{
		Config: a.cfg.Page, Bus: a.bus, Now: func() any { return a.pageView() }, Level: a.turns.Level, Picture: a.picture,
		Commands: map[string]page.Command{
			"press":    func(context.Context, json.RawMessage) (any, error) { return nil, a.turns.Trigger(turn.Press, "") },
			"release":  post(turn.Release),
			"letgo":    post(turn.LetGo),
			"stop":     post(turn.Stop),
			"talk":     l.talk,
			"mute":     a.setMuted,
			"volume":   a.setVolume,
			"say":      l.say,
			"ask":      l.ask,
			"language": a.setLanguage,
			"status":   func(context.Context, json.RawMessage) (any, error) { return a.status(), nil },
			"log":      func(context.Context, json.RawMessage) (any, error) { return a.recent.Lines(), nil },
			"doctor":   a.examine,
		},
		Log: component(a.log, "page"),
	}
}

func (a *Agent) pageView() pageView {
	set, now := a.settings.Get(), a.monitor.activity()
	v := pageView{
		Activity: now, Serial: a.cfg.Device.Serial, Line: now.Line(), Look: now.LEDs().Look(),
		Volume: set.Volume, Language: set.Language, Languages: a.cfg.TTS.Languages(),
	}
	v.Card = a.taps.Status()
	for _, l := range a.links {
		v.Links = append(v.Links, l.Name())
		if s := l.Status(); s.Activation != (link.Activation{}) {
			v.Activation = s.Activation
		}
	}
	return v
}

// picture returns the picture of what a card plays.
func (a *Agent) picture() string {
	if p := a.taps.Status(); p != nil {
		return p.Picture
	}
	return ""
}

// examine runs one examination at a time, because it plays sound.
func (a *Agent) examine(ctx context.Context, _ json.RawMessage) (any, error) {
	if !a.examining.TryLock() {
		return nil, errors.New("the doctor is already running; try again when it has finished")
	}
	defer a.examining.Unlock()
	return administered{a}.Examine(ctx)
}

func (a *Agent) setLanguage(_ context.Context, raw json.RawMessage) (any, error) {
	var args struct {
		Tag string `json:"tag"`
	}
	if err := json.Unmarshal(raw, &args); err != nil {
		return nil, fmt.Errorf("arguments of language: %w", err)
	}
	return nil, a.settings.SetLanguage(args.Tag)
}

func (a *Agent) setMuted(ctx context.Context, raw json.RawMessage) (any, error) {
	var args struct {
		On bool `json:"on"`
	}
	if err := json.Unmarshal(raw, &args); err != nil {
		return nil, fmt.Errorf("arguments of mute: %w", err)
	}
	return nil, a.settings.SetMuted(ctx, args.On)
}

// setVolume sets the volume now and for the next start, as the buttons do.
func (a *Agent) setVolume(_ context.Context, raw json.RawMessage) (any, error) {
	var args struct {
		Percent int `json:"percent"`
	}
	if err := json.Unmarshal(raw, &args); err != nil {
		return nil, fmt.Errorf("arguments of volume: %w", err)
	}
	if args.Percent < 0 || args.Percent > 100 {
		return nil, errors.New("percent must be from 0 to 100")
	}
	a.settings.SetVolume(args.Percent)
	return nil, a.settings.KeepVolume(args.Percent)
}
