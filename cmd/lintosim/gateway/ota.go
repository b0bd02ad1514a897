package gateway

import (
	"crypto/hmac"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"regexp"
	"strings"
	"time"
)

const (
	bodyLimit   = 64 << 10
	postsToBind = 3 // with ByPost
)

// routes returns the handlers of the OTA server, under the paths of all servers, and of the chat
// server.
func (g *Gateway) routes() http.Handler {
	mux := http.NewServeMux()
	for _, path := range []string{"/xiaozhi/ota/", "/toy/ota/"} {
		mux.HandleFunc(path, g.ota)
		mux.HandleFunc(path+"activate", g.activate)
	}
	mux.HandleFunc("/xiaozhi/v1/", g.webSocket)
	return mux
}

// otaRequest contains the members of a request that servers use.
type otaRequest struct {
	mac, client string
	body        struct {
		Version     any    `json:"version"`
		MAC         string `json:"mac_address"`
		UUID        string `json:"uuid"`
		Application *struct {
			Name    string `json:"name"`
			Version string `json:"version"`
		} `json:"application"`
		Board json.RawMessage `json:"board"`
	}
}

// readOTA parses a request, or refuses it like this server.
func (g *Gateway) readOTA(w http.ResponseWriter, r *http.Request) (q otaRequest, ok bool) {
	q.mac, q.client = r.Header.Get("Device-Id"), r.Header.Get("Client-Id")
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, bodyLimit))
	if err == nil && len(raw) > 0 {
		err = json.Unmarshal(raw, &q.body)
	}
	g.tell(Event{Kind: Exchanged, Device: q.mac, Wire: OTA, FromDevice: true, Name: strings.Trim(r.URL.Path[strings.LastIndex(strings.TrimSuffix(r.URL.Path, "/"), "/"):], "/"), Payload: raw})
	missing := q.mac == "" || q.client == ""
	switch {
	case g.opts.Server == Golang && missing:
		g.refuseOTA(w, q, http.StatusBadRequest, "text/plain", "缺少Device-Id或Client-Id", "Device-Id or Client-Id is missing")
	case g.opts.Server == Cheeko && q.mac == "":
		g.refuseOTA(w, q, http.StatusBadRequest, "application/json", `{"code":400,"msg":"Device-Id is required"}`, "Device-Id is missing")
	case g.opts.Server == Xinnan && missing:
		g.refuseOTA(w, q, http.StatusOK, "application/json", `{"success":false,"message":"request error."}`, "Device-Id or Client-Id is missing")
	case !anyMAC.MatchString(q.mac):
		g.refuseOTA(w, q, http.StatusOK, "application/json", `{"error":"Invalid device ID"}`, "Device-Id is not a MAC address")
	case err != nil:
		g.refuseOTA(w, q, http.StatusOK, "application/json", `{"success":false,"message":"request error."}`, "invalid body: "+err.Error())
	default:
		q.mac = strings.ToLower(strings.ReplaceAll(q.mac, "-", ":"))
		return q, true
	}
	return q, false
}

func (g *Gateway) refuseOTA(w http.ResponseWriter, q otaRequest, status int, kind, body, why string) {
	g.tell(Event{Kind: Refused, Device: q.mac, Wire: OTA, Text: why})
	w.Header().Set("Content-Type", kind)
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}

var uuidForm = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)

// checkOTA reports what some server of the family requires and the request lacks.
func (g *Gateway) checkOTA(q otaRequest, r *http.Request) {
	application := q.body.Application
	for problem, wrong := range map[string]bool{
		"User-Agent is not <board>/<version>":        !strings.Contains(r.Header.Get("User-Agent"), "/"),
		"Activation-Version is not 1 or 2":           r.Header.Get("Activation-Version") != "1" && r.Header.Get("Activation-Version") != "2",
		"Device-Id is not in lower case with colons": !macAddress.MatchString(r.Header.Get("Device-Id")),
		"Client-Id is not a UUID of version 4":       !uuidForm.MatchString(q.client),
		"Content-Type is not application/json":       r.Method == http.MethodPost && r.Header.Get("Content-Type") != "application/json",
		"application.version is missing":             application == nil || application.Version == "",
		"board is missing":                           len(q.body.Board) == 0,
		"mac_address is not that of Device-Id":       !strings.EqualFold(q.body.MAC, q.mac),
		"uuid is not that of Client-Id":              q.body.UUID != q.client,
	} {
		if wrong {
			g.broken(q.mac, "2.1", problem)
		}
	}
}

