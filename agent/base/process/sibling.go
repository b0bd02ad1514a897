package process

import (
	"os"
	"path/filepath"
)

// Sibling returns the path of a program that is installed in the same directory
// as this one, or otherwise its name, to be found in PATH.
func Sibling(program string) string {
	if self, err := os.Executable(); err == nil {
		path := filepath.Join(filepath.Dir(self), program)
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	return program
}
