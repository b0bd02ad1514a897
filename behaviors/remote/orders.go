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

// Root does not believe the daemon that a task was signed: it gets the signed order with the
// task, checks the signature itself, and does for one order what that asks for, once. So
// a daemon that was taken over gains nothing from lintod-admin@.service that must be signed.

const (
	ordersFile   = "orders"   // in root's state directory: the ids that were taken
	previousFile = "previous" // there, too: the configuration before the last one
	maxTaken     = 10_000     // ids
	// lateness is how long after its order has expired a task may come: a configuration is
	// on probation before.
	lateness = 5 * time.Minute
)

// SignedOrder is an order whose signature is right, and which is for this device.
type SignedOrder struct {
	ID, Do  string
	Args    json.RawMessage
	Expires time.Time // zero where it has a nonce instead
}

// orderArgs are those of config and upgrade.
type orderArgs struct {
	Action  string `json:"action"`
	Text    string `json:"text"`
	Change  string `json:"change"`
	Version string `json:"version"`
	SHA256  string `json:"sha256"`
}

var errNotOrdered = errors.New("the signed order asks for something else")

// permit refuses a task that must be signed, where what came with it is not the order for it.
// What is not permitted yet is not taken.
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

// take notes the id of an order, or refuses one that was taken before.
func (o Owner) take(id string) error {
	if err := os.MkdirAll(o.StateDir, 0o700); err != nil {
		return err
	}
	lock, err := os.OpenFile(filepath.Join(o.StateDir, ordersFile+".lock"), os.O_CREATE|os.O_RDWR, 0o600) // tasks run side by side
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
		return errors.New("the signed order was carried out before")
	}
	ids = append(ids, id)
	return state.ReplaceFile(path, []byte(strings.Join(ids[max(0, len(ids)-maxTaken):], "\n")+"\n"))
}

// leadsTo reports whether an order leads from the present configuration to a text.
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

// replace replaces the configuration, and keeps the one before.
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
