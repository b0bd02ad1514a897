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

// Faults are the injected faults. The zero value is a server and a network without faults.
type Faults struct {
	// The network, in both directions, for UDP only.
	Loss, Reorder, Duplicate float64 // fractions of 1
	Delay, Jitter            time.Duration
	// Early is how long the first packets of an answer arrive before "tts start"; Tail is how long
	// the last ones arrive after "tts stop".
	Early, Tail time.Duration
	// NoUDP drops every datagram in both directions, NoUDPDown those to the device: the server
	// receives speech and announces its answer, but the sound does not arrive.
	NoUDP, NoUDPDown bool
	// Flood adds datagrams of another session to those to the device.
	Flood bool
	// NoStop omits "tts stop"; Mute omits everything that follows "listen start".
	NoStop, Mute bool
	// Hello is the fault of the answer to a hello.
	Hello HelloFault
	// HelloTakes is the delay of a correct answer.
	HelloTakes time.Duration
	// WrongKey encrypts with a different key than that of the hello; PCM sends raw sound instead of
	// Opus; Strange adds messages that no device supports.
	WrongKey, PCM, Strange bool
	// Goodbye and Cut are the states of a session in which the server ends it with a goodbye, or
	// closes the connection without a message.
	Goodbye, Cut Stage
	// Credentials makes the OTA server return credentials that are refused.
	Credentials bool
	// NoTools makes the server never request tools.
	NoTools bool
	// Refuse is how WebSocket connections are refused.
	Refuse Refusal
	// OTA is how the OTA server fails.
	OTA OTAFault
}

// HelloFault is a fault of the answer to a hello.
type HelloFault string

// HelloFaults are all faults of a hello: it is refused with an error, never answered, answered
// after 11 s, answered without a key, with a different transport, or with invalid JSON.
var HelloFaults = []HelloFault{"error", "absent", "late", "broken", "foreign", "garbage"}

// Stage is a state of a session.
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

// Refusal is how a WebSocket server refuses a device.
type Refusal string

// Refusals are those of real servers: an HTTP status, a text that is not JSON and a close, a close
// without a message, close code 1007.
var Refusals = []Refusal{"400", "401", "text", "silent", "1007"}

// OTAFault is how an OTA server fails.
type OTAFault string

// OTAFaults are: HTTP status 500, an error in a body with status 200, settings without any
// transport, invalid JSON, no answer, and an endless answer.
var OTAFaults = []OTAFault{"500", "error", "empty", "garbage", "hang", "endless"}

// ParseFaults parses "loss=10,jitter=100ms,goodbye=speaking,mute"; "" and "none" mean no fault.
func ParseFaults(text string) (Faults, error) {
	var f Faults
	if text == "" || text == "none" {
		return f, nil
	}
	for _, word := range strings.Split(text, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(word), "=")
		set, ok := faultWords[name]
		if !ok {
			return f, fmt.Errorf("unknown fault %q; want any of %s", name, strings.Join(FaultNames(), ", "))
		}
		if err := set(&f, value); err != nil {
			return f, fmt.Errorf("fault %s: %w", name, err)
		}
	}
	return f, nil
}

// FaultNames returns the names that ParseFaults accepts.
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

// journey returns when each copy of a datagram arrives, or nothing if it is lost. Jitter preserves
// the order, as queues do; a reordered packet is overtaken by the two or three packets after it.
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
