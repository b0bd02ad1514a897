// Package verifier decides whether the device accepts a signed order: who may sign,
// whether it is for this device and verb, whether it is still valid, and whether it
// was accepted before. An accepted order is on the disk before it is executed.
//
// What must not live here: the text of an order (agent/signed), how it arrives
// (agent/link), and other permissions (behaviors).
package verifier

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"lintod/agent/signed"
	"lintod/agent/signed/sshsig"
)

const (
	// Skew is how far the clocks of the device and of the signer may differ.
	Skew = 2 * time.Minute

	// staleness is the maximum age of the last order for an unsynchronised clock to be
	// trusted.
	staleness = 24 * time.Hour

	nonceLife = 5 * time.Minute
	maxNonces = 256 // the oldest is dropped
)

// Verifier verifies orders. Its fields are set before use; its methods may be
// called from any goroutine.
type Verifier struct {
	Config   Config
	StateDir string // contains the record of accepted orders
	// Clock returns the time, and whether it is synchronised; nil means the system's.
	Clock func() (now time.Time, synchronized bool)
	Log   *slog.Logger

	mu     sync.Mutex
	memory *memory // nil until it has been read
	nonces []nonce // the oldest first
}

// nonce is a number that an order may contain once, instead of times.
type nonce struct {
	text  string
	given time.Time // includes the monotonic clock, which cannot be set
}

// Place is where an order was received.
type Place struct {
	Scope, Serial string // the device's
	Do            string // the verb of the topic
}

// Taken is an accepted order.
type Taken struct {
	Order  signed.Order
	Signer string // the signer: the principals of the line, and the key's fingerprint
	// Again means that an order with this id was accepted before. It must not be
	// executed again; a known answer may be repeated.
	Again bool
}

// Refusal is why an order is rejected.
type Refusal struct {
	ID  string // of the order; "" if it could not be read. It may be forged.
	Err error
	// Nonce, if set, must be in the same order instead of times, signed again with the
	// same id.
	Nonce string
	// Signer is the verified signer, "" if unknown.
	Signer string
}

func (r *Refusal) Error() string { return r.Err.Error() }

func (r *Refusal) Unwrap() error { return r.Err }

// Reasons of a refusal, for errors.Is.
var (
	ErrMalformed   = errors.New("not an order")
	ErrSignature   = errors.New("not signed by an allowed signer")
	ErrElsewhere   = errors.New("not for this device")
	ErrClockNotSet = errors.New("clock not set")
	ErrNonceWanted = errors.New("nonce required")
	ErrExpired     = errors.New("expired")
	ErrEarly       = errors.New("issued in the future")
	ErrTooLong     = errors.New("valid for too long")
	ErrID          = errors.New("the ID is already used")
	ErrFull        = errors.New("too many orders at once")
	ErrDisk        = errors.New("cannot be recorded")
)

// cause is an error with its own text that is one of the above.
type cause struct {
	kind error
	text string
}

func (c *cause) Error() string { return c.text }

func (c *cause) Unwrap() error { return c.kind }

func because(kind error, format string, args ...any) error {
	return &cause{kind, fmt.Sprintf(format, args...)}
}

// Check verifies the payload of a message. It returns a *Refusal if the device must
// not execute it. It waits for the disk: a returned order has been recorded.
func (v *Verifier) Check(payload []byte, at Place) (Taken, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	var t Taken
	r := &Refusal{}
	r.Err = v.check(payload, at, &t, r)
	if r.Err == nil {
		return t, nil
	}
	r.ID, r.Signer = t.Order.ID, t.Signer
	return Taken{}, r
}

// check performs the cheap checks first.
func (v *Verifier) check(payload []byte, at Place, t *Taken, r *Refusal) error {
	e, err := signed.ParseEnvelope(payload)
	if err != nil {
		return because(ErrMalformed, "%v", err)
	}
	signature, err := sshsig.Parse(e.Signature)
	if err != nil {
		return because(ErrMalformed, "invalid signature: %v", err)
	}
	// It is parsed before it is trusted, so that the answer can contain its id.
	var unread error
	if t.Order, unread = signed.ParseOrder(e.Signed); unread != nil {
		t.Order = signed.Order{}
	}
	now, trusted, err := v.time()
	if err != nil {
		return err
	}
	if t.Signer, err = v.signer(signature, e.Signed, now); err != nil {
		return err
	}
	if unread != nil {
		return because(ErrMalformed, "invalid order: %v", unread)
	}
	if err := v.here(t.Order, at); err != nil {
		return err
	}
	return v.take(t, now, trusted, r)
}

