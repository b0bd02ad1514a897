package verifier

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/ssh"

	"lintod/agent/base/config"
	"lintod/agent/base/fuzzcost"
	"lintod/agent/signed"
	"lintod/agent/signed/sshsig"
)

// noon is the time in most tests; the device has been running for a day.
var noon = time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)

// device is a verifier with a clock that the test sets.
type device struct {
	*Verifier
	t            *testing.T
	now          time.Time
	synchronized bool
}

func key(first byte) ssh.Signer {
	seed := bytes.Repeat([]byte{first}, ed25519.SeedSize)
	s, err := ssh.NewSignerFromKey(ed25519.NewKeyFromSeed(seed))
	if err != nil {
		panic(err)
	}
	return s
}

var ann, bob, mallory = key(1), key(2), key(3)

func line(s ssh.Signer) string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(s.PublicKey())))
}

// newDevice allows ann and bob.
func newDevice(t *testing.T) *device {
	t.Helper()
	dir := t.TempDir()
	d := &device{t: t, now: noon.Add(-24 * time.Hour), synchronized: true}
	c := Defaults()
	c.AllowedSigners, c.Revoked = filepath.Join(dir, "allowed_signers"), filepath.Join(dir, "revoked_keys")
	d.write(c.AllowedSigners, fmt.Sprintf("ann@example.org namespaces=%q %s\nbob@example.org %s\n", signed.Namespace, line(ann), line(bob)))
	d.start(c, filepath.Join(dir, "state"))
	d.now = noon
	return d
}

func (d *device) write(path, text string) {
	d.t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		d.t.Fatal(err)
	}
}

// start starts a new process with the same disk.
func (d *device) start(c Config, dir string) {
	d.t.Helper()
	d.Verifier = &Verifier{Config: c, StateDir: dir, Clock: func() (time.Time, bool) { return d.now, d.synchronized }, Log: slog.New(slog.DiscardHandler)}
	if err := d.Open(); err != nil {
		d.t.Fatal(err)
	}
}

func (d *device) restart() { d.start(d.Config, d.StateDir) }

var here = Place{"blk", "kitchen-01", "shellexec"}

// order returns an order that the device accepts at noon.
func order(id string, changes ...func(*signed.Order)) signed.Order {
	o := signed.Order{
		Scope: here.Scope, To: []string{"hall-02", here.Serial}, Do: here.Do, Args: json.RawMessage(`{"cmd":"uptime"}`), ID: id,
		Issued: noon, Expires: noon.Add(5 * time.Minute),
	}
	for _, change := range changes {
		change(&o)
	}
	return o
}

func nonced(text string) func(*signed.Order) { return func(o *signed.Order) { o.Nonce = text } }

