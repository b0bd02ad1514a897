package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/pelletier/go-toml/v2"
	"github.com/spf13/cobra"

	"lintod/agent/base/config"
	"lintod/agent/base/printable"
	"lintod/agent/base/textfile"
	"lintod/cmd/internal/cli"
	"lintod/cmd/lintoctl/fleet"
)

// profile is what login saves about a platform. It never contains a password.
type profile struct {
	Broker          config.Strings `toml:"broker"`
	Scope           string         `toml:"scope"`
	Username        string         `toml:"username,omitempty"`
	PasswordFile    string         `toml:"password_file,omitempty"`
	PasswordCommand string         `toml:"password_command,omitempty"`
	CAFile          string         `toml:"ca_file,omitempty"`
	CertFile        string         `toml:"cert_file,omitempty"`
	KeyFile         string         `toml:"key_file,omitempty"`
}

// Validate does not check values that are also flags; their check does.
func (profile) Validate() config.Problems { return nil }

func profilePath(name string) (string, error) {
	if !fleet.IsSerial(name) || strings.ContainsAny(name, `\.`) {
		return "", cli.Usagef("%q is not a valid name of a profile", name)
	}
	dir, err := os.UserConfigDir()
	return filepath.Join(dir, "lintoctl", name+".toml"), err
}

// useProfile supplies values for missing flags. If the flags name a broker, only a profile that was
// explicitly named is used: a password must not be sent to another broker.
func (c *call) useProfile() error {
	name := c.profile
	if name == "" && len(c.broker.Broker) > 0 {
		return nil
	}
	if name == "" {
		name = "default"
	}
	path, err := profilePath(name)
	if err != nil {
		return err
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && c.profile == "":
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return cli.Usagef("unknown profile %q; \"lintoctl login\" creates one", name)
	case err != nil:
		return err
	case runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0:
		return fmt.Errorf("%s is accessible by other users; run chmod 600 on it", path)
	}
	var p profile
	if err := config.Load(path, &p); err != nil {
		return err
	}
	if len(c.broker.Broker) == 0 {
		c.broker.Broker = p.Broker
	}
	for _, s := range []struct{ flag, kept *string }{
		{&c.scope, &p.Scope},
		{&c.broker.Username, &p.Username},
		{&c.broker.PasswordFile, &p.PasswordFile},
		{&c.passwordCommand, &p.PasswordCommand},
		{&c.broker.CAFile, &p.CAFile},
		{&c.broker.CertFile, &p.CertFile},
		{&c.broker.KeyFile, &p.KeyFile},
	} {
		if *s.flag == "" {
			*s.flag = *s.kept
		}
	}
	return nil
}

// login saves the flags of the connection as a profile, if they work.
func (c *call) login() *cobra.Command {
	cmd := &cobra.Command{
		Use: "login [PROFILE]", Short: "connect, and save the broker, account, and scope as a profile",
		Long: `Connect with the given flags, and save them as a profile, named "default" unless PROFILE is
given. Commands without -broker use the profile "default", or the one given by -profile.

A password is not saved. Each command reads it from -password-file or -password-command, or
asks for it on the terminal.`,
		Example: `  lintoctl login -broker mqtts://broker.example -scope home -username admin -password-file ~/.linto
  lintoctl login work -broker mqtts://b.example -scope w -username ann -password-command "secret-tool lookup lintoctl work"
  lintoctl -profile work ls`,
		Args: cli.Args(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			name := "default"
			if len(args) > 0 {
				name = args[0]
			}
			path, err := profilePath(name)
			if err != nil {
				return err
			}
			if err := c.validate(); err != nil {
				return err
			}
			h, err := c.open(cmd.Context(), nil)
			if err != nil {
				return err
			}
			h.close()
			p := profile{Broker: c.broker.Broker, Scope: c.scope, Username: c.broker.Username, PasswordCommand: c.passwordCommand}
			for _, f := range []struct {
				flag string
				kept *string
			}{{c.broker.PasswordFile, &p.PasswordFile}, {c.broker.CAFile, &p.CAFile}, {c.broker.CertFile, &p.CertFile}, {c.broker.KeyFile, &p.KeyFile}} {
				if f.flag == "" {
					continue
				}
				if *f.kept, err = filepath.Abs(f.flag); err != nil { // commands run in any directory
					return err
				}
			}
			text, err := toml.Marshal(p)
			if err == nil {
				err = os.MkdirAll(filepath.Dir(path), 0o700)
			}
			if err == nil {
				err = os.WriteFile(path+".tmp", text, 0o600)
			}
			if err == nil {
				err = os.Rename(path+".tmp", path)
			}
			if err != nil {
				return fmt.Errorf("save the profile: %w", err)
			}
			printable.Fprintf(c.stderr, "lintoctl: connected; saved as profile %s\n", name)
			return nil
		},
	}
	return cmd
}

// commandLimit is the time limit of -password-command, which may ask the user.
const commandLimit = time.Minute

// password returns the function that provides the password of the connection, or nil if there is
// none or it is in a file.
func (c *call) password(ctx context.Context) func() (string, error) {
	ask := askSecret(c.stderr)
	switch {
	case c.passwordCommand != "":
		return sync.OnceValues(func() (string, error) {
			ctx, cancel := context.WithTimeout(ctx, commandLimit)
			defer cancel()
			words := strings.Fields(c.passwordCommand)
			command := exec.CommandContext(ctx, words[0], words[1:]...)
			var out bytes.Buffer
			command.Stdin, command.Stdout, command.Stderr = os.Stdin, &out, c.stderr
			if err := command.Run(); err != nil {
				return "", fmt.Errorf("-password-command: %w", err)
			}
			line, err := textfile.FirstLine(out.Bytes())
			if err != nil {
				return "", fmt.Errorf("the output of -password-command %w", err)
			}
			return line, nil
		})
	case c.broker.Username != "" && c.broker.PasswordFile == "" && c.broker.CertFile == "" && ask != nil:
		return sync.OnceValues(func() (string, error) {
			secret, err := ask(ctx, "Password of "+clean(c.broker.Username)+": ")
			return string(secret), err
		})
	}
	return nil
}
