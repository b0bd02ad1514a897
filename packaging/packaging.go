// Package packaging contains files of the Debian package that the program itself needs. It must not
// contain other code.
package packaging

import _ "embed"

//go:embed lintod.toml
var sample string

// Sample returns the commented configuration that the package installs and "lintod setup" fills in.
func Sample() string { return sample }
