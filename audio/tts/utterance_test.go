package tts

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"lintod/audio/wav"
)

// canned is a source that has all of its sound at once.
type canned struct {
	io.Reader
	rate int
}

func (c canned) open() (*wav.Reader, error) { return wav.NewRawReader(c, c.rate, 1), nil }
func (c canned) end() error                 { return nil }

// begin starts sources that are named by their pieces.
func begin(sources map[string]source) func(context.Context, string) (source, error) {
	return func(_ context.Context, piece string) (source, error) { return sources[piece], nil }
}

// The first sentence fills the buffer. Nothing is read for an hour, in which the
// engine of the second cannot continue; that is not a fault of the engine.
func TestSlowListenerIsNotAFaultOfTheEngine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := start(t.Context(), time.Second, []string{"one", "two"}, &kept{}, begin(map[string]source{
			"one": canned{bytes.NewReader(make([]byte, 2*chunkSamples*maxChunks)), 16000},
			"two": canned{bytes.NewReader(make([]byte, 2*chunkSamples)), 16000},
		}))
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		time.Sleep(time.Hour)
		if pcm, err := drain(t.Context(), s); err != nil || len(pcm) != chunkSamples*(maxChunks+1) {
			t.Errorf("%d samples, %v", len(pcm), err)
		}
	})
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestInvalidSound(t *testing.T) {
	for name, c := range map[string]struct {
		sources map[string]source
		want    error
		samples int
	}{
		"another rate": {map[string]source{"one": canned{strings.NewReader("1234"), 16000}, "two": canned{strings.NewReader("12"), 8000}}, errChanged, 2},
		"endless":      {map[string]source{"one": canned{zeros{}, 4000}}, errTooLong, 4000 * 15 * 60},
	} {
		s, err := start(t.Context(), time.Minute, []string{"one", "two"}, &kept{}, begin(c.sources))
		if err != nil {
			t.Fatal(name, err)
		}
		pcm, err := drain(t.Context(), s)
		if !errors.Is(err, c.want) || len(pcm) < c.samples || len(pcm) > c.samples+chunkSamples {
			t.Errorf("%s: %d samples, %v", name, len(pcm), err)
		}
		s.Close()
	}
}
