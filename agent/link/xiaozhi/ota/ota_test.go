package ota

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"lintod/agent/base/fuzzcost"
)

var self = Identity{MAC: "aa:bb:cc:dd:ee:ff", UUID: "36c98363-3656-43cb-a00f-8bced2391a90"}

func newClient(t testing.TB, url string) *Client {
	c := &Client{Config: Config{URL: url}, Identity: self, Log: slog.New(slog.DiscardHandler)}
	c.Device = Device{Board: "rpi4", Version: "1.2.0", IP: func() string { return "10.0.0.5" }}
	c.Language = func() string { return "fr-FR" }
	c.File = filepath.Join(t.TempDir(), "xiaozhi.json")
	c.Provisioned = func(Answer) {}
	return c
}

// Answers of real servers.
const (
	official = `{"server_time":{"timestamp":1795816800000,"timezone_offset":480},"firmware":{"version":"1.1.9","url":""},
		"mqtt":{"endpoint":"mqtt.xiaozhi.me","client_id":"GID_test@@@aa_bb_cc_dd_ee_ff@@@36c98363","username":"eyJ","password":"PLANTED-1","publish_topic":"device-server","subscribe_topic":"null"},
		"websocket":{"url":"wss://api.tenclass.net/xiaozhi/v1/","token":"PLANTED-2"}}`
	gatewayA = `{"mqtt":{"endpoint":"192.168.1.5:1883","client_id":"G@@@aa_bb_cc_dd_ee_ff@@@aa_bb_cc_dd_ee_ff","username":"u","password":"p","publish_topic":"device-server","subscribe_topic":"devices/p2p/aa_bb_cc_dd_ee_ff"},
		"firmware":{"version":"1.2.1","url":"http://xiaozhi.server.com:8002/xiaozhi/otaMag/download/NOT_ACTIVATED_FIRMWARE_THIS_IS_A_INVALID_URL"}}`
	cheeko  = `{"mqtt":{"broker":"139.59.7.72","port":1883,"endpoint":"139.59.7.72:1883","client_id":"GID@@@aa_bb_cc_dd_ee_ff@@@1","username":"u","password":"p","publish_topic":"device-server","keepalive":"60"},"firmware":{"version":"1.2.1","url":"https://h/toy/otaMag/download/7"}}`
	serverE = `{"firmware":{"version":"0.9.9","url":""},"websocket":{"url":"ws://10.0.0.9:8989/xiaozhi/v1/","token":""},"mqtt":null,"activation":null}`
	unbound = `{"activation":{"code":"048291","message":"http://xiaozhi.server.com\n048291","challenge":"aa:bb:cc:dd:ee:ff","timeout_ms":30000},"websocket":{"url":"ws://h/"}}`
)

