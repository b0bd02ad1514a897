package agent

import (
	"os"
	"path/filepath"
	"strings"

	"lintod/agent/base/config"
	"lintod/agent/broker"
	"lintod/agent/page"
	"lintod/agent/signed/verifier"
	"lintod/agent/taps"
	"lintod/audio"
	"lintod/audio/chime"
	"lintod/audio/media"
	"lintod/audio/tts"
	"lintod/audio/wake"
	"lintod/audio/wake/models"
	"lintod/behaviors/meeting"
	"lintod/behaviors/remote"
	"lintod/behaviors/shell"
	"lintod/behaviors/tunnel"
	"lintod/gpio"
)

// Config is the whole configuration file. Each table belongs to the package
// that uses it.
type Config struct {
	Device DeviceConfig `toml:"device"`
	LinksConfig
	Audio  audio.Config `toml:"audio"`
	Sounds chime.Config `toml:"sounds"`
	TTS    tts.Config   `toml:"tts"`
	Wake   wake.Config  `toml:"wake"`
	gpio.Config
	Behaviors BehaviorsConfig `toml:"behaviors"`
	Signed    verifier.Config `toml:"signed"`
	Cards     taps.Config     `toml:"cards"`
	Page      page.Config     `toml:"page"`
}

// DeviceConfig is the [device] table.
type DeviceConfig struct {
	// Serial is the device's name on the platform. It is one level of a topic.
	Serial string `toml:"serial"`
	// StateDir is the directory of the state that survives restarts.
	StateDir string `toml:"state_dir"`
	// Socket is where `lintod talk`, `status` and `say` reach the daemon.
	Socket string `toml:"socket"`
	// Volume is the initial volume in percent, until another one is set.
	Volume int `toml:"volume"`
}

// Defaults is the configuration of an empty file. It is not valid: a device
// needs at least a serial and a link.
func Defaults() Config {
	return Config{
		Device: DeviceConfig{
			StateDir: "/var/lib/lintod",
			Socket:   "/run/lintod/lintod.sock",
			Volume:   80,
		},
		LinksConfig: linksDefaults(),
		Audio:       audio.Defaults(),
		Sounds:      chime.Defaults(),
		TTS:         tts.Defaults(),
		Wake:        wake.Defaults(),
		Config:      gpio.Defaults(),
		Behaviors: BehaviorsConfig{
			Shellexec:       shell.Defaults(),
			Startreversessh: tunnel.Defaults(),
			Managemeeting:   meeting.Defaults(),
			Play:            media.Defaults(),
			Config:          remote.Defaults(),
		},
		Signed: verifier.Defaults(),
		Cards:  taps.Defaults(),
		Page:   page.Defaults(),
	}
}

// LoadConfig reads the file at path over the defaults and validates it. The
// error has one line for each mistake: file, line, key, and what is expected.
func LoadConfig(path string) (Config, error) {
	c := Defaults()
	if err := config.Load(path, &c); err != nil {
		return Config{}, err
	}
	return c.complete(), nil
}

// parseConfig does what LoadConfig does, with text as the contents of the file at
// path.
func parseConfig(path string, text []byte) (Config, error) {
	c := Defaults()
	if err := config.Parse(path, text, &c); err != nil {
		return Config{}, err
	}
	return c.complete(), nil
}

// complete fills in values that are derived from others.
func (c Config) complete() Config {
	c.Wake.Models = []string{filepath.Join(c.Device.StateDir, "wake"), models.Packaged}
	return c
}

// Validate collects the problems that the packages find in their tables.
func (c Config) Validate() config.Problems {
	var ps config.Problems
	ps.In("device", c.Device.Validate())
	ps = append(ps, c.validateLinks()...)
	ps = append(ps, c.validateTools()...)
	ps.In("audio", c.Audio.Validate())
	ps.In("tts", c.TTS.Validate())
	ps.In("wake", c.Wake.Validate(c.linkNames()))
	if c.Wake.Enabled() && c.Audio.Privacy {
		ps.Add("audio.privacy", true, "false, or wake.engine = \"\": a wake word requires an open microphone")
	}
	if c.Wake.Enabled() && c.Wake.Stops() && !c.Audio.EchoCancelling {
		ps.Add("audio.echo_cancelling", false, "true, or no wake word with action = \"stop\": the word is said while the device speaks, and the microphone picks up both")
	}
	ps.In("behaviors", c.Behaviors.Validate())
	ps.In("behaviors.managemeeting", c.meetings().Validate())
	ps.In("cards", c.Cards.Validate())
	ps.In("cards.reader", c.validateReader())
	ps.In("signed", c.Signed.Validate(linkVerbs()))
	ps.In("page", c.Page.Validate())
	ps = append(ps, c.ValidateLinks(c.linkNames())...)
	return append(ps, c.Config.Validate()...)
}

// validateReader reports pins and ports that the card reader shares with buttons
// or LEDs.
func (c Config) validateReader() config.Problems {
	var ps config.Problems
	r := c.Cards.Reader
	if by := c.Taken(r.SPI); r.SPI != "" && by != "" {
		ps.Add("spi", r.SPI, "a different port; "+by+" uses this one")
	}
	if line, err := r.Reset.Canonical(); r.Reset != "" && err == nil && c.Taken(line) != "" {
		ps.Add("reset", string(r.Reset), "a different pin; "+c.Taken(line)+" uses this line")
	}
	return ps
}

// Validate reports invalid values.
func (c DeviceConfig) Validate() config.Problems {
	var ps config.Problems
	if c.Serial == "" {
		ps.Add("serial", nil, "the device's name on the platform, for example \"kitchen-01\"")
	} else if !broker.TopicLevel(c.Serial) {
		ps.Add("serial", c.Serial, broker.WantLevel)
	}
	if c.StateDir == "" {
		ps.Add("state_dir", c.StateDir, "a directory")
	}
	// The kernel's limit on the path of a unix socket, unix(7).
	if c.Socket == "" || len(c.Socket) > 107 {
		ps.Add("socket", c.Socket, "a path of at most 107 bytes")
	}
	if c.Volume < 0 || c.Volume > 100 {
		ps.Add("volume", c.Volume, "a percentage from 0 to 100")
	}
	return ps
}

// credentials is the directory where systemd places the files that the unit loads
// with LoadCredential=. Only the service and root can enter it, whatever the
// modes of the files are.
const credentials = "/run/credentials/lintod.service/"

// Credential returns where a credential can be read now. While the service does
// not run, or if it was started before the source file was written, that is the
// source file.
func Credential(path string) string {
	name, ours := strings.CutPrefix(path, credentials)
	const empty = "\n" // SetCredential= of the unit, without a source file
	if info, err := os.Stat(path); !ours || err == nil && info.Size() > int64(len(empty)) {
		return path
	}
	return filepath.Join("/etc/lintod", name)
}
