package recorder

import (
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"lintod/agent/base/config"
)

func TestFolder(t *testing.T) {
	tests := []struct{ session, want string }{
		{"weekly", "weekly"},
		{"Board_2026-11-22", "Board_2026-11-22"},
		{"réunion", "réunion"},
		{"会議", "会議"},
		{"a b", "a_b-*"},
		{"..", "__-*"},
		{"-rf", "_rf-*"},
		{"", "-*"},
		{"a\x00b", "a_b-*"},
		{"a\xffb", "a_b-*"},
		{"x-0123456789abcdef", "x-0123456789abcdef-*"}, // looks like a changed name
		{strings.Repeat("x", 100), strings.Repeat("x", 100)},
		{strings.Repeat("x", 101), strings.Repeat("x", 100) + "-*"},
		{strings.Repeat("é", 51), strings.Repeat("é", 50) + "-*"},
	}
	for _, tt := range tests {
		got := folder(tt.session)
		if head, tagged := strings.CutSuffix(tt.want, "*"); tagged {
			if !strings.HasPrefix(got, head) || len(got) != len(head)+2*tagBytes {
				t.Errorf("%q: %q, want %q and a hash", tt.session, got, head)
			}
		} else if got != tt.want {
			t.Errorf("%q: %q, want %q", tt.session, got, tt.want)
		}
	}
}

func TestDifferentSessionsNeverShareAFolder(t *testing.T) {
	seen := map[string]string{}
	for _, s := range []string{
		"", "_", "-", "a b", "a_b", "a\tb", "a/b", folder("a b"), folder(folder("a b")), strings.Repeat("x", 101),
		strings.Repeat("x", 102), strings.Repeat("x", 100), "\xff", "\xfe", "\ufffd",
	} {
		f := folder(s)
		if other, ok := seen[f]; ok {
			t.Errorf("%q and %q are both at %q", s, other, f)
		}
		seen[f] = s
	}
}

func FuzzFolder(f *testing.F) {
	for _, s := range []string{"weekly", "../x", "a;b\n", "\x00", "\xff\xfe", strings.Repeat("é", 1000), "x-0123456789abcdef"} {
		f.Add(s)
	}
	fine := regexp.MustCompile(`^[\p{L}\p{Nd}_][\p{L}\p{Nd}_-]*$|^-[0-9a-f]{16}$`)
	f.Fuzz(func(t *testing.T, s string) {
		got := folder(s)
		if !fine.MatchString(got) || len(got) > maxFolder+1+2*tagBytes || !utf8.ValidString(got) {
			t.Errorf("%q: %q", s, got)
		}
		if got != s && folder(got) == got {
			t.Errorf("%q shares %q with the session of that name", s, got)
		}
	})
}

func TestConfig(t *testing.T) {
	valid := Defaults()
	valid.Directory = "/var/lib/lintod/meetings"
	if ps := valid.Validate(); ps != nil {
		t.Errorf("defaults: %v", ps)
	}
	tests := []struct {
		key    string
		change func(*Config)
	}{
		{"directory", func(c *Config) { c.Directory = "meetings" }},
		{"directory", func(c *Config) { c.Directory = "" }},
		{"min_free", func(c *Config) { c.MinFree = config.MB }},
		{"format", func(c *Config) { c.Format = "mp3" }},
		{"resume_within", func(c *Config) { c.ResumeWithin = -1 }},
		{"upload_url", func(c *Config) { c.UploadURL = "http://example.org/" }},
		{"upload_url", func(c *Config) { c.UploadURL = "https://" }},
		{"upload_url", func(c *Config) { c.UploadURL = "%zz" }},
		{"upload_url", func(c *Config) { c.UploadURL = "https://me:s3cret@example.org/" }},
		{"upload_url", func(c *Config) { c.UploadTokenFile = "/x" }},
		{"", func(c *Config) { c.UploadURL = "https://example.org/in?dir=1" }},
		{"", func(c *Config) { c.UploadURL = "http://127.0.0.1:8080/in" }},
	}
	for _, tt := range tests {
		c := valid
		tt.change(&c)
		ps := c.Validate()
		if (tt.key == "") != (len(ps) == 0) || (len(ps) > 0 && ps[0].Key != tt.key) {
			t.Errorf("%+v: %v, want a problem with %q", c, ps, tt.key)
		}
		if strings.Contains(ps.Error(), "s3cret") {
			t.Errorf("the error contains the password: %v", ps)
		}
	}
}