func TestAnswersOfServers(t *testing.T) {
	now := time.UnixMilli(1795816790000)
	mqtt := func(url, id, sub string, alive time.Duration) *MQTT {
		return &MQTT{URL: url, ClientID: id, Username: "u", Password: "p", PublishTopic: "device-server", SubscribeTopic: sub, KeepAlive: alive}
	}
	for name, test := range map[string]struct {
		raw  string
		want Answer
	}{
		"the official server": {official, Answer{
			MQTT:       &MQTT{URL: "mqtts://mqtt.xiaozhi.me:8883", ClientID: "GID_test@@@aa_bb_cc_dd_ee_ff@@@36c98363", Username: "eyJ", Password: "PLANTED-1", PublishTopic: "device-server", KeepAlive: 240 * time.Second},
			WebSocket:  &WebSocket{"wss://api.tenclass.net/xiaozhi/v1/", "PLANTED-2", 1},
			ServerTime: time.UnixMilli(1795816800000), Skew: 10 * time.Second,
		}},
		"gateway A": {gatewayA, Answer{MQTT: mqtt("mqtt://192.168.1.5:1883", "G@@@aa_bb_cc_dd_ee_ff@@@aa_bb_cc_dd_ee_ff", "devices/p2p/aa_bb_cc_dd_ee_ff", 240*time.Second)}},
		"Cheeko": {cheeko, Answer{
			MQTT:     mqtt("mqtt://139.59.7.72:1883", "GID@@@aa_bb_cc_dd_ee_ff@@@1", "", time.Minute),
			Firmware: &Firmware{"1.2.1", "https://h/toy/otaMag/download/7", false},
		}},
		"server E": {serverE, Answer{WebSocket: &WebSocket{"ws://10.0.0.9:8989/xiaozhi/v1/", "", 1}}},
		"unbound": {unbound, Answer{WebSocket: &WebSocket{"ws://h/", "", 1}, Activation: &Activation{
			"048291", "http://xiaozhi.server.com\n048291", "http://xiaozhi.server.com", "aa:bb:cc:dd:ee:ff", now.Add(30 * time.Second),
		}}},
		"timeout of server E":    {`{"activation":{"code":"1","challenge":"c","message":"xiaozhi\n1","timeout_ms":300}}`, Answer{Activation: &Activation{Code: "1", Challenge: "c", Message: "xiaozhi\n1", Until: now.Add(5 * time.Minute)}}},
		"unbound, no settings":   {`{"activation":{"code":123456,"challenge":"c","timeout_ms":-1}}`, Answer{Activation: &Activation{Code: "123456", Challenge: "c"}}},
		"unbound, hostile":       {`{"activation":{"code":"` + strings.Repeat("9", 5000) + `","challenge":"` + strings.Repeat("c", 5000) + `","message":"a\u001b[2J\n\n\n\n\n\n\nb","timeout_ms":1e300}}`, Answer{Activation: &Activation{Code: strings.Repeat("9", 32) + "…", Message: "a·[2J\nb", Until: now.Add(24 * time.Hour)}}},
		"broker and port":        {`{"mqtt":{"broker":"h","port":8883,"client_id":"i","username":"u","password":"p"}}`, Answer{MQTT: mqtt("mqtts://h:8883", "i", "", 240*time.Second)}},
		"port as text":           {`{"mqtt":{"endpoint":"h","port":"1884","client_id":"i","username":"u","password":"p","keepalive":1e9}}`, Answer{MQTT: mqtt("mqtt://h:1884", "i", "", 65535*time.Second)}},
		"scheme before the port": {`{"mqtt":{"endpoint":"ssl://h:1884/","client_id":"i","username":"u","password":"p","keepalive":0}}`, Answer{MQTT: mqtt("mqtts://h:1884", "i", "", 240*time.Second)}},
		"plain by its scheme":    {`{"mqtt":{"endpoint":"tcp://h:8883","client_id":"i","username":"u","password":"p","keepalive":1}}`, Answer{MQTT: mqtt("mqtt://h:8883", "i", "", 10*time.Second)}},
		"IPv6":                   {`{"mqtt":{"endpoint":"fd00::5","client_id":"i","username":"u","password":"p"}}`, Answer{MQTT: mqtt("mqtts://[fd00::5]:8883", "i", "", 240*time.Second)}},
		"IPv6 with port":         {`{"mqtt":{"endpoint":"[fd00::5]:1883","client_id":"i","username":"u","password":"p"}}`, Answer{MQTT: mqtt("mqtt://[fd00::5]:1883", "i", "", 240*time.Second)}},
		"frames of version 3":    {`{"websocket":{"url":"ws://h/","token":"t","version":"3"}}`, Answer{WebSocket: &WebSocket{"ws://h/", "t", 3}}},
		"forced firmware":        {`{"websocket":{"url":"ws://h/"},"firmware":{"version":"0.1","url":"http://h/f","force":1}}`, Answer{WebSocket: &WebSocket{"ws://h/", "", 1}, Firmware: &Firmware{"0.1", "http://h/f", true}}},
		"time out of range":      {`{"websocket":{"url":"ws://h/"},"server_time":{"timestamp":1e300}}`, Answer{WebSocket: &WebSocket{"ws://h/", "", 1}}},
		"one of two has a loopback address": {`{"websocket":{"url":"ws://0.0.0.0:8000/"},"mqtt":{"endpoint":"h:1883","client_id":"i","username":"u","password":"p"}}`, Answer{
			MQTT: mqtt("mqtt://h:1883", "i", "", 240*time.Second), Problems: []string{"websocket"},
		}},
		"the other has a loopback address": {`{"websocket":{"url":"ws://h:8000/"},"mqtt":{"endpoint":"localhost:1883","client_id":"i","username":"u","password":"p"}}`, Answer{
			WebSocket: &WebSocket{"ws://h:8000/", "", 1}, Problems: []string{"mqtt"},
		}},
		"one of two is broken": {`{"websocket":{"url":"ws://你的ip:端口号/xiaozhi/v1/"},"mqtt":{"endpoint":"h:1883","client_id":"i","username":"u","password":"p"}}`, Answer{
			MQTT: mqtt("mqtt://h:1883", "i", "", 240*time.Second), Problems: []string{"websocket"},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parse([]byte(test.raw), "h", now, "1.2.0")
			if err != nil {
				t.Fatal(err)
			}
			for i := range got.Problems {
				got.Problems[i], _, _ = strings.Cut(got.Problems[i], ":")
			}
			as := func(a Answer) string { raw, _ := json.MarshalIndent(a, "", " "); return string(raw) }
			got.ServerTime, test.want.ServerTime = got.ServerTime.UTC(), test.want.ServerTime.UTC()
			if as(got) != as(test.want) {
				t.Errorf("got  %s\nwant %s", as(got), as(test.want))
			}
			if shown := fmt.Sprintf("%+v %+v %v", got, got.MQTT, got.WebSocket); strings.Contains(shown, "PLANTED") {
				t.Errorf("shown as %s", shown)
			}
		})
	}
}

