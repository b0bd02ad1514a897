package tts

import "testing"

func TestSpell(t *testing.T) {
	for code, want := range map[string]string{
		"048291":  "0, 4, 8, 2, 9, 1",
		"12 34\n": "1, 2, 3, 4",
		"aé1":     "a, é, 1",
		"":        "",
	} {
		if got := Spell(code); got != want {
			t.Errorf("%q: %q, want %q", code, got, want)
		}
	}
}
