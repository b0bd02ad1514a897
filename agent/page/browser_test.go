package page

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"lintod/agent/link"
	"lintod/agent/turn"
)

// browser is a tab of a real Chromium.
type browser struct {
	*testing.T
	device *device
	ctx    context.Context
}

// chromium starts a browser that has opened the page: as a kiosk, or the console.
func (d *device) chromium(t *testing.T, kiosk bool) *browser {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("SKIPPED, nothing was tested: chromium is not installed")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.WSURLReadTimeout(2*time.Minute),
		chromedp.Flag("host-resolver-rules", "MAP evil.example 127.0.0.1"), chromedp.Flag("lang", "en-GB"))
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewExecAllocator(ctx, options...)
	t.Cleanup(cancel)
	ctx, _ = chromedp.NewContext(ctx)
	t.Cleanup(func() {
		if err := chromedp.Cancel(ctx); err != nil {
			t.Error(err)
		}
	})
	if err := chromedp.Run(ctx); err != nil { // the browser lives as long as this context
		t.Fatal(err)
	}
	b := &browser{t, d, ctx}
	address, err := d.Address(kiosk)
	if err != nil {
		t.Fatal(err)
	}
	b.do(chromedp.Navigate(string(address)))
	b.until(`document.body.dataset.connected === 'yes'`)
	return b
}

// do performs actions. One that waits for an element which does not appear fails after a minute.
func (b *browser) do(actions ...chromedp.Action) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, time.Minute)
	defer cancel()
	if err := chromedp.Run(ctx, actions...); err != nil {
		b.Fatal(err)
	}
}

// get evaluates JavaScript in the page.
func (b *browser) get(script string) string {
	b.Helper()
	var v any
	b.do(chromedp.Evaluate(script, &v))
	if text, ok := v.(string); ok {
		return text
	}
	raw, err := json.Marshal(v)
	if err != nil {
		b.Fatal(err)
	}
	return string(raw)
}

func (b *browser) until(script string) {
	b.Helper()
	eventually(b, script, func() bool { return b.get(script) == "true" })
}

// shows waits until an element is visible with a text.
func (b *browser) shows(id, text string) {
	b.Helper()
	script := fmt.Sprintf(`(e => e && e.checkVisibility() && e.textContent.includes(%q))(document.getElementById(%q))`, text, id)
	eventually(b, id+" shows "+text, func() bool { return b.get(script) == "true" })
}

func (b *browser) hides(id string) {
	b.Helper()
	b.until(fmt.Sprintf(`!document.getElementById(%q).checkVisibility()`, id))
}

// did waits until the device has received a command.
func (b *browser) did(call string) {
	b.Helper()
	eventually(b, "received "+call+"; so far "+b.device.took(), func() bool { return strings.Contains(b.device.took(), call) })
}

// set changes the state of the device.
func (d *device) set(changes ...any) {
	d.mu.Lock()
	for i := 0; i < len(changes); i += 2 {
		d.now[changes[i].(string)] = changes[i+1]
	}
	d.mu.Unlock()
	d.Changed()
}