// None of these answers is usable, and the error contains the reason.
func TestUnusableAnswers(t *testing.T) {
	says := func(code int, kind, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", kind)
			w.WriteHeader(code)
			fmt.Fprint(w, body)
		}
	}
	json200 := func(body string) http.HandlerFunc { return says(200, "application/json", body) }
	mqtt := func(m string) http.HandlerFunc { return json200(`{"mqtt":` + m + `}`) }
	hijack := func(answer string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err == nil {
				fmt.Fprint(conn, answer)
				conn.Close()
			}
		}
	}
	for name, test := range map[string]struct {
		handler http.HandlerFunc
		names   string // by the error: a key, a field, or what the server sent
		refused bool
	}{
		"a page":                 {says(200, "text/html", "<html>login</html>"), "ota_url", true},
		"nothing":                {json200(""), "ota_url", true},
		"null":                   {json200("null"), "ota_url", true},
		"a list":                 {json200("[]"), "ota_url", true},
		"cut off":                {json200(official[:300]), "ota_url", true},
		"too deep":               {json200(`{"mqtt":` + strings.Repeat("[", 20000)), "ota_url", true},
		"too long":               {json200(official + strings.Repeat(" ", maxAnswer)), fmt.Sprint(maxAnswer), true},
		"without end":            {func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, endless{}) }, fmt.Sprint(maxAnswer), true},
		"no settings":            {json200(`{"firmware":{"version":"9.9.9","url":"http://h/f"},"mqtt":{},"websocket":{"url":""},"activation":{}}`), "mqtt", true},
		"settings of other kind": {json200(`{"mqtt":"x","websocket":[1],"activation":true,"server_time":7,"firmware":null}`), "mqtt", true},
		"error with 200":         {json200(`{"error":"Invalid device ID"}`), "Invalid device ID", true},
		"request error":          {json200(`{"success":false,"message":"request error."}`), "request error.", true},
		"Cheeko 400":             {says(400, "application/json", `{"code":400,"msg":"no such MAC"}`), "no such MAC", true},
		"E's 400":                {says(400, "text/plain", "缺少设备ID"), "缺少设备ID", true},
		"404":                    {says(404, "text/html", "<h1>nginx</h1>"), "404", true},
		"429":                    {says(429, "text/plain", "slow down"), "slow down", false},
		"500":                    {says(500, "text/plain", "\x1b[31moops\nline"), "oops", false},
		"502":                    {says(502, "text/html", "<html>"), "502", false},
		"closed":                 {hijack(""), "", false},
		"not HTTP":               {hijack("\x00\x01\x02\r\n\r\n"), "", false},
		"shorter than announced": {hijack("HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"), "", false},
		"endless headers":        {hijack("HTTP/1.1 200 OK\r\n" + strings.Repeat("X: y\r\n", 100000)), "", false},
		"gzip without a request": {hijack("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\x8b\x08\x00"), "ota_url", true},
		"port 0":                 {mqtt(`{"endpoint":"h:0","client_id":"i"}`), "endpoint", true},
		"port 65536":             {mqtt(`{"endpoint":"h:65536","client_id":"i"}`), "endpoint", true},
		"two hosts":              {mqtt(`{"endpoint":"h,g:1883","client_id":"i"}`), "endpoint", true},
		"endpoint without end":   {mqtt(`{"endpoint":"h:188` + strings.Repeat("~é", 1000) + `/x","client_id":"i"}`), "endpoint", true},
		"endpoint with https":    {mqtt(`{"endpoint":"https://h","client_id":"i"}`), "endpoint", true},
		"password in endpoint":   {mqtt(`{"endpoint":"mqtt://u:PLANTED@h","client_id":"i"}`), "endpoint", true},
		"no client id":           {mqtt(`{"endpoint":"h","username":"u","password":"PLANTED"}`), "client_id", true},
		"client id with NUL":     {mqtt(`{"endpoint":"h","client_id":"a\u0000b"}`), "client_id", true},
		"client id too long":     {mqtt(`{"endpoint":"h","client_id":"` + strings.Repeat("x", 5000) + `"}`), "client_id", true},
		"publish to a wildcard":  {mqtt(`{"endpoint":"h","client_id":"i","publish_topic":"a/#"}`), "publish_topic", true},
		"token with a line end":  {json200(`{"websocket":{"url":"ws://h/","token":"PLANTED\r\nX: y"}}`), "token", true},
		"address with http":      {json200(`{"websocket":{"url":"http://h/"}}`), "url", true},
		"address without host":   {json200(`{"websocket":{"url":"ws:///xiaozhi"}}`), "url", true},
		"frames of version 9":    {json200(`{"websocket":{"url":"ws://h/","version":9}}`), "version", true},
		"to another host": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://other.example/x", http.StatusTemporaryRedirect)
		}, "other.example", true},
		"to a page":  {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/login", http.StatusSeeOther) }, "/login", true},
		"to itself":  {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path, http.StatusFound) }, "ota_url", true},
		"to nowhere": {says(302, "text/html", ""), "ota_url", true},
		"to a file": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", "file:///etc/passwd")
			w.WriteHeader(http.StatusFound)
		}, "file", true},
	} {
		t.Run(name, func(t *testing.T) {
			s := httptest.NewServer(test.handler)
			t.Cleanup(s.Close)
			c := newClient(t, s.URL+"/xiaozhi/ota/")
			var a Answer
			err := func() (err error) { a, err = c.Check(t.Context()); return }()
			if err == nil || a.MQTT != nil || a.WebSocket != nil {
				t.Fatalf("%+v, error %v", a, err)
			}
			text := err.Error()
			if !strings.Contains(text, test.names) || strings.ContainsAny(text, "\n\x1b") || strings.Contains(text, "PLANTED") || len(text) > 800 {
				t.Errorf("error %q, want one line that names %q", text, test.names)
			}
			if errors.Is(err, ErrRefused) != test.refused {
				t.Errorf("refused: %v, want %v (%v)", !test.refused, test.refused, err)
			}
		})
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return copy(p, strings.Repeat(" ", len(p))), nil }

