package rfid

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// lookEvery is how often new devices are looked for.
	lookEvery = 2 * time.Second
	// typeLimit is the maximum time between two keys of one card; after it, earlier keys are
	// discarded.
	typeLimit = time.Second
	// maxTyped is the maximum number of keys of one card.
	maxTyped = 32
)

// From linux/input-event-codes.h and linux/input.h.
const (
	evKey      = 1
	keyPressed = 1
	keyEnter   = 28
	keypadEnt  = 96
	eviocgrab  = 0x40044590 // _IOW('E', 0x90, int)
)

// typed maps keys to the characters of UIDs.
var typed = map[uint16]byte{
	2: '1', 3: '2', 4: '3', 5: '4', 6: '5', 7: '6', 8: '7', 9: '8', 10: '9', 11: '0',
	30: 'A', 48: 'B', 46: 'C', 32: 'D', 18: 'E', 33: 'F',
	79: '1', 80: '2', 81: '3', 75: '4', 76: '5', 77: '6', 71: '7', 72: '8', 73: '9', 82: '0', // keypad
}

// ignored are keys without meaning: both shifts, and separators of bytes.
var ignored = []uint16{42, 54, 12 /* - */, 39 /* : and ; */, 57 /* space */}

// keyboards reads the input devices of USB readers, which may be plugged in and unplugged at any
// time.
type keyboards struct {
	pattern string // of their names
	root    string
	open    func(path string) (io.ReadCloser, error)
}

func (k *keyboards) name() string { return fmt.Sprintf("USB readers %q", k.pattern) }

// grab opens an input device exclusively. Close ends a Read.
func grab(path string) (io.ReadCloser, error) {
	f, err := os.OpenFile(path, os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrPermission) {
		return nil, fmt.Errorf("no permission to open %s: add the drop-in card-reader.conf to lintod.service, or the user of lintod to the group input", path)
	}
	if err != nil {
		return nil, err
	}
	raw, err := f.SyscallConn()
	if err == nil {
		cerr := raw.Control(func(fd uintptr) { err = unix.IoctlSetInt(int(fd), eviocgrab, 1) })
		err = errors.Join(err, cerr)
	}
	if errors.Is(err, unix.EBUSY) {
		err = errors.New("another program uses it exclusively")
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("grab %s: %w", path, err)
	}
	return f, nil
}

// find returns the paths of the devices with matching names.
func (k *keyboards) find() []string {
	names, _ := filepath.Glob(filepath.Join(k.root, "/sys/class/input/event*/device/name")) // the pattern is well-formed
	var paths []string
	for _, file := range names {
		text, err := os.ReadFile(file)
		if fits, _ := path.Match(k.pattern, strings.TrimSpace(string(text))); err == nil && fits {
			device := filepath.Base(filepath.Dir(filepath.Dir(file)))
			paths = append(paths, filepath.Join(k.root, "/dev/input", device))
		}
	}
	return paths
}

func (k *keyboards) none() error {
	return fmt.Errorf("no input device matches %q; /proc/bus/input/devices lists all devices", k.pattern)
}

func (k *keyboards) check(context.Context) (string, error) {
	paths := k.find()
	if len(paths) == 0 {
		return "", k.none()
	}
	for _, p := range paths {
		f, err := k.open(p)
		if err != nil {
			return "", err
		}
		f.Close()
	}
	return strings.Join(paths, " and ") + " can be had", nil
}

// read reads from all matching devices, and looks for new ones.
func (k *keyboards) read(ctx context.Context, to *reading) error {
	var running sync.WaitGroup
	defer running.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var mu sync.Mutex
	open := map[string]bool{}
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for state := errors.New("not searched yet"); ; {
		why := k.none()
		for _, p := range k.find() {
			mu.Lock()
			known := open[p]
			mu.Unlock()
			if known {
				continue
			}
			f, err := k.open(p)
			if err != nil {
				why = err
				continue
			}
			mu.Lock()
			open[p] = true
			mu.Unlock()
			running.Go(func() {
				end := context.AfterFunc(ctx, func() { f.Close() })
				defer end()
				defer f.Close()
				listen(f, to.report)
				mu.Lock()
				defer mu.Unlock()
				delete(open, p)
			})
		}
		mu.Lock()
		if len(open) > 0 {
			why = nil
		}
		mu.Unlock()
		if fmt.Sprint(why) != fmt.Sprint(state) {
			if state = why; why == nil {
				to.found()
			} else {
				to.lost(why)
			}
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-look.C:
		}
	}
}

// event is an input_event. Its time consists of two machine words.
const (
	eventSize = int(2*unsafe.Sizeof(uintptr(0))) + 8
	eventType = eventSize - 8
)

// listen reports what a device types, line by line, until it is gone.
func listen(f io.Reader, report func(Event)) {
	var line []byte
	var last time.Time
	bad := false
	buf := make([]byte, eventSize)
	for {
		if _, err := io.ReadFull(f, buf); err != nil {
			return
		}
		code := binary.NativeEndian.Uint16(buf[eventType+2:])
		if binary.NativeEndian.Uint16(buf[eventType:]) != evKey || binary.NativeEndian.Uint32(buf[eventType+4:]) != keyPressed || slices.Contains(ignored, code) {
			continue
		}
		if time.Since(last) > typeLimit {
			line, bad = line[:0], false
		}
		last = time.Now()
		switch char, known := typed[code]; {
		case code == keyEnter || code == keypadEnt:
			if len(line) > 0 && !bad {
				report(Event{string(line), false})
			}
			line, bad = line[:0], false
		case !known, len(line) == maxTyped:
			bad = true
		default:
			line = append(line, char)
		}
	}
}
