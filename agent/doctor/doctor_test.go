package doctor

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lintod/agent/broker/brokertest"
	"lintod/audio/audiotest"
	"lintod/gpio/boardtest"
)

// patient is a healthy device that a test modifies.
type patient struct {
	t                                  *testing.T
	linto, device, audio, tts, further string
	host                               *boardtest.Host
	quiet                              bool
}

func newPatient(t *testing.T) *patient {
	return &patient{
		t:      t,
		linto:  "enabled = false",
		device: fmt.Sprintf("state_dir = %q\nsocket = %q", t.TempDir(), filepath.Join(t.TempDir(), "s")),
		audio:  "input = \"null\"\noutput = \"null\"",
		host:   boardtest.NewHost(),
	}
}

func (p *patient) write(name, text string) string {
	p.t.Helper()
	path := filepath.Join(p.t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		p.t.Fatal(err)
	}
	return path
}

// examine returns the findings on a subject.
func (p *patient) examine(subject string) []Finding {
	p.t.Helper()
	path := p.write("lintod.toml", fmt.Sprintf("[device]\nserial = \"kitchen\"\n%s\n[linto]\n%s\n[audio]\n%s\n[tts]\n%s\n%s\n", p.device, p.linto, p.audio, p.tts, p.further))
	var found []Finding
	Doctor{Path: path, Root: p.t.TempDir(), Host: p.host, Quiet: p.quiet, Report: func(f Finding) {
		p.t.Logf("%+v", f)
		if f.Subject == subject {
			found = append(found, f)
		}
	}}.Examine(p.t.Context())
	if len(found) == 0 {
		p.t.Fatalf("no findings on %s", subject)
	}
	return found
}

func (p *patient) check(subject string, level Level, text string) {
	p.t.Helper()
	check(p.t, p.examine(subject)[0], level, text)
}

func (p *patient) broker(address string, more ...string) *patient {
	p.linto = fmt.Sprintf("enabled = true\nbroker = %q\n%s", address, strings.Join(more, "\n"))
	return p
}

func TestConfiguration(t *testing.T) {
	p := newPatient(t)
	p.check("configuration", OK, "(device kitchen)")
	p.further = "[gpio]\nbrightness = 7\n[loud]\n"
	found := p.examine("configuration")
	check(t, found[0], Fail, "lintod.toml:13: gpio.brightness = 7")
	check(t, found[1], Fail, "lintod.toml:14: loud ")
}

func TestNoConfiguration(t *testing.T) {
	var found []Finding
	Doctor{Path: filepath.Join(t.TempDir(), "lintod.toml"), Report: func(f Finding) { found = append(found, f) }}.Examine(t.Context())
	if len(found) != 1 || found[0].Level != Fail || !strings.Contains(found[0].Do, "lintod setup") {
		t.Errorf("found %+v", found)
	}
}

func TestBroker(t *testing.T) {
	m := brokertest.Start(t)
	t.Run("accepts the device", func(t *testing.T) {
		newPatient(t).broker(m.URL()).check("broker", OK, "mqtt")
	})
	t.Run("not running", func(t *testing.T) {
		newPatient(t).broker("mqtt://127.0.0.1:1").check("broker", Fail, "connection refused")
	})
	t.Run("password file missing", func(t *testing.T) {
		newPatient(t).broker(m.URL(), `password_file = "/nowhere/password"`).check("broker", Fail, "/nowhere/password")
	})
	t.Run("one of two", func(t *testing.T) {
		p := newPatient(t)
		p.linto = fmt.Sprintf("enabled = true\nbroker = [\"mqtt://127.0.0.1:1\", %q]", m.URL())
		found := p.examine("broker")
		check(t, found[0], Warn, "connection refused")
		check(t, found[1], OK, "mqtt")
	})
	t.Run("no TLS", func(t *testing.T) {
		newPatient(t).broker(strings.Replace(m.URL(), "mqtt:", "mqtts:", 1)).check("broker", Fail, "TLS")
	})
}