// A server on this machine may send a loopback address.
func TestLoopbackAddressOfALocalServer(t *testing.T) {
	for _, test := range []struct {
		address, host string
		want          bool
	}{
		{"ws://127.0.0.1:8000/", "server.local", true},
		{"mqtt://[::1]:1883", "10.0.0.9", true},
		{"ws://[::]/", "10.0.0.9", true},
		{"ws://127.0.0.1:8000/", "127.0.0.1", false},
		{"ws://localhost/", "::1", false},
		{"ws://10.0.0.9/", "server.local", false},
		{"ws://server.local/", "10.0.0.9", false},
	} {
		if got := strays(test.address, test.host); got != test.want {
			t.Errorf("%s of %s: %v", test.address, test.host, got)
		}
	}
}

func TestIdentityInRequests(t *testing.T) {
	var header http.Header
	var body map[string]any
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header, body = r.Header, nil
		if r.Method != http.MethodPost || r.URL.Path != "/xiaozhi/ota/" {
			t.Errorf("%s %s", r.Method, r.URL)
		}
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			t.Error(err)
		}
		fmt.Fprint(w, serverE)
	}))
	t.Cleanup(s.Close)
	c := newClient(t, s.URL+"/xiaozhi/ota/")
	if _, err := c.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"Activation-Version": "1", "Device-Id": self.MAC, "Client-Id": self.UUID, "User-Agent": "rpi4/1.2.0",
		"Accept-Language": "fr-FR", "Content-Type": "application/json", "Serial-Number": "",
	} {
		if got := header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	at := func(path ...string) (v any) {
		v = body
		for _, name := range path {
			m, _ := v.(map[string]any)
			v = m[name]
		}
		return v
	}
	for _, test := range []struct {
		want any
		path []string
	}{
		{2.0, []string{"version"}},
		{"fr-FR", []string{"language"}},
		{self.MAC, []string{"mac_address"}},
		{self.UUID, []string{"uuid"}},
		{"1.2.0", []string{"application", "version"}},
		{"rpi4", []string{"board", "type"}},
		{"10.0.0.5", []string{"board", "ip"}},
		{self.MAC, []string{"board", "mac"}},
	} {
		if got := at(test.path...); got != test.want {
			t.Errorf("%v is %v, want %v", test.path, got, test.want)
		}
	}
	c.Config.SerialNumber = "SN-1"
	if _, err := c.Check(t.Context()); err != nil || header.Get("Serial-Number") != "SN-1" || header.Get("Activation-Version") != "2" {
		t.Errorf("%v, %v", err, header)
	}
}

// A redirect of a proxy that requires a slash or https is followed, with the
// complete request.
func TestRedirectsWithinTheServer(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/") {
			http.Redirect(w, r, r.URL.Path+"/", http.StatusMovedPermanently)
			return
		}
		body, _ := io.ReadAll(r.Body)
		if r.Method != http.MethodPost || r.Header.Get("Device-Id") == "" || !json.Valid(body) {
			t.Errorf("%s, %v, %q", r.Method, r.Header, body)
		}
		fmt.Fprint(w, serverE)
	}))
	t.Cleanup(s.Close)
	if _, err := newClient(t, s.URL+"/ota").Check(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestConfiguredCAIsTheOnlyOne(t *testing.T) {
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, serverE) }))
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	t.Cleanup(s.Close)
	c := newClient(t, s.URL)
	if _, err := c.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "ca_file") {
		t.Errorf("without a CA: %v", err)
	}
	c.Config.CAFile = filepath.Join(t.TempDir(), "ca.pem")
	if _, err := c.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "ca_file") {
		t.Errorf("without the file: %v", err)
	}
	raw := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	if err := os.WriteFile(c.Config.CAFile, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Check(t.Context()); err != nil {
		t.Errorf("with its CA: %v", err)
	}
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, s.URL, http.StatusTemporaryRedirect) }))
	t.Cleanup(plain.Close)
	c.Config.URL = plain.URL
	if _, err := c.Check(t.Context()); err != nil {
		t.Errorf("from http to https of the same host: %v", err)
	}
	back := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, plain.URL, http.StatusTemporaryRedirect)
	}))
	t.Cleanup(back.Close)
	c.Config.URL = back.URL
	if _, err := c.Check(t.Context()); !errors.Is(err, ErrRefused) {
		t.Errorf("from https to http: %v", err)
	}
	c.Config.URL = "https" + strings.TrimPrefix(plain.URL, "http")
	if _, err := c.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "http://") {
		t.Errorf("https at a port of http: %v", err)
	}
}

