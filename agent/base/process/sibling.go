package process

import (
	"os"
	"path/filepath"
)

// Sibling returns the path of a program that is installed with this one: in the
// same directory, or else its name, to be found in PATH.
func Sibling(program string) string {
	if self, err := os.Executable(); err == nil {
		path := filepath.Join(filepath.Dir(self), program)
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	return program
}