// The running device must not be disturbed.
func TestBrokerIsTriedWhileTheDeviceRuns(t *testing.T) {
	m := brokertest.Start(t)
	watch := m.Watch("blk/#")
	newPatient(t).broker(m.URL()).check("broker", OK, "mqtt")
	watch.Next("the message to itself", brokertest.Topic("/tolinto/kitchen/statusack"))
	if all := watch.All(); len(all) != 1 {
		t.Errorf("the doctor also said %v", all)
	}
}

func TestCredentials(t *testing.T) {
	passwords := brokertest.Passwords(t, "right", "kitchen", "cellar")
	p := newPatient(t)
	acl := p.write("acl", "pattern readwrite +/tolinto/%u/#\npattern readwrite +/fromlinto/%u/#\n")
	m := brokertest.Start(t, "allow_anonymous false", "password_file "+passwords, "acl_file "+acl)
	right, wrong := p.write("right", "right\n"), p.write("wrong", "wrong\n")
	p.broker(m.URL(), fmt.Sprintf("password_file = %q", right)).check("broker", OK, "mqtt")
	p.broker(m.URL(), fmt.Sprintf("password_file = %q", wrong)).check("broker", Fail, "mqtt://")
	p.broker(m.URL()).check("broker", Fail, "mqtt://")
	p.broker(m.URL(), "username = \"cellar\"", fmt.Sprintf("password_file = %q", right)).check("broker", Fail, "mqtt")
	if err := os.Chmod(right, 0o644); err != nil {
		t.Fatal(err)
	}
	found := p.broker(m.URL(), fmt.Sprintf("password_file = %q", right)).examine("configuration")
	check(t, found[len(found)-1], Warn, "password_file")
}

// authority makes certificates.
type authority struct {
	t    *testing.T
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	file string
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t}
	a.file, _ = a.issue(a, 24*time.Hour)
	return a
}

