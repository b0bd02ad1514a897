package gateway

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Faults are what goes wrong. The zero value is a server and a network that
// behave as the real ones do on a good day.
type Faults struct {
	// The network, both ways, for UDP only.
	Loss, Reorder, Duplicate float64 // parts of 1
	Delay, Jitter            time.Duration
	// Early is how long the first packets of an answer come before "tts start";
	// Tail how long the last ones come after "tts stop".
	Early, Tail time.Duration
	// NoUDP drops every datagram of both directions, NoUDPDown those to the device:
	// the server hears, and its answer is announced, but not heard.
	NoUDP, NoUDPDown bool
	// Flood sends datagrams of another session along with those to the device.
	Flood bool
	// NoStop leaves "tts stop" out; Mute leaves everything out that follows
	// "listen start".
	NoStop, Mute bool
	// Hello is what becomes of the answer to a hello.
	Hello HelloFault
	// HelloTakes is how long a good answer takes.
	HelloTakes time.Duration
	// WrongKey encrypts with another key than the hello says; PCM sends raw sound
	// in place of Opus; Strange mixes in messages that no device understands.
	WrongKey, PCM, Strange bool
	// Goodbye and Cut are the states of a session in which the server ends it
	// with a goodbye, or cuts the connection without a word.
	Goodbye, Cut Stage
	// Credentials lets the OTA server give out credentials that are refused.
	Credentials bool
	// NoTools lets the server never ask for tools.
	NoTools bool
	// Refuse is how a WebSocket is refused.
	Refuse Refusal
	// OTA is how the OTA server fails.
	OTA OTAFault
}

// HelloFault is what goes wrong with the answer to a hello.
type HelloFault string

// HelloFaults are all that can go wrong with a hello: it is refused with an
// error, never answered, answered after 11 s, answered without a key, with
// another transport, or with what is no JSON.
var HelloFaults = []HelloFault{"error", "absent", "late", "broken", "foreign", "garbage"}

// Stage is where a session is.
type Stage string

// Stages are the states of a session that a fault can hit.
var Stages = []Stage{connecting, listening, thinking, speaking, idle}

const (
	connecting Stage = "connecting"
	listening  Stage = "listening"
	thinking   Stage = "thinking"
	speaking   Stage = "speaking"
	idle       Stage = "idle" // between two answers
)

// Refusal is how a WebSocket server turns a device away.
type Refusal string

// Refusals are those that real servers use: an HTTP status, a text that is no
// JSON and a close, a close without a word, close code 1007.
var Refusals = []Refusal{"400", "401", "text", "silent", "1007"}

// OTAFault is how an OTA server fails.
type OTAFault string

// OTAFaults are: HTTP status 500, an error in a body with status 200, settings of
// no transport at all, broken JSON, no answer at all, and an answer that never ends.
var OTAFaults = []OTAFault{"500", "error", "empty", "garbage", "hang", "endless"}

// ParseFaults reads "loss=10,jitter=100ms,goodbye=speaking,mute"; "" and "none"
// stand for no fault.
func ParseFaults(text string) (Faults, error) {
	var f Faults
	if text == "" || text == "none" {
		return f, nil
	}
	for _, word := range strings.Split(text, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(word), "=")
		set, ok := faultWords[name]
		if !ok {
			return f, fmt.Errorf("%q is not a fault; choose among %s", name, strings.Join(FaultNames(), ", "))
		}
		if err := set(&f, value); err != nil {
			return f, fmt.Errorf("fault %s: %w", name, err)
		}
	}
	return f, nil
}

// FaultNames are the words that ParseFaults knows.
func FaultNames() []string {
	names := make([]string, 0, len(faultWords))
	for name := range faultWords {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

var faultWords = map[string]func(f *Faults, value string) error{
	"loss":        func(f *Faults, v string) error { return percent(&f.Loss, v) },
	"reorder":     func(f *Faults, v string) error { return percent(&f.Reorder, v) },
	"duplicate":   func(f *Faults, v string) error { return percent(&f.Duplicate, v) },
	"delay":       func(f *Faults, v string) error { return duration(&f.Delay, v) },
	"jitter":      func(f *Faults, v string) error { return duration(&f.Jitter, v) },
	"early":       func(f *Faults, v string) error { return duration(&f.Early, v) },
	"tail":        func(f *Faults, v string) error { return duration(&f.Tail, v) },
	"no-udp":      func(f *Faults, v string) error { return flag(&f.NoUDP, v) },
	"no-udp-down": func(f *Faults, v string) error { return flag(&f.NoUDPDown, v) },
	"flood":       func(f *Faults, v string) error { return flag(&f.Flood, v) },
	"no-stop":     func(f *Faults, v string) error { return flag(&f.NoStop, v) },
	"mute":        func(f *Faults, v string) error { return flag(&f.Mute, v) },
	"hello":       func(f *Faults, v string) error { return choice(&f.Hello, v, HelloFaults) },
	"hello-takes": func(f *Faults, v string) error { return duration(&f.HelloTakes, v) },
	"wrong-key":   func(f *Faults, v string) error { return flag(&f.WrongKey, v) },
	"pcm":         func(f *Faults, v string) error { return flag(&f.PCM, v) },
	"strange":     func(f *Faults, v string) error { return flag(&f.Strange, v) },
	"goodbye":     func(f *Faults, v string) error { return choice(&f.Goodbye, v, Stages) },
	"cut":         func(f *Faults, v string) error { return choice(&f.Cut, v, Stages) },
	"credentials": func(f *Faults, v string) error { return flag(&f.Credentials, v) },
	"no-tools":    func(f *Faults, v string) error { return flag(&f.NoTools, v) },
	"refuse":      func(f *Faults, v string) error { return choice(&f.Refuse, v, Refusals) },
	"ota":         func(f *Faults, v string) error { return choice(&f.OTA, v, OTAFaults) },
}

func percent(part *float64, value string) error {
	v, err := strconv.ParseFloat(strings.TrimSuffix(value, "%"), 64)
	if err != nil || !(v >= 0 && v <= 100) {
		return fmt.Errorf("want a percentage from 0 to 100, got %q", value)
	}
	*part = v / 100
	return nil
}

func duration(d *time.Duration, value string) error {
	v, err := time.ParseDuration(value)
	if err != nil || v < 0 || v > time.Minute {
		return fmt.Errorf("want a duration up to 1m, such as 100ms, got %q", value)
	}
	*d = v
	return nil
}

func flag(on *bool, value string) error {
	if value != "" {
		return errors.New("takes no value")
	}
	*on = true
	return nil
}

func choice[T ~string](to *T, value string, all []T) error {
	if !slices.Contains(all, T(value)) {
		return fmt.Errorf("want one of %q, got %q", all, value)
	}
	*to = T(value)
	return nil
}

// journey is what becomes of one datagram: when each of its copies arrives, none
// if it is lost. Jitter keeps the order, as queues do; what is re-ordered is
// overtaken by the two or three packets behind it.
func (f Faults) journey(now time.Time, last *time.Time) []time.Time {
	if f.NoUDP || rand.Float64() < f.Loss {
		return nil
	}
	at := now.Add(f.Delay)
	if f.Jitter > 0 {
		at = at.Add(rand.N(f.Jitter))
	}
	if at.Before(*last) {
		at = *last
	}
	*last = at
	if rand.Float64() < f.Reorder {
		at = at.Add(130 * time.Millisecond)
	}
	if rand.Float64() < f.Duplicate {
		return []time.Time{at, at.Add(20 * time.Millisecond)}
	}
	return []time.Time{at}
}
