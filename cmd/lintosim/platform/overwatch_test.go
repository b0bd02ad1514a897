package platform_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"lintod/cmd/lintosim/platform"
)

// client is a platform's HTTP client, written from the protocol.
type client struct {
	t   *testing.T
	sim *platform.Platform
}

func (c client) ask(method, path, token, body string, want int) []byte {
	c.t.Helper()
	r, err := http.NewRequestWithContext(c.t.Context(), method, c.sim.LoginURL()+path, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	if strings.HasPrefix(body, "email=") {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if token != "" {
		r.Header.Set("Authorization", token)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		c.t.Fatal(err)
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != want {
		c.t.Errorf("%s %s: %s %s, %v; want %d", method, path, response.Status, raw, err, want)
	}
	return raw
}

type granted struct {
	User struct {
		Auth    string `json:"auth_token"`
		Refresh string `json:"refresh_token"`
		Expires int64  `json:"expiration_date"`
		Session string `json:"session_id"`
	}
	MQTT map[string]any
}

func (c client) login(user, password string) (g granted) {
	c.t.Helper()
	body, _ := json.Marshal(map[string]string{"email": user, "password": password})
	raw := c.ask("POST", "/local/android/login", "", string(body), http.StatusAccepted)
	if err := json.Unmarshal(raw, &g); err != nil {
		c.t.Fatalf("%v: %s", err, raw)
	}
	return g
}

func TestLoginGivesSessionScopeAndBroker(t *testing.T) {
	sim := start(t, platform.Options{HTTP: "127.0.0.1:0", Users: map[string]string{"ann@example.org": "pw"}, Scope: "demo"})
	c := client{t, sim}
	if got := string(c.ask("GET", "/healthcheck", "", "", 200)); got != "OK" {
		t.Errorf("healthcheck says %q", got)
	}
	if got := strings.TrimSpace(string(c.ask("GET", "/auths", "", "", 200))); got != `[{"basePath":"/local","type":"local"}]` {
		t.Errorf("auths %s", got)
	}
	g := c.login("ann@example.org", "pw")
	if left := time.Until(time.Unix(g.User.Expires, 0)); left < 59*24*time.Hour || left > 61*24*time.Hour {
		t.Errorf("the token is valid for %v", left)
	}
	broker, err := url.Parse(sim.URL())
	if err != nil {
		t.Fatal(err)
	}
	if g.MQTT["mqtt_host"] != "127.0.0.1" || g.MQTT["mqtt_port"] != broker.Port() || g.MQTT["mqtt_use_login"] != true ||
		g.MQTT["mqtt_login"] != g.User.Session || g.MQTT["mqtt_password"] != "pw" || g.User.Session != platform.SessionID("ann@example.org") {
		t.Errorf("login gives %+v", g)
	}
	want := `[{"name":"demo","description":"","topic":"demo","services":{},"skills":[]}]`
	if got := strings.TrimSpace(string(c.ask("GET", "/local/scopes", "Android "+g.User.Auth, "", 200))); got != want {
		t.Errorf("scopes %s\nwant %s", got, want)
	}
	if got := string(c.ask("GET", "/local/isAuth", "Android "+g.User.Auth, "", 200)); got != "Ok" {
		t.Errorf("isAuth says %q", got)
	}

	// The session is an account of the broker, with the usual permissions.
	device := newDevice(t, sim, g.User.Session, "-u", g.User.Session, "-P", "pw")
	device.publish("nlp/text/1", []byte(`{"text":"hello"}`))
	device.next("nlp/text/1")
}

func TestLoginIsRejected(t *testing.T) {
	c := client{t, start(t, platform.Options{HTTP: "127.0.0.1:0", Users: map[string]string{"ann": "pw"}})}
	for body, want := range map[string]int{
		`{"email":"ann","password":"wrong"}`:   401,
		`{"email":"bob","password":"pw"}`:      401,
		`{"username":"ann","password":"pw"}`:   400, // the field exists only in the documentation
		`{"email":"ann"}`:                      400,
		`nonsense`:                             400,
		`email=ann&password=pw`:                202,
		`{"email":"ann","password":"pw"}`:      202,
		strings.Repeat(" ", 1<<17) + `{"a":1}`: 400,
	} {
		c.ask("POST", "/local/android/login", "", body, want)
	}
	for _, path := range []string{"scopes", "isAuth", "android/logout", "android/refresh"} {
		for _, token := range []string{"", "Android ", "Android x", "nonsense"} {
			c.ask("GET", "/local/"+path, token, "", 401)
		}
	}
	c.ask("POST", "/local/android/refresh", "", "", 405)
}

func TestEachRotationEndsThePreviousTokens(t *testing.T) {
	c := client{t, start(t, platform.Options{HTTP: "127.0.0.1:0"})}
	first := c.login("ann", "anything").User
	second := c.login("ann", "anything").User // like another device
	if first.Session != second.Session {
		t.Errorf("one account has the sessions %s and %s", first.Session, second.Session)
	}
	c.ask("GET", "/local/scopes", "Android "+first.Auth, "", 401)
	c.ask("GET", "/local/android/refresh", "Android "+first.Refresh, "", 401)
	c.ask("GET", "/local/android/refresh", "Android "+second.Auth, "", 401) // the wrong kind
	raw := c.ask("GET", "/local/android/refresh", "Android "+second.Refresh, "", 202)
	var third struct {
		Auth string `json:"auth_token"`
	}
	if err := json.Unmarshal(raw, &third); err != nil || third.Auth == "" {
		t.Fatalf("refresh answers %s", raw)
	}
	c.ask("GET", "/local/scopes", "Android "+second.Auth, "", 401)
	c.ask("GET", "/local/scopes", "Android "+third.Auth, "", 200)
	c.ask("GET", "/local/android/logout", "Android "+third.Auth, "", 200)
	c.ask("GET", "/local/scopes", "Android "+third.Auth, "", 401)
}

func TestTokenEnds(t *testing.T) {
	c := client{t, start(t, platform.Options{HTTP: "127.0.0.1:0", TokenLife: time.Nanosecond})}
	u := c.login("ann", "x").User
	c.ask("GET", "/local/scopes", "Android "+u.Auth, "", 401)
	c.ask("GET", "/local/android/refresh", "Android "+u.Refresh, "", 202)
}

func TestOlderServerRequiresTheTokenInMessages(t *testing.T) {
	sim := start(t, platform.Options{HTTP: "127.0.0.1:0", Server: platform.Server2021, Result: platform.NoResult})
	u := client{t, sim}.login("ann", "x").User
	d := newDevice(t, sim, u.Session)
	for _, c := range []struct {
		token string
		ok    bool
	}{{"", false}, {"Android nonsense", false}, {u.Auth, false}, {"Android " + u.Auth, true}} {
		body, _ := json.Marshal(map[string]string{"text": "hello", "auth_token": c.token})
		d.publish("chatbot/1", body)
		if refused := strings.Contains(string(d.next("chatbot/1")), "auth_token"); refused == c.ok {
			t.Errorf("token %.10q: refused %v", c.token, refused)
		}
		d.publish("streaming/start", body)
		if s := parse(t, d.next("streaming/start")).Behavior.Streaming; (s.Status == "started") != c.ok {
			t.Errorf("token %.10q: stream %+v", c.token, s)
		}
	}
}
