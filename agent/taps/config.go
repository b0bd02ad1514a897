package taps

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"lintod/agent/base/config"
	"lintod/agent/cards"
	"lintod/gpio"
	"lintod/gpio/rfid"
)

// Config is the [cards] table.
type Config struct {
	cards.Config
	// Reader configures the card reader.
	Reader rfid.Config `toml:"reader"`
	// Map is what the owner's cards do, by UID: the path of a sound file or directory,
	// an http or https URL, or a button action.
	Map map[string]string `toml:"map"`
}

// Defaults returns the configuration of an empty table.
func Defaults() Config { return Config{Config: cards.Defaults()} }

// Validate reports invalid values.
func (c Config) Validate() config.Problems {
	ps := c.Config.Validate()
	ps.In("reader", c.Reader.Validate())
	for uid, what := range c.Map {
		if _, err := cards.ParseUID(uid); err != nil {
			ps.Add("map."+uid, what, "a UID of 4 to 32 hexadecimal digits in its place")
		}
		if strings.HasPrefix(what, "/") || web(what) {
			continue
		}
		if a, err := gpio.ParseAction(what); err != nil || !tappable(a) {
			ps.Add("map."+uid, what, `a path that starts with "/", an http or https URL, "say TEXT", "behavior NAME {json}", or another action of a button that is over at once`)
		}
	}
	return ps
}

// tappable reports whether a card can perform a button's action: a card cannot be
// held, and must not switch the device off by accident.
func tappable(a gpio.Action) bool {
	return slices.Contains([]gpio.Verb{gpio.Stop, gpio.Mute, gpio.VolumeUp, gpio.VolumeDown, gpio.Meeting, gpio.Say, gpio.Behavior}, a.Verb)
}

func web(what string) bool {
	return strings.HasPrefix(what, "http://") || strings.HasPrefix(what, "https://")
}

// mapped returns the entry of the owner's map for a card.
func (c Config) mapped(uid string) (string, bool) {
	for key, what := range c.Map {
		if known, err := cards.ParseUID(key); err == nil && known == uid {
			return what, true
		}
	}
	return "", false
}

// playable are the extensions of sound files.
var playable = []string{".mp3", ".flac", ".wav", ".ogg", ".oga", ".opus", ".m4a", ".m4b", ".aac", ".mp4", ".webm"}

// pictures lists the pictures in a directory, ordered by name; anything else has
// none.
func pictures(dir string) (list []string) {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if err == nil && slices.Contains([]string{".jpg", ".jpeg", ".png", ".gif"}, strings.ToLower(filepath.Ext(e.Name()))) && len(list) < maxTracks {
			list = append(list, filepath.Join(dir, e.Name()))
		}
	}
	return list
}

// tracks returns the sounds at a path or URL, ordered by name.
func tracks(what string) ([]string, error) {
	if web(what) {
		return []string{what}, nil
	}
	info, err := os.Stat(what)
	if err != nil || !info.IsDir() {
		return []string{what}, err
	}
	entries, err := os.ReadDir(what) // sorted by name
	if err != nil {
		return nil, err
	}
	var list []string
	for _, e := range entries {
		if slices.Contains(playable, strings.ToLower(filepath.Ext(e.Name()))) && len(list) < maxTracks {
			list = append(list, filepath.Join(what, e.Name()))
		}
	}
	if len(list) == 0 {
		return nil, errNoSound
	}
	return list, nil
}
