package ota

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"time"

	"lintod/agent/base/certificate"
	"lintod/agent/base/neterr"
	"lintod/agent/base/printable"
)

const (
	answerLimit  = 20 * time.Second // for one request with its redirects, from the connection to the last byte
	maxAnswer    = 256 << 10        // bytes
	maxRedirects = 3
)

var (
	server      = neterr.Server{Name: "the server", Address: "ota_url in [xiaozhi]", CA: "ca_file in [xiaozhi]"}
	errSlow     = errors.New("the server did not answer in time; is it overloaded, or is ota_url the address of another service?")
	errStranger = refusal("the answer is not from a xiaozhi server, or is from a proxy: correct ota_url in [xiaozhi]")
)

// refusal is an ErrRefused with its own text.
type refusal string

func (r refusal) Error() string        { return string(r) }
func (r refusal) Is(target error) bool { return target == ErrRefused }

// statusError is an answer with a status other than 200.
type statusError struct {
	code   int
	reason string
}

func (e *statusError) Error() string {
	text := fmt.Sprintf("the server answered %d %s", e.code, http.StatusText(e.code))
	if e.reason != "" {
		text += fmt.Sprintf(" (%q)", e.reason)
	}
	if e.code == http.StatusNotFound {
		text += "; is the path in ota_url correct?"
	}
	return text
}

// Is reports errors that someone must correct as ErrRefused.
func (e *statusError) Is(target error) bool {
	later := e.code == http.StatusRequestTimeout || e.code == http.StatusTooManyRequests
	return target == ErrRefused && e.code/100 == 4 && !later
}

// Check queries the server once. It takes at most 20 seconds. An error that wraps
// ErrRefused must be corrected by someone; others may be temporary.
func (c *Client) Check(ctx context.Context) (Answer, error) {
	to, err := c.Config.base()
	if err != nil {
		return Answer{}, fmt.Errorf("ota_url in [xiaozhi]: %w", err)
	}
	code, raw, err := c.post(ctx, to, c.description())
	if err == nil && code != http.StatusOK {
		err = &statusError{code, reasonIn(raw)}
	}
	var a Answer
	if err == nil {
		a, err = parse(raw, to.Hostname(), time.Now(), c.Device.Version)
	}
	if err != nil {
		return Answer{}, fmt.Errorf("%s: %w", shown(to), err)
	}
	return a, nil
}

const (
	waiting = 3 * time.Second  // until the next request, while the server waits for the user
	unsure  = 10 * time.Second // after any other answer
)

// Activate asks the server once whether the user has entered the code, with the
// signed challenge. While done is false, wait is the time until the next request,
// also with an error. It takes at most 20 seconds.
func (c *Client) Activate(ctx context.Context, a Activation) (done bool, wait time.Duration, err error) {
	to, err := c.Config.base()
	if err != nil {
		return false, unsure, fmt.Errorf("ota_url in [xiaozhi]: %w", err)
	}
	to = to.JoinPath("activate")
	body, err := c.signed(a.Challenge)
	if err != nil {
		return false, unsure, err
	}
	code, raw, err := c.post(ctx, to, body)
	switch {
	case err != nil:
	case code == http.StatusOK && !stillPending(raw):
		return true, 0, nil
	case code == http.StatusOK, code == http.StatusAccepted:
		return false, waiting, nil
	default:
		err = &statusError{code, reasonIn(raw)}
	}
	return false, unsure, fmt.Errorf("%s: %w", shown(to), err)
}

// stillPending reports whether an answer with status 200 means that the code has
// not been entered: Cheeko then answers like to a check, with the activation
// (protocol C37).
func stillPending(raw []byte) bool {
	var m members
	_ = json.Unmarshal(raw, &m) // may be plain text, such as success
	pending, ok := m["activation"]
	return ok && string(pending) != "null"
}

// description is the body of a check, with the members that any server requires
// (protocol 2.1).
func (c *Client) description() any {
	ip := ""
	if c.Device.IP != nil {
		ip = c.Device.IP()
	}
	type object = map[string]any
	return object{
		"version": 2, "language": c.language(), "mac_address": c.Identity.MAC, "uuid": c.Identity.UUID,
		"flash_size": 0, "chip_model_name": c.Device.Board,
		"chip_info":   object{"model": 0, "cores": runtime.NumCPU(), "revision": 0, "features": 0},
		"application": object{"name": "lintod", "version": c.Device.Version, "compile_time": "", "idf_version": "", "elf_sha256": "00"},
		"ota":         object{"label": "factory"},
		"board":       object{"type": c.Device.Board, "name": c.Device.Board, "ip": ip, "mac": c.Identity.MAC},
	}
}