// setPicture sets the picture of what a card plays; nil removes it.
func (d *device) setPicture(t *testing.T, content []byte) {
	path := ""
	if content != nil {
		path = filepath.Join(t.TempDir(), "page1.jpg")
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d.shown.Store(&path)
	d.Changed()
}

// painted is a picture of 300 by 200 pixels.
func painted(t *testing.T) []byte {
	var out bytes.Buffer
	p := image.NewRGBA(image.Rect(0, 0, 300, 200))
	for i := range 300 * 200 {
		p.Set(i%300, i/300, color.RGBA{uint8(i % 300 * 255 / 300), uint8(i / 300), 120, 255})
	}
	if err := png.Encode(&out, p); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestFaceInChromium(t *testing.T) {
	maps := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "a map") }))
	defer maps.Close()
	d := start(t, maps.URL)
	b := d.chromium(t, true)
	b.hides("console")
	b.shows("serial", "kitchen")
	for look, text := range map[string]string{
		"idle": "Ready", "listening": "Listening", "dictating": "Dictation", "thinking": "Thinking", "speaking": "Speaking", "error": "wrong", "activating": "activated",
		"deaf": "No sound", "muted": "muted", "connecting": "Connecting", "offline": "Offline", "partly_offline": "Ready", "waiting": "wake word", "downloading": "Downloading",
	} {
		d.set("look", look)
		b.shows("state", text)
		b.until(fmt.Sprintf(`document.documentElement.dataset.look === %q`, look))
	}
	d.set("look", "listening", "state", "conversing")
	b.shows("state", "In conversation")
	d.set("look", "idle", "state", "idle")

	d.set("flags", turn.Flags{Meeting: true, Muted: true, Deaf: true}, "away", []string{"linto"}, "wake_away", true)
	for _, mark := range []string{"Recording", "Microphone muted", "No sound", "Offline: linto", "No wake word"} {
		b.shows("marks", mark)
	}
	d.set("flags", turn.Flags{}, "away", nil, "wake_away", false)
	b.hides("marks")

	d.notice(1, turn.GotPartial, "what time")
	b.shows("heard", "what time")
	b.until(`document.getElementById('heard').classList.contains('partial')`)
	d.notice(1, turn.GotTranscript, "what time <b>is</b> it")
	b.shows("heard", "what time <b>is</b> it")
	neutral := b.get(`document.getElementById('mouth').getAttribute('d')`)
	d.notice(1, turn.GotEmotion, "laughing")
	b.until(fmt.Sprintf(`document.getElementById('mouth').getAttribute('d') !== %q`, neutral))
	d.notice(1, turn.GotSentence, "It is ten.")
	b.shows("answer", "It is ten.")
	d.notice(1, turn.GotSentence, "Good night.")
	b.shows("answer", "Good night.")
	b.until(`document.querySelectorAll('#answer span').length === 2`)
	d.notice(2, turn.Refused, "the platform cannot be reached")
	b.shows("problem", "cannot be reached")
	b.hides("answer")

	d.set("look", "activating", "activation", link.Activation{Code: "123456", Address: "https://xiaozhi.example"})
	b.shows("code", "123456")
	b.shows("address", "https://xiaozhi.example")
	d.notice(2, turn.GotTranscript, "what can another platform do")
	d.set("look", "speaking", "state", "speaking")
	b.shows("heard", "another platform")
	b.hides("activation")
	d.set("look", "idle", "state", "idle")
	b.shows("code", "123456")
	d.set("look", "idle", "activation", nil)
	b.hides("activation")

	// HTML from the platform runs no script, and only allowed origins are opened.
	d.notice(3, turn.GotDisplay, "Battery is low")
	b.shows("text", "Battery is low")
	d.notice(3, turn.GotDisplay, `DOCSTRING <h1>Menu</h1><script>parent.document.title='owned'</script><img src=x onerror="parent.document.title='owned'"><form action="/do/stop" method=post><button></form>`)
	b.shows("shown", "")
	b.until(`document.querySelector('iframe').getAttribute('sandbox') === ''`)
	var frame string
	eventually(t, "the frame is loaded", func() bool {
		frame = b.get(`performance.getEntriesByType('resource').map(e => e.name).find(n => n.includes('/display/')) || ''`)
		return frame != ""
	})
	if title := b.get(`document.title`); strings.Contains(title, "owned") {
		t.Errorf("HTML from the platform has run: %s", title)
	}
	// It does not cover the mark of an open microphone.
	top := `(m => m && (r => document.elementFromPoint(r.x + r.width / 2, r.y + r.height / 2) === m)(m.getBoundingClientRect()))(document.querySelector('#marks li'))`
	for _, look := range []string{"dictating", "listening"} {
		d.set("look", look, "flags", turn.Flags{Dictating: look == "dictating"})
		b.shows("marks", map[string]string{"dictating": "Dictation", "listening": "Listening"}[look])
		b.until(top)
	}
	d.set("look", "idle", "flags", turn.Flags{})
	b.do(chromedp.Click("#hide"))
	b.hides("shown")
	d.notice(3, turn.GotDisplay, "URL "+maps.URL+"/street")
	b.until(fmt.Sprintf(`document.querySelector('iframe')?.src === %q`, maps.URL+"/street"))
	b.do(chromedp.KeyEvent(kb.Escape))
	b.hides("shown")
	d.notice(3, turn.GotDisplay, "URL https://evil.example/")
	b.shows("text", "https://evil.example/")
	b.until(`document.querySelector('iframe') === null`)

	// The content that a card plays, and a download for a card.
	b.hides("card")
	d.set("download", map[string]any{"skill": "fox1", "name": "The Fox", "percent": 40})
	b.shows("card", "Downloading The Fox") // although the state differs
	b.until(`document.getElementById('progress').value === 40`)
	d.setPicture(t, painted(t))
	d.set("download", nil, "card", map[string]any{"name": "The Fox", "track": 2, "of": 5, "paused": true})
	b.shows("card", "The Fox · 2 / 5 · paused")
	b.until(`(p => p.checkVisibility() && p.complete && p.naturalWidth === 300)(document.getElementById('picture'))`)
	b.hides("look")
	d.set("state", "listening")
	b.hides("picture")
	b.shows("look", "")
	d.set("state", "idle")
	d.setPicture(t, []byte("<svg xmlns='http://www.w3.org/2000/svg'><script>document.title='owned'</script></svg>"))
	b.hides("picture")
	d.setPicture(t, nil)
	d.set("card", nil)
	b.hides("card")
	b.hides("picture")

	// The voice level is visible.
	rest := b.get(`document.getElementById('halo').style.transform`)
	d.Bus.Publish(turn.Notice{Turn: 4, What: turn.StateChanged, State: turn.Listening})
	b.until(fmt.Sprintf(`document.getElementById('halo').style.transform !== %q`, rest))

	d.set("language", "de-DE")
	b.shows("state", "Bereit")
	d.set("language", "fr-FR")
	b.shows("state", "Prêt")
	d.set("language", "zh-CN")
	b.shows("state", "就绪")
	if lang := b.get(`document.documentElement.lang`); lang != "zh" {
		t.Errorf("lang = %s", lang)
	}
}