// Authentic parses an order and verifies the signer, and nothing else: unlike
// Check, it checks neither the times nor whether the order was accepted before.
func (v *Verifier) Authentic(payload []byte) (signed.Order, error) {
	e, err := signed.ParseEnvelope(payload)
	if err != nil {
		return signed.Order{}, because(ErrMalformed, "%v", err)
	}
	signature, err := sshsig.Parse(e.Signature)
	if err != nil {
		return signed.Order{}, because(ErrMalformed, "the signature cannot be read: %v", err)
	}
	var now instant
	now.wall, now.synchronized = v.clock()
	now.earliest = now.wall
	if _, err := v.signer(signature, e.Signed, now); err != nil {
		return signed.Order{}, err
	}
	return signed.ParseOrder(e.Signed)
}

// instant is what is known about the time.
type instant struct {
	wall         time.Time
	earliest     time.Time // earliest possible time
	synchronized bool
}

// time opens the memory, on which the time depends, unless it is already open.
func (v *Verifier) time() (now instant, trusted bool, err error) {
	now.wall, now.synchronized = v.clock()
	if v.memory == nil {
		m, err := openMemory(filepath.Join(v.StateDir, MemoryFile), v.Log)
		if err != nil {
			return now, false, because(ErrDisk, "the record of accepted orders cannot be read: %v", err)
		}
		v.memory = m
	}
	latest := v.memory.latest
	now.earliest = now.wall
	if latest.After(now.wall) {
		now.earliest = latest
	}
	if now.synchronized {
		// A clock that was set back is wrong now, or was wrong before.
		trusted = !latest.After(now.wall.Add(Skew))
	} else {
		age := now.wall.Sub(latest)
		trusted = !latest.IsZero() && age >= 0 && age <= staleness
	}
	return now, trusted, nil
}

func (v *Verifier) clock() (time.Time, bool) {
	if v.Clock != nil {
		return v.Clock()
	}
	return System()
}

// Open reads the memory of orders, like the first order would. When called at the
// start of the device, orders with times that are issued from then on can be
// accepted.
func (v *Verifier) Open() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	now, trusted, err := v.time()
	if err == nil && now.synchronized && trusted {
		err = v.memory.begin(now.wall)
	}
	return err
}

// signer returns who has signed text. The files are read for each order, so that a
// revocation takes effect immediately.
func (v *Verifier) signer(s *sshsig.Signature, text string, now instant) (string, error) {
	if s.Namespace != signed.Namespace {
		return "", because(ErrSignature, "the signature is for the namespace %.40q; want %q", s.Namespace, signed.Namespace)
	}
	revoked, err := v.Config.revoked()
	if err != nil {
		return "", because(ErrSignature, "all orders are rejected while the revoked keys cannot be read: %v", err)
	}
	if revoked.Has(s.Key) {
		return "", because(ErrSignature, "the key %s is revoked", ssh.FingerprintSHA256(s.Key))
	}
	signers, err := sshsig.ReadSigners(v.Config.AllowedSigners)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", because(ErrSignature, "no key may sign orders for this device: %v", err)
	case err != nil:
		return "", because(ErrSignature, "the allowed signers cannot be read: %v", err)
	}
	line, err := signers.Find(s.Key, signed.Namespace, now.earliest, now.synchronized)
	if err != nil {
		return "", because(ErrSignature, "%v", err)
	}
	if err := s.Verify(signed.Namespace, []byte(text)); err != nil {
		return "", because(ErrSignature, "%v", err)
	}
	return fmt.Sprintf("%.100s %s", line.Principals, ssh.FingerprintSHA256(s.Key)), nil
}

