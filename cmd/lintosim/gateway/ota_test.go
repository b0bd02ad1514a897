package gateway

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

const goodBody = `{"version":2,"language":"en-US","mac_address":"aa:bb:cc:dd:ee:01","uuid":"36c98363-3656-43cb-a00f-8bced2391a90",
"application":{"name":"agent","version":"2.0.0"},"board":{"type":"rpi","name":"rpi4","ip":"10.0.0.5","mac":"aa:bb:cc:dd:ee:01"}}`

// ask posts to an OTA server like a correct device, except for the changes made by
// edit.
func ask(t *testing.T, url, body string, edit func(http.Header)) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"Device-Id": aMAC, "Client-Id": aUUID, "User-Agent": "rpi/2.0.0", "Activation-Version": "2", "Content-Type": "application/json",
	} {
		r.Header.Set(name, value)
	}
	if edit != nil {
		edit(r.Header)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(b)
}

func drop(name string) func(http.Header) { return func(h http.Header) { h.Del(name) } }

func TestOTARejectsLikeTheServers(t *testing.T) {
	for _, c := range []struct {
		name   string
		server Server
		body   string
		edit   func(http.Header)
		status int
		want   string
	}{
		{"a good device", Xinnan, goodBody, nil, 200, `"mqtt":{"client_id":"GID_test@@@aa_bb_cc_dd_ee_01@@@` + aUUID},
		{"a good device", Golang, goodBody, nil, 200, `"subscribe_topic":"null"`},
		{"a good device", Cheeko, goodBody, nil, 200, `"broker":"127.0.0.1"`},
		{"no client id", Xinnan, goodBody, drop("Client-Id"), 200, `{"success":false`},
		{"no client id", Golang, goodBody, drop("Client-Id"), 400, `缺少`},
		{"no client id", Cheeko, goodBody, drop("Client-Id"), 200, `"mqtt"`},
		{"no device id", Cheeko, goodBody, drop("Device-Id"), 400, `{"code":400`},
		{"an invalid device id", Xinnan, goodBody, func(h http.Header) { h.Set("Device-Id", "kitchen") }, 200, `{"error":"Invalid device ID"}`},
		{"an address with dashes", Xinnan, goodBody, func(h http.Header) { h.Set("Device-Id", "AA-BB-CC-DD-EE-01") }, 200, `aa_bb_cc_dd_ee_01`},
		{"broken JSON", Xinnan, `{"application":`, nil, 200, `{"success":false`},
		{"a long body", Xinnan, `{"x":"` + strings.Repeat("x", bodyLimit) + `"}`, nil, 200, `{"success":false`},
	} {
		t.Run(c.name+" at "+string(c.server), func(t *testing.T) {
			g := start(t, Options{Server: c.server})
			status, body := ask(t, g.OTA(), c.body, c.edit)
			if status != c.status || !strings.Contains(body, c.want) {
				t.Errorf("status %d, %s", status, body)
			}
		})
	}
}

func TestOTAReportsWhatOtherServersRequire(t *testing.T) {
	for what, edit := range map[string]func(http.Header){
		"User-Agent": func(h http.Header) { h.Set("User-Agent", "x") }, "Activation-Version": drop("Activation-Version"), "lower case": func(h http.Header) { h.Set("Device-Id", "AA:BB:CC:DD:EE:01") },
		"Content-Type": drop("Content-Type"), "Client-Id": func(h http.Header) { h.Set("Client-Id", "x") },
	} {
		g := start(t, Options{})
		ask(t, g.OTA(), goodBody, edit)
		if e := g.await(t, rule("2.1")); !strings.Contains(e.Text, what) && len(g.Broken()) == 1 {
			t.Errorf("%s: %s", what, e.Text)
		}
	}
	g := start(t, Options{})
	ask(t, g.OTA(), goodBody, nil)
	g.wantRules(t)
}

func TestOTAFaults(t *testing.T) {
	for _, fault := range OTAFaults {
		g := start(t, Options{Faults: Faults{OTA: fault}})
		client := &http.Client{Timeout: time.Second}
		response, err := client.Post(g.OTA(), "application/json", strings.NewReader(goodBody))
		var body []byte
		if err == nil {
			body, err = io.ReadAll(io.LimitReader(response.Body, 1<<20))
			response.Body.Close()
		}
		switch fault {
		case "hang":
			if err == nil {
				t.Errorf("%s: answered %s", fault, body)
			}
		case "endless":
			if err == nil && len(body) < 1<<20 {
				t.Errorf("%s: ended after %d bytes", fault, len(body))
			}
		default:
			var answer map[string]any
			if err != nil || json.Unmarshal(body, &answer) == nil && answer["mqtt"] != nil {
				t.Errorf("%s: %s, %v", fault, body, err)
			}
		}
	}
}

