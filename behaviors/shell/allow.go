package shell

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// none is the rule of a command that no rule allows.
const none = "none"

// script returns what to run for a command of the platform, and the owner's rule that allows it.
func (c Config) script(cmd string) (script, rule string) {
	if script, ok := c.Commands[cmd]; ok {
		return script, "commands." + cmd
	}
	i := slices.IndexFunc(c.Allow, func(entry string) bool { return matches(entry, cmd) })
	if i < 0 {
		return cmd, none
	}
	return cmd, fmt.Sprintf("allow %q", c.Allow[i])
}

// insideWord matches text that ends inside a shell word, which must have started with a literal
// character and not with a quote or variable, which may be empty.
var insideWord = regexp.MustCompile(`(?:^|[ \t])[A-Za-z0-9_.,:@%+/-]+$`)

// matches reports whether an entry of the allow list matches cmd. The text for a * cannot leave its
// word: it contains no space, quote, variable, separator, or redirection of the shell, no slash or
// ".." of a path, and no dash at the start of a word, which would make it an option.
func matches(entry, cmd string) bool {
	if entry == free {
		return true
	}
	parts := strings.Split(entry, "*")
	pattern := strings.Builder{}
	pattern.WriteString(`\A`)
	for i, part := range parts {
		if i > 0 {
			pattern.WriteString(`([A-Za-z0-9_.,:@%+-]+)`)
		}
		pattern.WriteString(regexp.QuoteMeta(part))
	}
	pattern.WriteString(`\z`)
	found := regexp.MustCompile(pattern.String()).FindStringSubmatchIndex(cmd)
	if found == nil {
		return false
	}
	for i := 2; i < len(found); i += 2 {
		wild, before := cmd[found[i]:found[i+1]], cmd[:found[i]]
		if wild[0] == '-' && !insideWord.MatchString(before) {
			return false
		}
	}
	return strings.Count(cmd, "..") == strings.Count(entry, "..")
}
