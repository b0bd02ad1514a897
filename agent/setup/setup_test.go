package setup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode"

	"golang.org/x/sys/unix"

	"lintod/agent"
	"lintod/agent/base/nettest"
	"lintod/agent/base/textfile"
	"lintod/agent/broker/brokertest"
	"lintod/audio"
	"lintod/audio/cardtest"
	"lintod/audio/wake"
	"lintod/gpio"
	"lintod/packaging"
)

// cards is a machine with a headset only.
type cards struct {
	did  []string
	mute bool // the microphone delivers zeros
}

func (c *cards) List(context.Context) ([]audio.Device, error) {
	return []audio.Device{{Name: "headset", Label: "USB headset", Inputs: 1, Outputs: 2}, {Name: "hdmi", Outputs: 2}}, nil
}

func (c *cards) Record(_ context.Context, name string, d time.Duration) (cardtest.Reading, error) {
	c.did = append(c.did, "record "+name)
	pcm := make([]int16, int(d.Seconds()*audio.CaptureRate))
	for i := range pcm {
		if !c.mute {
			pcm[i] = int16(i % 100)
		}
	}
	return cardtest.Reading{PCM: pcm}, nil
}

func (c *cards) Play(_ context.Context, name string, pcm []int16, rate int) error {
	c.did = append(c.did, fmt.Sprintf("play %v on %s", time.Duration(len(pcm))*time.Second/time.Duration(rate), name))
	if name == "hdmi" {
		return errors.New("no screen is plugged in")
	}
	return nil
}

type fixture struct {
	*Setup
	t     *testing.T
	out   bytes.Buffer
	cards cards

	refused bool // whether the platform finally refuses the device
}

