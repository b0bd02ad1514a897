// Package signing signs what lintoctl asks of devices, with the administrator's own ssh
// key: one in an agent, one in a file, or one in a security key.
//
// What must not live here: what an order is (agent/signed), and how it is sent.
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

// Validity is how long an order may be carried out, unless Batch.Validity says otherwise.
const Validity = 5 * time.Minute

// A Key signs orders. Its methods may be called from any goroutine; signatures are made
// one after the other.
type Key struct {
	// Public is the key that the device must allow.
	Public ssh.PublicKey
	// Name is where the key is, for people: "SHA256:… (ann@example.org), from the agent".
	Name string

	mu   sync.Mutex
	sign func(ctx context.Context, message []byte) (blob []byte, err error)
}

// Touch tells whether each signature wants a touch of a security key.
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
		return nil, fmt.Errorf("the signed order has %d bytes; devices take at most %d", len(payload), signed.MaxEnvelope)
	}
	return payload, nil
}

// check makes sure that devices will take a signature: that a security key was touched, for
// example, which some do not ask for.
func check(blob []byte, text string) error {
	s, err := sshsig.Parse(blob)
	if err != nil {
		return err
	}
	return s.Verify(signed.Namespace, []byte(text))
}

// ErrExpired is the error for a device whose order has expired before it was answered. To
// sign it again would risk that it is carried out twice.
var ErrExpired = errors.New("the signed order has expired without an answer")

// A Batch signs one order for many devices: with a security key for as many as fit under
// one touch, else for each alone, as single orders are short. All have the same id, which
// each device remembers for itself. Its methods may be called from any goroutine.
type Batch struct {
	Key *Key
	// Order has what is asked: Scope, Do, Args and ID; the rest is filled in.
	Order signed.Order
	// Serials are the devices, in the sequence in which they will be asked for. Who is
	// signed for together can be made to do it by whoever has the broker.
	Serials []string
	// Validity is how long each order may be carried out; 0 stands for the package's. It
	// must not be longer than max_age of the devices.
	Validity time.Duration
	// Now is the time; nil stands for the system's.
	Now func() time.Time

	mu   sync.Mutex
	sent map[string]sentOrder // by serial
	list sentOrder            // with a security key, the last that was signed
}

// sentOrder is an order and its payload.
type sentOrder struct {
	payload []byte
	to      []string
	issued  time.Time
	expires time.Time // zero with a nonce: the device knows
}

// Envelope returns the payload for a device. It signs when it is first called for a
// device; after that it returns the same, which is what to send again while there is no
// answer. It fails with ErrExpired when the device would not take it any more.
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
	// Who is asked last must have time to answer.
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

// join makes sure that a device is among Serials, if it is in the present group.
func (b *Batch) join(serial string, group func() []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !slices.Contains(b.Serials, serial) {
		b.Serials = group()
	}
}

// WithNonce returns the payload for a device that has answered "clock not set", with the
// nonce of its answer. With a security key it wants a touch for each device.
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

// next are the devices for one touch: serial, and those that follow and were not asked.
func (b *Batch) next(serial string) []string {
	o := b.Order
	o.To, o.Nonce = []string{serial}, strings.Repeat("0", 32) // as long as the times
	text, err := o.Text()
	if err != nil {
		return o.To // which Sign will say
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
