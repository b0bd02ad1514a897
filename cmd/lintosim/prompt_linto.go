package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"lintod/agent/base/printable"
	"lintod/cmd/lintosim/platform"
)

// lintoPrompt sends LinTO's behaviours.
type lintoPrompt struct {
	*prompt
	sim   *platform.Platform
	using string // the device selected by the user; empty for the most recent one
}

// list returns the commands.
func (p *lintoPrompt) list() []command {
	simple := func(name, help string) command {
		return command{name, "", help, func(string) error { return p.send(name, nil) }}
	}
	number := func(name, help string) command {
		return command{name, "0-100", help, func(args string) error { return p.sendNumber(name, args) }}
	}
	return []command{
		{"say", "TEXT", "speak a text on the device", func(args string) error {
			return p.send("say", map[string]string{"value": args})
		}},
		{"ask", "TEXT", "answer the next request with this question", p.ask},
		number("volume", "set the volume for now"),
		number("endvolume", "set the volume permanently"),
		simple("mute", "close the microphone"),
		simple("unmute", "open it again"),
		simple("ping", "check whether the device answers"),
		{"tts_lang", "LANG", "change the language: fr-FR", func(args string) error {
			return p.send("tts_lang", map[string]string{"value": args})
		}},
		{"shellexec", "COMMAND", "run a command on the device", func(args string) error {
			return p.send("shellexec", map[string]string{"cmd": args})
		}},
		{"meeting", "start|stop NAME", "record a meeting", p.meeting},
		{"send", "COMMAND JSON", "send any other behaviour", p.sendAny},
		{"raw", "TOPIC JSON", "publish to any topic", p.raw},
		{"fault", "NAME", "inject a fault: none error late noid duplicate garbage silent", p.fault},
		{"devices", "", "list known devices", p.devices},
		{"use", "SERIAL", "send to this device instead of the most recent one", p.use},
	}
}

// device returns the serial for commands.
func (p *lintoPrompt) device() (string, error) {
	if p.using != "" {
		return p.using, nil
	}
	seen := p.sim.Devices()
	if len(seen) == 0 {
		return "", errors.New("no device has connected yet; wait for one, or name it: use SERIAL")
	}
	return seen[0].Serial, nil
}

func (p *lintoPrompt) send(command string, payload any) error {
	serial, err := p.device()
	if err != nil {
		return err
	}
	_, err = p.sim.Send(serial, command, payload)
	return err
}

func (p *lintoPrompt) sendNumber(command, args string) error {
	n, err := strconv.Atoi(args)
	if err != nil || n < 0 || n > 100 {
		return fmt.Errorf("%s requires a number from 0 to 100", command)
	}
	return p.send(command, map[string]int{"value": n})
}

func (p *lintoPrompt) ask(args string) error {
	serial, err := p.device()
	if err != nil {
		return err
	}
	p.sim.AnswerNext(serial, platform.Ask(args, `{"intent":"asked"}`))
	p.printf("the next request of %s is answered with this question", serial)
	return nil
}

func (p *lintoPrompt) meeting(args string) error {
	step, name, _ := strings.Cut(args, " ")
	if step != "start" && step != "stop" || name == "" {
		return errors.New("usage: meeting start|stop NAME")
	}
	return p.send("managemeeting", map[string]string{"command": step + "localrecording", "sessionname": name})
}

func (p *lintoPrompt) sendAny(args string) error {
	command, payload, _ := strings.Cut(args, " ")
	if err := wantJSON(payload); err != nil {
		return err
	}
	return p.send(command, payload)
}

func (p *lintoPrompt) raw(args string) error {
	topic, payload, _ := strings.Cut(args, " ")
	if strings.ContainsAny(topic, "+#") {
		return errors.New("a topic must not contain + or #")
	}
	_, err := p.sim.Publish(topic, []byte(payload), false)
	return err
}

func wantJSON(payload string) error {
	if !json.Valid([]byte(payload)) {
		return fmt.Errorf("%q is not JSON; raw sends it anyway", printable.Line(payload))
	}
	return nil
}

func (p *lintoPrompt) fault(args string) error {
	f, err := platform.ParseFault(args)
	if err != nil {
		return err
	}
	return p.sim.SetFault(f)
}

func (p *lintoPrompt) devices(string) error {
	for _, d := range p.sim.Devices() {
		state := "offline"
		if d.Online {
			state = "online"
		}
		p.printf("%-10s %-7s scope %s, last seen %s", d.Serial, state, d.Scope, d.Seen.Format("15:04:05"))
	}
	return nil
}

func (p *lintoPrompt) use(args string) error {
	if strings.ContainsAny(args, "/+# ") {
		return errors.New("a serial must not contain spaces, /, +, or #")
	}
	p.using = args
	return nil
}
