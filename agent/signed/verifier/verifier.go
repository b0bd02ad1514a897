// Package verifier decides whether the device obeys a signed order: who may sign, whether
// it is for this device and this verb, whether it is still valid, and whether it was
// taken before. An order that it takes is on the disk before anything is done.
//
// What must not live here: the text of an order (agent/signed), how it arrives (agent/link), and
// what else must allow it (behaviors).
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
	// Skew is how far the clocks of the device and of who signs may be apart.
	Skew = 2 * time.Minute

	// staleness is how old the last order may be for a clock to be trusted that nobody
	// has set.
	staleness = 24 * time.Hour

	nonceLife = 5 * time.Minute
	maxNonces = 256 // the oldest is dropped
)

// Verifier checks orders. Its fields are set before use; its methods may be called from
// any goroutine.
type Verifier struct {
	Config   Config
	StateDir string // keeps which orders were taken
	// Clock is the time, and whether it is known to be right; nil stands for the system's.
	Clock func() (now time.Time, synchronized bool)
	Log   *slog.Logger

	mu     sync.Mutex
	memory *memory // nil until it could be read
	nonces []nonce // the oldest first
}

// nonce is a number that an order may carry instead of times, once.
type nonce struct {
	text  string
	given time.Time // with the monotonic clock, which nobody sets
}

// Place is where an order has arrived.
type Place struct {
	Scope, Serial string // the device's
	Do            string // what the topic asks for
}

// Taken is an order that the device obeys.
type Taken struct {
	Order  signed.Order
	Signer string // who signed it: the principals of the line, and the key's fingerprint
	// Again says that an order with this id was taken before. It must not be carried out;
	// an answer that is known may be given again.
	Again bool
}

// Refusal is why an order is not obeyed.
type Refusal struct {
	ID  string // the order's; "" where it could not be read. It may be forged.
	Err error
	// Nonce, where set, is what the same order must carry instead of times, signed again
	// with the same id.
	Nonce string
	// Signer is who signed it, "" where that is not known for sure.
	Signer string
}

func (r *Refusal) Error() string { return r.Err.Error() }

func (r *Refusal) Unwrap() error { return r.Err }

// What a refusal can be about; for errors.Is.
var (
	ErrMalformed   = errors.New("not an order")
	ErrSignature   = errors.New("not signed by who may sign")
	ErrElsewhere   = errors.New("not for here")
	ErrClockNotSet = errors.New("clock not set")
	ErrNonceWanted = errors.New("wants a nonce")
	ErrExpired     = errors.New("expired")
	ErrEarly       = errors.New("issued in the future")
	ErrTooLong     = errors.New("valid for too long")
	ErrID          = errors.New("the id is taken")
	ErrFull        = errors.New("too many orders at once")
	ErrDisk        = errors.New("cannot be remembered")
)

// cause is an error with a sentence of its own that is one of the above.
type cause struct {
	kind error
	text string
}

func (c *cause) Error() string { return c.text }

func (c *cause) Unwrap() error { return c.kind }

func because(kind error, format string, args ...any) error {
	return &cause{kind, fmt.Sprintf(format, args...)}
}

// Check decides about the payload of a message. It returns a *Refusal where the device
// must not obey. It waits for the disk: when it returns an order, that is remembered.
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

// check goes from what is cheap to what is dear.
func (v *Verifier) check(payload []byte, at Place, t *Taken, r *Refusal) error {
	e, err := signed.ParseEnvelope(payload)
	if err != nil {
		return because(ErrMalformed, "%v", err)
	}
	signature, err := sshsig.Parse(e.Signature)
	if err != nil {
		return because(ErrMalformed, "invalid signature: %v", err)
	}
	// It is read before it is trusted, so that the answer can name it.
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

// Authentic reads an order and checks who has signed it, and nothing else: it asks neither when
// the order is valid nor whether it was taken before, as Check does.
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
	earliest     time.Time // that it can be
	synchronized bool
}

// time opens the memory, which the time depends on, if that is not done yet.
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
		// A clock that was set back is wrong now, or was before.
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

// Open reads the memory of orders, as the first order would. Called at the start of the
// device, it lets orders with times be taken that are issued from then on.
func (v *Verifier) Open() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	now, trusted, err := v.time()
	if err == nil && now.synchronized && trusted {
		err = v.memory.begin(now.wall)
	}
	return err
}

// signer is who has signed text. The files are read for each order: a key that was revoked
// is revoked from then on.
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

// here compares where the order belongs with where it has arrived: a broker must not move
// it to another device or another verb.
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

// take remembers the order, unless it may not be taken.
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

// valid judges the times of an order.
func (v *Verifier) valid(o signed.Order, now instant, trusted bool) error {
	var err error
	most := v.Config.MaxAge.Std()
	// Where the clock is right, who signs with one that is ahead must not push ours.
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
	if err != nil && !now.synchronized { // perhaps it is the clock that is wrong
		return because(ErrClockNotSet, "clock not set")
	}
	return err
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// digest is of what an order asks, whenever it was signed.
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

// useNonce tells whether the nonce was given and is not used; then it is.
func (v *Verifier) useNonce(text string) bool {
	for i, n := range v.nonces {
		if n.text == text {
			v.nonces = append(v.nonces[:i:i], v.nonces[i+1:]...)
			return time.Since(n.given) <= nonceLife
		}
	}
	return false
}
