package broker

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lintod/agent/base/config"
	"lintod/agent/base/nettest"
	"lintod/agent/broker/brokertest"
)

// failure returns the error of one real attempt.
func failure(t *testing.T, conf Config, within time.Duration) error {
	t.Helper()
	conf.ClientID, conf.Keepalive = "explain", config.Duration(10*time.Second)
	if ps := conf.Validate(); len(ps) > 0 {
		t.Fatal(ps)
	}
	c := &Conn{Config: conf, Log: discard(), report: reporter{log: discard()}}
	c.inbox = newInbox(0, &c.dropped)
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	s, err := c.openOne(ctx, conf.addresses()[0])
	if err == nil {
		s.close(time.Second)
		t.Fatal("the connection succeeded")
	}
	return err
}

func must(text []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return text
}

func TestExplainRealFailures(t *testing.T) {
	now := time.Now()
	day := 24 * time.Hour
	ca, otherCA := newAuthority(t), newAuthority(t)

	plain := newMosquitto(t)
	good := newMosquitto(t, ca.tlsLines(t, "127.0.0.1", now.Add(-day), now.Add(day)))
	expired := newMosquitto(t, ca.tlsLines(t, "127.0.0.1", now.Add(-3*day), now.Add(-day)))
	early := newMosquitto(t, ca.tlsLines(t, "127.0.0.1", now.Add(day), now.Add(3*day)))
	misnamed := newMosquitto(t, ca.tlsLines(t, "broker.example", now.Add(-day), now.Add(day)))
	commonName := newMosquitto(t, ca.tlsLines(t, "", now.Add(-day), now.Add(day)))
	dir := t.TempDir()
	block, _ := pem.Decode(must(os.ReadFile(ca.File)))
	der := write(t, filepath.Join(dir, "ca.der"), string(block.Bytes))
	certFile, keyFile := ca.issue(t, "device", now.Add(-day), now.Add(day))
	if out, err := exec.Command("openssl", "pkey", "-in", keyFile, "-aes256", "-passout", "pass:x", "-out", filepath.Join(dir, "locked.key")).CombinedOutput(); err != nil {
		t.Fatalf("openssl: %v %s", err, out)
	}
	if out, err := exec.Command("openssl", "pkcs12", "-export", "-in", certFile, "-inkey", keyFile, "-passout", "pass:x", "-out", filepath.Join(dir, "both.p12")).CombinedOutput(); err != nil {
		t.Fatalf("openssl: %v %s", err, out)
	}
	mutual := newMosquitto(t, ca.tlsLines(t, "127.0.0.1", now.Add(-day), now.Add(day)), "require_certificate true")

	locked := newMosquitto(t, "allow_anonymous false", "password_file "+brokertest.Passwords(t, "right", "lea"))
	wrong := write(t, filepath.Join(t.TempDir(), "pw"), "wrong\n")

	web := httptest.NewServer(http.NotFoundHandler())
	defer web.Close()
	mute, err := net.Listen("tcp", "127.0.0.1:0") // accepts connections (in the kernel) and sends nothing
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()

	tls := func(m *brokertest.Mosquitto) string { return "mqtts://" + m.Addr() }
	first := map[string]string{} // by sentence, the first row that got it
	for _, row := range []struct {
		name string
		conf Config
		want []string // the keys, commands and values that the remedy consists of
		as   string   // an earlier row that may have the same remedy
	}{
		{"no listener", Config{Broker: config.Strings{fmt.Sprintf("mqtt://127.0.0.1:%d", nettest.FreePort(t))}}, nil, ""},
		{"wrong password", Config{Broker: config.Strings{locked.URL()}, Username: "lea", PasswordFile: wrong}, []string{"username", "password_file"}, ""},
		{"no user", Config{Broker: config.Strings{locked.URL()}}, []string{"username", "password_file"}, "wrong password"},
		{"password file missing", Config{Broker: config.Strings{locked.URL()}, Username: "lea", PasswordFile: "/nonexistent/pw"}, []string{"password_file", "/nonexistent/pw"}, ""},
		{"unknown CA", Config{Broker: config.Strings{tls(good)}, CAFile: otherCA.File}, []string{"ca_file"}, ""},
		{"unknown to the system", Config{Broker: config.Strings{tls(good)}}, []string{"ca_file"}, "unknown CA"},
		{"CA file missing", Config{Broker: config.Strings{tls(good)}, CAFile: "/nonexistent/ca.pem"}, []string{"ca_file", "/nonexistent/ca.pem"}, ""},
		{"CA file without certificate", Config{Broker: config.Strings{tls(good)}, CAFile: wrong}, []string{"ca_file", wrong, "PEM"}, ""},
		{"expired", Config{Broker: config.Strings{tls(expired)}, CAFile: ca.File}, []string{now.Add(-day).UTC().Format("2006-01-02")}, ""},
		{"not yet valid", Config{Broker: config.Strings{tls(early)}, CAFile: ca.File}, []string{now.Add(day).UTC().Format("2006-01-02"), now.UTC().Format("2006-01-02")}, ""},
		{"another name", Config{Broker: config.Strings{tls(misnamed)}, CAFile: ca.File}, []string{"127.0.0.1"}, ""},
		{"a name in the Common Name only", Config{Broker: config.Strings{tls(commonName)}, CAFile: ca.File}, []string{"subjectAltName"}, ""},
		{"CA in DER", Config{Broker: config.Strings{tls(good)}, CAFile: der}, []string{"ca_file", "openssl x509"}, ""},
		{"key with a passphrase", Config{Broker: config.Strings{tls(mutual)}, CAFile: ca.File, CertFile: certFile, KeyFile: filepath.Join(dir, "locked.key")}, []string{"openssl pkey"}, ""},
		{"PKCS#12", Config{Broker: config.Strings{tls(mutual)}, CAFile: ca.File, CertFile: filepath.Join(dir, "both.p12"), KeyFile: keyFile}, []string{"openssl pkcs12"}, ""},
		{"client certificate required", Config{Broker: config.Strings{tls(mutual)}, CAFile: ca.File}, []string{"cert_file"}, ""},
		{"TLS to a plain port", Config{Broker: config.Strings{tls(plain)}, CAFile: ca.File}, []string{"mqtt://"}, ""},
		{"TLS to a web server", Config{Broker: config.Strings{"mqtts://" + web.Listener.Addr().String()}, CAFile: ca.File}, []string{"mqtt://"}, ""},
		{"MQTT to a TLS port", Config{Broker: config.Strings{good.URL()}}, []string{"mqtts://"}, "client certificate required"},
		{"MQTT to a web server", Config{Broker: config.Strings{"mqtt://" + web.Listener.Addr().String()}}, nil, ""},
		{"websocket to a web server", Config{Broker: config.Strings{"ws://" + web.Listener.Addr().String()}}, []string{"404"}, ""},
		{"websocket to a plain port", Config{Broker: config.Strings{"ws://" + plain.Addr()}}, nil, ""},
		{"a silent listener", Config{Broker: config.Strings{"mqtt://" + mute.Addr().String()}}, []string{string(stepConnect)}, ""},
		{"a silent listener with TLS", Config{Broker: config.Strings{"mqtts://" + mute.Addr().String()}, CAFile: ca.File}, []string{string(stepTLS)}, ""},
		{"a silent listener with websocket", Config{Broker: config.Strings{"ws://" + mute.Addr().String()}}, nil, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			within := limit
			if strings.Contains(row.conf.Broker[0], mute.Addr().String()) {
				within = 300 * time.Millisecond
			}
			err := failure(t, row.conf, within)
			sentence := Explain(err)
			t.Logf("%v\n\t→ %s", err, sentence)
			for _, want := range row.want {
				if !strings.Contains(sentence, want) {
					t.Errorf("the sentence %q (for %v) lacks %q", sentence, err, want)
				}
			}
			if other, used := first[sentence]; used && other != row.as {
				t.Errorf("the sentence %q is that of %q", sentence, other)
			} else if !used {
				first[sentence] = row.name
			}
		})
	}
}