// signed is the body of an activation: flat for most servers, and also under
// Payload for those that require it (protocol C49).
func (c *Client) signed(challenge string) (any, error) {
	fields := map[string]any{"algorithm": "hmac-sha256", "challenge": challenge, "serial_number": c.Config.SerialNumber, "hmac": ""}
	if c.Config.SerialNumber != "" {
		key, err := c.Config.key()
		if err != nil {
			return nil, err
		}
		fields["hmac"] = sign(key, challenge)
	}
	body := map[string]any{"Payload": fields}
	for name, value := range fields {
		body[name] = value
	}
	return body, nil
}

func sign(key []byte, challenge string) string {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(challenge))
	return hex.EncodeToString(h.Sum(nil))
}

func (c *Client) language() string {
	if c.Language != nil {
		if tag := c.Language(); visible(tag) && tag != "" {
			return tag
		}
	}
	return "en-US"
}

// post makes one request and returns the server's answer, with any status.
func (c *Client) post(ctx context.Context, to *url.URL, body any) (code int, answer []byte, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, answerLimit, errSlow)
	defer cancel()
	raw, err := json.Marshal(body)
	if err != nil {
		return 0, nil, err
	}
	client, err := c.http()
	if err != nil {
		return 0, nil, err
	}
	for range maxRedirects + 1 {
		response, err := c.send(ctx, client, to, raw)
		if err != nil {
			return 0, nil, server.HTTP(ctx, err)
		}
		answer, err = io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
		response.Body.Close()
		switch {
		case err != nil:
			return 0, nil, server.HTTP(ctx, err)
		case len(answer) > maxAnswer:
			return 0, nil, fmt.Errorf("the answer is longer than %d bytes; %w", maxAnswer, errStranger)
		case response.StatusCode/100 != 3:
			return response.StatusCode, answer, nil
		}
		if to, err = redirect(to, response); err != nil {
			return 0, nil, err
		}
	}
	return 0, nil, refusal(fmt.Sprintf("the server redirects more than %d times; correct ota_url in [xiaozhi]", maxRedirects))
}

func (c *Client) http() (*http.Client, error) {
	secure := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.Config.CAFile != "" {
		var err error
		if secure.RootCAs, err = certificate.Pool(c.Config.CAFile); err != nil {
			return nil, fmt.Errorf("ca_file in [xiaozhi]: %w", err)
		}
	}
	return &http.Client{
		Transport: &http.Transport{
			DialContext:            c.dial,
			TLSClientConfig:        secure,
			DisableKeepAlives:      true, // one request a day
			DisableCompression:     true,
			MaxResponseHeaderBytes: 64 << 10,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

func (c *Client) send(ctx context.Context, client *http.Client, to *url.URL, body []byte) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, to.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	activation := "1"
	if c.Config.SerialNumber != "" {
		activation = "2"
		r.Header.Set("Serial-Number", c.Config.SerialNumber)
	}
	for name, value := range map[string]string{
		"Activation-Version": activation, "Device-Id": c.Identity.MAC, "Client-Id": c.Identity.UUID,
		"User-Agent": c.Device.Board + "/" + c.Device.Version, "Accept-Language": c.language(),
		"Content-Type": "application/json", "Accept": "application/json",
	} {
		r.Header.Set(name, value)
	}
	return client.Do(r)
}

// redirect returns the target of a redirect: only on the same host, because the
// answer determines which server receives the user's voice, and not from https to
// http.
func redirect(from *url.URL, response *http.Response) (*url.URL, error) {
	to, err := response.Location()
	if err != nil {
		return nil, errStranger
	}
	target := printable.Clip(shown(to), 200)
	switch {
	case response.StatusCode == http.StatusSeeOther:
		return nil, fmt.Errorf("the server redirects to the page %s; %w", target, errStranger)
	case to.Scheme != "https" && to.Scheme != "http", from.Scheme == "https" && to.Scheme == "http":
		return nil, refusal("the server redirects to " + target + ", where the device's credentials would be sent unencrypted; not followed: enable https there")
	case !strings.EqualFold(to.Hostname(), from.Hostname()):
		return nil, refusal("the server redirects to " + target + "; if that is correct, set it as ota_url in [xiaozhi]")
	}
	return to, nil
}

// shown is the form of a URL in errors.
func shown(u *url.URL) string { return u.Scheme + "://" + u.Host + u.Path }

// reasonIn returns the text of a failure, JSON or plain, fit for one line.
func reasonIn(raw []byte) string {
	var m members
	if json.Unmarshal(raw, &m) == nil {
		return m.reason()
	}
	if text := bytes.TrimSpace(raw); !bytes.HasPrefix(text, []byte("<")) { // not a web page
		return printable.Clip(printable.Cut(string(text), 1000), 200)
	}
	return ""
}
