// Package sshsig creates and verifies signatures in OpenSSH's format, like
// ssh-keygen -Y (PROTOCOL.sshsig of OpenSSH), and reads the files with the keys
// whose signatures are accepted: allowed signers (ssh-keygen(1), ALLOWED SIGNERS)
// and revoked keys.
//
// It accepts the keys that KeyTypes lists, and no certificates. What must not live
// here: what is signed. It is built for every system on which lintoctl runs.
package sshsig

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"hash"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
)

// MaxBlob is the maximum length of a signature, in bytes.
const MaxBlob = 4 << 10

const (
	magic   = "SSHSIG"
	version = 1
	armour  = "SSH SIGNATURE"
)

// KeyTypes are the types of keys that may sign. RSA is not included, because its
// signatures have too many formats.
var KeyTypes = []string{ssh.KeyAlgoED25519, ssh.KeyAlgoSKED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoSKECDSA256}

// CheckKey returns an error for a key that may not sign.
func CheckKey(key ssh.PublicKey) error {
	if slices.Contains(KeyTypes, key.Type()) {
		return nil
	}
	if _, ok := key.(*ssh.Certificate); ok {
		return fmt.Errorf("it is a certificate (%s); want a plain key", key.Type())
	}
	return fmt.Errorf("its type is %s; want one of %s", key.Type(), strings.Join(KeyTypes, ", "))
}

// Hardware reports whether a key is in a security key, which requires a touch for
// each signature.
func Hardware(key ssh.PublicKey) bool {
	return key.Type() == ssh.KeyAlgoSKED25519 || key.Type() == ssh.KeyAlgoSKECDSA256
}

// A Signature claims that the owner of a key has signed a message.
type Signature struct {
	Key       ssh.PublicKey // the claimed signer; see Verify
	Namespace string
	Hash      string // of the message: "sha512" or "sha256"

	signature *ssh.Signature
}

// ErrSignature is wrapped by the error for a signature that does not match its key
// and message.
var ErrSignature = errors.New("invalid signature")

// wire is the format of the blob, after the magic.
type wire struct {
	Version   uint32
	Key       []byte
	Namespace string
	Reserved  []byte
	Hash      string
	Signature []byte
}

// covered is what the key signs, after the magic.
type covered struct {
	Namespace string
	Reserved  []byte
	Hash      string
	Digest    []byte
}

// Parse parses a signature without armour. It checks the format, not the
// signature.
func Parse(blob []byte) (*Signature, error) {
	var w wire
	rest, ok := bytes.CutPrefix(blob, []byte(magic))
	if !ok || len(blob) > MaxBlob || ssh.Unmarshal(rest, &w) != nil {
		return nil, errors.New("it is not an SSHSIG signature")
	}
	if w.Version != version {
		return nil, fmt.Errorf("its version is %d; want %d", w.Version, version)
	}
	key, err := ssh.ParsePublicKey(w.Key)
	if err != nil {
		return nil, fmt.Errorf("invalid key: %w", err)
	}
	if err := CheckKey(key); err != nil {
		return nil, fmt.Errorf("its key is not allowed to sign: %w", err)
	}
	if newHash(w.Hash) == nil {
		return nil, fmt.Errorf("its hash is %.20q; want sha512 or sha256", w.Hash)
	}
	s := &Signature{Key: key, Namespace: w.Namespace, Hash: w.Hash, signature: &ssh.Signature{}}
	if ssh.Unmarshal(w.Signature, s.signature) != nil || !Hardware(key) && len(s.signature.Rest) > 0 {
		return nil, errors.New("it is not an SSHSIG signature")
	}
	if !bytes.Equal(s.Marshal(), blob) {
		return nil, errors.New("non-canonical encoding")
	}
	return s, nil
}

func newHash(name string) hash.Hash {
	switch name {
	case "sha512":
		return sha512.New()
	case "sha256":
		return sha256.New()
	}
	return nil
}

// Marshal returns the signature without armour.
func (s *Signature) Marshal() []byte {
	return append([]byte(magic), ssh.Marshal(wire{
		Version: version, Key: s.Key.Marshal(), Namespace: s.Namespace, Hash: s.Hash, Signature: ssh.Marshal(s.signature),
	})...)
}

func toSign(namespace, hash string, message []byte) []byte {
	h := newHash(hash)
	h.Write(message)
	return append([]byte(magic), ssh.Marshal(covered{Namespace: namespace, Hash: hash, Digest: h.Sum(nil)})...)
}

// Verify returns nil if the key has signed message in namespace. A security key
// must have been touched. Whether the key may sign is checked elsewhere (Signers).
func (s *Signature) Verify(namespace string, message []byte) error {
	if s.Namespace != namespace {
		return fmt.Errorf("the signature is for the namespace %.40q; want %q", s.Namespace, namespace)
	}
	if err := s.Key.Verify(toSign(namespace, s.Hash, message), s.signature); err != nil {
		return fmt.Errorf("%w (%w)", ErrSignature, err)
	}
	return nil
}

// Sign signs message in namespace. An agent or a security key may block, and ask
// the user.
func Sign(signer ssh.Signer, namespace string, message []byte) (*Signature, error) {
	if err := CheckKey(signer.PublicKey()); err != nil {
		return nil, fmt.Errorf("the key %s is not allowed to sign: %w", ssh.FingerprintSHA256(signer.PublicKey()), err)
	}
	s := &Signature{Key: signer.PublicKey(), Namespace: namespace, Hash: "sha512"}
	var err error
	if s.signature, err = signer.Sign(rand.Reader, toSign(namespace, s.Hash, message)); err != nil {
		return nil, err
	}
	return s, s.Verify(namespace, message)
}

// Armor returns the format that ssh-keygen writes and reads.
func Armor(blob []byte) []byte {
	text := base64.StdEncoding.EncodeToString(blob)
	var b bytes.Buffer
	b.WriteString("-----BEGIN " + armour + "-----\n")
	for line := range slices.Chunk([]byte(text), 70) {
		b.Write(append(line[:len(line):len(line)], '\n'))
	}
	b.WriteString("-----END " + armour + "-----\n")
	return b.Bytes()
}

// Dearmor decodes what ssh-keygen wrote.
func Dearmor(text []byte) ([]byte, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != armour {
		return nil, errors.New("not a signature from ssh-keygen")
	}
	return block.Bytes, nil
}
