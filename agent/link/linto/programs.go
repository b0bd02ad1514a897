package linto

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"lintod/agent/process"
)

const (
	actionQueue  = 16       // newest dropped: what was asked for first is done first
	maxAction    = 64 << 10 // bytes of one event
	actionLimit  = 30 * time.Second
	programGrace = time.Second // between SIGTERM and SIGKILL
)

// display is something to show (protocol 1.4).
type display struct {
	Type    string `json:"type"` // "URL" or "DOCSTRING", which is HTML
	Content string `json:"content"`
}

func parseDisplay(raw json.RawMessage) (*display, error) {
	if !present(raw) {
		return nil, nil
	}
	var d display
	if json.Unmarshal(raw, &d) != nil || d.Content == "" {
		return nil, errors.New("display is not {type, content}")
	}
	switch d.Type = strings.ToUpper(d.Type); d.Type {
	case "DOCSTRING":
		return &d, nil
	case "URL":
		u, err := url.Parse(d.Content)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return nil, fmt.Errorf("display of %q; want an address of http or https", clip(d.Content, 60))
		}
		return &d, nil
	}
	return nil, fmt.Errorf("display of the type %q; want URL or DOCSTRING", clip(d.Type, 20))
}

// programs hand what the platform wants shown or done to the owner's programs.
// What they are is in the configuration; no message chooses them, and no shell
// reads what it says.
type programs struct {
	// display is run for each display, which replaces the one before. "{content}"
	// among its arguments stands for what to show and "{type}" for its type;
	// without "{content}" the content comes on standard input.
	display []string
	// action is run for each custom action, one after the other, with the event as
	// JSON on standard input.
	action []string
	log    *slog.Logger

	screen  chan display // the newest
	events  chan []byte
	dropped atomic.Int64 // events that there was no room for
}

func newPrograms(cfg Config, log *slog.Logger) *programs {
	return &programs{
		display: cfg.DisplayCommand, action: cfg.ActionCommand, log: log,
		screen: make(chan display, 1), events: make(chan []byte, actionQueue),
	}
}

// show never blocks.
func (p *programs) show(d display) {
	if len(p.display) == 0 {
		return
	}
	select {
	case <-p.screen:
	default:
	}
	select {
	case p.screen <- d:
	default:
	}
}

// do never blocks.
func (p *programs) do(event []byte) {
	if len(p.action) == 0 {
		return
	}
	select {
	case p.events <- event:
	default:
		p.dropped.Add(1)
		p.log.Warn("action dropped: action_command is too slow")
	}
}

// run runs what comes until ctx ends.
func (p *programs) run(ctx context.Context) {
	var screens sync.WaitGroup
	defer screens.Wait()
	screens.Go(func() { p.runScreens(ctx) })
	for {
		select {
		case <-ctx.Done():
			return
		case event := <-p.events:
			p.runAction(ctx, event)
		}
	}
}

func (p *programs) runAction(ctx context.Context, event []byte) {
	ctx, cancel := context.WithTimeoutCause(ctx, actionLimit, fmt.Errorf("action_command took more than %v", actionLimit))
	defer cancel()
	if err := runProgram(ctx, p.action, string(event)); err != nil {
		p.log.Warn("action_command failed", "error", err)
	}
}

// runScreens shows one display until the next comes; a program that ends by
// itself leaves it at that.
func (p *programs) runScreens(ctx context.Context) {
	var screen sync.WaitGroup
	end := func() {}
	defer func() { end(); screen.Wait() }()
	for {
		select {
		case <-ctx.Done():
			return
		case d := <-p.screen:
			end()
			screen.Wait()
			shown, cancel := context.WithCancel(ctx)
			end = cancel
			screen.Go(func() {
				defer cancel()
				if err := runDisplay(shown, p.display, d); err != nil && shown.Err() == nil {
					p.log.Warn("display_command failed", "error", err)
				}
			})
		}
	}
}

func runDisplay(ctx context.Context, argv []string, d display) error {
	argv = slices.Clone(argv)
	stdin := d.Content
	for i, arg := range argv {
		switch arg {
		case "{type}":
			argv[i] = d.Type
		case "{content}":
			if strings.HasPrefix(d.Content, "-") {
				return errors.New("the content would be read as an option")
			}
			argv[i], stdin = d.Content, ""
		}
	}
	return runProgram(ctx, argv, stdin)
}

func runProgram(ctx context.Context, argv []string, stdin string) error {
	child, err := process.Start(ctx, process.Command{Argv: argv, Stdin: strings.NewReader(stdin), Grace: programGrace, Devices: process.AllDevices})
	if err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, child.Stdout) // what it prints is for nobody
	return child.Wait()
}
