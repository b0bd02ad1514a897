// Package packaging carries the files of the Debian package that the program
// itself needs. What must not live here: code.
package packaging

import _ "embed"

//go:embed lintod.toml
var sample string

// Sample is the commented configuration that the package installs, and that
// "lintod setup" fills in.
func Sample() string { return sample }
