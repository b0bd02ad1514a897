package page

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"slices"
	"sync"
	"time"

	"lintod/agent/base/secret"
)

const (
	// keyLife is how long a key can be exchanged for a session: a kiosk on a slow
	// board takes minutes to start.
	keyLife = 10 * time.Minute
	// maxKeys and maxSessions limit the stored ones; the oldest are dropped.
	maxKeys     = 16
	maxSessions = 128
)

var errKey = errors.New("the key is unknown, used or too old; `lintod page` prints an address with a new one")

// sessions controls access to the page. A key works once, for a session, which ends
// with the server: another process that listens on its port afterwards gets nothing
// from a browser that is still open.
//
// A browser keeps the session in the storage of the page's origin and sends it in a
// header. A cookie would be unsafe: browsers send cookies to every port of a host,
// which on a loopback interface may belong to another user.
type sessions struct {
	mu       sync.Mutex
	keys     []key
	sessions []fingerprint // oldest first
}

type key struct {
	fingerprint
	until time.Time
}

// fingerprint is the stored form of a secret. The time of a comparison reveals
// nothing about the hashed secret.
type fingerprint [sha256.Size]byte

func fingerprintOf(s secret.Text) fingerprint { return sha256.Sum256([]byte(s)) }

// newKey makes a key.
func (s *sessions) newKey() secret.Text {
	text := secret.Text(rand.Text())
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.keys) == maxKeys {
		s.keys = slices.Delete(s.keys, 0, 1)
	}
	s.keys = append(s.keys, key{fingerprintOf(text), time.Now().Add(keyLife)})
	return text
}

// open exchanges a key for a session.
func (s *sessions) open(text secret.Text) (secret.Text, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.keys, func(k key) bool { return k.fingerprint == fingerprintOf(text) })
	if i < 0 {
		return "", errKey
	}
	fresh := time.Now().Before(s.keys[i].until)
	if s.keys = slices.Delete(s.keys, i, i+1); !fresh {
		return "", errKey
	}
	if len(s.sessions) == maxSessions {
		s.sessions = slices.Delete(s.sessions, 0, 1)
	}
	session := secret.Text(rand.Text())
	s.sessions = append(s.sessions, fingerprintOf(session))
	return session, nil
}

// known reports whether a session was opened and not dropped.
func (s *sessions) known(text secret.Text) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Contains(s.sessions, fingerprintOf(text))
}
