package signing

import (
	"context"
	"io"
)

// Options are what opening a key needs of its surroundings.
type Options struct {
	// Agent is the address of the agent: SSH_AUTH_SOCK; "" for none.
	Agent string
	// Home is the folder that has .ssh.
	Home string
	// Ask shows a question and reads a secret, without showing it; nil where there is
	// nobody to ask.
	Ask func(ctx context.Context, question string) ([]byte, error)
	// Stderr is where ssh-keygen asks for the touch of a security key.
	Stderr io.Writer
}

// Open finds the key that --sign names: "auto", a public key (a file, its text, or its
// SHA256 fingerprint) whose private half is in the agent, or the file of a private key.
// It asks for the passphrase of a file. It waits for the user and for the agent.
func Open(ctx context.Context, name string, o Options) (*Key, error) { return nil, nil }