// record returns a turn of the report.
func record(trigger turn.Trigger, result turn.Result) turn.Record {
	at := time.Date(2026, 11, 27, 18, 30, 0, 0, time.UTC)
	after := func(ms int) time.Time { return at.Add(time.Duration(ms) * time.Millisecond) }
	return turn.Record{
		Turn: 1, Link: "linto", Trigger: trigger, Result: result, Cause: "linto: no route to platform", Triggered: at,
		Framed: after(20), Heard: after(310), Finished: after(1840), Requested: after(1900), Answered: after(2650), Sounded: after(2800), Closed: after(4700),
	}
}

func report(turns ...turn.Record) map[string]any {
	return map[string]any{
		"turns": turns, "links": map[string]link.Status{"linto": {Connected: true, Line: "connected to mqtt://broker.example"}},
		"linto": map[string]any{"connections": 3, "broker": "x", "outbox": map[string]int{"waiting_messages": 7}, "sound": map[string]time.Duration{"jitter": 2 * time.Millisecond}},
		"parts": map[string]any{"sound": map[string]any{"running": true, "restarts": 2, "last": "exit status 3"}, "turn": map[string]any{"running": true, "restarts": 0}},
	}
}

func TestConsoleInChromium(t *testing.T) {
	d := start(t)
	stopped, failed := record(turn.ByTap, turn.ResultStopped), record(turn.ByTap, turn.ResultFailed)
	for _, t := range []*turn.Record{&stopped, &failed} { // while the user spoke, and while the platform was thinking
		t.Answered, t.Sounded = time.Time{}, time.Time{}
	}
	stopped.Finished, stopped.Requested = time.Time{}, time.Time{}
	d.set("result of status", report(stopped, failed, record(turn.ByTap, turn.ResultSpoken), record(turn.ByWake, turn.ResultFailed)),
		"result of log", []map[string]string{{"at": "2026-11-27T18:30:00Z", "level": "WARN", "text": "no connection: component=linto"}},
		"result of doctor", []link.Finding{{Subject: "clock", Level: link.Warn, Text: "the clock was not set", Do: "wait"}},
		"result of ask", map[string]string{"text": "It is ten."}, "result of say", true)
	b := d.chromium(t, false)

	// The button can be held and tapped, also with the keyboard.
	b.do(chromedp.Focus("#talk"))
	hold := func(down, up func() chromedp.Action, wait time.Duration, last string) {
		t.Helper()
		b.do(down())
		b.did("press")
		b.do(chromedp.Sleep(wait), up())
		b.did(last)
		d.mu.Lock()
		d.calls = nil
		d.mu.Unlock()
	}
	var at struct{ X, Y float64 }
	b.do(chromedp.Evaluate(`(r => ({X: r.x + r.width / 2, Y: r.y + r.height / 2}))(document.getElementById('talk').getBoundingClientRect())`, &at))
	mouse := func(kind input.MouseType) func() chromedp.Action {
		return func() chromedp.Action {
			return input.DispatchMouseEvent(kind, at.X, at.Y).WithButton(input.Left).WithClickCount(1)
		}
	}
	key := func(kind input.KeyType) func() chromedp.Action {
		return func() chromedp.Action {
			return input.DispatchKeyEvent(kind).WithKey(" ").WithCode("Space").WithWindowsVirtualKeyCode(32)
		}
	}
	hold(mouse(input.MousePressed), mouse(input.MouseReleased), 400*time.Millisecond, "release")
	hold(key(input.KeyDown), key(input.KeyUp), 400*time.Millisecond, "release")
	b.do(chromedp.Click("#talk"))
	b.did("press")
	eventually(t, "the tap ends", func() bool { return strings.Contains(d.took(), "letgo") || strings.Contains(d.took(), "release") })
	// A screen reader clicks without pointer events.
	b.do(chromedp.Evaluate(`document.getElementById('talk').click()`, nil))
	b.did("talk{}")

	b.do(chromedp.Click("#stop"))
	b.did("stop{}")
	b.do(chromedp.Click("#mute"))
	b.did(`mute{"on":true}`)
	d.set("flags", turn.Flags{Muted: true})
	b.until(`document.getElementById('mute').ariaPressed === 'true'`)
	b.do(chromedp.Click("#mute"))
	b.did(`mute{"on":false}`)
	b.do(chromedp.Click("#louder"), chromedp.Click("#softer"))
	b.did(`volume{"percent":50}`)
	b.did(`volume{"percent":30}`)
	b.do(chromedp.Focus("#volume"), chromedp.KeyEvent(kb.ArrowRight))
	b.did(`volume{"percent":41}`)
	d.set("volume", 77)
	b.shows("volume-now", "77 %")
	b.do(chromedp.Evaluate(`(e => { e.value = 'fr-FR'; e.dispatchEvent(new Event('change')) })(document.getElementById('language'))`, nil))
	b.did(`language{"tag":"fr-FR"}`)

	b.do(chromedp.SendKeys("#ask", "what time is it\r"))
	b.did(`ask{"text":"what time is it"}`)
	b.shows("ask-answer", "It is ten.")
	b.do(chromedp.SendKeys("#say", "good morning\r"))
	b.did(`say{"text":"good morning"}`)
	b.until(`document.getElementById('say').value === ''`)
	b.do(chromedp.SendKeys("#say", "refuse\r"))
	b.shows("toast", "the device refuses")
	if below := b.get(`(r => document.elementFromPoint(r.x + r.width / 2, r.y + r.height / 2).id)(document.getElementById('toast').getBoundingClientRect())`); below == "toast" {
		t.Error("an error message makes controls unusable")
	}

	b.until(`document.querySelectorAll('#turns li').length === 4`)
	b.shows("turns", "first sound 2.80 s")
	b.shows("turns", "no route to platform")
	b.until(`[...document.querySelectorAll('#turns svg')].map(s => [...s.querySelectorAll('rect[class^=s]')].map(r => r.getAttribute('class')).join('')).join(' ') === 's1s2s3s4 s1s2s3s4 s1s2 s1'`)
	b.shows("links", "linto: connected")
	b.shows("links", "outbox waiting messages")
	b.shows("links", "sound jitter2 ms")
	b.shows("parts", "exit status 3")
	b.shows("log", "no connection")
	b.do(chromedp.Click("#examine"))
	b.shows("findings", "the clock was not set")
	d.Bus.Publish(turn.Notice{Turn: 4, What: turn.StateChanged, State: turn.Listening})
	b.until(`document.getElementById('level').ariaValueNow === '-20'`)

	b.do(chromedp.Evaluate(`(e => { e.value = 'de'; e.dispatchEvent(new Event('change')) })(document.getElementById('words-in'))`, nil))
	b.shows("console", "Letzte Dialoge")
	// The language is saved, and so is the session.
	b.do(chromedp.Reload())
	b.until(`document.body.dataset.connected === 'yes'`)
	b.shows("console", "Letzte Dialoge")
	if left := b.get(`location.href`); strings.Contains(left, "key") {
		t.Errorf("the key remains in the URL: %s", left)
	}
}

