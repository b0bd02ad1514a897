package printable

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"testing/quick"
	"time"
	"unicode"
	"unicode/utf8"
)

// Hostile is text that would control a terminal that prints it.
const hostile = "a\x1b[31mb\ac\rd\u009b2Je\u202ef\ng\u2028h\x9bi\u0085j\u2066k\x7fl\x00m"

// harmless fails if a terminal would do anything but print b, except for new
// lines.
func harmless(t *testing.T, b []byte, lines int) {
	t.Helper()
	if !utf8.Valid(b) || bytes.Count(b, []byte("\n")) != lines {
		t.Errorf("%q is not UTF-8 or not %d lines", b, lines)
	}
	for _, r := range string(b) {
		if r != '\n' && !unicode.IsPrint(r) && r != '\u200c' && r != '\u200d' {
			t.Errorf("%q in %q", r, b)
		}
	}
}

func TestLine(t *testing.T) {
	for in, want := range map[string]string{
		hostile:                      "a·[31mb·c d·2Je·f g h\ufffdi j·k·l·m",
		"Dîner à 8 h\u202f30\u00a0?": "Dîner à 8 h 30 ?",
		"می\u200cخواهم":              "می\u200cخواهم",
		"👩\u200d👧 ok":                "👩\u200d👧 ok",
		"e\u0301 \u00ad":             "e\u0301 ·",
		"one\ttwo":                   "one two",
	} {
		if got := Line(in); got != want {
			t.Errorf("%q becomes %q, not %q", in, got, want)
		}
	}
}

type word string

func TestClip(t *testing.T) {
	for _, c := range []struct {
		in   string
		n    int
		want string
	}{{" one\n two\x1b ", 20, "one two·"}, {"été", 2, "é…"}, {"été", 4, "ét…"}, {"été", 5, "été"}, {"\xff", 9, "\ufffd"}, {"x", 0, "…"}} {
		if got := Clip(c.in, c.n); got != c.want {
			t.Errorf("%q to %d bytes becomes %q, not %q", c.in, c.n, got, c.want)
		}
	}
}

func TestFprintfTrustsTheFormatOnly(t *testing.T) {
	var b bytes.Buffer
	Fprintf(&b, "%s %v %v %q %s %d %v %v %v\n", hostile, errors.New(hostile), []string{hostile}, hostile, word(hostile), 7, time.Second, nil, fmt.Errorf("%w", errors.New("x\ny")))
	harmless(t, b.Bytes(), 1)
	if !strings.Contains(b.String(), " 7 1s <nil> x y\n") {
		t.Errorf("%q", b.String())
	}
	b.Reset()
	Fprintf(&b, "\x1b[1m%s\x1b[0m\n", "ours")
	if b.String() != "\x1b[1mours\x1b[0m\n" {
		t.Errorf("%q", b.String())
	}
}

func TestError(t *testing.T) {
	var b bytes.Buffer
	Error(&b, "lintod: ", errors.Join(errors.New("one\x1b[2J"), errors.New("two\u202e")))
	harmless(t, b.Bytes(), 2)
}

// The escaped JSON is equivalent for any contents.
func TestJSONStaysExact(t *testing.T) {
	same := func(in map[string]string) bool {
		in[hostile] = hostile + "\U000e0001"
		raw, err := JSON(in)
		var out, plain map[string]string
		if err != nil || json.Unmarshal(raw, &out) != nil {
			return false
		}
		reference, _ := json.Marshal(in)
		json.Unmarshal(reference, &plain) // bytes that are not UTF-8 are replaced by any encoder
		for _, r := range string(raw) {
			if r != '\n' && !unicode.IsPrint(r) {
				return false
			}
		}
		return reflect.DeepEqual(out, plain)
	}
	if err := quick.Check(same, nil); err != nil {
		t.Error(err)
	}
}

func FuzzCut(f *testing.F) {
	f.Add("aé€😀", 3)
	f.Add("\xff\x80\x80\x80", 2)
	f.Fuzz(func(t *testing.T, s string, n int) {
		if n < 0 || n > 1<<20 {
			return
		}
		got := Cut(s, n)
		if len(got) > n+len("…") || utf8.ValidString(s) && !utf8.ValidString(got) || len(s) <= n && got != s {
			t.Errorf("%q at %d: %q", s, n, got)
		}
		harmless(t, []byte(Short(s, n)), 0)
	})
}
