package platform

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Fault is a fault of the answer to a request.
type Fault string

// The faults.
const (
	NoFault   Fault = ""
	Error     Fault = "error"     // the answer is an error
	Late      Fault = "late"      // it arrives after the device's timeout
	NoID      Fault = "noid"      // its topic lacks the ID of the request
	Duplicate Fault = "duplicate" // it is sent twice
	Garbage   Fault = "garbage"   // it is invalid JSON
	Silent    Fault = "silent"    // it is never sent
)

// Faults lists all faults.
var Faults = []Fault{Error, Late, NoID, Duplicate, Garbage, Silent}

// ParseFault parses the name of a fault; "" and "none" mean NoFault.
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

// apply injects a fault into replies. late is the delay of Late.
func (f Fault) apply(replies []Reply, late time.Duration) []Reply {
	switch f {
	case Error:
		return []Reply{Fail(500, "injected fault", "Something went wrong on the server.")}
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

// topic injects a fault into the topic of an answer to request, "nlp/file/5f2c".
func (f Fault) topic(kind, request string) string {
	if f == NoID {
		return kind
	}
	return request
}
