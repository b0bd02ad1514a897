package agent

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lintod/agent/base/journal/journaltest"
)

// The configuration, the platform and the saved state apply the same rule.
func TestLanguageMustBeSupported(t *testing.T) {
	for _, c := range []struct{ configured, saved, want, complaint string }{
		{"en-US", "", "en-US", ""},
		{"fr", "", "fr-FR", ""},
		{"fr", "de_de", "de-DE", ""},
		{"en-US", "tlh", "en-US", "level=WARN"},
	} {
		cfg := Defaults()
		cfg.Device.StateDir, cfg.TTS.Language = t.TempDir(), c.configured
		cfg.Audio.Input, cfg.Audio.Output = []string{"null"}, []string{"null"}
		if c.saved != "" {
			text := fmt.Sprintf(`{"volume":60,"language":%q,"muted":false}`, c.saved)
			if err := os.WriteFile(filepath.Join(cfg.Device.StateDir, "state.json"), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		var log journaltest.Buffer
		a := New(cfg, slog.New(slog.NewTextHandler(&log, nil)))
		if got := a.store.Get().Language; got != c.want || !strings.Contains(log.String(), c.complaint) || c.complaint == "" && log.String() != "" {
			t.Errorf("%+v: speaks %s; %s", c, got, log.String())
		}
		d := a.box()
		if err := d.SetLanguage("tlh"); err == nil || !strings.Contains(err.Error(), "fr-FR, en-US") || a.store.Get().Language != c.want {
			t.Errorf("%v, speaks %s", err, a.store.Get().Language)
		}
		if err := d.SetLanguage("it"); err != nil || a.store.Get().Language != "it-IT" {
			t.Errorf("%v, speaks %s", err, a.store.Get().Language)
		}
	}
}
