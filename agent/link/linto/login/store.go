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

// Session is the result of a login for the link. It does not change with the
// token.
type Session struct {
	// ID is the serial number in topics. It belongs to the account, not to the
	// device (protocol 1.2.2).
	ID string
	// Scope is the application's level of the topic tree.
	Scope string
	// Broker is the broker's address, mqtt://host:port, as provided by the platform.
	Broker string
	// Username is empty if the broker requires none.
	Username string
	Password Secret
}

// LogValue omits secrets.
func (s Session) LogValue() slog.Value {
	return slog.GroupValue(slog.String("id", s.ID), slog.String("scope", s.Scope), slog.String("broker", s.Broker))
}

// login is a Session with the data to renew it, as stored in the file: with
// only the token, a restarted device could not find the broker.
type login struct {
	URL, User, Wanted string // from the configuration of the login
	BasePath          string // path of the method
	Session           Session
	Auth, Refresh     Secret
	Since, Until      seconds // start and end of the token's lifetime
}

const maxFile = 64 << 10

// renewed returns l with new tokens.
func (l login) renewed(t tokens) login {
	l.Session.ID = t.Session
	l.Auth, l.Since, l.Until = t.Auth, seconds(time.Now().Unix()), t.Expires
	if t.Refresh != "" {
		l.Refresh = t.Refresh
	}
	return l
}

// refreshAt is when 80 % of the token's lifetime have passed. A token that was
// expired on arrival means that the clocks differ.
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

// load reads the file of save, if it is valid for c.
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
