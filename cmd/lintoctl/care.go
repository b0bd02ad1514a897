package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"lintod/agent/base/printable"
	"lintod/agent/base/textfile"
	"lintod/cmd/lintoctl/runs"
)

// Verbs for maintaining devices. Their owners enable each in [behaviors.NAME].

// How long devices may take, excluding network latency.
const (
	configTakes  = 3 * time.Minute // the default probation of a minute
	doctorTakes  = 3 * time.Minute
	upgradeTakes = 26 * time.Minute // 20 minutes for apt, and 5 to reconnect with the new version
	rebootTakes  = 5 * time.Minute
	followTakes  = 60 * time.Second
)

// maxCause is how much of the reason of a failed turn is printed, in characters.
const maxCause = 100

// maxFile is the maximum size of a configuration that devices accept, in bytes.
const maxFile = 256 << 10

func one(o runs.Order) func([]string) ([]runs.Order, error) {
	return func([]string) ([]runs.Order, error) { return []runs.Order{o}, nil }
}

type configArgs struct {
	Action string `json:"action"`
	Text   string `json:"text,omitempty"`
	Change string `json:"change,omitempty"`
}

func configGet() verb {
	o := order("config", configArgs{Action: "get"})
	o.Harmless = true
	return verb{
		parent: "config", use: "get", short: "print the configuration",
		long:    "Print the configuration. Command lines and passwords in addresses are shown as ***.",
		example: "  lintoctl config get kitchen",
		orders:  one(o), print: printMember("text"),
	}
}

func configDiff() verb {
	return verb{
		parent: "config", use: "diff KEY=VALUE...", short: "print the effect of a change without making it",
		long: `Print the lines that a change would change, with their numbers, without changing them. The
device checks the result like "lintod check". @FILE stands for a whole configuration.`,
		example: `  lintoctl config diff -all device.volume=40
  lintoctl config diff kitchen @lintod.toml`,
		takes: aText,
		orders: func(args []string) ([]runs.Order, error) {
			a, err := parseChange("diff", args)
			o := order("config", a)
			o.Harmless = true
			return []runs.Order{o}, err
		},
		print: printMember("diff"),
	}
}

func configSet() verb {
	return verb{
		parent: "config", use: "set KEY=VALUE...", short: "change the configuration, on probation",
		long: `Change keys of the configuration, or with @FILE all of it. The device checks the change like
"lintod check", applies it, and keeps it if it is back online within a minute; otherwise it
reverts the change and reports that.

A value is written as in TOML; quotes may be omitted. Without --, the first word is
the device, unless devices are selected by flags.`,
		example: `  lintoctl config set kitchen device.volume=40
  lintoctl config set -all -canary 1 -wait 1m 'linto.broker=["mqtts://a", "mqtts://b"]'
  lintoctl config set kitchen @lintod.toml`,
		takes: aText,
		orders: func(args []string) ([]runs.Order, error) {
			a, err := parseChange("set", args)
			o := order("config", a)
			o.Takes = configTakes
			return []runs.Order{o}, err
		},
	}
}

func configUndo() verb {
	o := order("config", configArgs{Action: "undo"})
	o.Takes = configTakes
	return verb{
		parent: "config", use: "undo", short: "restore the configuration before the last change, on probation",
		example: "  lintoctl config undo -failed-of last",
		orders:  one(o),
	}
}

// values that TOML accepts without quotes
var tomlValue = regexp.MustCompile(`^(true|false|[+-]?[0-9][0-9_]*(\.[0-9]+)?|["'\[{].*)$`)

// parseChange converts KEY=VALUE to TOML, and @FILE to its text.
func parseChange(action string, args []string) (configArgs, error) {
	a := configArgs{Action: action}
	if path, ok := strings.CutPrefix(args[0], "@"); ok {
		if len(args) > 1 {
			return a, errors.New("@FILE is the whole configuration and cannot be combined with keys")
		}
		text, err := textfile.Read(path, maxFile)
		a.Text = string(text)
		return a, err
	}
	var change strings.Builder
	for _, arg := range args {
		key, value, ok := strings.Cut(arg, "=")
		if !ok || strings.TrimSpace(key) == "" || strings.ContainsAny(arg, "\r\n") {
			return a, fmt.Errorf("invalid change %q; want KEY=VALUE, such as device.volume=40, or @FILE", arg)
		}
		if !tomlValue.MatchString(value) {
			quoted, err := json.Marshal(value)
			if err != nil {
				return a, err
			}
			value = string(quoted)
		}
		fmt.Fprintf(&change, "%s = %s\n", strings.TrimSpace(key), value)
	}
	a.Change = change.String()
	return a, nil
}

