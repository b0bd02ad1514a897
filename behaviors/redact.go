package behaviors

import (
	"log/slog"
	"regexp"
	"strings"
)

const mask = "***"

// Secret is a text that no log, error or status may show, whichever way it is
// printed. string(s) is the text itself.
type Secret string

func (Secret) String() string { return mask }

// GoString implements fmt.GoStringer.
func (Secret) GoString() string { return mask }

// LogValue implements slog.LogValuer.
func (Secret) LogValue() slog.Value { return slog.StringValue(mask) }

// MarshalText implements encoding.TextMarshaler.
func (Secret) MarshalText() ([]byte, error) { return []byte(mask), nil }

// CommandLine is a command as its sender wrote it. It is shown without what
// looks like a secret: a log must tell what was run, not with which password.
// string(c) is the command itself.
type CommandLine string

const maxShown = 1 << 10 // bytes of a command line in a log

func (c CommandLine) String() string {
	text := string(c)
	for _, s := range secrets {
		text = s.pattern.ReplaceAllString(text, s.shown)
	}
	if len(text) > maxShown {
		text = strings.ToValidUTF8(text[:maxShown], "") + "…"
	}
	return text
}

// GoString implements fmt.GoStringer.
func (c CommandLine) GoString() string { return c.String() }

// LogValue implements slog.LogValuer.
func (c CommandLine) LogValue() slog.Value { return slog.StringValue(c.String()) }

// MarshalText implements encoding.TextMarshaler.
func (c CommandLine) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// word is one word of the shell: quoted, escaped or plain.
const word = `(?:"(?:[^"\\]|\\.)*"?|'[^']*'?|\\.|[^\s;&|<>()"'\\])+`

// telling are words that announce a secret.
const telling = `(?i:pass(?:word|wd|phrase)?|pwd|secret|token|credentials?|auth|api-?_?key|private-?_?key|key)`

// secrets are the forms in which secrets stand in command lines.
var secrets = []struct {
	pattern *regexp.Regexp
	shown   string
}{
	{regexp.MustCompile(`(?s)-----BEGIN [A-Z ]+-----.*?(?:-----END [A-Z ]+-----|$)`), mask},
	// Variables by convention have capitals, and hold what must not be an argument.
	{regexp.MustCompile(`\b([A-Z_][A-Z0-9_]*=)` + word), "${1}" + mask},
	{regexp.MustCompile(`([A-Za-z0-9_-]*` + telling + `[A-Za-z0-9_-]*=)` + word), "${1}" + mask},
	{regexp.MustCompile(`(--?[a-z0-9-]*` + telling + `\s+)` + word), "${1}" + mask},
	{regexp.MustCompile(`((?i:authorization|x-api-key|x-auth-token|cookie)\s*:\s*)[^"'\n]+`), "${1}" + mask},
	{regexp.MustCompile(`((?i:bearer|basic)\s+)` + word), "${1}" + mask},
	{regexp.MustCompile(`(://[^/\s:@]*:)[^/\s@]+@`), "${1}" + mask + "@"},
	// curl -u name:password, mysql -psecret, sshpass -p secret
	{regexp.MustCompile(`(\s-u\s*[^\s:]+:)` + word), "${1}" + mask},
	{regexp.MustCompile(`(\b(?:mysql|mariadb|sshpass)[^|;&\n]*?\s-p\s*)` + word), "${1}" + mask},
	// what is piped into a program that reads a password
	{regexp.MustCompile(`(\b(?:echo|printf)\s)[^|;&]*(\|[^|;&\n]*(?:passw|login|\s-S\b))`), "${1}" + mask + "${2}"},
}
