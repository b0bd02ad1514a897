package platform

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Fault is something that goes wrong with the answer to a request.
type Fault string

// What can go wrong.
const (
	NoFault   Fault = ""
	Error     Fault = "error"     // the answer is an error
	Late      Fault = "late"      // it comes when the device has given up
	NoID      Fault = "noid"      // its topic lacks the id of the request
	Duplicate Fault = "duplicate" // it comes twice
	Garbage   Fault = "garbage"   // it is broken JSON
	Silent    Fault = "silent"    // it never comes
)

// Faults are all faults that can be asked for.
var Faults = []Fault{Error, Late, NoID, Duplicate, Garbage, Silent}

// ParseFault reads the name of a fault; "" and "none" stand for NoFault.
func ParseFault(name string) (Fault, error) {
	if name == "none" {
		return NoFault, nil
	}
	return Fault(name), Fault(name).valid()
}

func (f Fault) valid() error {
	if f == NoFault || slices.Contains(Faults, f) {
		return nil
	}
	names := make([]string, len(Faults))
	for i, known := range Faults {
		names[i] = string(known)
	}
	return fmt.Errorf("unknown fault %q; want one of none, %s", string(f), strings.Join(names, ", "))
}

// apply spoils replies. late is how long Late takes.
func (f Fault) apply(replies []Reply, late time.Duration) []Reply {
	switch f {
	case Error:
		return []Reply{Fail(500, "fault on demand", "Something went wrong on the server.")}
	case Late:
		replies = slices.Clone(replies)
		for i := range min(1, len(replies)) {
			replies[i].After += late
		}
	case Duplicate:
		return slices.Concat(replies, replies)
	case Garbage:
		return []Reply{Raw(`{"behavior":{"say":{"text":"this never en`)}
	case Silent:
		return nil
	}
	return replies
}

// topic spoils the topic of an answer to request, "nlp/file/5f2c".
func (f Fault) topic(kind, request string) string {
	if f == NoID {
		return kind
	}
	return request
}