// printMember prints the lines of a text in the answer; with several devices, after the serial.
func printMember(name string) func(*call, runs.Result, bool) error {
	return func(c *call, r runs.Result, alone bool) error {
		var members map[string]json.RawMessage
		var text string
		_ = json.Unmarshal(r.Answer, &members) // if it cannot be parsed, the summary gives the reason
		_ = json.Unmarshal(members[name], &text)
		for line := range strings.Lines(text) {
			c.line(r.Serial, alone, strings.TrimRight(line, "\r\n"))
		}
		return nil
	}
}

// line prints one line of a device's answer.
func (c *call) line(serial string, alone bool, text string) {
	if alone {
		printable.Fprintf(c.stdout, "%s\n", text)
	} else {
		printable.Fprintf(c.stdout, "%s  %s\n", serial, text)
	}
}

type logArgs struct {
	Lines int    `json:"lines"`
	After string `json:"after,omitempty"`
	Wait  int    `json:"wait,omitempty"`
}

type logAnswer struct {
	Lines []struct {
		At       time.Time `json:"at"`
		Priority int       `json:"priority"`
		Text     string    `json:"text"`
	} `json:"lines"`
	Cursor  string `json:"cursor"`
	Dropped int    `json:"dropped"`
}

func deviceLog() verb {
	var count int
	var follow bool
	return verb{
		use: "log", short: "print the last lines of lintod's log",
		long: "Print the last lines of lintod in the device's journal.",
		example: `  lintoctl log kitchen
  lintoctl log kitchen -f`,
		flags: func(f *pflag.FlagSet) {
			f.IntVar(&count, "lines", 50, "print `N` lines, at most 1000")
			f.BoolVarP(&follow, "follow", "f", false, "continue with new lines, until Ctrl-C")
		},
		orders: func([]string) ([]runs.Order, error) {
			if count < 1 || count > 1000 {
				return nil, fmt.Errorf("-lines is %d; want a number from 1 to 1000", count)
			}
			o := order("log", logArgs{Lines: count})
			o.Harmless = true
			return []runs.Order{o}, nil
		},
		next: func(r runs.Result) []runs.Order {
			var a logAnswer
			if !follow || json.Unmarshal(r.Answer, &a) != nil || a.Cursor == "" {
				return nil
			}
			o := order("log", logArgs{Lines: 1000, After: a.Cursor, Wait: int(followTakes / time.Second)})
			o.Harmless, o.Takes = true, followTakes
			return []runs.Order{o}
		},
		print: func(c *call, r runs.Result, alone bool) error {
			var a logAnswer
			_ = json.Unmarshal(r.Answer, &a) // members that cannot be parsed are omitted
			if a.Dropped > 0 {
				c.line(r.Serial, alone, fmt.Sprintf("(%d older lines omitted)", a.Dropped))
			}
			if len(a.Lines) == 0 && a.Cursor == "" && r.State == runs.Done {
				c.line(r.Serial, alone, "(the journal has no lines of lintod.service)")
			}
			for _, l := range a.Lines {
				c.line(r.Serial, alone, l.At.Local().Format(time.DateTime)+" "+l.Text)
			}
			return nil
		},
	}
}

func deviceDoctor() verb {
	o := order("doctor", struct{}{})
	o.Harmless, o.Takes = true, doctorTakes
	return verb{
		use: "doctor", short: "run the checks of lintod doctor, without playing a sound",
		long: `Run the checks of "lintod doctor", without playing a sound. Of several devices, only what is
wrong is printed.`,
		example: `  lintoctl doctor kitchen
  lintoctl doctor -all`,
		orders: one(o),
		print: func(c *call, r runs.Result, alone bool) error {
			var a struct {
				Findings []struct{ Subject, Level, Text, Do string } `json:"findings"`
			}
			_ = json.Unmarshal(r.Answer, &a) // members that cannot be parsed are omitted
			wrong := 0
			for _, f := range a.Findings {
				if f.Level == "ok" && !alone {
					continue
				}
				wrong++
				c.line(r.Serial, alone, fmt.Sprintf("%-4s  %-13s  %s", f.Level, f.Subject, f.Text))
				if f.Do != "" {
					c.line(r.Serial, alone, fmt.Sprintf("%21s  -> %s", "", f.Do))
				}
			}
			if wrong == 0 && len(a.Findings) > 0 {
				c.line(r.Serial, alone, fmt.Sprintf("ok    %d checks", len(a.Findings)))
			}
			return nil
		},
	}
}

