package cards

import (
	"time"

	"lintod/agent/base/config"
)

// Config limits the stored content of cards.
type Config struct {
	// Directory contains the content; "" means "cards" in the state directory.
	Directory string `toml:"directory"`
	// MaxSpace limits the total, MaxFile one file.
	MaxSpace config.Size `toml:"max_space"`
	MaxFile  config.Size `toml:"max_file"`
	// Reserve is the space on the disk that is left free.
	Reserve config.Size `toml:"reserve"`
}

// Defaults returns the configuration of an empty table.
func Defaults() Config {
	return Config{MaxSpace: 2_000_000_000, MaxFile: 200_000_000, Reserve: 200_000_000}
}

// Validate reports invalid values.
func (c Config) Validate() config.Problems {
	var ps config.Problems
	if c.MaxSpace < 1_000_000 {
		ps.Add("max_space", c.MaxSpace, "at least \"1MB\"")
	}
	if c.MaxFile < 1000 || c.MaxFile > c.MaxSpace {
		ps.Add("max_file", c.MaxFile, "from \"1kB\" to max_space")
	}
	if c.Reserve < 0 {
		ps.Add("reserve", c.Reserve, "an amount of data to be left free, or \"0\"")
	}
	return ps
}

const (
	// maxFiles limits the files of one skill, maxIndex their numbers.
	maxFiles = 1000
	maxIndex = 9999
	// maxCards limits the remembered cards, maxPositions the remembered positions in
	// stories.
	maxCards     = 10_000
	maxPositions = 1000
	// maxWaiting limits the skills in the download queue; further ones are refused.
	maxWaiting = 16
	// fileLimit is the time limit for one file.
	fileLimit = time.Hour
	// maxRecord limits the files with the Store's records, in bytes.
	maxRecord = 4 << 20
)
