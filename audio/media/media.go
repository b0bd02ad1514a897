// Package media opens sound that somebody names by its address, and files, as
// streams: radio is played as it comes, and a long file is never held in memory.
//
// An address may come from a stranger. So the owner lists what may be opened,
// nothing inside the network is reached by a detour, and every wait, redirect,
// byte and second of sound is counted.
//
// What must not live here: decoding (codec), and who goes first (player).
package media

import (
	"context"
	"io"
	"time"

	"lintod/agent/base/config"
	"lintod/audio"
)

// Config is the [behaviors.play] table: what a platform may have played.
type Config struct {
	// Allow are the beginnings of the addresses that may be opened, for example
	// "https://media.example/"; none means that nothing may.
	Allow config.Strings `toml:"allow"`
	// MaxTime is how much of a stream is played.
	MaxTime config.Duration `toml:"max_time"`
	// MaxSize is how much of it is fetched.
	MaxSize config.Size `toml:"max_size"`
}

// Defaults allows nothing.
func Defaults() Config {
	return Config{MaxTime: config.Duration(time.Hour), MaxSize: 500_000_000}
}

// Validate reports values that cannot work.
func (c Config) Validate() config.Problems {
	var ps config.Problems
	for _, entry := range c.Allow {
		if _, err := parseEntry(entry); err != nil {
			ps.Add("allow", entry, "the prefix of an address, such as \"https://media.example/\"")
		}
	}
	ps.Within("max_time", c.MaxTime, time.Second, 24*time.Hour)
	if c.MaxSize < 1_000_000 {
		ps.Add("max_size", c.MaxSize, "at least \"1MB\"")
	}
	return ps
}

// Opener opens media within the limits of its Config.
type Opener struct {
	Config Config
	// Trusted addresses need not be on the list: the owner's own hand gives them.
	Trusted bool
}

// Check tells whether the address may be opened, without opening it.
func (o *Opener) Check(address string) error {
	_, err := o.parse(address)
	return err
}

// Open fetches address as far as its first samples. ctx governs the sound to
// its end; the caller closes it. The errors name the address.
//
// Where the address is that of a playlist, the sound is what stands there, one
// after the other; what cannot be played is passed by.
func (o *Opener) Open(ctx context.Context, address string) (audio.Sound, error) {
	u, err := o.parse(address)
	if err != nil {
		return nil, err
	}
	s := o.program(ctx)
	s.next = []entry{{address: u}}
	if err := s.open(); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// File plays what r holds, also when it is a playlist of addresses, and closes it
// after the sound.
func (o *Opener) File(r io.ReadCloser) (audio.Sound, error) {
	s := o.program(context.Background())
	err := s.begin(&body{Reader: r, Closer: r}, nil, 0)
	if err == nil && s.playing() == nil {
		err = s.open()
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}
