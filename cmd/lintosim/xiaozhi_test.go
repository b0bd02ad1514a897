package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// ota requests settings from a gateway like a device.
func ota(t *testing.T, url string) string {
	t.Helper()
	body := `{"mac_address":"aa:bb:cc:dd:ee:01","application":{"version":"1.0.0"},"board":{}}`
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Device-Id", "aa:bb:cc:dd:ee:01")
	r.Header.Set("Client-Id", "36c98363-3656-43cb-a00f-8bced2391a90")
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(answer)
}

func TestXiaozhiDeviceIsShownAndCommanded(t *testing.T) {
	for _, format := range []string{"story", "JSON"} {
		args := []string{"xiaozhi", "-http", "127.0.0.1:0", "-activate", "manual"}
		if format == "JSON" {
			args = append(args, "-json")
		}
		s := runSession(t, args...)
		ready := s.wait("/xiaozhi/ota/")
		_, url, _ := strings.Cut(ready, "http://")
		url, _, _ = strings.Cut("http://"+url, `"`)
		s.enter("say hello")
		s.wait("no device is connected")
		answer := ota(t, strings.TrimSpace(url))
		line := s.wait("client_id")
		for _, secret := range []string{"password", "challenge"} {
			if !strings.Contains(answer, secret) {
				t.Fatalf("%s: the answer has no %s: %s", format, secret, answer)
			}
		}
		_, password, _ := strings.Cut(answer, `"password":"`)
		password, _, _ = strings.Cut(password, `"`)
		if len(password) < 40 || strings.Contains(line, password) || !strings.Contains(line, hidden) {
			t.Errorf("%s: %s", format, line)
		}
		s.enter("devices")
		s.wait("shows the code")
		s.enter("activate")
		s.enter("devices")
		s.wait("offline")
		for typed, want := range map[string]string{
			"fault fire": "unknown fault", "fault loss=10,mute": "", "call": "call TOOL", "send x": "not a JSON object",
			"goodbye": "no device is connected", "help": "activate", "dance": "unknown command",
		} {
			s.enter(typed)
			if want != "" {
				s.wait(want)
			}
		}
		s.enter("use aa:bb:cc:dd:ee:99")
		s.enter("drop")
		s.wait("aa:bb:cc:dd:ee:99 is not connected")
		s.enter("quit")
		if code := s.exit(); code != 0 {
			t.Errorf("%s: exit status %d", format, code)
		}
	}
}

func TestStrictSetsTheExitStatus(t *testing.T) {
	s := runSession(t, "xiaozhi", "-http", "127.0.0.1:0", "-strict")
	_, url, _ := strings.Cut(s.wait("/xiaozhi/ota/"), "http://")
	ota(t, "http://"+url) // a header is missing
	s.wait("✗ rule 2.1")
	s.enter("quit")
	if code := s.exit(); code != 1 {
		t.Errorf("exit status %d", code)
	}
}

func TestXiaozhiCommandLine(t *testing.T) {
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"-help"}, 0, "platform of the xiaozhi family"},
		{[]string{"-server", "esp"}, 2, "-server"},
		{[]string{"-transport", "pigeon"}, 2, "-transport"},
		{[]string{"-activate", "soon"}, 2, "-activate"},
		{[]string{"-frame-version", "4"}, 2, "-frame-version"},
		{[]string{"-fault", "loss=200"}, 2, "percentage"},
		{[]string{"-token-file", token + "x"}, 2, "-token-file"},
		{[]string{"now"}, 2, "number of arguments"},
		{[]string{"-mqtt", "127.0.0.1:99999"}, 1, "choose another address"},
		{[]string{"-udp", "nowhere:x"}, 1, "UDP"},
		{[]string{"-http", "127.0.0.1:99999"}, 1, "choose another address"},
		{[]string{"-server", "cheeko", "-transport", "mqtt", "-frame-version", "2", "-token-file", token, "-answers", "1", "-activate", "post"}, 0, "/toy/ota/"},
	} {
		var out bytes.Buffer
		args := append([]string{"xiaozhi", "-http", "127.0.0.1:0"}, c.args...)
		if code := run(cancelled, args, strings.NewReader(""), &out, &out); code != c.code || !strings.Contains(out.String(), c.want) {
			t.Errorf("%q: exit status %d, %s", c.args, code, out.String())
		}
	}
}
