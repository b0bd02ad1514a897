package signing

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"lintod/agent/base/printable"
	"lintod/agent/base/textfile"
	"lintod/agent/signed"
	"lintod/agent/signed/sshsig"
)

// Auto makes Open choose a key: the only suitable one in the agent, or otherwise the first in the
// user's home.
const Auto = "auto"

const (
	maxKey = 64 << 10 // maximum size of a key file, in bytes
	tries  = 3        // to type a passphrase
)

// Options are the environment for opening a key.
type Options struct {
	// Agent is the address of the agent; "" for none. See AgentAddress.
	Agent string
	// Home is the directory that contains .ssh.
	Home string
	// Ask prints a question and reads a secret without echo; nil if there is no terminal.
	Ask func(ctx context.Context, question string) ([]byte, error)
	// Stderr is where ssh-keygen asks for the touch of a security key.
	Stderr io.Writer
}

const windowsPipe = `\\.\pipe\`

// AgentAddress returns the address where ssh would look for the agent.
func AgentAddress() string {
	address := os.Getenv("SSH_AUTH_SOCK")
	if address == "" && runtime.GOOS == "windows" {
		return windowsPipe + "openssh-ssh-agent"
	}
	return address
}

// Open finds the key that -sign names: Auto, a public key (a file, its text, or its SHA256
// fingerprint) whose private key is in the agent, or the file of a private key. It asks for the
// passphrase of a file, and blocks for the user and the agent.
func Open(ctx context.Context, name string, o Options) (*Key, error) {
	keys, agentErr := o.agentKeys()
	switch {
	case name == Auto:
		return o.auto(ctx, keys)
	case strings.HasPrefix(name, "SHA256:"):
		for _, k := range keys {
			if ssh.FingerprintSHA256(k) == strings.TrimRight(name, "=") {
				return o.inAgent(k)
			}
		}
		return nil, notInAgent(name, agentErr)
	}
	if public, _, _, _, err := ssh.ParseAuthorizedKey([]byte(name)); err == nil {
		if k, ok := find(keys, public); ok {
			return o.inAgent(k)
		}
		return nil, notInAgent(ssh.FingerprintSHA256(public), agentErr)
	}
	return o.file(ctx, name, keys, agentErr)
}

func notInAgent(name string, agentErr error) error {
	if agentErr != nil {
		return fmt.Errorf("the key %s needs an agent: %w", name, agentErr)
	}
	return fmt.Errorf("the agent does not have the key %s; ssh-add adds one, and ssh-add -l lists those that it has", name)
}

// agentKeys returns the keys of the agent, or the error why there is none.
func (o Options) agentKeys() ([]*agent.Key, error) {
	conn, err := o.dial()
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	keys, err := agent.NewClient(conn).List()
	if err != nil {
		return nil, fmt.Errorf("ask the agent at %s: %w", o.Agent, err)
	}
	return keys, nil
}

func (o Options) dial() (io.ReadWriteCloser, error) {
	if o.Agent == "" {
		return nil, errors.New("no agent is running (SSH_AUTH_SOCK is not set)")
	}
	if strings.HasPrefix(o.Agent, windowsPipe) {
		return os.OpenFile(o.Agent, os.O_RDWR, 0)
	}
	return net.Dial("unix", o.Agent)
}

func find(keys []*agent.Key, public ssh.PublicKey) (*agent.Key, bool) {
	for _, k := range keys {
		if bytes.Equal(k.Blob, public.Marshal()) {
			return k, true
		}
	}
	return nil, false
}

// auto chooses a key if the choice is unambiguous.
func (o Options) auto(ctx context.Context, keys []*agent.Key) (*Key, error) {
	var usable []*agent.Key
	for _, k := range keys {
		if public, err := ssh.ParsePublicKey(k.Blob); err == nil && sshsig.CheckKey(public) == nil {
			usable = append(usable, k)
		}
	}
	if len(usable) == 1 {
		return o.inAgent(usable[0])
	}
	if len(usable) > 1 {
		var list strings.Builder
		for _, k := range usable {
			fmt.Fprintf(&list, "\n  %s %s", ssh.FingerprintSHA256(k), printable.Clip(k.Comment, 60))
		}
		return nil, fmt.Errorf("the agent has %d suitable keys; select one of them:%s", len(usable), &list)
	}
	for _, name := range []string{"id_ed25519", "id_ed25519_sk", "id_ecdsa", "id_ecdsa_sk"} {
		path := filepath.Join(o.Home, ".ssh", name)
		if _, err := os.Stat(path); err == nil {
			return o.file(ctx, path, nil, nil)
		}
	}
	return nil, errors.New("there is no key to sign with: none in an agent, and no id_ed25519 or id_ecdsa in ~/.ssh; ssh-keygen -t ed25519 creates one")
}

// inAgent signs with the agent. Each signature uses a new connection, because some agents close
// idle ones.
func (o Options) inAgent(k *agent.Key) (*Key, error) {
	public, err := ssh.ParsePublicKey(k.Blob)
	if err == nil {
		err = sshsig.CheckKey(public)
	}
	if err != nil {
		return nil, fmt.Errorf("the key %s of the agent cannot sign orders: %w", ssh.FingerprintSHA256(k), err)
	}
	return &Key{
		Public: public, Name: describe(public, k.Comment, "in the agent"),
		sign: func(ctx context.Context, message []byte) ([]byte, error) {
			conn, err := o.dial()
			if err != nil {
				return nil, err
			}
			defer conn.Close()
			// The user can interrupt the wait for a touch.
			defer context.AfterFunc(ctx, func() { conn.Close() })()
			signers := agentSigner{agent.NewClient(conn), public}
			s, err := sshsig.Sign(signers, signed.Namespace, message)
			if err != nil && ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			if err != nil {
				return nil, err
			}
			return s.Marshal(), nil
		},
	}, nil
}

func describe(public ssh.PublicKey, comment, where string) string {
	text := ssh.FingerprintSHA256(public)
	if comment != "" {
		text += " (" + printable.Clip(comment, 60) + ")"
	}
	return text + " " + where
}

// agentSigner is one key of an agent.
type agentSigner struct {
	agent  agent.Agent
	public ssh.PublicKey
}

func (s agentSigner) PublicKey() ssh.PublicKey { return s.public }

func (s agentSigner) Sign(_ io.Reader, data []byte) (*ssh.Signature, error) {
	return s.agent.Sign(s.public, data)
}

// file opens a public or a private key. If the agent has the key, no passphrase is required.
func (o Options) file(ctx context.Context, path string, keys []*agent.Key, agentErr error) (*Key, error) {
	text, err := textfile.ReadRaw(path, maxKey)
	if err != nil {
		return nil, fmt.Errorf("read the key to sign with: %w", err)
	}
	if text, err = textfile.Text(text); err != nil {
		return nil, fmt.Errorf("%s %w", path, err)
	}
	if public, comment, _, _, err := ssh.ParseAuthorizedKey(text); err == nil {
		if k, ok := find(keys, public); ok {
			return o.inAgent(k)
		}
		private := strings.TrimSuffix(path, ".pub")
		if _, err := os.Stat(private); err != nil || private == path {
			return nil, notInAgent(describe(public, comment, "of "+path), agentErr)
		}
		return o.file(ctx, private, nil, nil)
	}
	public, err := publicHalf(text)
	if err == nil {
		if k, ok := find(keys, public); ok {
			return o.inAgent(k)
		}
		if sshsig.Hardware(public) {
			return o.securityKey(path, public), nil
		}
	}
	if err := private(path); err != nil {
		return nil, err
	}
	signer, err := o.unlock(ctx, path, append(text[:len(text):len(text)], '\n'))
	if err != nil {
		return nil, err
	}
	if err := sshsig.CheckKey(signer.PublicKey()); err != nil {
		return nil, fmt.Errorf("the key in %s cannot sign orders: %w", path, err)
	}
	return &Key{
		Public: signer.PublicKey(), Name: describe(signer.PublicKey(), "", "in "+path),
		sign: func(_ context.Context, message []byte) ([]byte, error) {
			s, err := sshsig.Sign(signer, signed.Namespace, message)
			if err != nil {
				return nil, err
			}
			return s.Marshal(), nil
		},
	}, nil
}

// private rejects a file that other users can read, as ssh does.
func private(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("%s is readable by other users (mode %04o); run chmod 600 on it", path, info.Mode().Perm())
	}
	return nil
}

// publicHalf returns the public key in a private key in OpenSSH's format, which is readable even if
// the key is encrypted (PROTOCOL.key of OpenSSH).
func publicHalf(text []byte) (ssh.PublicKey, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "OPENSSH PRIVATE KEY" {
		return nil, errors.New("not in OpenSSH's format")
	}
	rest, ok := bytes.CutPrefix(block.Bytes, []byte("openssh-key-v1\x00"))
	var head struct {
		Cipher, KDF string
		Options     []byte
		Keys        uint32
		Public      []byte
		Rest        []byte `ssh:"rest"`
	}
	if !ok || ssh.Unmarshal(rest, &head) != nil {
		return nil, errors.New("not in OpenSSH's format")
	}
	return ssh.ParsePublicKey(head.Public)
}

// unlock parses a private key, and asks for its passphrase if it has one.
func (o Options) unlock(ctx context.Context, path string, text []byte) (ssh.Signer, error) {
	signer, err := ssh.ParsePrivateKey(text)
	var locked *ssh.PassphraseMissingError
	if err == nil {
		return signer, nil
	}
	if !errors.As(err, &locked) {
		return nil, fmt.Errorf("%s is not a readable private key: %w", path, err)
	}
	if o.Ask == nil {
		return nil, fmt.Errorf("%s has a passphrase, and there is no terminal to ask for it; add the key to an agent with ssh-add", path)
	}
	for range tries {
		secret, err := o.Ask(ctx, "Passphrase of "+path+": ")
		if err != nil {
			return nil, fmt.Errorf("the passphrase of %s was not read: %w", path, err)
		}
		signer, err = ssh.ParsePrivateKeyWithPassphrase(text, secret)
		clear(secret)
		if err == nil {
			return signer, nil
		}
	}
	return nil, fmt.Errorf("incorrect passphrase of %s", path)
}

// securityKey signs with ssh-keygen, which asks for the touch and the PIN.
func (o Options) securityKey(path string, public ssh.PublicKey) *Key {
	return &Key{
		Public: public, Name: describe(public, "", "in "+path),
		sign: func(ctx context.Context, message []byte) ([]byte, error) {
			cmd := exec.CommandContext(ctx, "ssh-keygen", "-Y", "sign", "-f", path, "-n", signed.Namespace)
			cmd.Stdin, cmd.Stderr = bytes.NewReader(message), o.Stderr
			out, err := cmd.Output()
			switch {
			case ctx.Err() != nil:
				return nil, context.Cause(ctx)
			case errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist):
				return nil, errors.New("ssh-keygen is required for security keys and not installed; install OpenSSH's client")
			case err != nil:
				return nil, fmt.Errorf("ssh-keygen: %w", err)
			}
			return sshsig.Dearmor(out)
		},
	}
}
