package platform

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// Scope is an application that accounts may use.
type Scope struct {
	Name        string `json:"name"`
	Description string `json:"description"`
	Topic       string `json:"topic"` // first level of its topics
}

const (
	tokenType = "Android " // prefix of a device's token
	maxBody   = 64 << 10
	maxLogins = 10000
)

// SessionID returns the serial of a device that is logged in as user: it belongs to the account, so
// two devices with one account share it.
func SessionID(user string) string {
	id := sha256.Sum256([]byte(user)) // the length of a database ID
	return sessionPrefix + hex.EncodeToString(id[:12])
}

const sessionPrefix = "DEV_"

func isSession(serial string) bool { return strings.HasPrefix(serial, sessionPrefix) }

// overwatch is the login server of protocol 1.2.2, with the behaviour of its code: GET for a
// refresh, "email" for the user.
type overwatch struct {
	p        *Platform
	listener net.Listener
	server   http.Server
	done     chan struct{}

	mu     sync.Mutex
	logins map[string]grant // by user
}

// grant contains the valid tokens of a user. Each login and each refresh invalidates earlier ones.
type grant struct {
	auth, refresh string
	expires       time.Time // of auth; the refresh token does not expire
}

func openOverwatch(p *Platform) (*overwatch, error) {
	l, err := net.Listen("tcp", p.opts.HTTP)
	if err != nil {
		return nil, fmt.Errorf("listen for HTTP; choose another address: %w", err)
	}
	o := &overwatch{p: p, listener: l, done: make(chan struct{}), logins: map[string]grant{}}
	o.server = http.Server{Handler: o.handler(), ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second}
	go func() {
		defer close(o.done)
		_ = o.server.Serve(l) // ended by close
	}()
	return o, nil
}

func (o *overwatch) close() error {
	err := o.server.Close()
	<-o.done
	return err
}

func (o *overwatch) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /overwatch/healthcheck", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "OK") })
	mux.HandleFunc("GET /overwatch/auths", func(w http.ResponseWriter, _ *http.Request) {
		answerJSON(w, http.StatusOK, []map[string]string{{"type": "local", "basePath": "/local"}})
	})
	mux.HandleFunc("POST /overwatch/local/android/login", o.login)
	mux.HandleFunc("GET /overwatch/local/scopes", o.member(o.scopes))
	mux.HandleFunc("GET /overwatch/local/isAuth", o.member(func(w http.ResponseWriter, _ string) { fmt.Fprint(w, "Ok") }))
	mux.HandleFunc("GET /overwatch/local/android/logout", o.member(o.logout))
	mux.HandleFunc("GET /overwatch/local/android/refresh", o.refresh)
	return mux
}

func answerJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the device may have disconnected
}

func refuse(w http.ResponseWriter, status int, message string) {
	answerJSON(w, status, map[string]string{"message": message})
}

func (o *overwatch) login(w http.ResponseWriter, r *http.Request) {
	user, password := credentials(w, r)
	switch {
	case user == "" || password == "":
		refuse(w, http.StatusBadRequest, "email and password are required")
		return
	case !o.p.opts.admits(user, password):
		o.p.tell(Event{Kind: Refused, Client: user, Text: "HTTP login from " + r.RemoteAddr})
		refuse(w, http.StatusUnauthorized, "Wrong user credential")
		return
	}
	g, ok := o.grant(user)
	if !ok {
		refuse(w, http.StatusInternalServerError, "too many accounts are logged in")
		return
	}
	o.p.tell(Event{Kind: LoggedIn, Client: user, Text: "session " + SessionID(user)})
	answerJSON(w, http.StatusAccepted, map[string]any{"user": g.answer(user), "mqtt": o.mqtt(r, user)})
}

// credentials parses the body of a login, JSON or a form.
func credentials(w http.ResponseWriter, r *http.Request) (user, password string) {
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if kind == "application/x-www-form-urlencoded" {
		return r.PostFormValue("email"), r.PostFormValue("password")
	}
	var body struct{ Email, Password string }
	_ = json.NewDecoder(r.Body).Decode(&body) // missing members are empty
	return body.Email, body.Password
}

