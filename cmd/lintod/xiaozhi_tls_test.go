package main

import (
	"crypto/tls"
	"fmt"
	"net"
	"path/filepath"
	"testing"

	"lintod/agent"
	"lintod/agent/turn"
	"lintod/cmd/lintosim/gateway"
)

// Everything except the sound over UDP is protected by TLS, with the owner's own
// authority; a device that does not know the authority does not send its secrets.
func TestXiaozhiTLS(t *testing.T) {
	needed(t, "openssl")
	// For MQTT, the port selects TLS; the address is one of the loopback interface
	// without another listener.
	const host = "127.88.83.1"
	dir := t.TempDir()
	ca, key := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "key.pem")
	made(t, "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=gateway"+
		" -addext subjectAltName=IP:"+host+" -keyout "+key+" -out $0", ca)
	certificate, err := tls.LoadX509KeyPair(ca, key)
	if err != nil {
		t.Fatal(err)
	}
	o := gateway.Options{
		HTTP: net.JoinHostPort(host, "0"), MQTT: net.JoinHostPort(host, "8883"), UDP: net.JoinHostPort(host, "0"),
		TLS: &tls.Config{Certificates: []tls.Certificate{certificate}},
	}
	for _, transport := range []string{"mqtt", "websocket"} {
		t.Run(transport, func(t *testing.T) {
			p := newPair(t, o, fmt.Sprintf("transport = %q\nlistening = \"manual\"\nca_file = %q", transport, ca))
			if r := p.turn(); r.Result != turn.ResultSpoken {
				t.Errorf("record %+v", r)
			}
			if text := p.understood(); text != question {
				t.Errorf("%q was heard", text)
			}
			p.expectNoRuleBroken()
		})
	}
	t.Run("an unknown authority", func(t *testing.T) {
		p := prepare(t, o, "input = \"null\"\noutput = \"null\"", "")
		p.start()
		p.wait("the reason", func(s agent.Status) bool { return s.Xiaozhi.Error != "" })
		if s := p.state(); s.Links["xiaozhi"].Connected {
			t.Errorf("connected: %+v", s.Xiaozhi)
		}
		if events := p.sim.Events(); len(events) > 0 {
			t.Errorf("the server received data: %+v", events)
		}
	})
}