func envelope(t testing.TB, o signed.Order, by ssh.Signer) []byte {
	t.Helper()
	text, err := o.Text()
	if err != nil {
		t.Fatal(err)
	}
	s, err := sshsig.Sign(by, signed.Namespace, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return signed.Envelope{Signed: text, Signature: s.Marshal()}.Encode()
}

// takes checks that an order is accepted, for the first time or again.
func (d *device) takes(payload []byte, again bool) Taken {
	d.t.Helper()
	taken, err := d.Check(payload, here)
	if err != nil || taken.Again != again {
		d.t.Errorf("accepted %+v, %v; want again %v", taken, err, again)
	}
	return taken
}

// refuses checks that an order is rejected for a reason, and returns the nonce of
// the refusal.
func (d *device) refuses(payload []byte, at Place, why error) string {
	d.t.Helper()
	taken, err := d.Check(payload, at)
	var r *Refusal
	if !errors.Is(err, why) || !errors.As(err, &r) {
		d.t.Fatalf("taken %+v, %v; want %v", taken, err, why)
	}
	if wants := errors.Is(why, ErrClockNotSet) || errors.Is(why, ErrNonceWanted); wants != (r.Nonce != "") {
		d.t.Errorf("%v with nonce %q", err, r.Nonce)
	}
	return r.Nonce
}

func TestOrdersAreTakenOnce(t *testing.T) {
	d := newDevice(t)
	payload := envelope(t, order("one"), ann)
	taken := d.takes(payload, false)
	if taken.Order.ID != "one" || !strings.Contains(taken.Signer, "ann@example.org") || !strings.Contains(taken.Signer, ssh.FingerprintSHA256(ann.PublicKey())) {
		t.Errorf("taken %+v", taken)
	}
	d.takes(payload, true)
	d.restart()
	d.takes(payload, true)
	d.takes(envelope(t, order("one"), bob), true) // the request is the same
	d.takes(envelope(t, order("two"), bob), false)
	d.refuses(envelope(t, order("two", func(o *signed.Order) { o.Args = json.RawMessage(`{"cmd":"reboot"}`) }), ann), here, ErrID)
	d.now = noon.Add(5*time.Minute + Skew + time.Second)
	d.refuses(payload, here, ErrExpired)
}

func TestOrdersForOtherDestinations(t *testing.T) {
	d := newDevice(t)
	payload := envelope(t, order("one"), ann)
	for name, at := range map[string]Place{
		"another scope":  {"other", here.Serial, here.Do},
		"another device": {here.Scope, "attic", here.Do},
		"another verb":   {here.Scope, here.Serial, "volume"},
	} {
		t.Run(name, func(*testing.T) { d.refuses(payload, at, ErrElsewhere) })
	}
	everybody := envelope(t, order("two", func(o *signed.Order) { o.To = []string{signed.Everybody} }), ann)
	d.refuses(everybody, here, ErrElsewhere)
	d.Config.Broadcast = true
	d.takes(everybody, false)
	d.takes(payload, false) // the rejected order was not recorded
}

func TestWhoMaySign(t *testing.T) {
	d := newDevice(t)
	altered := bytes.Replace(envelope(t, order("a"), ann), []byte("uptime"), []byte("reboot"), 1)
	d.refuses(altered, here, ErrSignature)
	d.refuses(envelope(t, order("a"), mallory), here, ErrSignature)
	d.refuses([]byte(`{"signed":"{}","signature":""}`), here, ErrMalformed)
	d.refuses(nil, here, ErrMalformed)

	d.takes(envelope(t, order("a"), ann), false)
	d.write(d.Config.Revoked, line(ann)+" stolen\r\n")
	d.refuses(envelope(t, order("b"), ann), here, ErrSignature)
	d.refuses(envelope(t, order("a"), ann), here, ErrSignature) // also if repeated
	d.takes(envelope(t, order("b"), bob), false)
	d.write(d.Config.Revoked, "a line that may be of a stolen key\n")
	d.refuses(envelope(t, order("c"), bob), here, ErrSignature)
	if err := os.Remove(d.Config.Revoked); err != nil {
		t.Fatal(err)
	}
	d.takes(envelope(t, order("c"), ann), false)

	d.write(d.Config.AllowedSigners, "ann limited=\"to something\" "+line(ann)+"\nann valid-before=\"20260101\" "+line(bob)+"\n")
	d.refuses(envelope(t, order("d"), ann), here, ErrSignature)
	d.refuses(envelope(t, order("d"), bob), here, ErrSignature)
	if err := os.Remove(d.Config.AllowedSigners); err != nil {
		t.Fatal(err)
	}
	d.refuses(envelope(t, order("d"), ann), here, ErrSignature)
}

// The signer of an order can be verified without accepting it, even if it has
// expired.
func TestAuthenticOrders(t *testing.T) {
	d := newDevice(t)
	late := envelope(t, order("one", func(o *signed.Order) {
		o.Issued, o.Expires = o.Issued.Add(-24*time.Hour), o.Expires.Add(-24*time.Hour)
	}), ann)
	if o, err := d.Authentic(late); err != nil || o.ID != "one" || o.Do != here.Do {
		t.Errorf("%+v, %v", o, err)
	}
	d.takes(envelope(t, order("one"), ann), false) // not accepted before
	for name, payload := range map[string][]byte{
		"by another key": envelope(t, order("two"), mallory),
		"altered":        bytes.Replace(envelope(t, order("two"), ann), []byte("two"), []byte("tow"), 1),
	} {
		if o, err := d.Authentic(payload); !errors.Is(err, ErrSignature) {
			t.Errorf("%s: %+v, %v", name, o, err)
		}
	}
	if _, err := d.Authentic([]byte("{}")); !errors.Is(err, ErrMalformed) {
		t.Errorf("not an order: %v", err)
	}
}

func TestTimesOfOrders(t *testing.T) {
	d := newDevice(t)
	d.Config.MaxAge = config.Duration(10 * time.Minute)
	at := func(issued, expires time.Duration) func(*signed.Order) {
		return func(o *signed.Order) { o.Issued, o.Expires = noon.Add(issued), noon.Add(expires) }
	}
	for i, tt := range []struct {
		issued, expires time.Duration
		why             error
	}{
		{-time.Minute, 0, nil},
		{-10 * time.Minute, -Skew, nil},
		{-10 * time.Minute, -Skew - time.Second, ErrExpired},
		{Skew, Skew + time.Minute, nil},
		{Skew + time.Second, Skew + time.Minute, ErrEarly},
		{0, 10 * time.Minute, nil},
		{0, 10*time.Minute + time.Second, ErrTooLong},
		{-1000 * time.Hour, 0, ErrTooLong},
	} {
		payload := envelope(t, order(fmt.Sprint(i), at(tt.issued, tt.expires)), ann)
		if tt.why == nil {
			d.takes(payload, false)
		} else {
			d.refuses(payload, here, tt.why)
		}
	}
}

// A device without a clock starts in the past, or at the time when it was switched
// off: yesterday's orders are not executed again.
func TestClockThatWasSetBack(t *testing.T) {
	d := newDevice(t)
	yesterday := envelope(t, order("yesterday"), ann)
	d.takes(yesterday, false)
	d.now = noon.Add(24 * time.Hour)
	d.takes(envelope(t, order("today", func(o *signed.Order) { o.Issued, o.Expires = d.now, d.now.Add(time.Minute) }), ann), false)
	for _, synchronized := range []bool{false, true} {
		for _, now := range []time.Time{noon, noon.Add(time.Minute), time.Unix(100, 0)} {
			d.now, d.synchronized = now, synchronized
			d.restart()
			missed := order("missed")
			nonce := d.refuses(envelope(t, missed, ann), here, ErrClockNotSet)
			if _, err := d.Check(yesterday, here); err == nil {
				t.Errorf("at %v, synchronized %v, yesterday's order was accepted", now, synchronized)
			}
			missed.ID, missed.Nonce = fmt.Sprintf("again-%d-%v", now.Unix(), synchronized), nonce
			d.takes(envelope(t, missed, ann), false)
		}
	}
}

func TestClockThatIsNotSet(t *testing.T) {
	d := newDevice(t)
	d.takes(envelope(t, order("known"), ann), false)
	d.synchronized = false
	// The last order is recent, so the clock is trusted to that extent.
	d.takes(envelope(t, order("soon"), ann), false)
	early := func(o *signed.Order) { o.Issued, o.Expires = noon.Add(time.Hour), noon.Add(61*time.Minute) }
	d.refuses(envelope(t, order("behind", early), ann), here, ErrClockNotSet)
	d.now = noon.Add(staleness + time.Minute)
	o := order("late", func(o *signed.Order) { o.Issued, o.Expires = d.now, d.now.Add(time.Minute) })
	nonce := d.refuses(envelope(t, o, ann), here, ErrClockNotSet)

	// The same order with the nonce is accepted once, with the same id.
	o.Nonce = nonce
	payload := envelope(t, o, ann)
	d.takes(payload, false)
	d.takes(payload, true)
	o.ID = "other"
	d.refuses(envelope(t, o, ann), here, ErrNonceWanted)
	d.refuses(envelope(t, order("invented", nonced(strings.Repeat("a", 32))), ann), here, ErrNonceWanted)
	d.restart()
	d.takes(payload, true)
	o.ID, o.Nonce = "kept", d.refuses(envelope(t, order("before", nonced(strings.Repeat("b", 32))), ann), here, ErrNonceWanted)
	d.restart() // which discards nonces
	d.refuses(envelope(t, o, ann), here, ErrNonceWanted)
}

// A nonce is valid for five minutes of the monotonic clock, and is only issued for
// valid signatures.
func TestNoncesExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDevice(t)
		d.synchronized, d.now = false, time.Unix(0, 0)
		d.refuses(envelope(t, order("x"), mallory), here, ErrSignature)
		if len(d.nonces) != 0 {
			t.Errorf("a nonce was issued for an invalid signature")
		}
		first := d.refuses(envelope(t, order("x"), ann), here, ErrClockNotSet)
		time.Sleep(nonceLife + time.Second)
		d.refuses(envelope(t, order("x", nonced(first)), ann), here, ErrNonceWanted)
		second := d.refuses(envelope(t, order("x"), ann), here, ErrClockNotSet)
		time.Sleep(nonceLife - time.Second)
		d.takes(envelope(t, order("x", nonced(second)), ann), false)
		for range 2 * maxNonces {
			d.refuses(envelope(t, order("y"), ann), here, ErrClockNotSet)
		}
		if len(d.nonces) != maxNonces {
			t.Errorf("%d nonces are stored", len(d.nonces))
		}
	})
}