// issue returns the files of a certificate; if a has none yet, they are its own.
func (a *authority) issue(by *authority, valid time.Duration) (certFile, keyFile string) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      pkix.Name{CommonName: "localhost"},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(valid),
	}
	parent, signer := by.cert, by.key
	if parent == nil {
		template.IsCA, template.BasicConstraintsValid = true, true
		template.Subject.CommonName = "test authority"
		parent, signer = template, key
		a.key = key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	if by.cert == nil {
		a.cert, _ = x509.ParseCertificate(der)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	dir := a.t.TempDir()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for path, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "EC PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
	return certFile, keyFile
}

func TestTLS(t *testing.T) {
	ca := newAuthority(t)
	cert, key := ca.issue(ca, 5*24*time.Hour)
	m := brokertest.Start(t, "allow_anonymous true", "certfile "+cert, "keyfile "+key)
	address := strings.Replace(m.URL(), "mqtt:", "mqtts:", 1)
	t.Run("unknown CA", func(t *testing.T) {
		newPatient(t).broker(address).check("broker", Fail, "CA")
	})
	t.Run("known CA, certificate nearly expired", func(t *testing.T) {
		p := newPatient(t).broker(address, fmt.Sprintf("ca_file = %q", ca.file))
		p.check("broker", OK, "mqtt")
		p.check("certificate", Warn, "expires within a week")
	})
	t.Run("own certificate", func(t *testing.T) {
		own, ownKey := ca.issue(ca, 20*time.Hour)
		p := newPatient(t).broker(address, fmt.Sprintf("ca_file = %q\ncert_file = %q\nkey_file = %q", ca.file, own, ownKey))
		check(t, p.examine("certificate")[1], Warn, "own certificate "+own+" expires within a day")
	})
}

func TestState(t *testing.T) {
	p := newPatient(t)
	p.check("state", OK, "MB")
	file := p.write("file", "")
	p.device = fmt.Sprintf("state_dir = %q", file)
	p.check("state", Fail, "nothing can be saved")
	p.device = `state_dir = "/proc/self"` // not even root can write there
	p.check("state", Fail, "nothing can be saved")
	p.device = fmt.Sprintf("state_dir = %q", filepath.Join(t.TempDir(), "later"))
	p.check("state", Warn, "does not exist yet")
}

func TestVoice(t *testing.T) {
	p := newPatient(t)
	if _, err := exec.LookPath("espeak-ng"); err != nil {
		t.Skip("SKIPPED, nothing was tested: espeak-ng is not installed")
	}
	p.check("voice", OK, "espeak-ng speaks en-US")
	p.tts = "voices = { nl-NL = \"nl\", tlh = \"no such voice\" }"
	found := p.examine("voice")
	if len(found) != 3 || found[1].Level != OK || !strings.Contains(found[1].Text, "espeak-ng speaks nl-NL") || found[2].Level != Fail {
		t.Errorf("%+v", found)
	}
	p.tts = "engine = \"command\"\ncommand = [\"sh\", \"-c\", \"cat > /dev/null; echo the model is missing >&2; exit 3\"]"
	p.check("voice", Fail, "the model is missing")
	t.Setenv("PATH", t.TempDir())
	p.tts = ""
	p.check("voice", Fail, "espeak-ng is not installed")
}

func TestLines(t *testing.T) {
	p := newPatient(t)
	p.host = boardtest.NewHost("GPIO17")
	p.further = "[[button]]\npin = 17\naction = \"talk\"\n[[button]]\npin = 4\naction = \"stop\""
	found := p.examine("buttons, LEDs")
	check(t, found[0], OK, "button talk on GPIO17")
	if len(found) != 2 || found[1].Level != Fail || !strings.Contains(found[1].Text, "GPIO4") {
		t.Errorf("%+v", found)
	}
}

func TestReaders(t *testing.T) {
	p := newPatient(t)
	p.host.AddChip("SPI0.0", boardtest.NewMFRC522())
	p.further = "[cards.reader]\nspi = \"SPI0.0\"\nusb = \"*RFID*\""
	found := p.examine("cards")
	check(t, found[0], OK, "MFRC522 on SPI0.0: the chip answers")
	if len(found) != 2 || found[1].Level != Fail || !strings.Contains(found[1].Text, "*RFID*") {
		t.Errorf("%+v", found)
	}
}

func TestVirtualSound(t *testing.T) {
	p := newPatient(t)
	p.check("microphone", OK, `"null"`)
	p.audio = "input = \"file:/nowhere.wav\"\noutput = \"file:/nowhere/at/all.wav\""
	p.check("microphone", Fail, "/nowhere.wav")
	p.check("loudspeaker", Fail, "/nowhere/at/all.wav")
}

func TestSound(t *testing.T) {
	rig := audiotest.Start(t)
	rig.Setenv()
	t.Setenv("PATH", filepath.Dir(audiotest.Build(t, "lintod/cmd/lintod-audio"))+":"+os.Getenv("PATH"))
	p := newPatient(t)
	p.audio = "output_rate = 16000"

	t.Run("silence", func(t *testing.T) {
		p.t = t
		found := p.examine("microphone")
		check(t, found[0], Fail, "digital silence")
	})
	quiet := *p
	quiet.quiet = true
	t.Run("without a tone", func(t *testing.T) {
		quiet.t = t
		quiet.check("loudspeaker", OK, "")
		quiet.check("microphone", Fail, "digital silence")
	})
	t.Run("a room", func(t *testing.T) {
		p.t = t
		noise := make([]int16, 8*audiotest.Rate)
		for i := range noise {
			noise[i] = int16(i*7919%401 - 200)
		}
		fed := make(chan struct{})
		go func() { defer close(fed); rig.Feed(noise) }()
		hear := rig.Hear()
		rig.Overhear().WaitFor("the room", func(pcm []int16) bool { return len(pcm) > 0 && pcm[len(pcm)-1] != 0 })
		check(t, p.examine("microphone")[0], OK, "the room is at -49 dBFS")
		hear.WaitFor("the tone", audiotest.Loud)
		<-fed
	})
	t.Run("server gone", func(t *testing.T) {
		p.t = t
		rig.Kill()
		found := p.examine("microphone")
		check(t, found[0], Fail, "default")
		check(t, p.examine("loudspeaker")[0], Fail, "default")
		quiet.t = t
		quiet.check("loudspeaker", Fail, "default")
	})
}

func TestSoundProcessIsMissing(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	p := newPatient(t)
	p.audio = ""
	p.check("sound", Fail, "lintod-audio")
}
