package broker

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"lintod/agent/base/config"
)

// linkConfig is a link's configuration, which embeds ours.
type linkConfig struct {
	Config
	Scope string `toml:"scope"`
}

type file struct {
	Link linkConfig `toml:"link"`
}

func (f *file) Validate() config.Problems {
	var ps config.Problems
	ps.In("link", f.Link.Validate())
	return ps
}

func TestConfigAsPartOfALinksTable(t *testing.T) {
	f := file{linkConfig{Config: Defaults()}}
	err := config.Parse("lintod.toml", []byte(`
[link]
scope = "blk"
broker = ["mqtts://a.example", "ws://b.example:8080"]
username = "dev1"
password_file = "/etc/lintod/secret"
`), &f)
	if err != nil {
		t.Fatal(err)
	}
	if f.Link.Keepalive.Std() != 10*time.Second || f.Link.Username != "dev1" || f.Link.Scope != "blk" {
		t.Errorf("got %+v", f.Link)
	}
	var got []string
	for _, u := range f.Link.addresses() {
		got = append(got, u.String())
	}
	slices.Sort(got) // another test checks where the list starts
	if want := "mqtts://a.example:8883 ws://b.example:8080/mqtt"; strings.Join(got, " ") != want {
		t.Errorf("addresses %v, want %s", got, want)
	}
}

// Devices with the same list spread over it. Each always starts at the same
// address, and the order is unchanged.
func TestClientIDDeterminesTheFirstAddress(t *testing.T) {
	conf := Config{Broker: config.Strings{"mqtt://a:1883", "mqtt://b:1883", "mqtt://c:1883"}}
	begin := map[string]int{}
	for i := range 3000 {
		conf.ClientID = fmt.Sprintf("lintod-blk-device-%d", i)
		var got string
		for _, u := range conf.addresses() {
			got += u.Hostname()
		}
		begin[got]++
		if again := conf.addresses()[0].Hostname(); again != got[:1] {
			t.Fatalf("%s starts at %s, and then at %s", conf.ClientID, got[:1], again)
		}
	}
	for _, order := range []string{"abc", "bca", "cab"} {
		if n := begin[order]; n < 900 || n > 1100 {
			t.Errorf("%d of 3000 devices have the order %s", n, order)
		}
	}
}

func TestClientIDHasOnlyPortableCharacters(t *testing.T) {
	for _, name := range []string{"lintod-blk-kitchen-01", "lintod-blk-Kitchen_01", ""} {
		if got := ClientID(name); got != name {
			t.Errorf("%q becomes %q", name, got)
		}
	}
	seen := map[string]string{}
	for _, name := range []string{"lintod-blk-a.b", "lintod-blk-a b", "lintod-blk-a*b", "lintod-blk-a>b", "lintod-blk-ä", "lintod-blk-ö", "lintod-blk-a\xffb", "lintod-blk-a\xfeb", "lintod-blk-a_b"} {
		got := ClientID(name)
		if strings.ContainsFunc(got, func(r rune) bool { return !portable(r) }) {
			t.Errorf("%q becomes %q", name, got)
		}
		if other, twice := seen[got]; twice {
			t.Errorf("%q and %q both become %q", name, other, got)
		}
		seen[got] = name
	}
}

func TestValidateNamesTheKeyAndTheExpectedValue(t *testing.T) {
	ok := Defaults()
	ok.Broker = config.Strings{"mqtt://host"}
	if ps := ok.Validate(); len(ps) > 0 {
		t.Fatalf("a valid configuration was rejected: %v", ps)
	}
	for _, row := range []struct {
		name    string
		spoil   func(*Config)
		problem string
	}{
		{"no broker", func(c *Config) { c.Broker = nil }, "broker"},
		{"no scheme", func(c *Config) { c.Broker[0] = "host:1883" }, `broker = "host:1883"; want an address such as`},
		{"other scheme", func(c *Config) { c.Broker[0] = "http://host" }, "mqtt://host:1883"},
		{"no host", func(c *Config) { c.Broker[0] = "mqtt://:1883" }, "broker"},
		{"bad port", func(c *Config) { c.Broker[0] = "mqtt://host:port" }, "broker"},
		{"path", func(c *Config) { c.Broker[0] = "mqtt://host/x" }, `"mqtt://host"`},
		{"password in it", func(c *Config) { c.Broker[0] = "mqtt://lea:hunter2@host" }, "broker"},
		{"password in a bad one", func(c *Config) { c.Broker[0] = "mqtt://lea:hunter2@host:port" }, "broker"},
		{"port out of range", func(c *Config) { c.Broker[0] = "mqtt://host:99999" }, "broker"},
		{"port 0", func(c *Config) { c.Broker[0] = "ws://host:0/mqtt" }, "broker"},
		{"key without certificate", func(c *Config) { c.KeyFile = "k" }, "cert_file"},
		{"certificate without key", func(c *Config) { c.CertFile = "k" }, "key_file"},
		{"password without username", func(c *Config) { c.PasswordFile = "p" }, "username"},
		{"no keepalive", func(c *Config) { c.Keepalive = 0 }, "keepalive"},
		{"odd keepalive", func(c *Config) { c.Keepalive = config.Duration(1500 * time.Millisecond) }, "keepalive"},
	} {
		c := ok
		c.Broker = config.Strings{ok.Broker[0]}
		row.spoil(&c)
		got := c.Validate().Error()
		if !strings.Contains(got, row.problem) {
			t.Errorf("%s: %q lacks %q", row.name, got, row.problem)
		}
		if strings.Contains(got, "hunter2") {
			t.Errorf("%s: %q contains the password", row.name, got)
		}
	}
}

func TestKeepaliveLeavesTimeForAnAnswer(t *testing.T) {
	for want := time.Second; want <= 10*time.Minute; want += time.Second {
		c := Config{Keepalive: config.Duration(want)}
		wire := time.Duration(c.keepaliveSeconds()) * time.Second
		late := min(wire/4, 5*time.Second) // how late the library's ping may be
		if wire > 10*time.Second {
			late = 5 * time.Second
		}
		if slack := c.patience() - wire - late; slack < min(wire/4, 2*time.Second) || wire > want {
			t.Errorf("keepalive %v: %v on the wire leaves %v", want, wire, slack)
		}
	}
}

func TestPasswordIsReadAtEachConnect(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pw")
	c := Conn{Config: Config{PasswordFile: path}}
	for _, want := range []string{"one", " two with blanks "} {
		if err := os.WriteFile(path, []byte(want+"\r\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := c.password(); got != want || err != nil {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
	}
	c.Password = func() (string, error) { return "from elsewhere", nil }
	if got, _ := c.password(); got != "from elsewhere" {
		t.Errorf("got %q", got)
	}
}
