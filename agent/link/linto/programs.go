package linto

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/idna"

	"lintod/agent/base/config"
	"lintod/agent/base/printable"
	"lintod/agent/base/process"
)

const (
	actionQueue  = 16       // the newest are dropped
	maxAction    = 64 << 10 // bytes of one event
	actionLimit  = 30 * time.Second
	programGrace = time.Second // between SIGTERM and SIGKILL
)

// display is something to show (protocol 1.4).
type display struct {
	Type string `json:"type"` // "URL" or "DOCSTRING", which is HTML
	// Content is a URL as webAddress writes it, or HTML that starts with a tag, so
	// that no program takes it for a URL.
	Content string `json:"content"`
}

// maxAddress is the longest address to show, in bytes.
const maxAddress = 2048

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
		if !strings.HasPrefix(d.Content, "<") {
			d.Content = "<!doctype html>\n" + d.Content
		}
		return &d, nil
	case "URL":
		address, err := webAddress(d.Content)
		if err != nil {
			return nil, fmt.Errorf("display of %q: %w", printable.Clip(config.Redact(d.Content), 60), err)
		}
		d.Content = address
		return &d, nil
	}
	return nil, fmt.Errorf("unknown display type %q; want URL or DOCSTRING", printable.Clip(d.Type, 20))
}

var errAddress = errors.New("want an http or https address without a user")

// webAddress parses an http or https URL and rebuilds it from its parts, so that
// programs see exactly what was checked: ASCII without blanks or quotes that starts
// with http:// or https:// and a host.
func webAddress(text string) (string, error) {
	u, err := url.Parse(text)
	if err != nil || u.User != nil || u.Opaque != "" || len(text) > maxAddress {
		return "", errAddress
	}
	if u.Scheme != "http" && u.Scheme != "https" { // already in lower case
		return "", errAddress
	}
	host, err := webHost(u)
	if err != nil {
		return "", err
	}
	clean := url.URL{
		Scheme: u.Scheme, Host: host, Path: u.Path, RawPath: u.RawPath,
		ForceQuery: u.ForceQuery, RawQuery: escapeRest(u.RawQuery), Fragment: u.Fragment, RawFragment: u.RawFragment,
	}
	return escapeRest(clean.String()), nil
}

// webHost returns the host of a URL, in the ASCII form of its name, with the port.
func webHost(u *url.URL) (string, error) {
	host, port := u.Hostname(), u.Port()
	if ip, err := netip.ParseAddr(host); err == nil && ip.Zone() == "" {
		host = ip.String()
	} else if host, err = idna.Lookup.ToASCII(host); err != nil || host == "" {
		return "", fmt.Errorf("%w and with a host name", errAddress)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil && port != "" {
		return "", fmt.Errorf("%w and with a port below 65536", errAddress)
	}
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if port != "" {
		host += ":" + port
	}
	return host, nil
}

// escapeRest percent-encodes the characters that RFC 3986 does not allow.
func escapeRest(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || strings.IndexByte("\"'<>\\^`{|}", c) >= 0 {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// programs pass what the platform wants shown or done to the owner's programs.
// Only the configuration chooses the programs, and no shell interprets the
// messages.
type programs struct {
	// display is run for each display, which replaces the previous one. In its
	// arguments, "{content}" is replaced by the URL or the path of a file with the
	// HTML, and "{type}" by the type; without "{content}" the content is passed on
	// standard input.
	display []string
	// action is run for each custom action, one at a time, with the event as JSON
	// on standard input.
	action []string
	log    *slog.Logger

	screen  chan display // the latest display
	events  chan []byte
	dropped atomic.Int64 // events dropped because the queue was full
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

// run runs the programs until ctx ends.
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

// runScreens shows each display until the next one arrives. A program that
// ends by itself is not restarted.
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

// runDisplay returns when the program has ended and, if it was given a file, ctx
// has ended too: the program may have passed the file on.
func runDisplay(ctx context.Context, argv []string, d display) error {
	argv = slices.Clone(argv)
	for i, arg := range argv {
		if arg == "{type}" {
			argv[i] = d.Type
		}
	}
	if !slices.Contains(argv, "{content}") {
		return runProgram(ctx, argv, d.Content)
	}
	content, isFile := d.Content, d.Type != "URL"
	if isFile {
		dir, err := os.MkdirTemp("", "lintod-display-")
		if err != nil {
			return fmt.Errorf("write the page to show: %w", err)
		}
		defer func() { _ = os.RemoveAll(dir) }() // a temporary directory
		content = filepath.Join(dir, "page.html")
		if err := os.WriteFile(content, []byte(d.Content), 0o600); err != nil {
			return fmt.Errorf("write the page to show: %w", err)
		}
	}
	for i, arg := range argv {
		if arg == "{content}" {
			argv[i] = content
		}
	}
	err := runProgram(ctx, argv, "")
	if isFile && err == nil {
		<-ctx.Done()
	}
	return err
}

func runProgram(ctx context.Context, argv []string, stdin string) error {
	child, err := process.Start(ctx, process.Command{Argv: argv, Stdin: strings.NewReader(stdin), Grace: programGrace, Devices: process.AllDevices})
	if err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, child.Stdout) // its output is discarded
	return child.Wait()
}