// A device that has lost its state does not know which orders it has executed:
// earlier orders need a nonce.
func TestStateThatIsLost(t *testing.T) {
	d := newDevice(t)
	payload := envelope(t, order("one"), ann)
	d.takes(payload, false)
	if err := os.RemoveAll(d.StateDir); err != nil {
		t.Fatal(err)
	}
	d.now = noon.Add(time.Minute)
	d.restart()
	nonce := d.refuses(payload, here, ErrNonceWanted)
	d.takes(envelope(t, order("one", nonced(nonce)), ann), false) // confirmed by the administrator
	d.refuses(envelope(t, order("two"), ann), here, ErrNonceWanted)
	// Later orders cannot have been executed before.
	d.now = noon.Add(time.Hour)
	d.takes(envelope(t, order("three", func(o *signed.Order) { o.Issued, o.Expires = d.now, d.now.Add(time.Minute) }), ann), false)

	// The same if the clock is set later.
	if err := os.RemoveAll(d.StateDir); err != nil {
		t.Fatal(err)
	}
	d.synchronized = false
	d.restart()
	late := func(o *signed.Order) { o.Issued, o.Expires = d.now, d.now.Add(time.Minute) }
	d.refuses(envelope(t, order("four", late), ann), here, ErrClockNotSet)
	d.synchronized = true
	d.refuses(envelope(t, order("four", late), ann), here, ErrNonceWanted)
}

