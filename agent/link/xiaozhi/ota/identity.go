package ota

// Identity is what servers know the device by. It is made once and kept: a device with another
// one has to be bound anew.
type Identity struct {
	MAC  string // lower case with colons; of a network interface where there is one
	UUID string // version 4
}

// LoadIdentity returns the identity kept in file; where there is none it makes one and
// keeps it. root is where sys, proc and etc are: "/". The identity can be used also when the
// error says that it could not be kept.
func LoadIdentity(file, root string) (Identity, error) { return Identity{}, nil }