func (g *Gateway) ota(w http.ResponseWriter, r *http.Request) {
	f := g.currentFaults()
	if g.failOTA(w, r, f.OTA) {
		return
	}
	q, ok := g.readOTA(w, r)
	if !ok {
		return
	}
	g.checkOTA(q, r)
	answer := g.settings(q, r, f)
	what := "settings"
	if a, wanted := answer["activation"].(message); wanted {
		what = fmt.Sprintf("settings, and the code %s", a["code"])
	}
	g.tell(Event{Kind: Provisioned, Device: q.mac, Wire: OTA, Text: what})
	g.writeOTA(w, q, http.StatusOK, answer)
}

func (g *Gateway) writeOTA(w http.ResponseWriter, q otaRequest, status int, answer message) {
	payload, err := json.Marshal(answer)
	if err != nil {
		panic(err) // made here, of strings and numbers
	}
	g.tell(Event{Kind: Exchanged, Device: q.mac, Wire: OTA, Name: "settings", Payload: payload})
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(payload)
}

// failOTA injects a fault, and reports whether it has answered.
func (g *Gateway) failOTA(w http.ResponseWriter, r *http.Request, fault OTAFault) bool {
	switch fault {
	case "500":
		http.Error(w, "internal error", http.StatusInternalServerError)
	case "error":
		_, _ = io.WriteString(w, `{"success":false,"message":"request error."}`)
	case "empty":
		_, _ = io.WriteString(w, `{"server_time":{"timestamp":1795000000000,"timezone_offset":480},"firmware":null}`)
	case "garbage":
		_, _ = io.WriteString(w, `{"mqtt":{"endpoint":"127.0.0.1:`)
	case "hang":
		<-r.Context().Done()
	case "endless":
		for line := strings.Repeat(" ", 4096); r.Context().Err() == nil; {
			if _, err := io.WriteString(w, line); err != nil {
				break
			}
		}
	default:
		return false
	}
	g.notef(r.Header.Get("Device-Id"), "OTA failed: fault %s", fault)
	return true
}

// settings returns the answer to a check.
func (g *Gateway) settings(q otaRequest, r *http.Request, f Faults) message {
	version := "1.0.0"
	if q.body.Application != nil {
		version = q.body.Application.Version
	}
	answer := message{
		"server_time": message{"timestamp": time.Now().UnixMilli(), "timezone_offset": 480},
		// Every server sends this, with an address that must not be fetched.
		"firmware": message{"version": version, "url": g.scheme("http") + "://" + r.Host + "/xiaozhi/otaMag/download/NOT_ACTIVATED_FIRMWARE_THIS_IS_A_INVALID_URL"},
	}
	if g.opts.Server == Golang {
		answer["firmware"] = message{"version": "0.9.9", "url": ""}
	}
	if !g.opts.NoMQTT {
		answer["mqtt"] = g.mqttSettings(q, r, f)
	}
	if !g.opts.NoWebSocket {
		ws := message{"url": g.scheme("ws") + "://" + r.Host + "/xiaozhi/v1/", "token": g.opts.Token}
		if g.opts.FrameVersion != 0 {
			ws["version"] = g.opts.FrameVersion
		}
		answer["websocket"] = ws
	}
	if a := g.activation(q.mac, r.Host); a != nil {
		answer["activation"] = a
	}
	return answer
}

func (g *Gateway) mqttSettings(q otaRequest, r *http.Request, f Faults) message {
	client := q.client
	if g.opts.Server == Cheeko {
		client = uuid() // a different one at each check
	}
	id, username, password := g.Credentials(q.mac, client)
	if f.Credentials {
		password = sign("another key", id, username)
	}
	_, port, _ := net.SplitHostPort(g.MQTT())
	settings := message{
		"endpoint": net.JoinHostPort(g.host(g.MQTT(), r.Host), port), "client_id": id,
		"username": username, "password": password, "publish_topic": publishTopic,
	}
	switch g.opts.Server {
	case Xinnan:
		settings["subscribe_topic"] = "devices/p2p/" + underscored(q.mac)
	case Golang:
		settings["subscribe_topic"] = "null"
	case Cheeko:
		settings["broker"], settings["port"] = g.host(g.MQTT(), r.Host), json.Number(port)
	}
	return settings
}

