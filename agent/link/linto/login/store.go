package login

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"time"

	"lintod/agent/base/state"
)

// Session is what a login gives the link. It does not change with the token.
type Session struct {
	// ID is the serial number in topics. It belongs to the account, not to the
	// device (protocol 1.2.2).
	ID string
	// Scope is the application's level of the topic tree.
	Scope string
	// Broker is the address that the platform names, mqtt://host:port.
	Broker string
	// Username is empty when the broker wants none.
	Username string
	Password Secret
}

// LogValue tells what may be told.
func (s Session) LogValue() slog.Value {
	return slog.GroupValue(slog.String("id", s.ID), slog.String("scope", s.Scope), slog.String("broker", s.Broker))
}

// login is a Session with what keeps it alive. The file holds just that: with
// the token alone a restart could not find the broker.
type login struct {
	URL, User, Wanted string // of the configuration that it was made with
	BasePath          string // of the method
	Session           Session
	Auth, Refresh     Secret
	Since, Until      seconds // when the token was given, and its end
}

const maxFile = 64 << 10

// renewed is l with new tokens.
func (l login) renewed(t tokens) login {
	l.Session.ID = t.Session
	l.Auth, l.Since, l.Until = t.Auth, seconds(time.Now().Unix()), t.Expires
	if t.Refresh != "" {
		l.Refresh = t.Refresh
	}
	return l
}

// refreshAt is when 80 % of the token's life are over. A token that was too old
// when it came tells of clocks that differ.
func (l login) refreshAt() time.Time {
	life := time.Duration(min(max(l.Until-l.Since, 0), 1e9)) * time.Second
	if life == 0 {
		life = time.Hour
	}
	return time.Unix(int64(l.Since), 0).Add(life / 5 * 4)
}

func (l login) save(path string) error {
	raw, err := json.Marshal(l)
	if err != nil {
		return err
	}
	if err := state.ReplaceFile(path, raw); err != nil {
		return fmt.Errorf("save the login: %w", err)
	}
	return nil
}

// load reads what save wrote, if it is still of use with c.
func load(path string, c Config) (login, error) {
	raw, err := state.ReadFile(path, maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return login{}, nil
	}
	var l login
	if err == nil {
		err = json.Unmarshal(raw, &l)
	}
	if err == nil {
		err = tokens{Auth: l.Auth, Refresh: l.Refresh, Session: l.Session.ID}.check()
	}
	if err != nil {
		return login{}, fmt.Errorf("read the saved login %s: %w", path, err)
	}
	if l.URL != c.URL || l.User != c.User || l.Wanted != c.Scope || !topicLevel(l.Session.Scope) {
		return login{}, nil
	}
	return l, nil
}

func forget(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
