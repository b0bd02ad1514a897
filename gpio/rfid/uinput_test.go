package rfid

import (
	"context"
	"encoding/binary"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// From linux/uinput.h.
const (
	uiDevCreate  = 0x5501
	uiDevDestroy = 0x5502
	uiDevSetup   = 0x405c5503
	uiSetEvBit   = 0x40045564
	uiSetKeyBit  = 0x40045565
)

// plugged creates a keyboard in the kernel, whose keys a test types.
func plugged(t *testing.T, name string) *os.File {
	t.Helper()
	f, err := os.OpenFile("/dev/uinput", os.O_WRONLY, 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.ENODEV) {
		t.Skipf("SKIPPED, nothing was tested: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	fd := int(f.Fd())
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	must(unix.IoctlSetInt(fd, uiSetEvBit, evKey))
	for _, code := range codes {
		must(unix.IoctlSetInt(fd, uiSetKeyBit, int(code)))
	}
	setup := make([]byte, 92) // struct uinput_setup: id, name, ff_effects_max
	binary.NativeEndian.PutUint16(setup, 3)
	copy(setup[8:87], name)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uiDevSetup, uintptr(unsafe.Pointer(&setup[0])))
	if errno != 0 {
		t.Fatal(errno)
	}
	must(unix.IoctlSetInt(fd, uiDevCreate, 0))
	return f
}

func unplugged(f *os.File) {
	_ = unix.IoctlSetInt(int(f.Fd()), uiDevDestroy, 0)
	f.Close()
}

// A kernel keyboard types only for us, and may be unplugged and plugged in again.
func TestUSBReaderWithTheKernel(t *testing.T) {
	const name = "lintod test RFID"
	f := plugged(t, name)
	defer func() { unplugged(f) }()
	types := func(text string) {
		for i := range len(text) {
			b := make([]byte, 0, 4*eventSize)
			for _, e := range [][3]uint16{{evKey, codes[text[i]], 1}, {}, {evKey, codes[text[i]], 0}, {}} {
				event := make([]byte, eventSize)
				binary.NativeEndian.PutUint16(event[eventType:], e[0])
				binary.NativeEndian.PutUint16(event[eventType+2:], e[1])
				binary.NativeEndian.PutUint32(event[eventType+4:], uint32(e[2]))
				b = append(b, event...)
			}
			if _, err := f.Write(b); err != nil {
				t.Fatal(err)
			}
		}
	}
	seen := make(chan string, 10)
	r := &Reader{
		Config: Config{USB: name + "*"}, Root: "/", Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
		Report: func(e Event) { seen <- e.UID },
	}
	expect := func(want string) {
		t.Helper()
		select {
		case got := <-seen:
			if got != want {
				t.Errorf("%s, want %s", got, want)
			}
		case <-time.After(time.Minute):
			t.Fatalf("no card was read; %+v", r.Status())
		}
	}
	ready := func(want bool) {
		t.Helper()
		for limit := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
			if st := r.Status(); len(st) == 1 && (st[0].Fault == "") == want {
				return
			}
			if time.Now().After(limit) {
				t.Fatalf("%+v", r.Status())
			}
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = r.Run(ctx) })
	defer running.Wait()
	defer cancel()
	ready(true)
	types("04A1B2C3\n")
	expect("04A1B2C3")
	if results := r.Check(ctx); len(results) != 1 || results[0].Err == nil || !strings.Contains(results[0].Err.Error(), "another program") {
		t.Errorf("another process can grab it: %+v", results)
	}
	unplugged(f)
	ready(false)
	f = plugged(t, name+" 2")
	ready(true)
	types("0012345678\n")
	expect("0012345678")
}
