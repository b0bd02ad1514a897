package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"lintod/cmd/lintoctl/runs"
)

// verbs are the commands that send requests to devices.
func verbs() []verb {
	var list []verb
	for _, g := range []struct {
		id    string
		verbs []verb
	}{
		{groupUse, []verb{say(), ask(), volume(), mute(), unmute(), language(), meetingStart(), meetingStop()}},
		{groupMaintain, []verb{
			execute(), deviceLog(), deviceDoctor(), counters(), configGet(), configDiff(), configSet(), configUndo(), reboot(), upgrade(),
		}},
	} {
		for _, v := range g.verbs {
			v.group = g.id
			list = append(list, v)
		}
	}
	return list
}

// value is the argument of most commands.
type value struct {
	Value any `json:"value"`
}

func say() verb {
	return verb{
		use: "say TEXT", short: "speak a text",
		long: "Speak a text. Without --, the first word is the device, and the rest the text.",
		example: `  lintoctl say kitchen "Dinner is ready"
  lintoctl say kitchen 'hall-*' -- -5 degrees outside
  lintoctl say -all "Dinner is ready"`,
		takes: aText,
		orders: func(args []string) ([]runs.Order, error) {
			o := order("say", value{strings.Join(args, " ")})
			o.Silent = true
			return []runs.Order{o}, nil
		},
	}
}

func ask() verb {
	return verb{
		use: "ask TEXT", short: "send a written question; the device speaks the answer",
		long: `Send a written question to the device's platform; the device speaks the answer. Without
--, the first word is the device, and the rest the question. A device refuses while its user
is speaking or waiting for an answer. Old LinTO clients do not support this command.`,
		example: `  lintoctl ask kitchen "What is the weather like?"
  lintoctl ask -where 'language=fr-FR' "Quelle heure est-il ?"`,
		takes: aText,
		orders: func(args []string) ([]runs.Order, error) {
			return []runs.Order{order("ask", value{strings.Join(args, " ")})}, nil
		},
	}
}

func volume() verb {
	var keep bool
	return verb{
		use: "volume PERCENT", short: "set the volume, from 0 to 100",
		example: `  lintoctl volume kitchen 40
  lintoctl volume -all 40 -keep`,
		takes: 1,
		flags: func(f *pflag.FlagSet) {
			f.BoolVar(&keep, "keep", false, "keep it after a restart")
		},
		orders: func(args []string) ([]runs.Order, error) {
			percent, err := strconv.Atoi(args[0])
			if err != nil || percent < 0 || percent > 100 {
				return nil, fmt.Errorf("invalid volume %q; want a whole number from 0 to 100", args[0])
			}
			orders := []runs.Order{order("volume", value{percent})}
			if keep {
				orders = append(orders, order("endvolume", value{percent}))
			}
			for i := range orders {
				orders[i].Harmless, orders[i].Silent = true, true
			}
			return orders, nil
		},
	}
}

func mute() verb {
	return verb{
		use: "mute", short: "turn the microphone off",
		example: "  lintoctl mute kitchen",
		orders:  acknowledged("mute", "muteack"),
	}
}

func unmute() verb {
	return verb{
		use: "unmute", short: "turn the microphone on",
		example: "  lintoctl unmute kitchen",
		orders:  acknowledged("unmute", "unmuteack"),
	}
}

func acknowledged(topic, answer string) func([]string) ([]runs.Order, error) {
	return func([]string) ([]runs.Order, error) {
		o := order(topic, struct{}{})
		o.Answer, o.Harmless = answer, true
		return []runs.Order{o}, nil
	}
}

func language() verb {
	return verb{
		use: "lang TAG", short: "set the language of speech, for example fr-FR",
		example: "  lintoctl lang kitchen fr-FR",
		takes:   1,
		orders: func(args []string) ([]runs.Order, error) {
			o := order("tts_lang", value{args[0]})
			o.Harmless, o.Silent = true, true
			return []runs.Order{o}, nil
		},
	}
}

func meetingStart() verb {
	return verb{
		parent: "meeting", use: "start SESSION", short: "start the recording of a meeting, if the owner has enabled it",
		long: `Start the recording of a meeting, on devices whose owner allows it
([behaviors.managemeeting] in lintod.toml(5)). SESSION names the recording.`,
		example: "  lintoctl meeting start hall-01 board-2026-11",
		takes:   1,
		orders:  recording("startlocalrecording"),
	}
}

func meetingStop() verb {
	return verb{
		parent: "meeting", use: "stop SESSION", short: "stop the recording of a meeting",
		example: "  lintoctl meeting stop hall-01 board-2026-11",
		takes:   1,
		orders:  recording("stoplocalrecording"),
	}
}

func recording(command string) func([]string) ([]runs.Order, error) {
	return func(args []string) ([]runs.Order, error) {
		return []runs.Order{order("managemeeting", map[string]string{"command": command, "sessionname": args[0]})}, nil
	}
}
