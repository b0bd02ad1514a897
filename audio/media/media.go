// Package media opens sound from addresses and files as streams: radio is played as it arrives, and
// a long file is never held in memory.
//
// Addresses may be untrusted. So the owner lists what may be opened, internal addresses cannot be
// reached indirectly, and waiting times, redirects, bytes, and the length of sound are limited.
//
// Decoding (codec) and priorities (player) do not belong here.
package media

import (
	"context"
	"io"
	"time"

	"lintod/agent/base/config"
	"lintod/audio"
)

// Config is the [behaviors.play] table: what a platform may play.
type Config struct {
	// Allow are the prefixes of allowed addresses, for example "https://media.example/"; an empty
	// list allows none.
	Allow config.Strings `toml:"allow"`
	// MaxTime is the maximum playing time.
	MaxTime config.Duration `toml:"max_time"`
	// MaxSize is the maximum download size.
	MaxSize config.Size `toml:"max_size"`
}

// Defaults allows nothing.
func Defaults() Config {
	return Config{MaxTime: config.Duration(time.Hour), MaxSize: 500_000_000}
}

// Validate reports invalid values.
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
	// Trusted addresses come from the owner and need not be on the list.
	Trusted bool
}

// Check reports whether the address may be opened, without opening it.
func (o *Opener) Check(address string) error {
	_, err := o.parse(address)
	return err
}

// Open fetches address up to its first samples. ctx applies until the end of the sound; the caller
// closes it. Errors contain the address.
//
// If the address is that of a playlist, the sound consists of its entries, in order; entries that
// cannot be played are skipped.
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

// File plays the content of r, which may be a playlist of addresses, and closes it after the sound.
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
