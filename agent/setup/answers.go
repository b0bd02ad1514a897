// Package setup writes the first configuration of a device: it asks its owner
// the few questions that nobody else can answer, or takes the answers from flags
// or from the file of the old LinTO client, tries them, and fills them into the
// commented sample.
//
// What must not live here: defaults and rules of the configuration; they are
// those of the packages that act on it.
package setup

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"lintod/agent"
	"lintod/agent/base/config"
)

// Answers are what an owner says of a device. Empty ones leave the sample's
// default.
type Answers struct {
	Serial   string
	Broker   string // one address
	Scope    string
	Username string
	// PasswordFile holds the password. Password itself, where set, is written
	// into a file of its own, which then is PasswordFile.
	PasswordFile string
	Password     string
	Keepalive    string // a duration
	Volume       string // percent
	Language     string
	Input        string
	Output       string
	Preset       string
}

// over returns a with what is set in b.
func (a Answers) over(b Answers) Answers {
	for _, f := range []struct{ to, from *string }{
		{&b.Serial, &a.Serial},
		{&b.Broker, &a.Broker},
		{&b.Scope, &a.Scope},
		{&b.Username, &a.Username},
		{&b.PasswordFile, &a.PasswordFile},
		{&b.Password, &a.Password},
		{&b.Keepalive, &a.Keepalive},
		{&b.Volume, &a.Volume},
		{&b.Language, &a.Language},
		{&b.Input, &a.Input},
		{&b.Output, &a.Output},
		{&b.Preset, &a.Preset},
	} {
		if *f.from != "" {
			*f.to = *f.from
		}
	}
	return b
}

// normal completes what people leave out of an address.
func (a Answers) normal() Answers {
	if a.Broker != "" && !strings.Contains(a.Broker, "://") {
		a.Broker = "mqtt://" + a.Broker
	}
	return a
}

// Fill writes the answers into the text of a configuration, beside the comments
// that explain them.
func (a Answers) Fill(text string) (string, error) {
	volume := a.Volume
	if _, err := strconv.Atoi(volume); volume != "" && err != nil {
		return "", fmt.Errorf("volume %q is no whole number", volume)
	}
	for _, v := range []struct{ table, key, value string }{
		{"device", "serial", quote(a.Serial)},
		{"device", "volume", volume},
		{"linto", "broker", quote(a.Broker)},
		{"linto", "scope", quote(a.Scope)},
		{"linto", "username", quote(a.Username)},
		{"linto", "password_file", quote(a.PasswordFile)},
		{"linto", "keepalive", quote(a.Keepalive)},
		{"audio", "input", quote(a.Input)},
		{"audio", "output", quote(a.Output)},
		{"tts", "language", quote(a.Language)},
		{"gpio", "preset", quote(a.Preset)},
	} {
		if v.value == "" {
			continue
		}
		var err error
		if text, err = set(text, v.table, v.key, v.value); err != nil {
			return "", err
		}
	}
	return text, nil
}

// quote writes a string as TOML does, which is as JSON does; nothing for nothing.
func quote(s string) string {
	if s == "" {
		return ""
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(s) // a string always encodes
	return strings.TrimSpace(b.String())
}

var tableLine = regexp.MustCompile(`^\[+([a-z_.]+)\]`)

// set gives key its value, on the line that shows it, commented or not.
func set(text, table, key, value string) (string, error) {
	lines := strings.Split(text, "\n")
	shown := regexp.MustCompile(`^#?` + key + ` = `)
	at := ""
	for i, line := range lines {
		if m := tableLine.FindStringSubmatch(line); m != nil {
			at = m[1]
		}
		if at == table && shown.MatchString(line) {
			lines[i] = key + " = " + value
			return strings.Join(lines, "\n"), nil
		}
	}
	return "", fmt.Errorf("the sample does not show %s.%s", table, key)
}

// check reads the text as the daemon will.
func check(path, text string) (agent.Config, error) {
	c := agent.Defaults()
	err := config.Parse(filepath.Base(path), []byte(text), &c)
	return c, err
}