// Orders that have not expired are never dropped, however many there are, and
// expired ones are.
func TestManyOrders(t *testing.T) {
	d := newDevice(t)
	first := envelope(t, order("first"), ann)
	d.takes(first, false)
	m := d.memory
	for i := range maxOrders - 2 {
		id := fmt.Sprintf("id-%d", i)
		m.orders[id] = remembered{noon.Add(5*time.Minute + Skew), strings.Repeat("0", 32)}
	}
	if err := m.rewrite(); err != nil {
		t.Fatal(err)
	}
	d.restart()
	d.takes(envelope(t, order("last"), ann), false)
	for i := maxOrders; i < 9000; i += 100 {
		d.refuses(envelope(t, order(fmt.Sprintf("id-%d", i)), ann), here, ErrFull)
	}
	d.takes(first, true)
	d.restart()
	d.takes(first, true)
	d.refuses(envelope(t, order("more"), ann), here, ErrFull)
	d.now = noon.Add(time.Hour)
	later := func(o *signed.Order) { o.Issued, o.Expires = d.now, d.now.Add(time.Minute) }
	d.takes(envelope(t, order("later", later), ann), false)
	if n := len(d.memory.orders); n != 1 {
		t.Errorf("%d orders are recorded", n)
	}
	d.memory.lines = maxLines // as after that many orders
	d.takes(envelope(t, order("again", later), ann), false)
	text, err := os.ReadFile(d.memory.path)
	if err != nil || bytes.Count(text, []byte("\n")) != 4 {
		t.Errorf("the file was not rewritten, %v: %d bytes", err, len(text))
	}
	d.refuses(first, here, ErrExpired)
	d.restart()
	d.refuses(first, here, ErrExpired)
	d.takes(envelope(t, order("later", later), ann), true)
}