func TestExplainFailuresThatNeedANetwork(t *testing.T) {
	causes := map[string]error{}
	for _, row := range []struct {
		err  error
		want string
	}{
		{&stepError{stepReach, &net.DNSError{Name: "broker.example", IsNotFound: true}}, "broker.example"},
		{&stepError{stepReach, &net.DNSError{Name: "broker.example", IsTemporary: true}}, "broker.example"},
		{&stepError{stepReach, context.DeadlineExceeded}, ""},
		{&stepError{stepConnected, fmt.Errorf("%w for 15s", errSilent)}, errSilent.Error()},
		{errors.New("something new"), "something new"},
	} {
		got := Explain(row.err)
		if !strings.Contains(got, row.want) {
			t.Errorf("Explain(%v) = %q, want %q in it", row.err, got, row.want)
		}
		if other, same := causes[got]; same {
			t.Errorf("Explain(%v) = Explain(%v) = %q", row.err, other, got)
		}
		causes[got] = row.err
	}
}

// The refusal of a client id must let the administrator find the cause.
func TestExplainRefusedClientID(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Read(make([]byte, 1024))
			_, _ = conn.Write([]byte{0x20, 2, 0, 2}) // CONNACK: identifier rejected
			conn.Close()
		}
	}()
	sentences := map[string]string{}
	for _, id := range []string{"kitchen.01", "kitchen-with-a-very-long-name", "kitchen-01"} {
		conf := Defaults()
		conf.Broker, conf.ClientID = config.Strings{"mqtt://" + l.Addr().String()}, id
		offline := make(chan error, 1)
		ctx, stop := context.WithTimeout(t.Context(), limit)
		c := &Conn{Config: conf, Log: discard(), Offline: func(err error) { offline <- err; stop() }}
		if err := c.Run(ctx); err != nil {
			t.Fatal(err)
		}
		sentence := next(t, "refused", offline).Error()
		t.Log(sentence)
		if !strings.Contains(sentence, id) || !strings.Contains(sentence, "client_id") {
			t.Errorf("%q names neither the id nor the key", sentence)
		}
		cause := strings.ReplaceAll(sentence, id, "")
		if other, same := sentences[cause]; same {
			t.Errorf("%q and %q are refused for the same reason", id, other)
		}
		sentences[cause] = id
	}
}