func TestActivation(t *testing.T) {
	var path string
	var body map[string]any
	code, answer := 200, ""
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, path = nil, r.URL.Path
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			t.Error(err)
		}
		w.WriteHeader(code)
		fmt.Fprint(w, answer)
	}))
	t.Cleanup(s.Close)
	a := Activation{Challenge: "3f1c9a52-challenge"}
	for name, test := range map[string]struct {
		code   int
		answer string
		done   bool
		wait   time.Duration
		fails  bool
	}{
		"success":         {200, "success", true, 0, false},
		"nothing":         {200, "", true, 0, false},
		"JSON":            {200, `{"message":"ok"}`, true, 0, false},
		"activation over": {200, `{"activation":null,"mqtt":{}}`, true, 0, false},
		"Cheeko: not yet": {200, cheeko[:len(cheeko)-1] + `,"activation":{"code":"123456"}}`, false, waiting, false},
		"waiting":         {202, "Device activation timeout", false, waiting, false},
		"E: not accepted": {400, "不支持的算法", false, unsure, true},
		"500":             {500, "", false, unsure, true},
		"204":             {204, "", false, unsure, true},
	} {
		for _, url := range []string{"/xiaozhi/ota/", "/xiaozhi/ota"} {
			t.Run(name, func(t *testing.T) {
				code, answer = test.code, test.answer
				c := newClient(t, s.URL+url)
				done, wait, err := c.Activate(t.Context(), a)
				if done != test.done || wait != test.wait || (err != nil) != test.fails || path != "/xiaozhi/ota/activate" {
					t.Errorf("%v, %v, %v at %s", done, wait, err, path)
				}
				inner, _ := body["Payload"].(map[string]any)
				for _, fields := range []map[string]any{body, inner} {
					if fields["algorithm"] != "hmac-sha256" || fields["challenge"] != a.Challenge || fields["serial_number"] != "" {
						t.Errorf("body %v", body)
					}
				}
			})
		}
	}

	code, answer = 200, "success"
	c := newClient(t, s.URL)
	c.Config.SerialNumber = "SN-1"
	c.Config.KeyFile = filepath.Join(t.TempDir(), "key")
	long := make([]byte, 32)
	for i := range long {
		long[i] = byte(i)
	}
	for _, test := range []struct{ file, format, hmac, names string }{
		{hex.EncodeToString(long) + "\n", "", "a20ff53290f8290729bb4e002ce733a2bd1b91c144b1344dbeb93a50d98b3fe1", ""},
		{hex.EncodeToString(long), "hex", "a20ff53290f8290729bb4e002ce733a2bd1b91c144b1344dbeb93a50d98b3fe1", ""},
		{"000102030405060708090a0b0c0d0e0f\n", "text", "d07640a61b983f89bb7881758fe24c1266732f9af2db6f2b366f4ecd002c580f", ""},
		{"PLANTED-not-hex", "hex", "", "key_format"},
		{"", "hex", "", "key_file"},
	} {
		if err := os.WriteFile(c.Config.KeyFile, []byte(test.file), 0o600); err != nil {
			t.Fatal(err)
		}
		c.Config.KeyFormat, body = test.format, nil
		done, _, err := c.Activate(t.Context(), a)
		if test.hmac == "" {
			if done || err == nil || !strings.Contains(err.Error(), test.names) || strings.Contains(err.Error(), "PLANTED") || body != nil {
				t.Errorf("%q: %v, %v", test.file, done, err)
			}
			continue
		}
		inner, _ := body["Payload"].(map[string]any)
		if err != nil || body["hmac"] != test.hmac || inner["hmac"] != test.hmac || body["serial_number"] != "SN-1" {
			t.Errorf("%q as %s: %v, %v", test.file, test.format, err, body)
		}
	}
}

// The test vectors of the protocol were computed with another implementation.
func TestSignatureMatchesTheLibrary(t *testing.T) {
	h := hmac.New(sha256.New, []byte("key"))
	h.Write([]byte("The quick brown fox jumps over the lazy dog"))
	const rfc = "f7bc83f430538424b13298e6aa6fb143ef4d59a14946175997479dbc2d1a3cd8"
	if got := sign([]byte("key"), "The quick brown fox jumps over the lazy dog"); got != rfc || hex.EncodeToString(h.Sum(nil)) != rfc {
		t.Error(got)
	}
}

func TestFirmwareOffers(t *testing.T) {
	const good = "http://h/f.bin"
	for _, test := range []struct {
		version, url string
		force        bool
		offered      bool
	}{
		{"1.2.1", good, false, true},
		{"1.2.0", good, false, false},
		{"1.2.0.1", good, false, true},
		{"1.2", good, false, false},
		{"1.10.0", good, false, true},
		{"1.1.99", good, false, false},
		{"2", good, false, true},
		{"v1.3.0", good, false, true},
		{"01.03.00", good, false, true},
		{"1.2.0-rc1", good, false, false},
		{"", good, false, false},
		{"newest", good, false, false},
		{"1..3", good, false, false},
		{"99999999999999999999", good, false, false},
		{strings.Repeat("9.", 100) + "9", good, false, false},
		{"0.1", good, true, true},
		{"", good, true, true},
		{"9.9", "", false, false},
		{"9.9", "", true, false},
		{"9.9", "ftp://h/f", true, false},
		{"9.9", "h/f.bin", true, false},
		{"9.9", "http:///f", true, false},
		{"9.9", "http://u:p@h/f", true, false},
		{"9.9", "http://h/f\n", true, false},
		{"9.9", "http://h:8002/xiaozhi/otaMag/download/" + invalidURL, true, false},
	} {
		if got := offer(Firmware{test.version, test.url, test.force}, "1.2.0") != nil; got != test.offered {
			t.Errorf("%s at %q, force %v: offered %v", test.version, test.url, test.force, got)
		}
	}
	if offer(Firmware{"0.0.1", good, false}, "0.0.0-dev") == nil {
		t.Error("firmware was offered for a development version")
	}
}