// prepare returns a setup whose owner types lines.
func prepare(t *testing.T, lines ...string) *fixture {
	t.Helper()
	in := filepath.Join(t.TempDir(), "typed")
	if err := os.WriteFile(in, []byte(strings.Join(append(lines, ""), "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(in)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	f := &fixture{t: t}
	f.Setup = &Setup{
		Path:     filepath.Join(t.TempDir(), "etc", "lintod.toml"),
		Platform: "linto",
		Terminal: &Terminal{In: file, Out: &f.out},
		Cards:    &f.cards,
	}
	return f
}

// run returns the configuration as the daemon reads it. Most brokers here do
// not exist, which is reported but does not prevent writing.
func (f *fixture) run() agent.Config {
	f.t.Helper()
	err := f.Run(f.t.Context())
	if f.refused = errors.Is(err, ErrRefused); err != nil && !f.refused {
		f.t.Fatalf("%v after\n%s", err, f.out.String())
	}
	c, err := agent.LoadConfig(f.Path)
	if err != nil {
		f.t.Fatal(err)
	}
	return c
}

func (f *fixture) says(texts ...string) {
	f.t.Helper()
	for _, text := range texts {
		if !strings.Contains(f.out.String(), text) {
			f.t.Errorf("does not print %q:\n%s", text, f.out.String())
		}
	}
}

// guarded is a broker with the access rules of a LinTO platform and more, for the
// user kitchen with the password sesame.
func guarded(t *testing.T, more ...string) *brokertest.Mosquitto {
	t.Helper()
	passwords, acl := brokertest.Passwords(t, "sesame", "kitchen"), filepath.Join(t.TempDir(), "acl")
	rules := append([]string{"pattern readwrite +/tolinto/%u/#", "pattern readwrite +/fromlinto/%u/#"}, more...)
	if err := os.WriteFile(acl, []byte(strings.Join(rules, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	return brokertest.Start(t, "allow_anonymous false", "password_file "+passwords, "acl_file "+acl)
}

func TestInterview(t *testing.T) {
	m := guarded(t)
	address := strings.TrimPrefix(m.URL(), "mqtt://") // people often omit the scheme
	f := prepare(t,
		"kit/chen", "kitchen", // serial
		"http://nowhere", address, "", // broker, scope
		"", "wrong", // user, wrong password
		"",                       // change the answers? yes
		"", "", "", "", "sesame", // serial, broker, scope, user, password
		"2", "", // speaker headset; tone heard
		"2", "n", "1", "", // microphone headset; recording not heard; default
		"n",                // not this board
		"99", "okay_nabu?", // not in the list
		"okay_nabu",
	)
	f.Boards = []gpio.Found{{Preset: gpio.Presets()[1], Why: "a sign"}}
	got := ""
	f.GetModel = func(_ context.Context, name string) error { got = name; return errors.New("no network") }
	c := f.run()
	if w := c.Wake; w.Engine != wake.EngineMicroWakeWord || len(w.Words) != 1 || w.Words[0].Name != "okay_nabu" || got != "okay_nabu" {
		t.Errorf("%+v, downloaded %q", w, got)
	}
	f.says("no network", "lintod wake get okay_nabu")
	if c.Device.Serial != "kitchen" || c.Linto.Broker[0] != m.URL() || c.Linto.Scope != "blk" || c.Linto.Username != "kitchen" {
		t.Errorf("%+v %+v", c.Device, c.Linto)
	}
	if c.Audio.Output[0] != "headset" || c.Audio.Input[0] != "default" || c.GPIO.Preset != "" {
		t.Errorf("%+v %+v", c.Audio, c.GPIO)
	}
	want := []string{"play 800ms on headset", "record headset", "play 3s on headset", "record default", "play 3s on headset"}
	if !slices.Equal(f.cards.did, want) {
		t.Errorf("the cards: %q", f.cards.did)
	}
	if f.refused {
		t.Error("the platform does not accept the device")
	}
	if password, err := os.ReadFile(c.Linto.PasswordFile); err != nil || string(password) != "sesame\n" {
		t.Errorf("%q, %v", password, err)
	}
	for path, mode := range map[string]os.FileMode{c.Linto.PasswordFile: 0o600, f.Path: 0o644} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
	text, _ := os.ReadFile(f.Path)
	if strings.Contains(string(text)+f.out.String(), "sesame") {
		t.Error("the password is printed")
	}
	if lines, sample := strings.Count(string(text), "\n#"), strings.Count(packaging.Sample(), "\n#"); lines >= sample || lines < sample*9/10 {
		t.Errorf("comments are missing: %d lines of %d", lines, sample)
	}
}

func TestAnotherLoudspeakerAndAMuteMicrophone(t *testing.T) {
	m := brokertest.Start(t)
	f := prepare(t, "3", "n", "null", "2", "", "")
	f.cards.mute = true
	f.Given = Answers{Serial: "s", "linto.broker": m.URL(), "linto.scope": "x", "linto.username": "-", "linto.password_file": ""}
	c := f.run()
	if c.Audio.Output[0] != "null" || c.Audio.Input[0] != "headset" || c.Linto.Username != "" || c.Linto.Scope != "x" {
		t.Errorf("%+v %+v", c.Audio, c.Linto)
	}
	f.says("no screen is plugged in", "alsamixer") // the card's error, and the remedy
}

// Invalid answers are asked for again immediately, and not rejected at the end.
func TestInvalidAnswers(t *testing.T) {
	m := guarded(t)
	f := prepare(t,
		"kitschen", m.URL(), "", "kitchen", "sesame", // the user differs from the serial
		"", "kitchen", "", "", "", "sesame", // both are asked for again
		"7", "hw:0", "file:/tmp/heard.wav", // loudspeaker
		"file:/tmp/heard.wav", "file:/tmp/said.wav", // microphone
		"9", "foo", "2", // board
		"", // no wake word
	)
	f.Boards = []gpio.Found{{Preset: gpio.Presets()[0]}, {Preset: gpio.Presets()[1]}}
	c := f.run()
	if c.Device.Serial != "kitchen" || c.Linto.Username != "kitchen" || c.Audio.Output[0] != "file:/tmp/heard.wav" ||
		c.Audio.Input[0] != "file:/tmp/said.wav" || c.GPIO.Preset != gpio.Presets()[0].Name || len(f.cards.did) > 0 {
		t.Errorf("%+v %+v %+v, the cards: %q", c.Device, c.Audio, c.GPIO, f.cards.did)
	}
	f.says("the user name must be the serial", "up to 4", "Not in the list")

	f = prepare(t)
	f.Given = Answers{Input: "hw:0"}
	if err := f.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "audio.input") || strings.Contains(f.out.String(), "Serial") {
		t.Errorf("a wrong flag: %v after %q", err, f.out.String())
	}
}

// The service runs as another user than the owner of the password file.
func TestPasswordOfTheService(t *testing.T) {
	f := prepare(t)
	given := filepath.Join(t.TempDir(), "given")
	if err := os.WriteFile(given, []byte("sesame\r\nmore"), 0o600); err != nil {
		t.Fatal(err)
	}
	started := false
	f.Yes, f.Start = true, func(context.Context) error { started = true; return nil }
	f.Given = Answers{Serial: "s", "linto.broker": "mqtt://127.0.0.1:1", "linto.password_file": given}
	c := f.run()
	password, err := os.ReadFile(filepath.Join(filepath.Dir(f.Path), "password"))
	if err != nil || string(password) != "sesame\n" || c.Linto.PasswordFile == given || !started {
		t.Errorf("%s: %q, %v, started: %v", c.Linto.PasswordFile, password, err, started)
	}
	f = prepare(t)
	f.Yes, f.Start = true, func(context.Context) error { return nil }
	f.Given = Answers{Serial: "s", "linto.broker": "mqtt://127.0.0.1:1", "linto.password_file": os.DevNull}
	if err := f.Run(t.Context()); !errors.Is(err, textfile.ErrEmpty) {
		t.Error(err)
	}
}

func TestWithoutQuestions(t *testing.T) {
	f := prepare(t)
	f.Yes = true
	f.Given = Answers{Serial: "hall", "linto.broker": "wss://127.0.0.1:1/mqtt", "linto.scope": "house", "linto.username": "u", "linto.password_file": "/etc/secret", Input: "null", Output: "null"}
	f.Boards = []gpio.Found{{Preset: gpio.Presets()[1]}}
	c := f.run()
	if c.Device.Serial != "hall" || c.Linto.Scope != "house" || c.Linto.PasswordFile != "/etc/secret" || c.Audio.Input[0] != "null" || c.GPIO.Preset != "respeaker-2mic" {
		t.Errorf("%+v", c)
	}
	f.says(syscall.ECONNREFUSED.Error()) // reported, but the configuration is written
	f.Force = true
	if err := f.Run(t.Context()); !errors.Is(err, ErrRefused) {
		t.Errorf("with a broker that is not there: %v", err)
	}

	f = prepare(t)
	f.Yes = true
	if err := f.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "device.serial") {
		t.Errorf("without a serial: %v", err)
	}
	if _, err := os.Stat(f.Path); err == nil {
		t.Error("a wrong configuration was written")
	}
}

func TestEditedConfigurationIsKept(t *testing.T) {
	f := prepare(t)
	f.Yes, f.Given = true, Answers{Serial: "s", "linto.broker": "mqtt://127.0.0.1:1"}
	write := func(text string) {
		_ = os.MkdirAll(filepath.Dir(f.Path), 0o700)
		if err := os.WriteFile(f.Path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	backups := func() []string {
		list, _ := filepath.Glob(f.Path + ".bak-*")
		return list
	}
	write(packaging.Sample())
	f.run()
	if len(backups()) != 0 {
		t.Error("the sample was saved like an edited file")
	}
	const work = "# by hand\n"
	write(work)
	if err := f.Run(t.Context()); !errors.Is(err, errExists) || !strings.Contains(err.Error(), "-force") {
		t.Errorf("an edited file: %v", err)
	}
	f.Force = true
	f.run()
	list := backups()
	if len(list) != 1 {
		t.Fatalf("backups: %v", list)
	}
	if text, _ := os.ReadFile(list[0]); string(text) != work {
		t.Errorf("the backup contains %q", text)
	}
}

// A script for many devices may run twice; the second time, the password may be
// a new one.
func TestRepetition(t *testing.T) {
	f := prepare(t)
	secret := filepath.Join(t.TempDir(), "secret")
	f.Start = func(context.Context) error { return nil }
	for _, password := range []string{"first", "second"} {
		if err := os.WriteFile(secret, []byte(password), 0o600); err != nil {
			t.Fatal(err)
		}
		f.Yes, f.Answers = true, nil
		f.Given = Answers{Serial: "s", "linto.broker": "mqtt://127.0.0.1:1", "linto.password_file": secret}
		if err := f.Run(t.Context()); !errors.Is(err, ErrRefused) { // nothing listens there
			t.Fatal(err)
		}
		if got, _ := os.ReadFile(filepath.Join(filepath.Dir(f.Path), "password")); string(got) != password+"\n" {
			t.Errorf("the password is %q", got)
		}
	}
	f.Answers, f.Given[Serial] = nil, "another"
	if err := f.Run(t.Context()); !errors.Is(err, errExists) {
		t.Errorf("different answers: %v", err)
	}
	if list, _ := filepath.Glob(f.Path + ".bak-*"); len(list) != 0 {
		t.Errorf("backups: %v", list)
	}
}

func TestInputEnds(t *testing.T) {
	f := prepare(t, "kitchen")
	if err := f.Run(t.Context()); !errors.Is(err, errInputEnded) {
		t.Error(err)
	}
	if _, err := os.Stat(f.Path); err == nil {
		t.Error("an incomplete configuration was written")
	}
}

// pty opens a pseudo terminal: input to one end is read at the other.
func pty(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("SKIPPED, nothing was tested: %v", err)
	}
	t.Cleanup(func() { master.Close() })
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { slave.Close() })
	return master, slave
}

func echo(t *testing.T, tty *os.File) bool {
	t.Helper()
	state, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return state.Lflag&unix.ECHO != 0
}

func TestPasswordIsNotShown(t *testing.T) {
	master, slave := pty(t)
	terminal := &Terminal{In: slave, Out: slave}
	answer := make(chan string)
	ask := func(ctx context.Context) {
		password, err := terminal.secret(ctx, "Password")
		answer <- fmt.Sprint(password, err)
	}
	go ask(t.Context())
	brokertest.Eventually(t, "the echo is off", func() bool { return !echo(t, slave) })
	if _, err := master.WriteString("sesame\n"); err != nil {
		t.Fatal(err)
	}
	if got := <-answer; got != "sesame<nil>" {
		t.Error(got)
	}
	if !echo(t, slave) {
		t.Error("the terminal was left without echo")
	}

	// ^C while the password is typed.
	ctx, cancel := context.WithCancel(t.Context())
	go ask(ctx)
	brokertest.Eventually(t, "the echo is off", func() bool { return !echo(t, slave) })
	cancel()
	if got := <-answer; !strings.Contains(got, "canceled") {
		t.Error(got)
	}
	if !echo(t, slave) {
		t.Error("the terminal was left without echo after an interruption")
	}
	shown := make([]byte, 4096)
	n, _ := master.Read(shown)
	if strings.Contains(string(shown[:n]), "sesame") || !strings.Contains(string(shown[:n]), "Password: ") {
		t.Errorf("the terminal shows %q", shown[:n])
	}
}

// Names of cards and errors of brokers are printed without control characters.
func TestForeignTextIsPrintedWithoutControlCharacters(t *testing.T) {
	const hostile = "\x1b[2J\a\u009b31m\u202eevil\r\nFORGED"
	in, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	var out bytes.Buffer
	terminal := &Terminal{In: in, Out: &out}
	terminal.say("%s", sentence(errors.New(hostile)))
	terminal.choose(t.Context(), "\n"+hostile, []string{hostile}, []string{hostile}, hostile)
	terminal.confirm(t.Context(), hostile)
	terminal.secret(t.Context(), hostile)
	if n := strings.Count(out.String(), "evil"); n != 7 {
		t.Errorf("said %d times: %q", n, out.String())
	}
	for _, r := range out.String() {
		if r != '\n' && !unicode.IsPrint(r) {
			t.Errorf("%q in %q", r, out.String())
		}
	}
	for line := range strings.Lines(out.String()) {
		if strings.HasPrefix(line, "FORGED") {
			t.Errorf("an extra line in %q", out.String())
		}
	}
}

// Every question of a link has its key in the sample, and a flag has one meaning.
func TestEveryPlatformFitsTheSample(t *testing.T) {
	usage := map[string]string{}
	for _, p := range append(agent.Platforms(), agent.Additional()...) {
		answers, secrets := Answers{p.Name + ".enabled": "true"}, 0
		for _, q := range p.Questions {
			answers[p.Name+"."+q.Key] = "x"
			if q.Secret {
				secrets++
			}
			if known := usage[q.Flag]; known != "" && known != q.Usage || q.Flag == "" || q.Text == "" {
				t.Errorf("%s.%s: -%s is %q and %q", p.Name, q.Key, q.Flag, known, q.Usage)
			}
			usage[q.Flag] = q.Usage
		}
		if _, err := answers.Fill(packaging.Sample()); err != nil || secrets > 1 {
			t.Errorf("%s: %v, %d secrets", p.Name, err, secrets)
		}
	}
}

func TestFlagsOfThePlatform(t *testing.T) {
	f := prepare(t)
	address := "127.0.0.1:1" // people often omit the scheme
	f.Yes, f.Given, f.Platform = true, Answers{Serial: "s"}, agent.Platforms()[0].Name
	f.Flags = map[string]*string{"broker": &address}
	if c := f.run(); c.Linto.Broker[0] != "mqtt://"+address {
		t.Errorf("%+v", c.Linto)
	}
	for name, s := range map[string]*Setup{
		"a flag of another platform": {Yes: true, Flags: map[string]*string{"nonsense": &address}},
		"an unknown platform":        {Platform: "nonsense"},
	} {
		s.Path, s.Terminal = filepath.Join(t.TempDir(), "lintod.toml"), f.Terminal
		if err := s.Run(t.Context()); err == nil {
			t.Errorf("%s was accepted", name)
		}
		if _, err := os.Stat(s.Path); err == nil {
			t.Errorf("%s: a file was written", name)
		}
	}
}

// A wake word may be given; an invalid one is rejected before anything is written.
func TestWakeWordGiven(t *testing.T) {
	for word, want := range map[string]string{"alexa": "alexa", "none": "", "": ""} {
		f := prepare(t)
		f.Yes, f.Given = true, Answers{Serial: "s", "linto.broker": "mqtt://127.0.0.1:1", WakeWord: word}
		got := ""
		f.GetModel = func(_ context.Context, name string) error { got = name; return nil }
		c := f.run()
		if got != want || c.Wake.Enabled() != (want != "") {
			t.Errorf("%q: %+v, downloaded %q", word, c.Wake, got)
		}
	}
	f := prepare(t)
	f.Yes, f.Given = true, Answers{Serial: "s", "linto.broker": "mqtt://127.0.0.1:1", WakeWord: "hey_nobody"}
	if err := f.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "hey_nobody") {
		t.Errorf("a word without a model: %v", err)
	}
	if _, err := os.Stat(f.Path); err == nil {
		t.Error("a configuration was written")
	}
}

// A xiaozhi server is set up with one URL.
func TestXiaozhi(t *testing.T) {
	f := prepare(t)
	address := "127.0.0.1:1/xiaozhi/ota/"
	f.Yes, f.Given, f.Platform = true, Answers{Serial: "s"}, "xiaozhi"
	f.Flags = map[string]*string{"ota-url": &address}
	if c := f.run(); !c.Xiaozhi.Enabled || c.Linto.Enabled || c.Xiaozhi.URL != "https://"+address || c.Xiaozhi.Profile != "xiaozhi" {
		t.Errorf("%+v", c.Xiaozhi)
	}
}

// Home automation is offered if a broker answers, and can be set up with flags.
func TestHomeAutomation(t *testing.T) {
	platform, home := brokertest.Start(t), guarded(t, "pattern readwrite lintod/%u/#")
	given := Answers{Serial: "kitchen", "linto.broker": platform.URL(), "linto.scope": "x", "linto.username": "-", "linto.password_file": "", Input: "null", Output: "null"}
	nobody := fmt.Sprintf("mqtt://127.0.0.1:%d", nettest.FreePort(t))
	for name, c := range map[string]struct {
		brokers []string
		lines   []string
		flags   map[string]string
		broker  string // "" for none
		user    string
	}{
		"none answers":    {brokers: []string{nobody}},
		"declined":        {brokers: []string{home.URL()}, lines: []string{""}},
		"with an account": {brokers: []string{nobody, home.URL()}, lines: []string{"y", "", "wrong", "", "", "sesame"}, broker: home.URL(), user: "kitchen"},
		"open to all":     {brokers: []string{platform.URL(), home.URL()}, lines: []string{"yes"}, broker: platform.URL()},
		"by flags":        {brokers: []string{nobody}, lines: []string{"sesame"}, flags: map[string]string{"automation-broker": strings.TrimPrefix(home.URL(), "mqtt://"), "automation-username": "kitchen"}, broker: home.URL(), user: "kitchen"},
	} {
		t.Run(name, func(t *testing.T) {
			f := prepare(t, c.lines...)
			f.Given, f.Brokers, f.Flags = given, c.brokers, map[string]*string{}
			for flag, value := range c.flags {
				f.Flags[flag] = &value
			}
			cfg := f.run()
			a := cfg.Automation
			switch {
			case a.Enabled != (c.broker != ""):
				t.Errorf("enabled: %t\n%s", a.Enabled, f.out.String())
			case a.Enabled && (a.Broker[0] != c.broker || a.Username != c.user):
				t.Errorf("%+v", a)
			}
			if c.user != "" {
				file := filepath.Join(filepath.Dir(f.Path), "automation-password")
				if password, err := os.ReadFile(file); err != nil || string(password) != "sesame\n" || a.PasswordFile != file {
					t.Errorf("%q, %v, password_file %s", password, err, a.PasswordFile)
				}
				f.says("The broker accepts the device.")
			}
		})
	}
	f := prepare(t) // no question is asked
	wrong := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(wrong, []byte("wrong"), 0o600); err != nil {
		t.Fatal(err)
	}
	address := home.URL()
	f.Yes, f.Given, f.Flags = true, given, map[string]*string{"automation-broker": &address, "automation-password-file": &wrong}
	if c := f.run(); !f.refused || !c.Automation.Enabled || c.Automation.PasswordFile != wrong {
		t.Errorf("refused: %t, %+v", f.refused, c.Automation)
	}
}
