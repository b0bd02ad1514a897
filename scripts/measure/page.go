package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/chromedp/chromedp"

	"lintod/agent"
	"lintod/agent/control"
)

// page measures the web page of a device in a real browser.
func (b *bench) page(ctx context.Context, rounds int) (rows []row, err error) {
	t, stop, err := b.terminal(ctx, "shows", settings{audio: "input = \"null\"\noutput = \"null\"\n", more: "[page]\nenabled = true\nlisten = \"127.0.0.1:0\"\n"})
	if err != nil {
		return nil, err
	}
	defer stop()
	ctx, cancel := chromedp.NewExecAllocator(ctx, append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath("chromium"), chromedp.NoSandbox, chromedp.WSURLReadTimeout(2*time.Minute))...)
	defer cancel()
	ctx, cancel = chromedp.NewContext(ctx)
	defer cancel()
	if err := errors.Join(chromedp.Run(ctx), pause(ctx, 5*time.Second)); err != nil { // both have started by then
		return nil, err
	}
	before := resident(t.pid)
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "<!doctype html><title>plain</title><h1>plain</h1>")
	}))
	defer plain.Close()
	const painted = `performance.getEntriesByName('first-contentful-paint')`
	var paints, theirs []float64
	var size float64
	for range rounds {
		var reply agent.PageReply
		if err := control.Call(ctx, t.socket(t.serial), "page", nil, &reply); err != nil {
			return nil, err
		}
		tab, done := chromedp.NewContext(ctx)
		var paint, reference float64
		err := chromedp.Run(tab, chromedp.Navigate(plain.URL), chromedp.Poll(painted+`.length > 0`, nil), chromedp.Evaluate(painted+`[0].startTime`, &reference),
			chromedp.Navigate(reply.URL), chromedp.Poll(`document.body.dataset.connected === 'yes' && `+painted+`.length > 0`, nil),
			chromedp.Evaluate(painted+`[0].startTime`, &paint),
			chromedp.Evaluate(`performance.getEntries().reduce((sum, e) => sum + (e.name.includes('/do/') || e.name.includes('/events') ? 0 : e.transferSize || 0), 0) / 1000`, &size))
		done()
		if err != nil {
			return nil, err
		}
		paints, theirs = append(paints, paint), append(theirs, reference)
	}
	blank := quantile(theirs, 0.5)
	leave, err := t.view(ctx, 1)
	if err != nil {
		return nil, err
	}
	defer leave()
	if err := pause(ctx, 10*time.Second); err != nil {
		return nil, err
	}
	return []row{
		{"page: all that is transferred", "kB", size, nil, "", "≤ 150 kB"},
		{"page: first paint, median", "ms", quantile(paints, 0.5), &blank, "a page of one word", "≤ 200 ms"},
		{"page: memory of lintod with one viewer", "MB", resident(t.pid), &before, "without a viewer", "reference + 3 MB"},
	}, nil
}
