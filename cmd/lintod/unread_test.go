package main

import (
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"lintod/agent/broker/brokertest"
)

// TestLogWithoutAReader fills the pipe of the log, or closes it: the device
// continues, and ends when it is asked to.
func TestLogWithoutAReader(t *testing.T) {
	dir, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*testing.T, *os.File, *os.File){
		"full": func(t *testing.T, _, in *os.File) {
			// A separate descriptor, so that the daemon's remains in blocking mode.
			_ = in.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
			if _, err := io.Copy(in, endless{}); err == nil {
				t.Error("the pipe is not full")
			}
		},
		"broken": func(_ *testing.T, out, _ *os.File) { out.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t, brokertest.Start(t), settings{})
			out, in, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer out.Close()
			defer in.Close()
			spoil(t, out, in)
			b.launch(filepath.Join(dir, "lintod"), in)
			b.status("online")
			for range 3 {
				b.send("nonsense", "{}") // one line each
			}
			b.send("ping", "{}")
			b.next("pong")
			b.stop()
		})
	}
}

// endless is a reader of zeros.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }
