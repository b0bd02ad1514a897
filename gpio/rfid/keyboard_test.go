package rfid

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// desk is a box with input devices, whose keys a test types, and a running Reader.
// Time is that of a bubble.
type desk struct {
	*testing.T
	root   string
	reader *Reader

	mu     sync.Mutex
	lines  map[string]*io.PipeWriter // of the open ones
	refuse error
	events []Event
}

func (d *desk) open(path string) (io.ReadCloser, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.refuse != nil {
		return nil, d.refuse
	}
	r, w := io.Pipe()
	d.lines[filepath.Base(path)] = w
	return r, nil
}

func (d *desk) plug(event, name string) {
	dir := filepath.Join(d.root, "sys/class/input", event, "device")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		d.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "name"), []byte(name+"\n"), 0o600); err != nil {
		d.Fatal(err)
	}
}

func (d *desk) unplug(event string) {
	if err := os.RemoveAll(filepath.Join(d.root, "sys/class/input", event)); err != nil {
		d.Fatal(err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	_ = d.lines[event].CloseWithError(errors.New("no such device"))
	delete(d.lines, event)
}

// codes are the key codes of linux/input-event-codes.h.
var codes = map[byte]uint16{
	'0': 11, '1': 2, '2': 3, '3': 4, '4': 5, '5': 6, '6': 7, '7': 8, '8': 9, '9': 10,
	'A': 30, 'B': 48, 'C': 46, 'D': 32, 'E': 18, 'F': 33, '\n': 28, ':': 39, 'x': 45,
}

func (d *desk) key(event string, kind, code uint16, value uint32) {
	d.mu.Lock()
	w := d.lines[event]
	d.mu.Unlock()
	if w == nil {
		d.Fatalf("%s is not open", event)
	}
	b := make([]byte, eventSize)
	binary.NativeEndian.PutUint16(b[eventType:], kind)
	binary.NativeEndian.PutUint16(b[eventType+2:], code)
	binary.NativeEndian.PutUint32(b[eventType+4:], value)
	if _, err := w.Write(b); err != nil {
		d.Fatal(err)
	}
}

// types types a text on a device, with all events that the kernel sends in addition
// to the keys.
func (d *desk) types(event, text string) {
	synctest.Wait()
	for i := range len(text) {
		d.key(event, 4, 4, 0x7001E) // EV_MSC, the scan code
		d.key(event, evKey, codes[text[i]], 1)
		d.key(event, evKey, codes[text[i]], 2) // repeated
		d.key(event, evKey, codes[text[i]], 0)
		d.key(event, 0, 0, 0) // EV_SYN
	}
	synctest.Wait()
}

func (d *desk) expect(what string, want ...string) {
	d.Helper()
	synctest.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	var got []string
	for _, e := range d.events {
		got = append(got, e.UID)
	}
	if !slices.Equal(got, want) {
		d.Errorf("%s: %v, want %v", what, got, want)
	}
	d.events = nil
}

func (d *desk) fault() string {
	synctest.Wait()
	return d.reader.Status()[0].Fault
}

func TestUSBReaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &desk{T: t, root: t.TempDir(), lines: map[string]*io.PipeWriter{}}
		d.reader = &Reader{Config: Config{USB: "*RFID*"}, Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Report: func(e Event) {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.events = append(d.events, e)
		}}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var running sync.WaitGroup
		running.Go(func() { d.reader.keep(ctx, &keyboards{pattern: "*RFID*", root: d.root, open: d.open}) })
		if d.fault() == "" {
			t.Error("a missing reader is not reported as a fault")
		}
		d.plug("event3", "Sycreader RFID Technology Co., Ltd SYC ID&IC USB Reader")
		d.plug("event4", "A keyboard")
		time.Sleep(lookEvery)
		if f := d.fault(); f != "" {
			t.Error(f)
		}
		d.types("event3", "0012345678\n")
		d.types("event3", "04:A1:B2:C3\n\n")
		d.expect("two cards", "0012345678", "04A1B2C3")
		d.types("event3", "12x4\n5678\n")
		d.expect("a key that is not part of a UID", "5678")
		d.types("event3", "1234")
		time.Sleep(2 * typeLimit)
		d.types("event3", "5678\n")
		d.expect("half a card", "5678")
		for range 10 {
			d.types("event3", "0123456789")
		}
		d.types("event3", "\n1234\n")
		d.expect("too long", "1234")
		d.plug("event5", "Another RFID reader")
		time.Sleep(lookEvery)
		d.types("event3", "12")
		d.types("event5", "AA\n")
		d.types("event3", "34\n")
		d.expect("two readers", "AA", "1234")

		d.unplug("event3")
		time.Sleep(lookEvery)
		if f := d.fault(); f != "" {
			t.Errorf("one of two readers is there: %s", f)
		}
		d.unplug("event5")
		time.Sleep(lookEvery)
		if d.fault() == "" {
			t.Error("unplugged readers are not a fault")
		}
		d.mu.Lock()
		d.refuse = errors.New("may not be opened")
		d.mu.Unlock()
		d.plug("event3", "RFID")
		time.Sleep(lookEvery)
		if f := d.fault(); f != "may not be opened" {
			t.Errorf("fault %q", f)
		}
		d.mu.Lock()
		d.refuse = nil
		d.mu.Unlock()
		time.Sleep(lookEvery)
		d.types("event3", "AABB\n")
		d.expect("plugged again", "AABB")
		if _, open := d.lines["event4"]; open {
			t.Error("a keyboard that does not match the pattern was opened")
		}
		cancel()
		running.Wait()
	})
}