// An order that cannot be recorded is not executed, and does not count as
// executed.
func TestUnwritableDisk(t *testing.T) {
	d := newDevice(t)
	payload := envelope(t, order("one"), ann)
	d.takes(envelope(t, order("zero"), ann), false)
	path := d.memory.path
	kept, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// A directory in its place cannot be written by any user, not even root.
	if err := errors.Join(os.Remove(path), os.Mkdir(path, 0o700)); err != nil {
		t.Fatal(err)
	}
	d.refuses(payload, here, ErrDisk)
	d.refuses(payload, here, ErrDisk)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	d.write(path, string(kept)+"order 18") // a part of a line
	d.takes(payload, false)
	d.restart()
	d.takes(payload, true)
	d.takes(envelope(t, order("zero"), ann), true)
	if d.memory.since.IsZero() {
		t.Error("an incomplete last line was treated as a lost memory")
	}
}

// A damaged memory is not relied on, but its readable lines are used.
func TestDamagedMemory(t *testing.T) {
	d := newDevice(t)
	payload := envelope(t, order("one"), ann)
	d.takes(payload, false)
	path := d.memory.path
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	d.write(path, "ord\x00\x00\n"+string(text))
	d.restart()
	d.takes(payload, true)
	d.refuses(envelope(t, order("two"), ann), here, ErrNonceWanted)
	if _, err := os.Stat(path + ".damaged"); err != nil {
		t.Error(err)
	}
	d.write(path, strings.Repeat("x", maxMemory+1))
	d.Verifier = &Verifier{Config: d.Config, StateDir: d.StateDir, Clock: d.Clock, Log: d.Log}
	if d.Open() == nil {
		t.Error("an endless file was read")
	}
	d.refuses(payload, here, ErrDisk)
}

const childEnv = "LINTOD_TEST_ORDERS"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		takeForever(dir)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// takeForever accepts the orders from standard input, and executes each by
// printing its id.
func takeForever(dir string) {
	c := Defaults()
	c.AllowedSigners, c.Revoked = filepath.Join(dir, "allowed_signers"), ""
	v := &Verifier{Config: c, StateDir: dir, Clock: func() (time.Time, bool) { return noon, true }, Log: slog.New(slog.DiscardHandler)}
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, signed.MaxEnvelope)
	for in.Scan() {
		taken, err := v.Check(in.Bytes(), here)
		if err != nil {
			panic(err)
		}
		if !taken.Again {
			fmt.Println(taken.Order.ID)
		}
	}
}

// A daemon that is killed at any time, also between recording and executing,
// executes nothing twice, although each order is sent until a later one was
// executed.
func TestKilledAtAnyMoment(t *testing.T) {
	d := newDevice(t) // which has recorded that it remembers
	dir := d.StateDir
	text, err := os.ReadFile(d.Config.AllowedSigners)
	if err != nil {
		t.Fatal(err)
	}
	d.write(filepath.Join(dir, "allowed_signers"), string(text))
	done := map[string]int{}
	var all bytes.Buffer
	for i := range 200 {
		all.Write(envelope(t, order(fmt.Sprintf("id-%d", i)), ann))
		all.WriteByte('\n')
	}
	for kill := range 30 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childEnv+"="+dir)
		cmd.Stdin = bytes.NewReader(all.Bytes())
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			done[lines.Text()]++
			if n == kill%7 {
				cmd.Process.Kill()
			}
		}
		cmd.Wait()
	}
	for id, n := range done {
		if n > 1 {
			t.Errorf("%s was executed %d times", id, n)
		}
	}
	if len(done) == 0 {
		t.Error("nothing was executed")
	}
	d.restart()
	for _, payload := range bytes.Split(bytes.TrimSpace(all.Bytes()), []byte("\n")) {
		taken, err := d.Check(payload, here)
		if err != nil {
			t.Fatal(err)
		}
		if done[taken.Order.ID] > 0 && !taken.Again {
			t.Errorf("%s was executed, but is not recorded", taken.Order.ID)
		}
	}
	t.Logf("%d of 200 orders were executed", len(done))
}

