// Package signing signs the orders of lintoctl with the administrator's SSH key: one in an agent,
// in a file, or in a security key.
//
// The format of orders (agent/signed), and sending them, do not belong here.
package signing

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"lintod/agent/signed"
	"lintod/agent/signed/sshsig"
)

// Validity is the default of Batch.Validity.
const Validity = 5 * time.Minute

// A Key signs orders. Its methods may be called from any goroutine; signatures are created one at a
// time.
type Key struct {
	// Public is the key that the device must allow.
	Public ssh.PublicKey
	// Name describes the key and its location for the user: "SHA256:… (ann@example.org), from the
	// agent".
	Name string

	mu   sync.Mutex
	sign func(ctx context.Context, message []byte) (blob []byte, err error)
}

// Touch reports whether each signature requires a touch of a security key.
func (k *Key) Touch() bool { return sshsig.Hardware(k.Public) }

// Sign returns the payload of an order. With a security key it waits for the touch, or
// for ctx.
func (k *Key) Sign(ctx context.Context, o signed.Order) ([]byte, error) {
	text, err := o.Text()
	if err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	blob, err := k.sign(ctx, []byte(text))
	if err == nil {
		err = check(blob, text)
	}
	if err != nil {
		return nil, fmt.Errorf("sign with %s: %w", k.Name, err)
	}
	payload := signed.Envelope{Signed: text, Signature: blob}.Encode()
	if len(payload) > signed.MaxEnvelope {
		return nil, fmt.Errorf("the signed order has %d bytes; devices accept at most %d", len(payload), signed.MaxEnvelope)
	}
	return payload, nil
}

// check ensures that devices will accept a signature: for example, that a security key was touched,
// which some keys do not require.
func check(blob []byte, text string) error {
	s, err := sshsig.Parse(blob)
	if err != nil {
		return err
	}
	return s.Verify(signed.Namespace, []byte(text))
}

// ErrExpired is the error for a device whose order has expired before it was answered. Signing it
// again could cause it to be executed twice.
var ErrExpired = errors.New("the signed order has expired without an answer")

// A Batch signs one order for many devices: with a security key for as many as fit into one order,
// otherwise for each separately, because single orders are shorter. All have the same ID, which
// each device remembers itself. Its methods may be called from any goroutine.
type Batch struct {
	Key *Key
	// Order has Scope, Do, Args, and ID; the rest is filled in.
	Order signed.Order
	// Serials are the devices, in the sequence in which Envelope will be called. Whoever controls
	// the broker can make each device of a joint order execute it.
	Serials []string
	// Validity is how long each order is valid; 0 means the package's default. It must not exceed
	// max_age of the devices.
	Validity time.Duration
	// Now returns the time; nil means the system clock.
	Now func() time.Time

	mu   sync.Mutex
	sent map[string]sentOrder // by serial
	list sentOrder            // with a security key, the last signed order
}

// sentOrder is an order and its payload.
type sentOrder struct {
	payload []byte
	to      []string
	issued  time.Time
	expires time.Time // zero with a nonce: the device decides
}

// Envelope returns the payload for a device. The first call for a device signs; later calls return
// the same payload, to be repeated until there is an answer. It fails with ErrExpired when the
// device would no longer accept the order.
func (b *Batch) Envelope(ctx context.Context, serial string) ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	if s, ok := b.sent[serial]; ok {
		if !s.expires.IsZero() && now.After(s.expires) {
			return nil, ErrExpired
		}
		return s.payload, nil
	}
	if !b.Key.Touch() {
		s, err := b.signFor(ctx, []string{serial}, now)
		if err != nil {
			return nil, err
		}
		b.note(serial, s)
		return s.payload, nil
	}
	// The last device must have time to answer.
	fresh := now.Sub(b.list.issued) < b.validity()/2
	if !fresh || !slices.Contains(b.list.to, serial) {
		s, err := b.signFor(ctx, b.next(serial), now)
		if err != nil {
			return nil, err
		}
		b.list = s
	}
	b.note(serial, b.list)
	return b.list.payload, nil
}

// join adds a device to Serials, if it is in the current group.
func (b *Batch) join(serial string, group func() []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !slices.Contains(b.Serials, serial) {
		b.Serials = group()
	}
}

// WithNonce returns the payload for a device that has answered "clock not set", with the
// nonce of its answer. With a security key it requires a touch for each device.
func (b *Batch) WithNonce(ctx context.Context, serial, nonce string) ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	o := b.Order
	o.To, o.Nonce, o.Issued, o.Expires = []string{serial}, nonce, time.Time{}, time.Time{}
	payload, err := b.Key.Sign(ctx, o)
	if err != nil {
		return nil, err
	}
	b.note(serial, sentOrder{payload: payload})
	return payload, nil
}

func (b *Batch) now() time.Time {
	if b.Now != nil {
		return b.Now()
	}
	return time.Now()
}

func (b *Batch) validity() time.Duration {
	if b.Validity > 0 {
		return b.Validity
	}
	return Validity
}

func (b *Batch) note(serial string, s sentOrder) {
	if b.sent == nil {
		b.sent = map[string]sentOrder{}
	}
	b.sent[serial] = s
}

// next returns the devices for one touch: serial, and those that follow and have no order yet.
func (b *Batch) next(serial string) []string {
	o := b.Order
	o.To, o.Nonce = []string{serial}, strings.Repeat("0", 32) // the same length as real times
	text, err := o.Text()
	if err != nil {
		return o.To // Sign reports this
	}
	room := signed.MaxOrder - len(text) - len(`"issued":,"expires":`)
	from := max(0, slices.Index(b.Serials, serial))
	for _, s := range slices.Concat(b.Serials[from:], b.Serials[:from]) {
		room -= signed.Length(s)
		if len(o.To) == signed.MaxDevices || room < 0 {
			break
		}
		if _, asked := b.sent[s]; !asked && s != serial {
			o.To = append(o.To, s)
		}
	}
	return o.To
}

func (b *Batch) signFor(ctx context.Context, to []string, now time.Time) (sentOrder, error) {
	o := b.Order
	o.To, o.Nonce = to, ""
	o.Issued = now.Truncate(time.Second)
	o.Expires = o.Issued.Add(b.validity())
	payload, err := b.Key.Sign(ctx, o)
	return sentOrder{payload, to, o.Issued, o.Expires}, err
}
