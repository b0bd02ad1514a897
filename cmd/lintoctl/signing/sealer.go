package signing

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"lintod/agent/signed"
)

// A Sealer creates the payloads of a run with one key. Its methods may be called from any
// goroutine.
type Sealer struct {
	Key *Key
	// Validity is how long each order is valid; see Batch.
	Validity time.Duration
	// Group lists the devices that are currently sent verb with exactly these arguments, for one
	// touch of a security key. It is called again for a device that was not among them, as in the
	// next stage of a run. Whoever controls the broker can make each listed device execute the
	// order. nil signs for each device separately.
	Group func(verb string, args json.RawMessage) []string

	mu      sync.Mutex
	batches map[string]*Batch
}

// Seal returns the payload of a signed order for one device: the same each time, until it has
// expired. nonce is from the device's answer, or "".
func (s *Sealer) Seal(ctx context.Context, scope, serial, verb string, args json.RawMessage, id, nonce string) ([]byte, error) {
	b := s.batch(signed.Order{Scope: scope, Do: verb, Args: args, ID: id})
	if nonce != "" {
		return b.WithNonce(ctx, serial, nonce)
	}
	if s.Group != nil {
		b.join(serial, func() []string { return s.Group(verb, args) })
	}
	return b.Envelope(ctx, serial)
}

func (s *Sealer) batch(o signed.Order) *Batch {
	key := o.Scope + "\n" + o.Do + "\n" + o.ID + "\n" + string(o.Args)
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.batches[key]
	if b == nil {
		b = &Batch{Key: s.Key, Validity: s.Validity, Order: o}
		if s.batches == nil {
			s.batches = map[string]*Batch{}
		}
		s.batches[key] = b
	}
	return b
}
