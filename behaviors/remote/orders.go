package remote

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"lintod/agent/base/state"
	"lintod/agent/base/textfile"
)

// Root does not trust the daemon's statement that a task was signed: it gets the signed order with
// the task, checks the signature itself, and executes each order once. So a compromised daemon
// cannot use lintod-admin@.service for anything that must be signed.

const (
	ordersFile   = "orders"   // in root's state directory: the IDs of executed orders
	previousFile = "previous" // in the same directory: the previous configuration
	maxTaken     = 10_000     // ids
	// lateness is how long after the expiry of its order a task may arrive, because a configuration
	// is first on probation.
	lateness = 5 * time.Minute
)

// SignedOrder is an order for this device with a valid signature.
type SignedOrder struct {
	ID, Do  string
	Args    json.RawMessage
	Expires time.Time // zero if it has a nonce instead
}

// orderArgs are the arguments of config and upgrade.
type orderArgs struct {
	Action  string `json:"action"`
	Text    string `json:"text"`
	Change  string `json:"change"`
	Version string `json:"version"`
	SHA256  string `json:"sha256"`
}

var errNotOrdered = errors.New("the signed order requests something else")

// permit refuses a task that must be signed if it does not come with the order for it. It does not
// record the order's ID.
func (o Owner) permit(a Allowed, t task, verb string, must bool, asks func(orderArgs) error) error {
	if !must && !a.Signed(verb) {
		return nil
	}
	if len(t.Order) == 0 {
		return fmt.Errorf("the owner of this device requires a signature for %s", verb)
	}
	order, err := a.Authentic(t.Order)
	if err != nil {
		return err
	}
	var args orderArgs
	late := !order.Expires.IsZero() && time.Now().After(order.Expires.Add(a.Config.Config.Probation.Std()+lateness))
	switch {
	case order.Do != verb || json.Unmarshal(order.Args, &args) != nil:
		return errNotOrdered
	case late:
		return errors.New("the signed order has expired")
	}
	if err := asks(args); err != nil {
		return err
	}
	return o.take(order.ID)
}

// take records the ID of an order, or refuses an order that was executed before.
func (o Owner) take(id string) error {
	if err := os.MkdirAll(o.StateDir, 0o700); err != nil {
		return err
	}
	lock, err := os.OpenFile(filepath.Join(o.StateDir, ordersFile+".lock"), os.O_CREATE|os.O_RDWR, 0o600) // tasks run concurrently
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return err
	}
	path := filepath.Join(o.StateDir, ordersFile)
	raw, err := state.ReadFile(path, 1<<20)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	ids := strings.Fields(string(raw))
	if slices.Contains(ids, id) {
		return errors.New("the signed order was executed before")
	}
	ids = append(ids, id)
	return state.ReplaceFile(path, []byte(strings.Join(ids[max(0, len(ids)-maxTaken):], "\n")+"\n"))
}

// leadsTo reports whether an order changes the current configuration to a text.
func (o Owner) leadsTo(text string) func(orderArgs) error {
	return func(a orderArgs) error {
		var next []byte
		var err error
		switch {
		case a.Action == "undo":
			next, err = state.ReadFile(filepath.Join(o.StateDir, previousFile), maxText)
		case a.Action == "set" && a.Text != "":
			next = []byte(a.Text)
		case a.Action == "set":
			var now []byte
			if now, err = textfile.ReadRaw(o.Path, maxText); err == nil {
				next, err = o.Merge(now, []byte(a.Change))
			}
		}
		if err != nil {
			return err
		}
		if string(next) != text {
			return errNotOrdered
		}
		return nil
	}
}

// replace replaces the configuration, and stores the previous one.
func (o Owner) replace(f newFile) error {
	text, err := textfile.ReadRaw(o.Path, maxText)
	if err == nil {
		err = os.MkdirAll(o.StateDir, 0o700)
	}
	if err == nil {
		err = state.ReplaceFile(filepath.Join(o.StateDir, previousFile), text)
	}
	if err != nil {
		return err
	}
	return replaceConfiguration(f)
}