func TestConfiguration(t *testing.T) {
	verbs := []string{"volume", "shellexec"}
	if ps := Defaults().Validate(verbs); len(ps) > 0 {
		t.Errorf("the defaults are invalid: %v", ps)
	}
	for key, change := range map[string]func(*Config){
		"require":         func(c *Config) { c.Require = config.Strings{"volume", "shelexec"} },
		"max_age":         func(c *Config) { c.MaxAge = config.Duration(48 * time.Hour) },
		"allowed_signers": func(c *Config) { c.AllowedSigners = "" },
	} {
		c := Defaults()
		change(&c)
		if ps := c.Validate(verbs); len(ps) != 1 || ps[0].Key != key {
			t.Errorf("%s: %v", key, ps)
		}
	}
	for _, tt := range []struct {
		require       string
		shell, volume bool
	}{
		{"", false, false},
		{"all", true, true},
		{"privileged", true, false},
		{"shellexec", true, false},
		{"volume", false, true},
	} {
		c := Defaults()
		c.Require = strings.Fields(tt.require)
		if c.Requires("shellexec", "privileged") != tt.shell || c.Requires("volume", "safe") != tt.volume {
			t.Errorf("%+v", tt)
		}
	}
}

func TestFaultsOfTheFiles(t *testing.T) {
	d := newDevice(t)
	faults := func() (signers, closed int, list []Fault) {
		signers, list = d.Config.Examine(noon)
		for _, f := range list {
			if f.Closed {
				closed++
			}
		}
		return signers, closed, list
	}
	if signers, _, list := faults(); signers != 2 || len(list) > 0 {
		t.Errorf("%d signers, %v", signers, list)
	}
	d.write(d.Config.AllowedSigners, "ann "+line(ann)+"\n\nbob from=\"here\" "+line(bob)+"\nold valid-before=\"20200101\" "+line(mallory)+"\n")
	d.write(d.Config.Revoked, line(mallory)+"\n")
	if signers, closed, list := faults(); signers != 1 || closed != 0 || len(list) != 2 || !strings.Contains(list[0].Error(), "line 3") || !strings.Contains(list[1].Error(), "line 4") {
		t.Errorf("%d signers, %v", signers, list)
	}
	d.write(d.Config.Revoked, "nonsense\n")
	if _, closed, list := faults(); closed != 1 {
		t.Errorf("a revoked key that cannot be read: %v", list)
	}
	d.write(d.Config.Revoked, "")
	d.write(d.Config.AllowedSigners, "ann namespaces=\"file\" "+line(ann)+"\n")
	if signers, closed, list := faults(); signers != 0 || closed != 1 {
		t.Errorf("no key may sign: %v", list)
	}
	if err := os.Chmod(d.Config.AllowedSigners, 0o666); err != nil {
		t.Fatal(err)
	}
	if _, _, list := faults(); len(list) != 2 {
		t.Errorf("other users can change the file: %v", list)
	}
	os.Remove(d.Config.AllowedSigners)
	if _, _, list := faults(); len(list) != 0 {
		t.Errorf("without signed commands: %v", list)
	}
	d.Config.Require = config.Strings{"all"}
	if _, closed, list := faults(); closed != 1 {
		t.Errorf("no file: %v", list)
	}
}

// For any contents of the file, opening succeeds or fails with little memory, and
// later orders are remembered by the next start.
func FuzzMemory(f *testing.F) {
	f.Add([]byte("latest 1795788000\nsince 1795788000\norder 1795788420 01JE 0123456789abcdef0123456789abcdef\n"))
	f.Add([]byte("order 1 x"))
	f.Add([]byte("\x00\n\n"))
	quiet := slog.New(slog.DiscardHandler)
	dir := f.TempDir()
	payload := envelope(f, order("fuzz"), ann)
	f.Fuzz(func(t *testing.T, text []byte) {
		path := filepath.Join(dir, MemoryFile)
		defer os.Remove(path)
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		var m *memory
		fuzzcost.Check(t, func() { m, _ = openMemory(path, quiet) })
		if m == nil {
			return
		}
		allowed := filepath.Join(dir, "allowed")
		if err := os.WriteFile(allowed, []byte("ann "+line(ann)), 0o600); err != nil {
			t.Fatal(err)
		}
		c := Defaults()
		c.AllowedSigners, c.Revoked = allowed, ""
		open := func() *Verifier {
			return &Verifier{Config: c, StateDir: dir, Clock: func() (time.Time, bool) { return noon, true }, Log: quiet}
		}
		first, err := open().Check(payload, here)
		if err != nil {
			return
		}
		if second, err := open().Check(payload, here); err != nil || !second.Again {
			t.Errorf("with %q an order was accepted twice: %+v, %+v, %v", text, first, second, err)
		}
	})
}
