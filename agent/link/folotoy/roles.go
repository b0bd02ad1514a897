package folotoy

import (
	"fmt"

	"lintod/agent/base/config"
)

// maxRole is the highest role number (protocol 2).
const maxRole = 7

// Roles is the contents of roles_file: the device's voice in each role.
type Roles struct {
	Roles []Role `toml:"role"`
}

// Role is one [[role]] of the file. If Language or Voice is empty, the device's
// own is used.
type Role struct {
	Number   int    `toml:"number"`
	Language string `toml:"language"` // a tag such as zh-CN, which must have a voice
	Voice    string `toml:"voice"`    // the name of the voice in the engine of [tts]
	// Prompt describes the role for people, and for an integrator's model that uses
	// the same file. The device does not use it.
	Prompt string `toml:"prompt"`
}

// Validate reports invalid values.
func (r *Roles) Validate() config.Problems {
	var ps config.Problems
	seen := map[int]bool{}
	for i, role := range r.Roles {
		key := fmt.Sprintf("role[%d].number", i+1)
		switch {
		case role.Number < 1 || role.Number > maxRole:
			ps.Add(key, role.Number, "from 1 to 7")
		case seen[role.Number]:
			ps.Add(key, role.Number, "a number that no other role uses")
		}
		seen[role.Number] = true
	}
	return ps
}

// loadRoles reads the file; if path is "" there are no roles.
func loadRoles(path string) (map[int]Role, error) {
	table := map[int]Role{}
	if path == "" {
		return table, nil
	}
	var file Roles
	if err := config.Load(path, &file); err != nil {
		return nil, err
	}
	for _, role := range file.Roles {
		table[role.Number] = role
	}
	return table, nil
}
