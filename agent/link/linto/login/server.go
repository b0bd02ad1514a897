package login

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"time"

	"lintod/agent/base/certificate"
	"lintod/agent/base/neterr"
	"lintod/agent/base/printable"
	"lintod/agent/base/secret"
)

const (
	answerLimit = 20 * time.Second // for one request, from the connection to the last byte
	maxAnswer   = 1 << 20          // bytes
)

var (
	platform = neterr.Server{Name: "the platform", Address: "url in [linto.login]", CA: "ca_file in [linto.login]"}
	errSlow  = errors.New("the platform did not answer in time; is it overloaded, or is the address wrong?")
)

// server makes the requests of protocol 1.2.2, with one method each. It
// follows no redirects: a password must only be sent to the configured
// address.
type server struct {
	base    *url.URL
	client  *http.Client
	limit   time.Duration
	secrets []Secret // must not appear in errors
}

func newServer(c Config, limit time.Duration) (*server, error) {
	base, err := c.base()
	if err != nil {
		return nil, fmt.Errorf("login url: %w", err)
	}
	secure := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CAFile != "" {
		if secure.RootCAs, err = certificate.Pool(c.CAFile); err != nil {
			return nil, fmt.Errorf("ca_file of the login: %w", err)
		}
	}
	return &server{base: base, limit: limit, client: &http.Client{
		Transport: &http.Transport{
			TLSClientConfig:        secure,
			DisableKeepAlives:      true, // one request an hour
			DisableCompression:     true,
			MaxResponseHeaderBytes: 64 << 10,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

func (s *server) methods(ctx context.Context) (list []method, err error) {
	return list, s.call(ctx, http.MethodGet, "auths", "", nil, &list)
}

// login sends both names of the user: the documentation calls the field
// username, the code email.
func (s *server) login(ctx context.Context, basePath, user string, password Secret) (a loginAnswer, err error) {
	s.secrets = append(s.secrets, password)
	body := map[string]string{"email": user, "username": user, "password": string(password)}
	err = s.call(ctx, http.MethodPost, basePath+"/android/login", "", body, &a)
	if refused(err) {
		err = fmt.Errorf("the platform rejects the user or password; correct user and password_file in [linto.login]: %w", err)
	}
	return a, err
}

func (s *server) scopes(ctx context.Context, basePath string, token Secret) (list []scope, err error) {
	return list, s.call(ctx, http.MethodGet, basePath+"/scopes", token, nil, &list)
}

// isAuth checks whether a token is valid.
func (s *server) isAuth(ctx context.Context, basePath string, token Secret) error {
	return s.call(ctx, http.MethodGet, basePath+"/isAuth", token, nil, nil)
}

// refresh tries GET, which the code accepts, and then POST, which is
// documented. The tokens are in the answer itself, or within "user" as after a
// login.
func (s *server) refresh(ctx context.Context, basePath string, token Secret) (tokens, error) {
	var a struct {
		tokens
		User tokens `json:"user"`
	}
	err := s.call(ctx, http.MethodGet, basePath+"/android/refresh", token, nil, &a)
	if absent(err) {
		err = s.call(ctx, http.MethodPost, basePath+"/android/refresh", token, nil, &a)
	}
	if err == nil && a.Auth == "" {
		return a.User, nil
	}
	return a.tokens, err
}

func (s *server) logout(ctx context.Context, basePath string, token Secret) error {
	return s.call(ctx, http.MethodGet, basePath+"/android/logout", token, nil, nil)
}

// call makes one request. If answer is nil, the answer is ignored.
func (s *server) call(ctx context.Context, method, path string, token Secret, body, answer any) error {
	ctx, cancel := context.WithTimeoutCause(ctx, s.limit, errSlow)
	defer cancel()
	request, err := s.request(ctx, method, path, token, body)
	if err != nil {
		return err
	}
	if err := s.exchange(request, answer); err != nil {
		return fmt.Errorf("%s: %w", request.URL, err)
	}
	return nil
}

func (s *server) request(ctx context.Context, method, path string, token Secret, body any) (*http.Request, error) {
	var text io.Reader
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		text = bytes.NewReader(raw)
	}
	r, err := http.NewRequestWithContext(ctx, method, s.base.JoinPath(path).String(), text)
	if err != nil {
		return nil, fmt.Errorf("login: %w", err)
	}
	r.Header.Set("Accept", "application/json")
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		s.secrets = append(s.secrets, token)
		r.Header.Set("Authorization", bearer(token))
	}
	return r, nil
}

// bearer is the form of a token in headers and messages.
func bearer(token Secret) string { return "Android " + string(token) }

func (s *server) exchange(r *http.Request, answer any) error {
	asked := false // the platform has received the whole request
	trace := httptrace.ClientTrace{WroteRequest: func(w httptrace.WroteRequestInfo) { asked = w.Err == nil }}
	response, err := s.client.Do(r.WithContext(httptrace.WithClientTrace(r.Context(), &trace)))
	if err != nil {
		err = platform.HTTP(r.Context(), err)
		if asked && !errors.Is(r.Context().Err(), context.Canceled) {
			err = &unanswered{err}
		}
		return err
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	switch {
	case err != nil:
		return platform.HTTP(r.Context(), err)
	case len(raw) > maxAnswer:
		return fmt.Errorf("the answer is longer than %d bytes; %w", maxAnswer, errStranger)
	case response.StatusCode/100 == 3:
		return s.redirected(response)
	case response.StatusCode/100 != 2:
		return &statusError{response.StatusCode, s.message(raw)}
	case answer == nil:
		return nil
	}
	if err := json.Unmarshal(raw, answer); err != nil {
		kind := printable.Clip(response.Header.Get("Content-Type"), 40)
		return fmt.Errorf("the answer (%s) is not the expected JSON; %w", kind, errStranger)
	}
	return nil
}

var errStranger = errors.New("it is not from a LinTO platform, or from a proxy: correct url in [linto.login]")

// redirected returns the error for a redirect, which is not followed.
func (s *server) redirected(response *http.Response) error {
	to, err := response.Location()
	if err != nil {
		return errStranger
	}
	target := printable.Clip(to.Scheme+"://"+to.Host+to.Path, 200)
	if s.base.Scheme == "https" && to.Scheme != "https" {
		return fmt.Errorf("the platform redirects to %s, where the password would be sent unencrypted; not followed: "+
			"enable https there", target)
	}
	return fmt.Errorf("the platform redirects to %s; if that is correct, set it as url in [linto.login]", target)
}

// message returns the platform's text of a failure. That may repeat the
// request, and therefore a secret.
func (s *server) message(raw []byte) string {
	var m struct{ Message string }
	if json.Unmarshal(raw, &m) != nil {
		return ""
	}
	for _, known := range s.secrets {
		if known != "" {
			m.Message = strings.ReplaceAll(m.Message, string(known), secret.Hidden)
		}
	}
	return printable.Clip(m.Message, 200)
}

// unanswered is the failure of a request that the platform has received. Real ones
// do not answer, or close the connection, on the token of a deleted account.
type unanswered struct{ err error }

func (e *unanswered) Error() string { return e.err.Error() }
func (e *unanswered) Unwrap() error { return e.err }

func isUnanswered(err error) bool {
	var e *unanswered
	return errors.As(err, &e)
}

// statusError is an answer with an error status.
type statusError struct {
	code    int
	message string
}

func (e *statusError) Error() string {
	text := fmt.Sprintf("the platform answered %d %s", e.code, http.StatusText(e.code))
	if e.message != "" {
		text += fmt.Sprintf(" (%q)", e.message)
	}
	if e.code == http.StatusNotFound {
		text += "; is the path in url correct?"
	}
	return text
}

func status(err error) int {
	var e *statusError
	if errors.As(err, &e) {
		return e.code
	}
	return 0
}

// refused reports whether the platform does not accept the device's identity.
func refused(err error) bool {
	code := status(err)
	return code == http.StatusUnauthorized || code == http.StatusForbidden
}

// absent reports whether the platform does not know the request.
func absent(err error) bool {
	code := status(err)
	return code == http.StatusNotFound || code == http.StatusMethodNotAllowed
}

// needsPeople reports whether retrying is pointless until someone changes
// something.
func needsPeople(err error) bool { return errors.Is(err, errScope) || status(err)/100 == 4 }