// Each language has all texts, and only those.
func TestWordsInChromium(t *testing.T) {
	b := start(t).chromium(t, true)
	if odd := b.get(`Object.entries(words).flatMap(([lang, w]) => [
		...Object.keys(words.en).filter(k => !w[k]).map(k => lang + ' lacks ' + k), ...Object.keys(w).filter(k => !(k in words.en)).map(k => lang + ' has ' + k)]).join(', ')`); odd != "" {
		t.Error(odd)
	}
	if lacking := b.get(`[...document.querySelectorAll('[data-text], [data-label]')].map(e => e.dataset.text || e.dataset.label).filter(k => !words.en[k]).join(', ')`); lacking != "" {
		t.Errorf("no text for %s", lacking)
	}
}

// Another page in the same browser, on another port of the loopback interface or
// with a name that was rebound to it, can neither control the device nor read what
// it shows.
func TestAttacksInChromium(t *testing.T) {
	d := start(t)
	b := d.chromium(t, false)
	port := d.base[strings.LastIndex(d.base, ":"):]
	evil := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, `<!doctype html><title>evil</title>
<iframe name=sink></iframe><iframe id=framed src="%[1]s/"></iframe>
<form id=f action="%[1]s/do/stop" method=post enctype=text/plain target=sink><input name='{"a":"' value='"}'></form>
<script>
window.read = []
const attempts = []
for (const base of ['%[1]s', 'http://evil.example%[2]s'])
  for (const path of ['/', '/events', '/do/stop', '/session'])
    for (const mode of ['cors', 'no-cors'])
      attempts.push(fetch(base + path, {mode, credentials: 'include', method: path.startsWith('/do') || path === '/session' ? 'POST' : 'GET', body: path.startsWith('/do') ? '{}' : undefined})
        .then(async r => { if (r.type !== 'opaque') read.push(base + path + ' ' + await r.text()) }, () => {}))
f.submit()
Promise.all(attempts).then(() => { document.title = 'done' })
</script>`, d.base, port)
	}))
	defer evil.Close()
	b.do(chromedp.Navigate(evil.URL))
	b.until(`document.title === 'done'`)
	if got := b.get(`read.join('\n')`); got != "" {
		t.Errorf("read: %s", got)
	}
	if b.get(`localStorage.length`) != "0" {
		t.Error("the session is in the storage of another port")
	}
	b.do(chromedp.Navigate("http://evil.example" + port + "/"))
	if text := b.get(`document.title`); strings.Contains(text, "lintod") || b.get(`document.getElementById('app') === null`) != "true" {
		t.Error("a rebound name gets the page")
	}
	if got := b.get(`fetch('/do/stop', {method: 'POST', headers: {'Content-Type': 'application/json'}, body: '{}'}).then(r => 0) && 'sent'`); got != "sent" {
		t.Error(got)
	}
	b.do(chromedp.Navigate(d.base + "/"))
	b.until(`document.body.dataset.connected === 'yes'`)
	if took := d.took(); took != "" {
		t.Errorf("the device received commands: %s", took)
	}
}

