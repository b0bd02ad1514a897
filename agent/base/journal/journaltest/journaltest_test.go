package journaltest

import (
	"fmt"
	"strings"
	"sync"
	"testing"
)

func TestBufferIsReadWhileItIsWritten(t *testing.T) {
	var b Buffer
	var writers sync.WaitGroup
	for range 4 {
		writers.Go(func() {
			for range 100 {
				fmt.Fprintln(&b, "line")
				_ = b.String()
			}
		})
	}
	writers.Wait()
	if n := strings.Count(b.String(), "line\n"); n != 400 {
		t.Errorf("%d whole lines, want 400", n)
	}
}
