package config

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
)

var (
	brokerSchemes  = []Scheme{{Name: "mqtt", Port: "1883"}, {Name: "mqtts", Port: "8883"}, {Name: "wss", Port: "443", Path: true}}
	serviceSchemes = []Scheme{{Name: "wyoming"}}
	webSchemes     = []Scheme{{Name: "https", Port: "443", Path: true, Query: true}}
)

func TestAddressesAreCompleted(t *testing.T) {
	for _, row := range []struct {
		text    string
		schemes []Scheme
		want    string // scheme, host and port as they are dialled, path
	}{
		{"mqtt://host", brokerSchemes, "mqtt host:1883 "},
		{"MQTT://Host.Example:1884/", brokerSchemes, "mqtt host.example:1884 "},
		{"mqtts://10.0.0.1", brokerSchemes, "mqtts 10.0.0.1:8883 "},
		{"mqtt://[::1]", brokerSchemes, "mqtt [::1]:1883 "},
		{"mqtt://[fd00::5]:1884", brokerSchemes, "mqtt [fd00::5]:1884 "},
		{"mqtt://[fe80::1%eth0]:1883", brokerSchemes, "mqtt [fe80::1%eth0]:1883 "},
		{"mqtt://[fe80::1%25eth0]", brokerSchemes, "mqtt [fe80::1%eth0]:1883 "},
		{"mqtt://my_broker", brokerSchemes, "mqtt my_broker:1883 "},
		{"mqtt://küche.example", brokerSchemes, "mqtt xn--kche-0ra.example:1883 "},
		{"wss://host/a/b", brokerSchemes, "wss host:443 /a/b"},
		{"wss://host/a%20b", brokerSchemes, "wss host:443 /a b"},
		{"wyoming://127.0.0.1:10200", serviceSchemes, "wyoming 127.0.0.1:10200 "},
		{"https://host/up?key=1", webSchemes, "https host:443 /up"},
	} {
		u, err := ParseAddress(row.text, row.schemes...)
		if err != nil {
			t.Errorf("%s: %v", row.text, err)
		} else if got := u.Scheme + " " + u.Host + " " + u.Path; got != row.want {
			t.Errorf("%s is %q, want %q", row.text, got, row.want)
		}
	}
}

