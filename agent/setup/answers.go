// Package setup writes the first configuration of a device: it asks its owner
// the few necessary questions, or takes the answers from flags or from the file
// of an older client, tests them, and fills them into the commented sample. The
// questions of a platform come from its link (link.Setup).
//
// What must not live here: defaults and validation of the configuration, which
// belong to the packages that use it.
package setup

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"lintod/agent"
	"lintod/agent/base/config"
	"lintod/agent/base/plainjson"
)

// Answers are the owner's values for keys of the configuration. A key without an
// answer keeps the sample's default.
type Answers map[string]string

// The keys for which setup itself asks; the others are those of the links.
const (
	Serial = "device.serial"
	Input  = "audio.input"
	Output = "audio.output"
	Preset = "gpio.preset"
)

// over returns a overridden with the values of b.
func (a Answers) over(b Answers) Answers {
	all := Answers{}
	for _, from := range []Answers{b, a} {
		for key, answer := range from {
			if answer != "" {
				all[key] = answer
			}
		}
	}
	return all
}

// Fill writes the answers into the text of a configuration, next to the
// comments that explain them.
func (a Answers) Fill(text string) (string, error) {
	for _, key := range slices.Sorted(maps.Keys(a)) {
		if a[key] == "" {
			continue
		}
		var err error
		if key == WakeWord {
			text, err = setWord(text, a[key])
		} else {
			text, err = set(text, key, a[key])
		}
		if err != nil {
			return "", err
		}
	}
	return text, nil
}

// quote writes a string as in TOML, which is the same as in JSON.
func quote(s string) string {
	text, _ := plainjson.Marshal(s) // a string always marshals
	return string(text)
}

var (
	tableLine = regexp.MustCompile(`^\[+([a-z_.]+)\]`)
	// bare values need no quotes: numbers, true and false.
	bare = regexp.MustCompile(`^[a-z0-9.+-]+$`)
)

// set sets key to value, on its line, commented out or not. The value is quoted
// unless the line has one without quotes.
func set(text, key, value string) (string, error) {
	lines := strings.Split(text, "\n")
	dot := strings.LastIndexByte(key, '.')
	table, name := key[:dot], key[dot+1:]
	shown := regexp.MustCompile(`^#?` + regexp.QuoteMeta(name) + ` = (.?)`)
	at := ""
	for i, line := range lines {
		if m := tableLine.FindStringSubmatch(line); m != nil {
			at = m[1]
		}
		if m := shown.FindStringSubmatch(line); at == table && m != nil {
			if !bare.MatchString(m[1]) || !bare.MatchString(value) {
				value = quote(value)
			}
			lines[i] = name + " = " + value
			return strings.Join(lines, "\n"), nil
		}
	}
	return "", fmt.Errorf("the sample does not contain %s", key)
}

// check parses the text as the daemon does.
func check(path, text string) (agent.Config, error) {
	c := agent.Defaults()
	err := config.Parse(filepath.Base(path), []byte(text), &c)
	return c, err
}

// wrong returns the problems of the configuration that concern some keys.
func wrong(answers Answers, keys ...string) (found config.Problems, err error) {
	_, _, err = Setup{Path: "lintod.toml"}.render(answers)
	var all config.Problems
	if !errors.As(err, &all) {
		return nil, err
	}
	for _, p := range all {
		if slices.ContainsFunc(keys, func(key string) bool { return p.Key == key || strings.HasPrefix(p.Key, key+"[") }) {
			found = append(found, p)
		}
	}
	return found, nil
}