// After an outage the browser shows the current state; without a session it shows
// how to get a new one.
func TestReconnectInChromium(t *testing.T) {
	d := start(t)
	b := d.chromium(t, false)
	// In one step: the page may send a request of its own in between, which locks it first.
	b.do(chromedp.Evaluate(`session = 'ended'; document.getElementById('stop').click()`, nil))
	b.shows("locked", "lintod page")
	b.hides("app")
}

// The screen sizes of typical builds, and that of a desktop, as width and height.
var screens = [][2]int64{{320, 240}, {480, 320}, {800, 480}, {1280, 800}}

// The page fits each screen in each state, light and dark. LINTOD_SCREENSHOTS=DIR
// saves screenshots.
func TestScreensInChromium(t *testing.T) {
	d := start(t)
	d.set("result of status", report(record(turn.ByTap, turn.ResultSpoken), record(turn.ByHold, turn.ResultInterrupted), record(turn.ByWake, turn.ResultFailed)),
		"result of log", []map[string]string{{"at": "2026-11-27T18:30:00Z", "level": "WARN", "text": "no connection: component=linto"}, {"at": "2026-11-27T18:30:01Z", "level": "INFO", "text": "connected: component=linto broker=mqtt://broker.example"}})
	scenes := map[string]func(){
		"idle": func() { d.set("look", "idle") },
		"answer": func() {
			d.set("look", "speaking", "flags", turn.Flags{Meeting: true}, "away", []string{"xiaozhi"})
			d.notice(1, turn.GotTranscript, "What will the weather be like in the mountains tomorrow?")
			d.notice(1, turn.GotEmotion, "happy")
			d.notice(1, turn.GotSentence, "Tomorrow morning it will be sunny, with a light wind from the west.")
			d.notice(1, turn.GotSentence, "In the afternoon there may be a thunderstorm above two thousand metres, so start early.")
		},
		"code": func() {
			d.set("look", "activating", "flags", turn.Flags{}, "away", nil, "activation", link.Activation{Code: "482913", Address: "https://xiaozhi.me/console"})
		},
		"muted": func() {
			d.notice(2, turn.StateChanged, "")
			d.set("look", "muted", "activation", nil, "flags", turn.Flags{Muted: true})
		},
		"download": func() {
			d.set("look", "downloading", "flags", turn.Flags{}, "download", map[string]any{"skill": "fox1", "name": "The Fox and the Very Long Winter", "percent": 40})
		},
		"story": func() {
			d.setPicture(t, painted(t))
			d.set("look", "idle", "download", nil, "card", map[string]any{"name": "The Fox and the Very Long Winter", "track": 12, "of": 34, "paused": true})
		},
	}
	for _, kiosk := range []bool{true, false} {
		b := d.chromium(t, kiosk)
		name := map[bool]string{true: "kiosk", false: "console"}[kiosk]
		for _, scheme := range []string{"light", "dark"} {
			for _, scene := range []string{"idle", "answer", "code", "muted", "download", "story"} {
				scenes[scene]()
				for _, size := range screens {
					where := fmt.Sprintf("%s-%s-%s-%dx%d", name, scene, scheme, size[0], size[1])
					b.do(chromedp.EmulateViewport(size[0], size[1], chromedp.EmulateTouch), emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}))
					b.shows("state", map[string]string{"idle": "Ready", "answer": "Speaking", "code": "activated", "muted": "muted", "download": "Downloading", "story": "Ready"}[scene])
					if scene == "story" {
						b.until(`(p => p.checkVisibility() && p.complete)(document.getElementById('picture'))`)
					}
					if scene == "answer" {
						b.shows("answer", "start early")
					}
					if scene == "code" {
						b.until(`(c => c.clientHeight < 2 * parseFloat(getComputedStyle(c).fontSize))(document.getElementById('code'))`)
					}
					if !kiosk {
						b.until(`document.querySelectorAll('#turns svg').length === 3`)
					}
					if over := b.get(`document.documentElement.scrollWidth - innerWidth`); over != "0" {
						t.Errorf("%s is %s pixels too wide", where, over)
					}
					if cut := b.get(`['serial', 'state', 'talk', 'stop', 'mute', 'softer', 'louder', 'code', 'address', 'card', 'progress', 'picture'].filter(id => (e => e.checkVisibility() && (r => r.left < 0 || r.right > innerWidth + .5 || ` +
						`document.body.classList.contains('kiosk') && (r.top < 0 || r.bottom > innerHeight + .5) || e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).display !== 'inline')(e.getBoundingClientRect()))(document.getElementById(id))).join(' ')`); cut != "" {
						t.Errorf("%s cuts %s", where, cut)
					}
					if dir := os.Getenv("LINTOD_SCREENSHOTS"); dir != "" {
						var picture []byte
						if kiosk {
							b.do(chromedp.CaptureScreenshot(&picture))
						} else {
							b.do(chromedp.FullScreenshot(&picture, 100))
						}
						if err := os.WriteFile(filepath.Join(dir, where+".png"), picture, 0o600); err != nil {
							t.Fatal(err)
						}
					}
				}
			}
			scenes["muted"]()
			if kiosk { // the longest texts fit as well
				for _, size := range screens {
					b.do(chromedp.EmulateViewport(size[0], size[1], chromedp.EmulateTouch))
					for _, text := range [][2]string{{"fr-FR", "Rétablir"}, {"de-DE", "Stumm aus"}, {"zh-CN", "取消静音"}, {"en-GB", "Unmute"}} {
						tag, word := text[0], text[1]
						d.set("language", tag)
						b.shows("mute", word)
						if wrong := b.get(`[...document.querySelectorAll('#bar > *')].filter(e => e.checkVisibility() && (r => r.right > innerWidth || r.bottom > innerHeight || r.top > document.getElementById('talk').getBoundingClientRect().bottom)(e.getBoundingClientRect())).map(e => e.id).join(' ')`); wrong != "" {
							t.Errorf("%dx%d, %s: %s is off the screen or in a second row", size[0], size[1], tag, wrong)
						}
					}
				}
			}
			d.setPicture(t, nil)
			d.set("card", nil)
		}
	}
}

