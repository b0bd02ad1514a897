package recorder

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"lintod/agent/base/config"
)

// Formats of a recording, and its file extensions.
const (
	FLAC = "flac"
	WAV  = "wav"
)

const leastFree = 10 * config.MB

// Config is the owner's configuration of recordings. Its keys are in the table of the behaviour
// that records.
type Config struct {
	// Directory contains one subdirectory per session, with one file per recording.
	Directory string `toml:"directory"`
	// Format is "flac" or "wav".
	Format string `toml:"format"`
	// MinFree is the free disk space at which a recording stops.
	MinFree config.Size `toml:"min_free"`
	// MaxTotal is the maximum size of all recordings; 0 is no limit. When it is reached, the oldest
	// uploaded recordings are deleted, and no others.
	MaxTotal config.Size `toml:"max_total"`
	// ResumeWithin is how long after an interruption a recording is resumed when the daemon starts
	// again; 0 is never.
	ResumeWithin config.Duration `toml:"resume_within"`
	// UploadURL is where finished recordings are uploaded with PUT, each below the name of its
	// directory; empty disables uploads.
	UploadURL string `toml:"upload_url"`
	// UploadTokenFile contains the bearer token for UploadURL in its first line.
	UploadTokenFile string `toml:"upload_token_file"`
}

// Defaults returns the defaults, without uploads. The caller sets Directory.
func Defaults() Config {
	return Config{
		Format:       FLAC,
		MinFree:      200 * config.MB,
		ResumeWithin: config.Duration(time.Hour),
	}
}

// Validate reports invalid values.
func (c Config) Validate() config.Problems {
	var ps config.Problems
	if !filepath.IsAbs(c.Directory) {
		ps.Add("directory", c.Directory, "an absolute path")
	}
	if c.MinFree < leastFree {
		ps.Add("min_free", c.MinFree, fmt.Sprintf("%v or more, which the rest of the system needs", leastFree))
	}
	ps.OneOf("format", c.Format, FLAC, WAV)
	ps.Within("resume_within", c.ResumeWithin, 0, 7*24*time.Hour)
	if c.UploadURL != "" {
		c.checkURL(&ps)
	}
	if c.UploadTokenFile != "" && c.UploadURL == "" {
		ps.Add("upload_url", nil, "an address, since upload_token_file is set")
	}
	return ps
}

func (c Config) checkURL(ps *config.Problems) {
	var want config.Want
	u, err := config.ParseAddress(c.UploadURL, config.Scheme{Name: "https", Port: "443", Path: true, Query: true},
		config.Scheme{Name: "http", Port: "80", Path: true, Query: true})
	switch {
	case errors.As(err, &want):
		ps.Add("upload_url", "…", string(want)+"; a token belongs in upload_token_file") // it may hold a secret: not repeated
	case u.Scheme != "https" && !config.Loopback(u.Hostname()):
		ps.Add("upload_url", u.Scheme+"://"+u.Host, "https://, because meetings are confidential")
	}
}
