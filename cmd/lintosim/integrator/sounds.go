package integrator

import (
	"fmt"
	"math"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"lintod/audio/wav"
)

// Fault is what goes wrong.
type Fault string

// Faults of commands: they have all one number, or none; each comes twice; their parameters have
// wrong types; they follow half a message; they are retained. And faults of sounds: 404, redirects
// without end, a web page, a sound without end, one that stops before it begins, one that is too
// large.
const (
	NoFault    Fault = "none"
	Constant   Fault = "constant"
	Unnumbered Fault = "unnumbered"
	Twice      Fault = "twice"
	Types      Fault = "types"
	Garbage    Fault = "garbage"
	Retained   Fault = "retained"
	Missing    Fault = "missing"
	Loop       Fault = "loop"
	Page       Fault = "page"
	Endless    Fault = "endless"
	Stalled    Fault = "stalled"
	Huge       Fault = "huge"
)

// Faults are all of them.
var Faults = []Fault{NoFault, Constant, Unnumbered, Twice, Types, Garbage, Retained, Missing, Loop, Page, Endless, Stalled, Huge}

// ParseFault reads the name of a fault.
func ParseFault(name string) (Fault, error) {
	if f := Fault(name); slices.Contains(Faults, f) {
		return f, nil
	}
	return "", fmt.Errorf("unknown fault %q; choose one of %s", name, strings.Trim(fmt.Sprint(Faults), "[]"))
}

// path is that of the sound that answers, which has the fault.
func (i *Integrator) path() string {
	i.mu.Lock()
	defer i.mu.Unlock()
	switch f := i.opts.Fault; f {
	case Missing, Loop, Page, Endless, Stalled, Huge:
		return string(f)
	}
	return "bell.wav"
}

const rate = 16000

// bell is a second of a tone that fades.
func bell() []byte {
	pcm := make([]int16, rate)
	for n := range pcm {
		t := float64(n) / rate
		pcm[n] = int16(12000 * math.Exp(-3*t) * math.Sin(2*math.Pi*880*t))
	}
	return wav.Encode(pcm, rate)
}

// serveSounds starts the web server.
func (i *Integrator) serveSounds() error {
	sound := bell()
	mux := http.NewServeMux()
	mux.HandleFunc("/bell.wav", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(sound) })
	mux.HandleFunc("/loop", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/loop", http.StatusFound) })
	mux.HandleFunc("/page", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("<!doctype html><title>lintosim</title><p>This is not a sound."))
	})
	mux.HandleFunc("/endless", func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			_, _ = w.Write(sound)
		}
	})
	mux.HandleFunc("/stalled", func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write(sound[:44])
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	mux.HandleFunc("/huge", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1099511627776")
		_, _ = w.Write(sound)
	})
	listener, err := net.Listen("tcp", i.opts.HTTP)
	if err != nil {
		return err
	}
	i.sounds = "http://" + listener.Addr().String()
	i.web = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	i.tasks.Go(func() { _ = i.web.Serve(listener) }) // until Close
	return nil
}
