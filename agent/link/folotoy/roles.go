package folotoy

import (
	"fmt"

	"lintod/agent/base/config"
)

// maxRole is the highest number of a role (protocol 2).
const maxRole = 7

// Roles is the file that roles_file names: how the device speaks in each role.
type Roles struct {
	Roles []Role `toml:"role"`
}

// Role is one [[role]] of the file. An empty Language or Voice is the device's own.
type Role struct {
	Number   int    `toml:"number"`
	Language string `toml:"language"` // a tag such as zh-CN, for which there is a voice
	Voice    string `toml:"voice"`    // what the engine of [tts] calls it
	// Prompt describes the role to people, and to an integrator's model, which has the same
	// file. The device has no model.
	Prompt string `toml:"prompt"`
}

// Validate reports values that cannot be right.
func (r *Roles) Validate() config.Problems {
	var ps config.Problems
	seen := map[int]bool{}
	for i, role := range r.Roles {
		key := fmt.Sprintf("role[%d].number", i+1)
		switch {
		case role.Number < 1 || role.Number > maxRole:
			ps.Add(key, role.Number, "from 1 to 7")
		case seen[role.Number]:
			ps.Add(key, role.Number, "a number that no other role has")
		}
		seen[role.Number] = true
	}
	return ps
}

// loadRoles reads the file; there are no roles where path is "".
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
