package shell

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// none is the rule of what no rule allows.
const none = "none"

// script is what to run for a command of the platform, and by which of the owner's rules.
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

// insideWord matches what precedes a place within a word of the shell that has
// begun for sure: with a literal character, and without a quote or variable, which
// may stand for nothing.
var insideWord = regexp.MustCompile(`(?:^|[ \t])[A-Za-z0-9_.,:@%+/-]+$`)

// matches tells whether an entry of the allow list covers cmd. What a * stands
// for cannot leave its word: no blank, quote, variable, separator or redirection
// for the shell, no slash or ".." for a path, and no dash where a word may begin,
// which would make an option of it.
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