// activation returns what a device that is not bound must show, or nil.
func (g *Gateway) activation(mac, host string) message {
	g.mu.Lock()
	defer g.mu.Unlock()
	d := g.device(mac)
	if d == nil || d.activated {
		return nil
	}
	if d.code == "" || g.opts.CodeLife > 0 && time.Since(d.coded) > g.opts.CodeLife {
		d.code, d.coded = fmt.Sprintf("%06d", rand.IntN(1000000)), time.Now()
		d.challenge = uuid()
		if g.opts.Server == Xinnan {
			d.challenge = mac
		}
	}
	a := message{"code": d.code, "challenge": d.challenge, "message": g.scheme("http") + "://" + host + "\n" + d.code}
	if g.opts.Server == Golang {
		a["timeout_ms"], a["message"] = 300, "xiaozhi\n"+d.code // without an address
	}
	return a
}

// activate answers the activation request of a device.
func (g *Gateway) activate(w http.ResponseWriter, r *http.Request) {
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, bodyLimit))
	mac := strings.ToLower(strings.ReplaceAll(r.Header.Get("Device-Id"), "-", ":"))
	q := otaRequest{mac: mac, client: r.Header.Get("Client-Id")}
	g.tell(Event{Kind: Exchanged, Device: mac, Wire: OTA, FromDevice: true, Name: "activate", Payload: raw})
	if err != nil || !macAddress.MatchString(mac) {
		g.refuseOTA(w, q, http.StatusBadRequest, "text/plain", "bad request", "Device-Id is not a MAC address, or the body is too long")
		return
	}
	if why := g.checkActivation(mac, raw); why != "" {
		if g.opts.Server == Golang {
			g.refuseOTA(w, q, http.StatusBadRequest, "text/plain", "不支持的算法", why)
			return
		}
		g.broken(mac, "C49", why+"; the Go server answers 400")
	}
	switch bound := g.bind(mac); {
	case bound:
		_, _ = io.WriteString(w, "success")
	case g.opts.Server == Cheeko: // status 200 anyway, C37
		g.writeOTA(w, q, http.StatusOK, g.settings(q, r, g.currentFaults()))
	default:
		w.WriteHeader(http.StatusAccepted)
		_, _ = io.WriteString(w, "Device not yet activated")
	}
}

// checkActivation parses the body of an activation like the Go server: wrapped in Payload, C49.
func (g *Gateway) checkActivation(mac string, raw []byte) string {
	var body struct {
		Payload struct {
			Algorithm    string `json:"algorithm"`
			SerialNumber string `json:"serial_number"`
			Challenge    string `json:"challenge"`
			HMAC         string `json:"hmac"`
		} `json:"Payload"`
		Algorithm string `json:"algorithm"`
		Challenge string `json:"challenge"`
	}
	if err := json.Unmarshal(raw, &body); err != nil {
		return "the body of an activation is not JSON: " + err.Error()
	}
	g.mu.Lock()
	challenge := ""
	if d := g.devices[mac]; d != nil {
		challenge = d.challenge
	}
	g.mu.Unlock()
	p := body.Payload
	switch {
	case p.Algorithm != "hmac-sha256":
		return "Payload.algorithm is not hmac-sha256"
	case !hmac.Equal([]byte(p.Challenge), []byte(challenge)):
		return "Payload.challenge is not the one of this device"
	case p.SerialNumber != "" && !hexForm.MatchString(p.HMAC): // without one, the challenge is sufficient
		return "Payload.hmac is not 64 lower-case hex digits"
	case body.Challenge != p.Challenge || body.Algorithm != p.Algorithm:
		return "the flat fields are missing next to Payload"
	}
	return ""
}

var hexForm = regexp.MustCompile(`^[0-9a-f]{64}$`)

// bind counts a request, and reports whether the device is activated.
func (g *Gateway) bind(mac string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	d := g.device(mac)
	if d == nil {
		return false
	}
	d.posts++
	if g.opts.Activation == ByPost && d.posts >= postsToBind {
		d.activated = true
	}
	return d.activated
}
