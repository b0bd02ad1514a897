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

// Fault is an injected fault.
type Fault string

// Faults of commands: all have the same number, or none; each is sent twice; parameters have wrong
// types; they follow half a message; they are retained. Faults of sounds: 404, endless redirects, a
// web page, an endless sound, one that stalls before it starts, one that is too large.
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

// Faults lists all faults.
var Faults = []Fault{NoFault, Constant, Unnumbered, Twice, Types, Garbage, Retained, Missing, Loop, Page, Endless, Stalled, Huge}

// ParseFault parses the name of a fault.
func ParseFault(name string) (Fault, error) {
	if f := Fault(name); slices.Contains(Faults, f) {
		return f, nil
	}
	return "", fmt.Errorf("unknown fault %q; want one of %s", name, strings.Trim(fmt.Sprint(Faults), "[]"))
}

// path returns the path of the sound for answers, with the injected fault.
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

// bell returns a second of a fading tone.
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
