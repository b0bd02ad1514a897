package shell

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"lintod/agent/base/config"
)

// Config is the [behaviors.shellexec] table.
type Config struct {
	// Enabled offers the behaviour to the platform.
	Enabled bool `toml:"enabled"`
	// Allow lists the commands that may be run, word for word. A * in one stands
	// for a word, or a part of one, made of letters, digits and _.,:@%+- only.
	// ["*"] alone allows everything.
	Allow config.Strings `toml:"allow"`
	// Commands are the owner's scripts by name: the platform sends the name.
	Commands map[string]string `toml:"commands"`
	// Timeout is how long a command may run.
	Timeout config.Duration `toml:"timeout"`
	// MaxOutput is how many bytes are kept of standard output, and of standard error: the first
	// three quarters and the last quarter.
	MaxOutput int `toml:"max_output"`
	// AtOnce is the maximum number of concurrent commands.
	AtOnce int `toml:"at_once"`
	// PerMinute is how many requests are accepted per minute.
	PerMinute int `toml:"per_minute"`
	// User is the user of the commands. Default: the user of lintod-shell.socket; without that
	// socket, if lintod is not root, the daemon's own user, for which "*" is rejected.
	User string `toml:"user"`
	// Directory is their working directory. Default: the home of that user, or "shell" in the state
	// directory for the daemon's own.
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

// Validate reports invalid values.
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

func (c Config) free() bool { return slices.Contains(c.Allow, free) }

// Warnings reports what is allowed but risky.
func (c Config) Warnings() []string { return c.warnings(Socket, os.Getuid()) }

// warnings returns the warnings for a device with or without the socket, and for a daemon that runs
// as root or not.
func (c Config) warnings(socket string, uid int) (warnings []string) {
	if !c.Enabled {
		return nil
	}
	if c.free() {
		warnings = append(warnings, `[behaviors.shellexec] allow = ["*"]: any user of a platform may run any command on this device`)
	}
	if c.User != "" {
		if _, err := user.Lookup(c.User); err != nil {
			warnings = append(warnings, fmt.Sprintf("behaviors.shellexec.user: there is no user %q on this device", c.User))
		}
	}
	if _, err := os.Stat(socket); err == nil {
		return warnings
	}
	switch become := c.become(uid); {
	case become != "" && uid == 0:
	case become != "":
		warnings = append(warnings, fmt.Sprintf("behaviors.shellexec.user: without lintod-shell.socket, only a lintod that runs as root can switch to %q; sudo systemctl start lintod-shell.socket", become))
	case c.free():
		warnings = append(warnings, errFree.Error())
	default:
		warnings = append(warnings, "behaviors.shellexec.allow: without lintod-shell.socket these commands run as lintod's own user, and can read what it can: its passwords, audit log and recordings; sudo systemctl start lintod-shell.socket")
	}
	return warnings
}

// become returns the user that a child of a daemon with this user ID switches to for a command; ""
// means the daemon's own.
func (c Config) become(uid int) string {
	if c.User == "" && uid == 0 {
		if _, err := user.Lookup(Account); err == nil {
			return Account
		}
	}
	return c.User
}

// Reach describes what commands can read; "" if Warnings does, and if the behaviour is off.
func (c Config) Reach() string {
	if _, err := os.Stat(Socket); err != nil || !c.Enabled {
		return ""
	}
	return "commands of the platform run in lintod-shell@.service, and can read what every user of this device can read, but not lintod's files"
}
