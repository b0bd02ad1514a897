package speech

import (
	"context"
	"io/fs"
	"strings"
	"testing"
	"time"

	"lintod/agent/base/process"
)

// pocketsphinx must accept the grammar, and be able to pronounce its words.
func TestPocketsphinxAcceptsTheGrammar(t *testing.T) {
	s := NewRecogniser(nil)
	if err := s.Open(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	child, err := process.Start(t.Context(), process.Command{Argv: []string{"pocketsphinx_continuous", "-version"}})
	if err != nil {
		t.Skipf("SKIPPED: %v; scripts/test installs it", err)
	}
	child.Kill()
	_ = child.Wait()
	h, err := s.Hear(t.Context(), make([]int16, 16000), Anything)
	if err != nil || h.Text != "" || h.By != ByPocketsphinx || h.Level != -96 || h.Length != time.Second {
		t.Errorf("a second of silence: %+v, %v", h, err)
	}
}

func TestNumbers(t *testing.T) {
	for text, want := range map[string]int{"zero": 0, "seven": 7, "ten": 10, "forty": 40, "forty two": 42, "one hundred": 100, "65": 65} {
		if got, ok := parseNumber(text); !ok || got != want {
			t.Errorf("%s: %d, %v", text, got, ok)
		}
	}
	for _, text := range []string{"", "much", "ten five", "two forty", "forty ten", "-1", "one hundred five", "99999999999"} {
		if got, ok := parseNumber(text); ok {
			t.Errorf("%q is %d", text, got)
		}
	}
}

func TestAnswersWithoutARecogniser(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	s := NewRecogniser(nil)
	loud := make([]int16, 2*Rate)
	for i := range loud {
		loud[i] = int16(8000 * (1 - i/20%2*2))
	}
	h, err := s.Hear(t.Context(), loud, Opening)
	if err != nil || h.By != ByLevel || h.Text != "" {
		t.Fatalf("heard %+v, %v", h, err)
	}
	if got := Describe(h); got != "2.0 s of sound at -12 dBFS" {
		t.Errorf("described as %q", got)
	}
	if got := ReplyToSound(loud); !strings.Contains(got, "2.0 seconds") || !strings.Contains(got, "pocketsphinx") {
		t.Errorf("answer %q", got)
	}
	if got := ReplyToSound(make([]int16, 16000)); got == "" || strings.Contains(got, "seconds") {
		t.Errorf("answer to silence %q", got)
	}
}

func TestLevel(t *testing.T) {
	full := []int16{32767, -32768, 32767, -32768}
	if got := Level(full); got < -0.1 || got > 0.1 {
		t.Errorf("full scale is %v dBFS", got)
	}
	for _, quiet := range [][]int16{nil, make([]int16, 100)} {
		if got := Level(quiet); got != -96 {
			t.Errorf("silence is %v dBFS", got)
		}
	}
}

func TestMissingRecogniserIsNotAnError(t *testing.T) {
	s := NewRecogniser(func(context.Context, []int16, int) (string, error) {
		return "", fs.ErrNotExist
	})
	if h, err := s.Hear(t.Context(), nil, Opening); err != nil || h.By != ByLevel {
		t.Errorf("heard %+v, %v", h, err)
	}
}
