package native

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// script is a child that runs a shell command.
func script(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "lintod-audio")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestForeignChild(t *testing.T) {
	for name, c := range map[string]struct{ text, reason, passed string }{
		"garbage":                      {`while :; do echo "ALSA lib pcm.c:2660: Unknown PCM"; done`, "garbage", ""},
		"fails":                        {`echo planted-reason >&2; exit 127`, "ended", "planted-reason"},
		"ends":                         {`exit 0`, "ended", ""},
		"ends in the middle of a line": {`printf 'lint'`, "ended", ""},
		"kills itself":                 {`kill -SEGV $$`, "ended", syscall.SIGSEGV.String()},
		"nothing":                      {`exec sleep 1000`, "stalled", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := run(t, script(t, c.text))
			if err := p.fails(); err == nil || !strings.Contains(err.Error(), c.passed) {
				t.Errorf("Run: %v", err)
			}
			if n := p.Status().Restarts[c.reason]; n == 0 {
				t.Errorf("counted %v", p.Status().Restarts)
			}
		})
	}
}

func TestMissingProgram(t *testing.T) {
	p := run(t, filepath.Join(t.TempDir(), "lintod-audio"))
	if err := p.fails(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Run: %v", err)
	}
	start := time.Now()
	if _, err := p.OpenInput(t.Context()); err == nil || time.Since(start) < upLimit {
		t.Errorf("OpenInput: %v after %v", err, time.Since(start))
	}
}
