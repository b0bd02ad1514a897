package broker

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"lintod/agent/base/config"
	"lintod/agent/base/journal/journaltest"
	"lintod/agent/broker/brokertest"
)

// limit is the timeout for events that must happen; it measures nothing.
const limit = 2 * time.Minute

// next waits for one value.
func next[T any](t *testing.T, what string, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(limit):
		t.Fatalf("timed out waiting for %s", what)
		panic("unreachable")
	}
}

// newMosquitto starts a broker that accepts anonymous clients, with additional
// lines for its configuration file.
func newMosquitto(t testing.TB, lines ...string) *brokertest.Mosquitto {
	t.Helper()
	return brokertest.Start(t, append([]string{"allow_anonymous true"}, lines...)...)
}

func write(t testing.TB, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// proxy is between a device and its broker and disturbs the connection.
type proxy struct {
	target string
	l      net.Listener
	mu     sync.Mutex
	conns  []net.Conn
	frozen chan struct{} // if closed, data is discarded and connections stay open
	last   time.Time     // last byte towards the device

	stalled sync.Mutex // while held, nothing is read
	pumps   atomic.Int32
}

func newProxy(t testing.TB, target string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{target: target, l: l, frozen: make(chan struct{})}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			device, err := l.Accept()
			if err != nil {
				return
			}
			broker, err := net.Dial("tcp", target)
			if err != nil {
				device.Close()
				continue
			}
			p.mu.Lock()
			p.conns = append(p.conns, device, broker)
			p.mu.Unlock()
			all.Go(func() { p.pump(broker, device, false) })
			all.Go(func() { p.pump(device, broker, true) })
		}
	})
	t.Cleanup(func() { l.Close(); p.cut(); all.Wait() })
	return p
}

func (p *proxy) freeze() chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.frozen
}

func (p *proxy) url() string { return "mqtt://" + p.l.Addr().String() }

func (p *proxy) pump(to, from net.Conn, towardsDevice bool) {
	p.pumps.Add(1)
	defer p.pumps.Add(-1)
	frozen := false
	defer func() {
		if !frozen { // otherwise the device must detect it; cut closes it at the end
			to.Close()
		}
	}()
	buf := make([]byte, 4096)
	for {
		n, err := from.Read(buf)
		p.stalled.Lock()
		p.stalled.Unlock() //nolint:staticcheck // waits for the end of a stall
		select {
		case <-p.freeze():
			frozen = true
			_, _ = io.Copy(io.Discard, from)
			return
		default:
		}
		if err != nil {
			return
		}
		if towardsDevice {
			p.mu.Lock()
			p.last = time.Now()
			p.mu.Unlock()
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

// stall stops reading what the device sends, so that its socket buffer fills up.
func (p *proxy) stall(t testing.TB) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stalled.Lock()
	t.Cleanup(p.stalled.Unlock)
}

// cut closes all connections, as with a pulled plug that the kernel detects.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		c.Close()
	}
	p.conns = nil
}

func (p *proxy) lastByte() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.last
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// device is a running Conn, and its events.
type device struct {
	*Conn
	online   chan struct{}
	offline  chan error
	messages chan Message
	stop     context.CancelFunc
	done     chan error
	log      journaltest.Buffer
}

// start runs a Conn with these addresses; adjust may change it before.
func start(t testing.TB, urls []string, adjust func(*device)) *device {
	t.Helper()
	d := &device{
		online: make(chan struct{}, 100), offline: make(chan error, 1000),
		messages: make(chan Message, 1000), done: make(chan error, 1),
	}
	conf := Defaults()
	conf.Broker, conf.ClientID = config.Strings(urls), "device-"+t.Name()
	d.Conn = &Conn{
		Config:  conf,
		Online:  func(context.Context) { d.online <- struct{}{} },
		Offline: func(err error) { d.offline <- err },
		Handle:  func(_ context.Context, m Message) { d.messages <- m },
		Log:     slog.New(slog.NewTextHandler(&d.log, nil)),
	}
	if adjust != nil {
		adjust(d)
	}
	ctx, stop := context.WithCancel(context.Background())
	d.stop = stop
	go func() { d.done <- d.Run(ctx) }()
	t.Cleanup(stop)
	return d
}

// end stops the device and waits for Run.
func (d *device) end(t testing.TB) {
	t.Helper()
	d.stop()
	select {
	case err := <-d.done:
		if err != nil {
			t.Errorf("Run: %v", err)
		}
	case <-time.After(limit):
		t.Fatal("Run did not return")
	}
}

// say publishes, or fails the test.
func (d *device) say(t testing.TB, m Message) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if err := d.Publish(ctx, m); err != nil {
		t.Fatal(err)
	}
}

// watch starts a second device that receives the messages.
func watch(t *testing.T, url string, filters ...string) *device {
	t.Helper()
	w := start(t, []string{url}, func(d *device) {
		d.Config.ClientID = "watcher-" + t.Name()
		d.Subscribe = filters
	})
	next(t, "watcher online", w.online)
	return w
}

// leakCheck fails the test if goroutines of ours or of the library remain.
func leakCheck(t *testing.T) {
	t.Helper()
	remains := func() string {
		buf := make([]byte, 1<<20)
		var left []string
		for _, g := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
			if strings.Contains(g, "paho.mqtt") || strings.Contains(g, "broker.(*Conn)") || strings.Contains(g, "broker.(*session)") {
				left = append(left, g)
			}
		}
		return strings.Join(left, "\n\n")
	}
	for deadline := time.Now().Add(time.Minute); remains() != ""; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("goroutines remain:\n%s", remains())
		}
	}
}

// authority is a CA of the test.
type authority struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	File string
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{dir: t.TempDir()}
	a.key = newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"},
		NotBefore: time.Now().AddDate(-10, 0, 0), NotAfter: time.Now().AddDate(10, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.File = writePEM(t, filepath.Join(a.dir, "ca.pem"), "CERTIFICATE", der)
	return a
}

// issue makes a certificate for 127.0.0.1 or another name.
func (a *authority) issue(t testing.TB, name string, from, to time.Time) (certFile, keyFile string) {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: from, NotAfter: to, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	switch ip := net.ParseIP(name); {
	case ip != nil:
		template.IPAddresses = []net.IP{ip}
	case name != "":
		template.DNSNames = []string{name}
	default:
		template.Subject.CommonName = "broker" // only here
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	base := filepath.Join(a.dir, template.SerialNumber.String())
	return writePEM(t, base+".pem", "CERTIFICATE", der), writePEM(t, base+".key", "EC PRIVATE KEY", raw)
}

// tlsLines returns the lines of a Mosquitto listener with a certificate.
func (a *authority) tlsLines(t testing.TB, name string, from, to time.Time) string {
	cert, key := a.issue(t, name, from, to)
	return fmt.Sprintf("cafile %s\ncertfile %s\nkeyfile %s", a.File, cert, key)
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func writePEM(t testing.TB, path, kind string, der []byte) string {
	return write(t, path, string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})))
}