// admits checks an account. Without accounts, every login is accepted.
func (o Options) admits(user, password string) bool {
	if len(o.Users) == 0 {
		return true
	}
	want, known := o.Users[user]
	return known && subtle.ConstantTimeCompare([]byte(want), []byte(password)) == 1
}

// grant creates new tokens for a user.
func (o *overwatch) grant(user string) (grant, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if _, known := o.logins[user]; !known && len(o.logins) >= maxLogins {
		return grant{}, false
	}
	g := grant{auth: "eyJ" + rand.Text(), refresh: "eyJ" + rand.Text(), expires: time.Now().Add(o.p.opts.TokenLife)}
	o.logins[user] = g
	return g, true
}

func (g grant) answer(user string) map[string]any {
	return map[string]any{
		"auth_token": g.auth, "refresh_token": g.refresh,
		"expiration_date": g.expires.Unix(), "session_id": SessionID(user),
	}
}

// mqtt returns the broker's settings: the port as a string, and credentials only if required.
func (o *overwatch) mqtt(r *http.Request, user string) map[string]any {
	host, port := "", ""
	if u, err := url.Parse(o.p.URL()); err == nil {
		host, port = u.Hostname(), u.Port()
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = (&url.URL{Host: r.Host}).Hostname() // that the device has used
	}
	data := map[string]any{"mqtt_host": host, "mqtt_port": port, "mqtt_use_login": len(o.p.opts.Users) > 0}
	if password, known := o.p.opts.Users[user]; known {
		data["mqtt_login"], data["mqtt_password"] = SessionID(user), password
	}
	return data
}

// member answers requests with a valid auth_token.
func (o *overwatch) member(answer func(http.ResponseWriter, string)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		user, ok := o.owner(r.Header.Get("Authorization"), false)
		if !ok {
			refuse(w, http.StatusUnauthorized, "Invalid token")
			return
		}
		answer(w, user)
	}
}

// owner returns the user of the given token.
func (o *overwatch) owner(presented string, refresh bool) (string, bool) {
	token, ok := strings.CutPrefix(presented, tokenType)
	if !ok || token == "" {
		return "", false
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for user, g := range o.logins {
		if refresh && g.refresh == token || !refresh && g.auth == token && time.Now().Before(g.expires) {
			return user, true
		}
	}
	return "", false
}

func (o *overwatch) scopes(w http.ResponseWriter, _ string) {
	type listed struct {
		Scope
		Services struct{} `json:"services"`
		Skills   []string `json:"skills"`
	}
	list := []listed{}
	for _, s := range o.p.opts.Scopes {
		list = append(list, listed{Scope: s, Skills: []string{}})
	}
	answerJSON(w, http.StatusOK, list)
}

func (o *overwatch) logout(w http.ResponseWriter, user string) {
	o.mu.Lock()
	delete(o.logins, user)
	o.mu.Unlock()
	o.p.tell(Event{Kind: LoggedOut, Client: user, Text: "session " + SessionID(user)})
	fmt.Fprint(w, "Ok")
}

func (o *overwatch) refresh(w http.ResponseWriter, r *http.Request) {
	user, ok := o.owner(r.Header.Get("Authorization"), true)
	if !ok {
		refuse(w, http.StatusUnauthorized, "Invalid token")
		return
	}
	g, _ := o.grant(user) // the user is known, so the limit is not exceeded
	o.p.tell(Event{Kind: Refreshed, Client: user, Text: "session " + SessionID(user)})
	answerJSON(w, http.StatusAccepted, g.answer(user))
}

// vouches reports whether a message from a session contains its token.
func (o *overwatch) vouches(serial string, payload []byte) bool {
	var body struct {
		Token string `json:"auth_token"`
	}
	_ = json.Unmarshal(payload, &body) // other data has no token
	user, ok := o.owner(body.Token, false)
	return ok && SessionID(user) == serial
}
