package status

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"
	"time"

	"lintod/agent/base/config"
	"lintod/agent/base/printable"
	"lintod/agent/cards"
	"lintod/agent/link"
	"lintod/agent/taps"
	"lintod/agent/turn"
	"lintod/audio"
	"lintod/audio/native"
	"lintod/audio/player"
	"lintod/audio/recorder"
	"lintod/audio/tts"
	"lintod/audio/wake"
	"lintod/behaviors/tunnel"
	"lintod/gpio/rfid"
)

// Report is what `lintod status -json` prints, except for the counters of single
// links.
type Report struct {
	Serial  string `json:"serial"`
	Version string `json:"version"`
	Uptime  string `json:"uptime"`
	Line    string `json:"line"` // what the device is doing, for people
	Activity
	Turn turn.Snapshot `json:"turn"` // the same, as data
	// Links are the links that talk, by name.
	Links   map[string]link.Status `json:"links"`
	Volume  int                    `json:"volume"`       // percent, now
	Keep    int                    `json:"start_volume"` // percent, after a restart
	Lang    string                 `json:"language"`
	Mic     audio.Health           `json:"microphone"`
	Speaker player.Stats           `json:"loudspeaker"`
	Voice   tts.Stats              `json:"voice"`
	// Sound is nil if both microphone and speaker are virtual.
	Sound *native.Status `json:"sound,omitempty"`
	GPIO  []string       `json:"gpio_faults,omitempty"` // one sentence each
	Wake  *wake.Status   `json:"wake,omitempty"`
	Cards Cards          `json:"cards"`
	// Recording and Tunnels are the state of recordings and tunnels.
	Recording *recorder.Status `json:"recording,omitempty"`
	Tunnels   []tunnel.Status  `json:"tunnels,omitempty"`

	Parts map[string]Part `json:"parts"`
	Turns []turn.Record   `json:"turns"` // the last ones, oldest first
	Self  Self            `json:"self"`
}

// Cards are what cards play, and the stored content.
type Cards struct {
	cards.Stats
	Playing *taps.Playing `json:"playing,omitempty"`
	Readers []rfid.Status `json:"readers,omitempty"`
}

// Line returns that as text for people.
func (c Cards) Line() string {
	line := fmt.Sprintf("%d known, content %v", c.Known, config.Size(c.Bytes))
	if p := c.Playing; p != nil {
		line += fmt.Sprintf("; %s, track %d of %d", p.Name, p.Track, p.Of)
		if p.Paused {
			line += ", paused"
		}
	}
	if d := c.Download; d != nil {
		line += fmt.Sprintf("; downloading %s, %d of %d files, %d %%", cmp.Or(d.Name, d.Skill), d.Files, d.Of, d.Percent)
	}
	for _, r := range c.Readers {
		if r.Fault != "" {
			line += fmt.Sprintf("; %s: %s", r.Reader, r.Fault)
		}
	}
	return line
}

// Part is the state of one part of the agent.
type Part struct {
	Running  bool           `json:"running"`
	Restarts int            `json:"restarts"`
	Reasons  map[string]int `json:"reasons,omitempty"` // how often it failed, by reason
	Last     string         `json:"last,omitempty"`    // the last reason
	LastAt   time.Time      `json:"last_at,omitzero"`  // when that was
}

// Print prints the status for people.
func (s Report) Print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	printable.Fprintf(t, "%s\t%s, lintod %s, up %s\n", s.Serial, s.Line, s.Version, s.Uptime)
	for _, name := range slices.Sorted(maps.Keys(s.Links)) {
		printable.Fprintf(t, "%s\t%s\n", name, s.Links[name].Line)
		if text := s.Links[name].Transcript; text != "" {
			printable.Fprintf(t, "understood\t%s\n", text)
		}
	}
	if s.Wake != nil {
		printable.Fprintf(t, "wake\t%s\n", s.Wake.Line())
	}
	if s.Cards.Known > 0 || s.Cards.Playing != nil || s.Cards.Download != nil || len(s.Cards.Readers) > 0 {
		printable.Fprintf(t, "cards\t%s\n", s.Cards.Line())
	}
	printable.Fprintf(t, "volume\t%d %% (%d %% after a restart), language %s\n", s.Volume, s.Keep, s.Lang)
	printable.Fprintf(t, "microphone\t%d frames, %d samples lost\n", s.Mic.Frames, s.Mic.Lost)
	if v := s.Voice; v.Texts > 0 {
		printable.Fprintf(t, "voice\t%d texts, %d of them from memory, %d not spoken\n", v.Texts, v.Cached, v.Failures)
	}
	if s.Recording != nil {
		printable.Fprintf(t, "recording\t%s for %v, to %s\n", s.Recording.Session, s.Recording.Duration.Round(time.Second), s.Recording.File)
	}
	for _, tunnel := range s.Tunnels {
		printable.Fprintf(t, "tunnel\t%s\n", tunnel.Line())
	}
	for name, p := range s.Parts {
		if p.Restarts > 0 {
			printable.Fprintf(t, "%s\trestarted %d times, last: %s\n", name, p.Restarts, p.Last)
		}
	}
	if n := len(s.Turns); n > 0 {
		printable.Fprintf(t, "last turn\t%s\n", s.Turns[n-1].Line())
	}
	return t.Flush()
}