// The error for each rejected address contains what is expected, with the
// corrected address if it can be determined.
func TestInvalidAddressesAreRejected(t *testing.T) {
	for _, row := range []struct {
		text    string
		schemes []Scheme
		cure    string
	}{
		{"mqtt://::1:1883", brokerSchemes, `"mqtt://[::1]:1883"`},
		{"mqtt://::1", brokerSchemes, `"mqtt://[::1]`},
		{"mqtt://fd00::5:1883", brokerSchemes, `"mqtt://[fd00::5]:1883"`},
		{"mqtt://fd00:0:0:0:0:0:0:5", brokerSchemes, `"mqtt://[fd00:0:0:0:0:0:0:5]"`},
		{"mqtts://h:1883:8883", brokerSchemes, `"mqtts://h:8883"`},
		{"mqtts://h:1883:1884", brokerSchemes, `"mqtts://h:1883"`},
		{"mqtts://[h]:1883", brokerSchemes, "[fd00::5]"},
		{"mqtts://[::1]1883", brokerSchemes, "[fd00::5]"},
		{"mqtts://[::1]:", brokerSchemes, "a port"},
		{"mqtt://[fe80::1]", brokerSchemes, `%eth0]`},
		{"mqtt://10.0.0.1%eth0", brokerSchemes, "IP address"},
		{"wyoming://fd00::5:10200", serviceSchemes, `"wyoming://[fd00::5]:10200"`},
		{"wyoming://host", serviceSchemes, `"wyoming://host:PORT"`},
		{"wyoming://fd00::5", serviceSchemes, "[fd00::5]"},
		{"wyoming://host:10200/path", serviceSchemes, `"wyoming://host:10200"`},
		{"mqtt://host:", brokerSchemes, "a port"},
		{"mqtt://host:0", brokerSchemes, "1 to 65535"},
		{"mqtt://host:65536", brokerSchemes, "1 to 65535"},
		{"mqtt://host:99999999999999999999", brokerSchemes, "1 to 65535"},
		{"mqtt://host:-1", brokerSchemes, "1 to 65535"},
		{"mqtt://host:port", brokerSchemes, "1 to 65535"},
		{"mqtt://host:0x75b", brokerSchemes, "1 to 65535"},
		{"mqtt://lea:hunter2@host", brokerSchemes, "without user and password"},
		{"mqtt://lea:hun/ter2@host", brokerSchemes, "without user and password"},
		{"https://lea:hunter2@host/up", webSchemes, "without user and password"},
		{"mqtt://host/path", brokerSchemes, `"mqtt://host"`},
		{"mqtt://host?x=1", brokerSchemes, `"mqtt://host"`},
		{"wss://host/p?x=1", brokerSchemes, "ends with its path"},
		{"https://host/up#x", webSchemes, "ends with its path"},
		{"https://host/100%", webSchemes, "%"},
		{"mqtt://my host", brokerSchemes, "spaces"},
		{" mqtt://host", brokerSchemes, "such as"},
		{"mqtt://host ", brokerSchemes, "spaces"},
		{"mqtt://ho\x00st", brokerSchemes, "spaces"},
		{"mqtt://", brokerSchemes, "a host"},
		{"mqtt://:1883", brokerSchemes, "a host"},
		{"mqtt://-host", brokerSchemes, "a name"},
		{"mqtt://a..b", brokerSchemes, "a name"},
		{"mqtt:///host", brokerSchemes, "a host"},
		{"mqtt://[::1", brokerSchemes, "[::1]"},
		{"mqtt://::1]:1883", brokerSchemes, "[::1]:1883"},
		{"mqtt://host,mqtt://other", brokerSchemes, "a list"},
		{"mqtt://host mqtt://other", brokerSchemes, "spaces"},
		{"https://lea:hunter2@host,https://other", webSchemes, "without user and password"},
		{"mqtt://256.1.1.1", brokerSchemes, "IPv4"},
		{"mqtt://10.0.1", brokerSchemes, "IPv4"},
		{"mqtt://host,other", brokerSchemes, "a name"},
		{"mqtt:host", brokerSchemes, "such as"},
		{"host:1883", brokerSchemes, "such as"},
		{"http://host", brokerSchemes, "such as"},
		{"tcp://host:1883", brokerSchemes, "such as"},
		{"", brokerSchemes, "such as"},
	} {
		u, err := ParseAddress(row.text, row.schemes...)
		var want Want
		if !errors.As(err, &want) || !strings.Contains(string(want), row.cure) {
			t.Errorf("%q is %v, %v; want %s in the error", row.text, u, err, row.cure)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: the password is repeated: %v", row.text, err)
		}
	}
}

// An accepted address can be dialled, and is accepted again.
func FuzzAddress(f *testing.F) {
	for _, seed := range []string{"mqtt://[fe80::1%25eth0]:1883", "wss://host/a%20b", "mqtt://::1:1883", "mqtt://küche", "wyoming://[::ffff:1.2.3.4]:1"} {
		f.Add(seed)
	}
	schemes := append(brokerSchemes, serviceSchemes...)
	f.Fuzz(func(t *testing.T, text string) {
		u, err := ParseAddress(text, schemes...)
		if err != nil {
			return
		}
		host, port, err := net.SplitHostPort(u.Host)
		if err != nil || host == "" || port == "" {
			t.Fatalf("%q: host %q", text, u.Host)
		}
		again, err := ParseAddress(u.String(), schemes...)
		if err != nil || again.Host != u.Host || again.Path != u.Path {
			t.Errorf("%q is %q, and that is %v, %v", text, u, again, err)
		}
	})
}

// Addresses also come from platforms, and errors repeat parts of them.
func TestEndlessAddressGivesAShortError(t *testing.T) {
	for _, text := range []string{"mqtt://h:" + strings.Repeat("1", 1<<20) + "/path", "mqtt://" + strings.Repeat("h", 1<<20) + ":1:2"} {
		if _, err := ParseAddress(text, brokerSchemes...); err == nil || len(err.Error()) > 200 {
			t.Errorf("%.20s…: error of %d bytes", text, len(fmt.Sprint(err)))
		}
	}
}
