package cards

import (
	"time"

	"lintod/agent/base/config"
)

// Config bounds what is kept of the content of cards.
type Config struct {
	// Directory keeps it; "" stands for "cards" in the state directory.
	Directory string `toml:"directory"`
	// MaxSpace bounds all of it, MaxFile one file.
	MaxSpace config.Size `toml:"max_space"`
	MaxFile  config.Size `toml:"max_file"`
	// Reserve stays free on the disk.
	Reserve config.Size `toml:"reserve"`
}

// Defaults is the configuration of an empty table.
func Defaults() Config {
	return Config{MaxSpace: 2_000_000_000, MaxFile: 200_000_000, Reserve: 200_000_000}
}

// Validate reports values that cannot be right.
func (c Config) Validate() config.Problems {
	var ps config.Problems
	if c.MaxSpace < 1_000_000 {
		ps.Add("max_space", c.MaxSpace, "at least \"1MB\"")
	}
	if c.MaxFile < 1000 || c.MaxFile > c.MaxSpace {
		ps.Add("max_file", c.MaxFile, "from \"1kB\" to max_space")
	}
	if c.Reserve < 0 {
		ps.Add("reserve", c.Reserve, "an amount of data that stays free, or \"0\"")
	}
	return ps
}

const (
	// maxFiles bounds the files of one skill, maxIndex their numbers.
	maxFiles = 1000
	maxIndex = 9999
	// maxCards bounds the cards that are remembered, maxPositions the places in stories.
	maxCards     = 10_000
	maxPositions = 1000
	// maxWaiting bounds the skills that wait to be downloaded; more are refused.
	maxWaiting = 16
	// fileLimit is how long one file may take.
	fileLimit = time.Hour
	// maxRecord bounds the files in which the Store keeps what it knows, in bytes.
	maxRecord = 4 << 20
)
