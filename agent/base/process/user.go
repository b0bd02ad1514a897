package process

import (
	"fmt"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// credential returns the credentials with which a child becomes the named
// user, with the user's groups; nil if the daemon already is that user.
func credential(name string) (*syscall.Credential, error) {
	if name == "" {
		return nil, nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		return nil, fmt.Errorf("become user %q: %w", name, err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("become user %q: number %q: %w", name, u.Uid, err)
	}
	if int(uid) == os.Getuid() && int(uid) == os.Geteuid() {
		return nil, nil
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("become user %q: group %q: %w", name, u.Gid, err)
	}
	ids, err := u.GroupIds()
	if err != nil {
		return nil, fmt.Errorf("become user %q: %w", name, err)
	}
	groups := []uint32{}
	for _, id := range ids {
		n, err := strconv.ParseUint(id, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("become user %q: group %q: %w", name, id, err)
		}
		groups = append(groups, uint32(n))
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid), Groups: groups}, nil
}
