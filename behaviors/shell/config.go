package shell

import (
	"fmt"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"lintod/agent/config"
)

// Config is the [behaviors.shellexec] table.
type Config struct {
	// Enabled offers the behaviour to the platform.
	Enabled bool `toml:"enabled"`
	// Allow lists the commands that may be run, word for word. A * in one stands
	// for a word, or a part of one, made of letters, digits and _.,:@%+- only.
	// ["*"] alone allows everything.
	Allow config.Strings `toml:"allow"`
	// Commands gives names to scripts of the owner: the platform sends the name.
	Commands map[string]string `toml:"commands"`
	// Timeout is how long a command may run.
	Timeout config.Duration `toml:"timeout"`
	// MaxOutput is how many bytes are kept of standard output, and as many of
	// standard error: the first three quarters and the last one.
	MaxOutput int `toml:"max_output"`
	// AtOnce is how many commands may run at the same time.
	AtOnce int `toml:"at_once"`
	// PerMinute is how many requests are accepted in a minute.
	PerMinute int `toml:"per_minute"`
	// User is whom the commands run as; empty stands for the daemon's own user.
	User string `toml:"user"`
	// Directory is where they run; empty stands for "shell" in the state directory.
	Directory string `toml:"directory"`
}

// Defaults returns the configuration of an empty table.
func Defaults() Config {
	return Config{
		Timeout:   config.Duration(time.Minute),
		MaxOutput: 64 << 10,
		AtOnce:    1,
		PerMinute: 30,
	}
}

const free = "*" // allows everything

// Validate reports values that cannot be right.
func (c Config) Validate() config.Problems {
	var ps config.Problems
	if c.Enabled && len(c.Allow) == 0 && len(c.Commands) == 0 {
		ps.Add("allow", nil, `a list of commands, for example ["uptime", "journalctl -n *"]; ["*"] allows everything`)
	}
	for _, entry := range c.Allow {
		if entry == "" || strings.ContainsRune(entry, 0) {
			ps.Add("allow", entry, "commands, none of them empty")
		}
	}
	for name, script := range c.Commands {
		if name == "" || script == "" || strings.ContainsRune(script, 0) {
			ps.Add("commands."+name, script, "a script for the shell")
		}
	}
	ps.Within("timeout", c.Timeout, time.Second, time.Hour)
	within(&ps, "max_output", c.MaxOutput, 1<<10, 128<<10)
	within(&ps, "at_once", c.AtOnce, 1, 16)
	within(&ps, "per_minute", c.PerMinute, 1, 600)
	if c.Directory != "" && !filepath.IsAbs(c.Directory) {
		ps.Add("directory", c.Directory, "an absolute path")
	}
	return ps
}

func within(ps *config.Problems, key string, n, low, high int) {
	if n < low || n > high {
		ps.Add(key, n, fmt.Sprintf("a number from %d to %d", low, high))
	}
}

// Warnings tells what is allowed, but unwise.
func (c Config) Warnings() (warnings []string) {
	if c.Enabled && slices.Contains(c.Allow, free) {
		warnings = append(warnings, `[behaviors.shellexec] allow = ["*"]: whoever may publish on the device's topics may run any command on it`)
	}
	if c.Enabled && c.User != "" {
		if _, err := user.Lookup(c.User); err != nil {
			warnings = append(warnings, fmt.Sprintf("behaviors.shellexec.user: there is no user %q on this device", c.User))
		}
	}
	return warnings
}
