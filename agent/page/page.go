// Package page serves the device's web page: a face for a screen on the device, and
// a console for its owner's browser. It listens on the loopback interface only, and
// requires a session, which the control socket opens.
//
// What must not live here: what the device is doing (agent/status), and what its
// commands do (agent).
package page

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/netutil"

	"lintod/agent/base/loop"
	"lintod/agent/base/secret"
	"lintod/agent/turn"
)

//go:embed static
var static embed.FS

const (
	maxConnections = 256
	maxBody        = 64 << 10         // bytes of a request
	requestLimit   = 10 * time.Second // for a request to arrive
	writeLimit     = 10 * time.Second // how long a browser may block us before it is disconnected
)

// Command executes a command of the page. args is a JSON value; the result is sent
// as JSON. The context ends when the browser disconnects.
type Command func(ctx context.Context, args json.RawMessage) (result any, err error)

// Page is ready when its exported fields are set. Its methods may be called from any
// goroutine.
type Page struct {
	Config Config
	Bus    *turn.Bus
	// Now returns what the device is doing and its settings. It must not block, and
	// its result is sent as JSON.
	Now func() any
	// Level returns the level of the microphone in dBFS while the device listens.
	Level func() float64
	// Picture returns the path of a picture to show, "" for none; it may be nil. The
	// file is untrusted. It must not block.
	Picture  func() string
	Commands map[string]Command
	Log      *slog.Logger

	once    sync.Once
	changed loop.Signal // the state of the device may have changed
	viewers viewers
	serving atomic.Pointer[serving] // nil while the page is not served
}

// serving is the state that ends with the listener.
type serving struct {
	address string
	sessions
}

func (p *Page) init() { p.once.Do(func() { p.changed = loop.NewSignal() }) }

// Changed reports that a setting has changed. It does not block.
func (p *Page) Changed() {
	p.init()
	p.changed.Set()
}

// Address returns a URL of the page that opens one session within ten minutes, or
// an error. kiosk is for a screen on the device: the face, and touch buttons.
func (p *Page) Address(kiosk bool) (secret.Text, error) {
	s := p.serving.Load()
	if s == nil {
		return "", errors.New("the page is not served at the moment; `lintod status` reports why")
	}
	view := ""
	if kiosk {
		view = "kiosk&"
	}
	// The part after # is not sent to servers or proxies, and appears in no log.
	return secret.Text("http://" + s.address + "/#" + view + "key=" + string(s.newKey())), nil
}

// Run serves the page until ctx ends, and returns when everything that it started
// has ended.
func (p *Page) Run(ctx context.Context) error {
	p.init()
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", p.Config.Listen)
	if err != nil {
		return fmt.Errorf("serve the page: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	serving := &serving{address: listener.Addr().String()}
	server := &http.Server{
		Handler: p.handler(serving), ReadHeaderTimeout: requestLimit, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		BaseContext: func(net.Listener) context.Context { return ctx },
		ErrorLog:    slog.NewLogLogger(p.Log.Handler(), slog.LevelDebug),
	}
	notices := p.Bus.Subscribe(noticeQueue) // before the page is reachable
	defer notices.Close()
	p.serving.Store(serving)
	var all sync.WaitGroup
	all.Go(func() { p.watch(ctx, notices) })
	defer all.Wait()
	defer cancel()
	defer context.AfterFunc(ctx, func() { server.Close() })()
	defer p.serving.Store(nil)
	if err := server.Serve(netutil.LimitListener(listener, maxConnections)); ctx.Err() == nil {
		return fmt.Errorf("serve the page: %w", err)
	}
	return nil
}

// handler answers all requests. Any web page, and any user of this machine, can
// send some.
func (p *Page) handler(s *serving) http.Handler {
	mux := http.NewServeMux()
	files, _ := fs.Sub(static, "static") // it always exists
	mux.Handle("GET /", http.FileServerFS(files))
	mux.HandleFunc("POST /session", s.enter)
	mux.HandleFunc("GET /events", s.only(p.events))
	mux.HandleFunc("POST /do/{command}", s.only(p.do))
	mux.HandleFunc("GET /display/{page}", p.display)
	mux.HandleFunc("GET /picture/{page}", p.picture)
	own := http.NewCrossOriginProtection().Handler(mux)
	frames := strings.Join(append([]string{"'self'"}, p.Config.Frames...), " ")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "+
			"frame-src "+frames+"; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-store")
		if !local(r.Host) {
			http.Error(w, "open this page at its loopback address; a reverse proxy must send that address as Host", http.StatusMisdirectedRequest)
			return
		}
		own.ServeHTTP(w, r)
	})
}

// local reports whether a Host is one that no name server can redirect. A name that
// was rebound to the loopback interface is not; through a tunnel the port may
// differ.
func local(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// enter opens a session for a client with a key.
func (s *serving) enter(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Key secret.Text `json:"key"`
	}
	if err := read(w, r, &in); err != nil {
		refuse(w, http.StatusBadRequest, errors.New(`invalid request; want {"key":"…"}`))
		return
	}
	session, err := s.open(in.Key)
	if err != nil {
		refuse(w, http.StatusForbidden, err)
		return
	}
	answer(w, session)
}

// only requires a session for next.
func (s *serving) only(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		session, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if !ok || !s.known(secret.Text(session)) {
			refuse(w, http.StatusUnauthorized, errors.New("unknown session; `lintod page` prints an address that opens one"))
			return
		}
		next(w, r)
	}
}

// do executes a command.
func (p *Page) do(w http.ResponseWriter, r *http.Request) {
	command := p.Commands[r.PathValue("command")]
	if command == nil {
		refuse(w, http.StatusNotFound, errors.New("the page does not offer this command"))
		return
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		refuse(w, http.StatusUnsupportedMediaType, errors.New("want Content-Type: application/json"))
		return
	}
	var args json.RawMessage
	if err := read(w, r, &args); err != nil {
		refuse(w, http.StatusBadRequest, fmt.Errorf("invalid request: %w", err))
		return
	}
	result, err := command(r.Context(), args)
	if err != nil {
		refuse(w, http.StatusConflict, err)
		return
	}
	answer(w, result)
}

// read decodes the body of a request, which must arrive soon.
func read(w http.ResponseWriter, r *http.Request, v any) error {
	in := http.NewResponseController(w)
	_ = in.SetReadDeadline(time.Now().Add(requestLimit))
	defer func() { _ = in.SetReadDeadline(time.Time{}) }() // the server continues to read, to detect a disconnect
	return json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(v)
}

func answer(w http.ResponseWriter, result any) { reply(w, http.StatusOK, "result", result) }

func refuse(w http.ResponseWriter, status int, err error) { reply(w, status, "error", err.Error()) }

func reply(w http.ResponseWriter, status int, name string, v any) {
	body, err := json.Marshal(map[string]any{name: v})
	if err != nil {
		http.Error(w, "the result cannot be encoded", http.StatusInternalServerError)
		return
	}
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeLimit))
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client may be gone
}