func counters() verb {
	o := order("counters", struct{}{})
	o.Harmless = true
	return verb{
		use: "counters", short: "print uptime, turns, and failures; with -json all counters",
		long: `Print how long devices have been running, what they are doing, how many recent turns are stored
and how many of them failed, with the reason of the last one, how often their parts were
restarted, and how often the speaker and speech synthesis failed. With -json, the answers
contain everything that "lintod status -json" prints on the device.`,
		example: `  lintoctl counters -all
  lintoctl counters kitchen -json`,
		orders: one(o),
		print: func(c *call, r runs.Result, _ bool) error {
			var a struct {
				Line, Uptime, Version string
				Turns                 []struct{ Result, Cause string }
				Parts                 map[string]struct{ Restarts int }
				Loudspeaker, Voice    struct{ Failures int }
			}
			_ = json.Unmarshal(r.Answer, &a) // members that cannot be parsed are omitted
			if r.State != runs.Done {
				return nil // the summary gives the reason
			}
			failed, cause, restarts, speech := 0, "", 0, ""
			for _, t := range a.Turns {
				if t.Result == "failed" {
					failed++
					cause = " (" + printable.Short(t.Cause, maxCause) + ")"
				}
			}
			if speaker, voice := a.Loudspeaker.Failures, a.Voice.Failures; speaker+voice > 0 {
				speech = fmt.Sprintf("; failures: %d of the speaker, %d of speech synthesis", speaker, voice)
			}
			for _, p := range a.Parts {
				restarts += p.Restarts
			}
			c.line(r.Serial, false, fmt.Sprintf("%s, up %s; %d turns, %d failed%s; %d restarts%s; %s",
				a.Version, a.Uptime, len(a.Turns), failed, cause, restarts, speech, a.Line))
			return nil
		},
	}
}

func reboot() verb {
	o := order("reboot", struct{}{})
	o.Takes = rebootTakes
	return verb{
		use: "reboot", short: "reboot devices",
		long: `Reboot devices. A device is done when it is back after the reboot. Old LinTO clients do not
support this command.`,
		example: "  lintoctl reboot -all -canary 1 -then 10% -then 100% -wait 5m",
		orders:  one(o), print: printBack,
	}
}

func upgrade() verb {
	return verb{
		use: "upgrade VERSION SHA256", short: "install a version of lintod from the apt sources of the device",
		long: `Install a version of lintod from the apt sources of the device, if the package has the given
SHA-256 checksum (sha256sum lintod_VERSION_ARCH.deb prints it, which differs for each
architecture). A device is done when it is back with that version.`,
		example: "  lintoctl upgrade -all -canary 1 -then 10% -then 100% -wait 5m 0.2.0 4f53cda18c2b...",
		takes:   2,
		orders: func(args []string) ([]runs.Order, error) {
			o := order("upgrade", map[string]string{"version": args[0], "sha256": strings.ToLower(args[1])})
			o.Takes = upgradeTakes
			return []runs.Order{o}, nil
		},
		print: printBack,
	}
}

// printBack prints how long a device was away, and which version runs now where it says so.
func printBack(c *call, r runs.Result, _ bool) error {
	if r.State != runs.Done {
		return nil // the summary says why
	}
	var a struct{ Version, From string }
	_ = json.Unmarshal(r.Answer, &a) // what it cannot say, it does not
	text := fmt.Sprintf("back after %d s", (r.Millis+500)/1000)
	switch {
	case a.From != "":
		text += ", version " + a.Version
	case a.Version != "":
		text = "already runs version " + a.Version
	}
	c.line(r.Serial, false, text)
	return nil
}