// Each server has its own form of activation.
func TestActivation(t *testing.T) {
	for _, server := range Servers {
		t.Run(string(server), func(t *testing.T) {
			g := start(t, Options{Server: server, Activation: ByHand})
			_, body := ask(t, g.OTA(), goodBody, nil)
			var answer struct {
				Activation struct{ Code, Challenge, Message string }
				MQTT       map[string]any
			}
			if err := json.Unmarshal([]byte(body), &answer); err != nil || len(answer.Activation.Code) != 6 || answer.MQTT == nil ||
				!strings.HasSuffix(answer.Activation.Message, "\n"+answer.Activation.Code) {
				t.Fatalf("%s: %v", body, err)
			}
			fields := map[string]any{"algorithm": "hmac-sha256", "serial_number": "s", "challenge": answer.Activation.Challenge, "hmac": strings.Repeat("0a", 32)}
			flat, _ := json.Marshal(fields)
			fields["Payload"] = json.RawMessage(bytes.Clone(flat))
			both, _ := json.Marshal(fields)
			activate := func(body string) (int, string) { return ask(t, g.OTA()+"activate", body, nil) }
			for _, body := range []string{"{}", string(flat), `{"Payload":{"algorithm":"hmac-sha256","challenge":"other"}}`, strings.Replace(string(both), "0a0a", "0A", 2)} {
				status, text := activate(body)
				if server == Golang && (status != 400 || text != "不支持的算法") {
					t.Errorf("%s: %d %s", body, status, text)
				}
				if server != Golang {
					g.await(t, rule("C49"))
				}
			}
			status, text := activate(string(both))
			if want := map[Server]int{Xinnan: 202, Golang: 202, Cheeko: 200}[server]; status != want || server == Cheeko && !strings.Contains(text, `"activation"`) {
				t.Errorf("before: %d %s", status, text)
			}
			g.Activate("")
			bare := strings.ReplaceAll(strings.ReplaceAll(string(both), strings.Repeat("0a", 32), ""), `"serial_number":"s"`, `"serial_number":""`)
			if status, text := activate(bare); status != 200 || text != "success" {
				t.Errorf("after: %d %s", status, text)
			}
			if _, body := ask(t, g.OTA(), goodBody, nil); strings.Contains(body, `"activation"`) {
				t.Errorf("a code for an activated device: %s", body)
			}
		})
	}
}

func TestCodeIsRenewed(t *testing.T) {
	g := start(t, Options{Activation: ByHand, CodeLife: time.Nanosecond})
	codes := map[string]bool{}
	for range 5 {
		_, body := ask(t, g.OTA(), goodBody, nil)
		var answer struct{ Activation struct{ Code string } }
		_ = json.Unmarshal([]byte(body), &answer)
		codes[answer.Activation.Code] = true
	}
	if len(codes) < 2 || codes[""] {
		t.Errorf("codes %v", codes)
	}
}

func TestActivationAtTheThirdPost(t *testing.T) {
	g := start(t, Options{Activation: ByPost})
	ask(t, g.OTA(), goodBody, nil)
	for i, want := range []int{202, 202, 200} {
		if status, _ := ask(t, g.OTA()+"activate", "{}", nil); status != want {
			t.Errorf("post %d: %d, want %d", i+1, status, want)
		}
	}
}

func FuzzOTA(f *testing.F) {
	f.Add(aMAC, aUUID, []byte(goodBody))
	f.Add("AA-BB-CC-DD-EE-01", "", []byte(`{"application":null,"board":[]}`))
	f.Fuzz(func(t *testing.T, mac, client string, body []byte) {
		g := New(Options{Activation: ByHand})
		g.mqtt = fixedListener{}
		for _, path := range []string{"/xiaozhi/ota/", "/xiaozhi/ota/activate"} {
			r, err := http.NewRequest(http.MethodPost, "http://127.0.0.1"+path, bytes.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			r.Header["Device-Id"], r.Header["Client-Id"] = []string{mac}, []string{client}
			g.routes().ServeHTTP(discard{http.Header{}}, r)
		}
	})
}