func TestSettingsAreSaved(t *testing.T) {
	c := newClient(t, "http://h/")
	if a, err := c.kept(); a != nil || err != nil {
		t.Errorf("before: %v, %v", a, err)
	}
	a, err := parse([]byte(official), "h", time.Now(), "1")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.keep(a); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(c.File)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	got, err := c.kept()
	if err != nil || *got.MQTT != *a.MQTT || *got.WebSocket != *a.WebSocket || got.Stored.IsZero() {
		t.Errorf("%+v, %v", got, err)
	}
	for name, change := range map[string]func(c *Client){
		"of another server":   func(c *Client) { c.Config.URL = "http://other/" },
		"of another identity": func(c *Client) { c.Identity.MAC = "aa:bb:cc:dd:ee:00" },
	} {
		other := newClient(t, "http://h/")
		other.File = c.File
		change(other)
		if a, err := other.kept(); a != nil || err != nil {
			t.Errorf("%s: %+v, %v", name, a, err)
		}
	}
	for _, bad := range []string{"", "{", "null", `{"server":"http://h/","mac":"aa:bb:cc:dd:ee:ff","mqtt":{"URL":"PLANTED"}}`, `{"server":"http://h/","mac":"aa:bb:cc:dd:ee:ff"}`} {
		if err := os.WriteFile(c.File, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if a, err := c.kept(); a != nil || err != nil && strings.Contains(err.Error(), "PLANTED") {
			t.Errorf("%q: %+v, %v", bad, a, err)
		}
	}
}

// script is a server that follows the steps of a test, in a bubble.
type script struct {
	mu    sync.Mutex
	steps []step
	log   []string // "0s ota", "3s activate": requests with their times
	began time.Time
}

// step answers one request, or times of them; 0 means once. The body "down" closes
// the connection, and "silence" leaves it without an answer.
type step struct {
	times int
	code  int
	body  string
}

func (s *script) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.log = append(s.log, fmt.Sprintf("%v %s", time.Since(s.began).Round(time.Second), r.URL.Path[1:]))
	now := step{code: 500}
	if len(s.steps) > 0 {
		now = s.steps[0]
		if s.steps[0].times--; s.steps[0].times <= 0 {
			s.steps = s.steps[1:]
		}
	}
	s.mu.Unlock()
	switch now.body {
	case "down":
		panic(http.ErrAbortHandler)
	case "silence":
		_, _ = io.Copy(io.Discard, r.Body) // the end of the connection is only detected after the body
		<-r.Context().Done()
	}
	w.WriteHeader(now.code)
	fmt.Fprint(w, now.body)
}

// pipes is a network with one server.
type pipes struct {
	conns chan net.Conn
	ended chan struct{}
}

func (p pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-p.conns:
		return conn, nil
	case <-p.ended:
		return nil, net.ErrClosed
	}
}
func (p pipes) Close() error   { return nil }
func (p pipes) Addr() net.Addr { return &net.TCPAddr{} }

func (p pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	here, there := net.Pipe()
	select {
	case p.conns <- there:
		return here, nil
	case <-p.ended: // a transport may still dial when the request was cancelled
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// play runs a client against a script; watch runs in the bubble at the same time.
func play(t *testing.T, steps []step, prepare func(*Client), watch func(c *Client, s *script, given chan Answer)) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := &script{steps: steps, began: time.Now()}
		network := pipes{make(chan net.Conn), make(chan struct{})}
		web := &http.Server{Handler: s, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0), ReadHeaderTimeout: time.Hour}
		served := make(chan error)
		go func() { served <- web.Serve(network) }()
		c := newClient(t, "http://h/ota/")
		c.File = filepath.Join(dir, "settings.json")
		c.dial = network.dial
		given := make(chan Answer, 1000)
		c.Provisioned = func(a Answer) { given <- a }
		if prepare != nil {
			prepare(c)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- c.Run(ctx) }()
		watch(c, s, given)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		close(network.ended)
		<-served
		web.Close()
	})
}

func (s *script) asked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.log)
}

func TestUnreachableServer(t *testing.T) {
	play(t, []step{{times: 6, body: "down"}, {code: 200, body: official}}, nil, func(c *Client, s *script, given chan Answer) {
		synctest.Wait()
		if state := c.State(); state.Problem == "" || state.Refused || state.Next.IsZero() {
			t.Errorf("state %+v", state)
		}
		a := <-given
		if a.MQTT == nil || !a.Stored.IsZero() || c.State() != (State{}) {
			t.Errorf("%+v, state %+v", a, c.State())
		}
		// 10, 20, 40 … s, spread over half to one and a half: 315 s for five, 630 s for six.
		if took := time.Since(s.began); took < 300*time.Second || took > 950*time.Second || len(s.asked()) != 7 {
			t.Errorf("after %v: %v", took, s.asked())
		}
	})
}