// axe reports no problems, in the face and the console, light and dark.
func TestAccessibilityInChromium(t *testing.T) {
	path := os.Getenv("LINTOD_AXE")
	if path == "" {
		t.Skip("SKIPPED, nothing was tested: LINTOD_AXE does not name axe.min.js; scripts/test fetches it")
	}
	axe, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	d := start(t)
	d.set("result of status", report(record(turn.ByTap, turn.ResultSpoken), record(turn.ByWake, turn.ResultFailed)), "flags", turn.Flags{Meeting: true, Muted: true}, "away", []string{"linto"},
		"result of log", []map[string]string{{"at": "2026-11-27T18:30:00Z", "level": "WARN", "text": "no connection"}}, "result of doctor", []link.Finding{{Subject: "clock", Level: link.Fail, Text: "not set", Do: "wait"}})
	d.notice(1, turn.GotTranscript, "what time is it")
	d.notice(1, turn.GotSentence, "It is ten.")
	d.notice(1, turn.GotSentence, "Good night.")
	d.notice(1, turn.Problem, "no route")
	for _, kiosk := range []bool{true, false} {
		b := d.chromium(t, kiosk)
		if !kiosk {
			b.do(chromedp.Click("#examine"))
			b.shows("findings", "not set")
			b.until(`document.querySelectorAll('#turns svg').length === 2`)
		}
		b.do(chromedp.Evaluate(string(axe), nil))
		for _, scheme := range []string{"light", "dark"} {
			b.do(emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"}}))
			b.do(chromedp.Evaluate(`window.found = undefined; axe.run().then(r => { window.found = r.violations.map(v => v.id + ': ' + v.help + ': ' + v.nodes.map(n => n.html + n.failureSummary).join(' | ')) }); 0`, nil))
			b.until(`found !== undefined`)
			if got := b.get(`found.join('\n')`); got != "" {
				t.Errorf("kiosk %v, %s:\n%s", kiosk, scheme, got)
			}
			if moving := b.get(`document.getAnimations().length`); moving != "0" {
				t.Errorf("%s animations despite prefers-reduced-motion", moving)
			}
		}
	}
}
