package agent

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"lintod/audio"
	"lintod/audio/audiotest"
	"lintod/audio/native"
)

// With its weights, the turns run the neural voice detector. Without them, the
// sound process detects voices. With invalid ones, only loudness is used.
func TestVoiceDetectionWithAndWithoutItsWeights(t *testing.T) {
	damaged := filepath.Join(t.TempDir(), "weights")
	if err := os.WriteFile(damaged, []byte("weights"), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]struct {
		simple, neural bool
	}{
		filepath.Join(t.TempDir(), "missing"): {simple: true},
		damaged:                               {},
		audiotest.SileroWeights(t):            {neural: true},
	} {
		c := soundCards{process: &native.Process{Processing: audio.Processing{VoiceDetection: audio.NeuralDetection}}}
		c.detectVoices(path, slog.New(slog.DiscardHandler))
		simple := c.process.Processing.VoiceDetection == audio.SimpleDetection
		neural := c.voiceModel != nil && c.voiceModel() != nil
		if simple != want.simple || neural != want.neural {
			t.Errorf("%s: simple %t, neural %t", filepath.Base(path), simple, neural)
		}
	}
}