func TestSavedSettingsAreUsedImmediately(t *testing.T) {
	prepare := func(c *Client) {
		a, err := parse([]byte(gatewayA), "h", time.Now(), "1")
		if err == nil {
			err = c.keep(a)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	play(t, []step{{body: "silence"}, {code: 503}, {code: 200, body: official}}, prepare, func(c *Client, s *script, given chan Answer) {
		if a := <-given; a.Stored.IsZero() || a.MQTT.URL != "mqtt://192.168.1.5:1883" || time.Since(s.began) != answerLimit {
			t.Errorf("after %v: %+v", time.Since(s.began), a)
		}
		if a := <-given; !a.Stored.IsZero() || a.MQTT.URL != "mqtts://mqtt.xiaozhi.me:8883" {
			t.Errorf("then %+v", a)
		}
	})
}

func TestCompleteActivation(t *testing.T) {
	steps := []step{
		{code: 200, body: strings.Replace(unbound, `,"timeout_ms":30000`, "", 1)},
		{times: 10, code: 202},
		{code: 200, body: strings.ReplaceAll(strings.Replace(unbound, `,"timeout_ms":30000`, "", 1), "048291", "777777")},
		{code: 500},
		{code: 202},
		{code: 200, body: `{"activation":{"code":"777777"}}`},
		{code: 200, body: "success"},
		{code: 200, body: official},
		{code: 200, body: official},
	}
	var codes []string
	prepare := func(c *Client) {
		c.Changed = func(s State) {
			if s.Activation != nil && (len(codes) == 0 || codes[len(codes)-1] != s.Activation.Code) {
				codes = append(codes, s.Activation.Code)
			}
		}
	}
	play(t, steps, prepare, func(c *Client, s *script, given chan Answer) {
		<-given
		want := []string{
			"0s ota/", "0s ota/activate", "3s ota/activate", "6s ota/activate", "9s ota/activate", "12s ota/activate", "15s ota/activate",
			"18s ota/activate", "21s ota/activate", "24s ota/activate", "27s ota/activate", // then 3 s after the last one, and 3 s before the check
			"33s ota/", "33s ota/activate", "43s ota/activate", "46s ota/activate", "49s ota/activate", "49s ota/",
		}
		if got := s.asked(); !slices.Equal(got, want) {
			t.Errorf("got  %v\nwant %v", got, want)
		}
		synctest.Wait()
		if !slices.Equal(codes, []string{"048291", "777777"}) || c.State() != (State{}) {
			t.Errorf("codes %v, state %+v", codes, c.State())
		}
		// The next check is after a day, unless Again is called.
		c.Again()
		<-given
		if got := s.asked(); got[len(got)-1] != "52s ota/" {
			t.Errorf("again: %v", got[len(got)-1])
		}
	})
}

func TestCodeIsRenewedWhenItExpires(t *testing.T) {
	steps := []step{{code: 200, body: unbound}, {times: 3, code: 500}, {code: 200, body: official}}
	play(t, steps, nil, func(_ *Client, s *script, given chan Answer) {
		<-given
		want := []string{"0s ota/", "0s ota/activate", "10s ota/activate", "20s ota/activate", "30s ota/"}
		if got := s.asked(); !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
}

// A server that confirms the code but not the check, or whose codes expire
// immediately, is not queried without pauses; a device that is not bound sends ever
// fewer requests.
func TestServersAreNotFlooded(t *testing.T) {
	for name, steps := range map[string]func() []step{
		"yes and no": func() []step { return repeat(step{code: 200, body: unbound}, step{code: 200, body: "success"}) },
		"expires at once": func() []step {
			return repeat(step{code: 200, body: strings.Replace(unbound, "30000", "1", 1)}, step{times: 10, code: 202})
		},
		"refused": func() []step { return repeat(step{code: 200, body: unbound}, step{times: 10, code: 400}) },
		"never bound": func() []step {
			return repeat(step{code: 200, body: strings.Replace(unbound, `,"timeout_ms":30000`, "", 1)}, step{times: 10, code: 202})
		},
		"impatient link": func() []step { return repeat(step{code: 200, body: official}) },
	} {
		t.Run(name, func(t *testing.T) {
			play(t, steps(), nil, func(c *Client, s *script, _ chan Answer) {
				for range 600 {
					if name == "impatient link" {
						c.Again()
					}
					time.Sleep(time.Second)
				}
				first := len(s.asked())
				if first > 600/3*2+2 {
					t.Errorf("%d requests in ten minutes", first)
				}
				checks := len(slices.DeleteFunc(s.asked(), func(r string) bool { return !strings.HasSuffix(r, "ota/") }))
				if name == "expires at once" && checks > 600/25 { // each returns a code that is spoken
					t.Errorf("%d codes in ten minutes", checks)
				}
				if name != "never bound" {
					return
				}
				time.Sleep(6 * time.Hour)
				before := len(s.asked())
				time.Sleep(time.Hour)
				if hourly := len(s.asked()) - before; hourly > 13*11 || hourly < 5*11 {
					t.Errorf("%d requests in the seventh hour", hourly)
				}
			})
		})
	}
}

func repeat(steps ...step) (all []step) {
	for range 2000 {
		all = append(all, steps...)
	}
	return all
}

func TestClockSkewIsReported(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"websocket":{"url":"ws://h/"},"server_time":{"timestamp":%d}}`, time.Now().Add(-2*time.Hour).UnixMilli())
	}))
	t.Cleanup(s.Close)
	c := newClient(t, s.URL)
	a, err := c.Check(t.Context())
	if err != nil || a.Skew > -2*time.Hour+time.Minute || a.Skew < -2*time.Hour-time.Minute {
		t.Fatalf("%v, %v", a.Skew, err)
	}
}

func TestInvalidConfig(t *testing.T) {
	good := Config{URL: "https://api.tenclass.net/xiaozhi/ota/"}
	for _, test := range []struct {
		change func(*Config)
		key    string
	}{
		{func(*Config) {}, ""},
		{func(c *Config) { c.URL = "" }, "ota_url"},
		{func(c *Config) { c.URL = "mqtt://h" }, "ota_url"},
		{func(c *Config) { c.URL = "https://u:p@h/" }, "ota_url"},
		{func(c *Config) { c.SerialNumber = "S" }, "key_file"},
		{func(c *Config) { c.KeyFile = "/k" }, "serial_number"},
		{func(c *Config) { c.SerialNumber, c.KeyFile = "S\n", "/k" }, "serial_number"},
		{func(c *Config) { c.SerialNumber, c.KeyFile, c.KeyFormat = "S", "/k", "base64" }, "key_format"},
		{func(c *Config) { c.SerialNumber, c.KeyFile, c.KeyFormat = "S", "/k", "text" }, ""},
	} {
		c := good
		test.change(&c)
		var keys []string
		for _, p := range c.Validate() {
			keys = append(keys, p.Key)
		}
		if strings.Join(keys, " ") != test.key {
			t.Errorf("%+v: %v, want %q", c, keys, test.key)
		}
	}
}

// Any answer from a server uses little memory, the accepted parts are valid, and no
// error reveals a secret.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{official, gatewayA, cheeko, serverE, unbound, `{"error":"e"}`, `{"mqtt":{"endpoint":"[fe80::1%eth0]:1883","client_id":"i"}}`} {
		f.Add([]byte(seed))
	}
	now := time.UnixMilli(1795816790000)
	f.Fuzz(func(t *testing.T, raw []byte) {
		fuzzcost.Check(t, func() {
			a, err := parse(raw, "h", now, "1.2.0")
			if err != nil {
				if len(err.Error()) > 2000 || strings.ContainsAny(err.Error(), "\n\x1b") {
					t.Errorf("error %q", err)
				}
				return
			}
			if a.MQTT == nil && a.WebSocket == nil && a.Activation == nil {
				t.Error("an empty answer was accepted")
			}
			if a.MQTT != nil && (a.MQTT.check() != nil || a.MQTT.KeepAlive < minKeepAlive || a.MQTT.KeepAlive > maxKeepAlive || a.MQTT.PublishTopic == "") {
				t.Errorf("%+v", a.MQTT)
			}
			if a.WebSocket != nil && a.WebSocket.check() != nil {
				t.Errorf("%+v", a.WebSocket)
			}
			if act := a.Activation; act != nil {
				if len(act.Message) > 2000 || strings.ContainsAny(act.Code, "\n\x1b") || strings.Contains(act.Message, "\x1b") || !act.Until.IsZero() && (act.Until.Before(now) || act.Until.After(now.Add(maxTimeout))) {
					t.Errorf("%+v", act)
				}
			}
			if f := a.Firmware; f != nil && !plausible(f.URL) {
				t.Errorf("%+v", f)
			}
		})
	})
}

// A settings file with any contents is used only if it is valid, and no error
// reveals a secret.
func FuzzKept(f *testing.F) {
	c := newClient(f, "http://h/")
	a, err := parse([]byte(official), "h", time.Now(), "1")
	if err == nil {
		err = c.keep(a)
	}
	raw, readErr := os.ReadFile(c.File)
	if err != nil || readErr != nil {
		f.Fatal(err, readErr)
	}
	f.Add(raw)
	f.Add([]byte(strings.ReplaceAll(string(raw), "wss://", "PLANTED://")))
	f.Add([]byte("\x00PLANTED"))
	f.Add([]byte(`{"websocket":{"url":"PLANTED-0"}}`)) // an address may be shown
	f.Fuzz(func(t *testing.T, text []byte) {
		var shown struct{ MQTT, WebSocket struct{ URL string } }
		_ = json.Unmarshal(text, &shown)
		planted := !strings.Contains(shown.MQTT.URL+shown.WebSocket.URL, "PLANTED-")
		if err := os.WriteFile(c.File, text, 0o600); err != nil {
			t.Fatal(err)
		}
		fuzzcost.Check(t, func() {
			a, err := c.kept()
			if err != nil && (len(err.Error()) > 2000 || planted && strings.Contains(err.Error(), "PLANTED-")) {
				t.Errorf("error %q", err)
			}
			if a == nil {
				return
			}
			if a.MQTT == nil && a.WebSocket == nil || a.MQTT != nil && a.MQTT.check() != nil || a.WebSocket != nil && a.WebSocket.check() != nil {
				t.Errorf("%q was accepted", text)
			}
		})
	})
}