// here compares the destination of an order with where it was received: a broker
// must not be able to redirect it to another device or verb.
func (v *Verifier) here(o signed.Order, at Place) error {
	switch {
	case o.Scope != at.Scope:
		return because(ErrElsewhere, "the order is for the scope %q; this device is in %q", o.Scope, at.Scope)
	case o.Broadcast() && !v.Config.Broadcast:
		return because(ErrElsewhere, "the order is for all devices, which this device does not accept; set broadcast = true in [signed]")
	case !o.Broadcast() && !o.For(at.Serial):
		return because(ErrElsewhere, "the order is not for %q", at.Serial)
	case o.Do != at.Do:
		return because(ErrElsewhere, "the order is for %q, but came on the topic of %q", o.Do, at.Do)
	}
	return nil
}

// take records the order, unless it must be rejected.
func (v *Verifier) take(t *Taken, now instant, trusted bool, r *Refusal) error {
	o, m := t.Order, v.memory
	digest, err := digest(o)
	if err != nil {
		return because(ErrMalformed, "%v", err)
	}
	if now.synchronized && trusted {
		if err := m.begin(now.wall); err != nil {
			return because(ErrDisk, "%v", err)
		}
	}
	if known, ok := m.orders[o.ID]; ok && (o.Nonce != "" || !now.earliest.After(o.Expires.Add(Skew))) {
		if known.digest != digest {
			return because(ErrID, "another order has this ID; use a new one")
		}
		t.Again = true
		return nil
	}
	until := now.earliest.Add(2 * nonceLife)
	if o.Nonce != "" {
		if !v.useNonce(o.Nonce) {
			r.Nonce = v.newNonce()
			return because(ErrNonceWanted, "the nonce is unknown, used, or older than %v", nonceLife)
		}
	} else {
		if err := v.valid(o, now, trusted); err != nil {
			if errors.Is(err, ErrClockNotSet) || errors.Is(err, ErrNonceWanted) {
				r.Nonce = v.newNonce()
			}
			return err
		}
		until = o.Expires.Add(Skew)
	}
	return m.remember(o, digest, until, now)
}

// valid checks the times of an order.
func (v *Verifier) valid(o signed.Order, now instant, trusted bool) error {
	var err error
	most := v.Config.MaxAge.Std()
	// If our clock is correct, a signer's clock that is ahead must not advance our time.
	present := now.earliest
	if now.synchronized {
		present = now.wall
	}
	switch {
	case o.Expires.Sub(o.Issued) > most:
		return because(ErrTooLong, "the order is valid for %v; this device accepts at most %v ([signed] max_age)", o.Expires.Sub(o.Issued), most)
	case !trusted:
		return because(ErrClockNotSet, "clock not set")
	case o.Issued.After(present.Add(Skew)):
		err = because(ErrEarly, "the order was issued at %s, but the device's time is %s; compare the clocks", stamp(o.Issued), stamp(present))
	case now.earliest.After(o.Expires.Add(Skew)):
		err = because(ErrExpired, "the order expired at %s; the device's time is %s", stamp(o.Expires), stamp(now.earliest))
	case v.memory.since.IsZero():
		return because(ErrNonceWanted, "this device has lost the record of accepted orders; a nonce is required")
	case !o.Issued.After(v.memory.since):
		return because(ErrNonceWanted, "this device has no record of orders before %s; a nonce is required", stamp(v.memory.since))
	}
	if err != nil && !now.synchronized { // the clock may be wrong
		return because(ErrClockNotSet, "clock not set")
	}
	return err
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// digest is the digest of an order's request, independent of its times.
func digest(o signed.Order) (string, error) {
	payload, err := o.Payload()
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(append([]byte(o.Do+" "), payload...))
	return hex.EncodeToString(sum[:16]), nil
}

func (v *Verifier) newNonce() string {
	raw := make([]byte, 16)
	_, _ = rand.Read(raw) // never fails
	text := hex.EncodeToString(raw)
	if len(v.nonces) == maxNonces {
		v.nonces = v.nonces[1:]
	}
	v.nonces = append(v.nonces, nonce{text, time.Now()})
	return text
}

// useNonce reports whether the nonce was issued and is unused, and marks it as
// used.
func (v *Verifier) useNonce(text string) bool {
	for i, n := range v.nonces {
		if n.text == text {
			v.nonces = append(v.nonces[:i:i], v.nonces[i+1:]...)
			return time.Since(n.given) <= nonceLife
		}
	}
	return false
}
