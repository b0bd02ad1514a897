package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"lintod/agent/base/printable"
	"lintod/cmd/lintosim/platform"
)

// prompt does what is typed.
type prompt struct {
	sim   *platform.Platform
	out   io.Writer // standard error where standard output is for a script
	using string    // the device chosen by hand; empty for the last one seen
}

// command is one word of the prompt.
type command struct {
	name, args, help string
	do               func(p *prompt, args string) error
}

var errQuit = errors.New("quit")

// commands lists what can be typed, in the order of help.
func commands() []command {
	simple := func(name, help string) command {
		return command{name, "", help, func(p *prompt, _ string) error { return p.send(name, nil) }}
	}
	number := func(name, help string) command {
		return command{name, "0-100", help, func(p *prompt, args string) error { return p.sendNumber(name, args) }}
	}
	return []command{
		{"say", "TEXT", "let the device say something", func(p *prompt, args string) error {
			return p.send("say", map[string]string{"value": args})
		}},
		{"ask", "TEXT", "answer the next request with this question", (*prompt).ask},
		number("volume", "set the volume for now"),
		number("endvolume", "set the volume for good"),
		simple("mute", "close the microphone"),
		simple("unmute", "open it again"),
		simple("ping", "is the device there?"),
		{"tts_lang", "LANG", "change the language: fr-FR", func(p *prompt, args string) error {
			return p.send("tts_lang", map[string]string{"value": args})
		}},
		{"shellexec", "COMMAND", "run a command on the device", func(p *prompt, args string) error {
			return p.send("shellexec", map[string]string{"cmd": args})
		}},
		{"meeting", "start|stop NAME", "record a meeting", (*prompt).meeting},
		{"send", "COMMAND JSON", "any other behaviour", (*prompt).sendAny},
		{"raw", "TOPIC JSON", "anything to any topic", (*prompt).raw},
		{"fault", "NAME", "spoil answers: none error late noid duplicate garbage silent", (*prompt).fault},
		{"devices", "", "list the devices seen", (*prompt).devices},
		{"use", "SERIAL", "send to this device from now on, not to the last one seen", (*prompt).use},
		{"help", "", "this list", (*prompt).help},
		{"quit", "", "end", func(*prompt, string) error { return errQuit }},
	}
}

// read does what comes line by line. It reports whether the user wants to
// leave; the end of a pipe is no such wish.
func (p *prompt) read(ctx context.Context, c *console) bool {
	for ctx.Err() == nil {
		line, err := c.readLine()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				p.printf("standard input: %v", err)
			}
			return c.interactive()
		}
		if err := p.do(line); errors.Is(err, errQuit) {
			return true
		} else if err != nil {
			p.printf("%v", err)
		}
	}
	return false
}

func (p *prompt) do(line string) error {
	name, args, _ := strings.Cut(strings.TrimSpace(line), " ")
	args = strings.TrimSpace(args)
	if name == "" {
		return nil
	}
	for _, c := range commands() {
		if c.name != name {
			continue
		}
		if c.args != "" && args == "" {
			return fmt.Errorf("%s wants more: %s %s", name, name, c.args)
		}
		return c.do(p, args)
	}
	return fmt.Errorf("%q is no command; help lists them", printable.Line(name))
}

func (p *prompt) printf(format string, args ...any) {
	printable.Fprintf(p.out, "         "+format+"\n", args...)
}

// device is the serial number that commands go to.
func (p *prompt) device() (string, error) {
	if p.using != "" {
		return p.using, nil
	}
	seen := p.sim.Devices()
	if len(seen) == 0 {
		return "", errors.New("no device has been seen yet; wait for one, or name it: use SERIAL")
	}
	return seen[0].Serial, nil
}

func (p *prompt) send(command string, payload any) error {
	serial, err := p.device()
	if err != nil {
		return err
	}
	_, err = p.sim.Send(serial, command, payload)
	return err
}

func (p *prompt) sendNumber(command, args string) error {
	n, err := strconv.Atoi(args)
	if err != nil || n < 0 || n > 100 {
		return fmt.Errorf("%s wants a number from 0 to 100", command)
	}
	return p.send(command, map[string]int{"value": n})
}

func (p *prompt) ask(args string) error {
	serial, err := p.device()
	if err != nil {
		return err
	}
	p.sim.AnswerNext(serial, platform.Ask(args, `{"intent":"asked"}`))
	p.printf("the next request of %s is answered with this question", serial)
	return nil
}

func (p *prompt) meeting(args string) error {
	step, name, _ := strings.Cut(args, " ")
	if step != "start" && step != "stop" || name == "" {
		return errors.New("meeting wants: meeting start|stop NAME")
	}
	return p.send("managemeeting", map[string]string{"command": step + "localrecording", "sessionname": name})
}

func (p *prompt) sendAny(args string) error {
	command, payload, _ := strings.Cut(args, " ")
	if err := wantJSON(payload); err != nil {
		return err
	}
	return p.send(command, payload)
}

func (p *prompt) raw(args string) error {
	topic, payload, _ := strings.Cut(args, " ")
	if strings.ContainsAny(topic, "+#") {
		return errors.New("a topic to publish to has no + and no #")
	}
	_, err := p.sim.Publish(topic, []byte(payload), false)
	return err
}

func wantJSON(payload string) error {
	if !json.Valid([]byte(payload)) {
		return fmt.Errorf("%q is no JSON; raw would send it all the same", printable.Line(payload))
	}
	return nil
}

func (p *prompt) fault(args string) error {
	f, err := platform.ParseFault(args)
	if err != nil {
		return err
	}
	return p.sim.SetFault(f)
}

func (p *prompt) devices(string) error {
	for _, d := range p.sim.Devices() {
		state := "offline"
		if d.Online {
			state = "online"
		}
		p.printf("%-10s %-7s scope %s, last seen %s", d.Serial, state, d.Scope, d.Seen.Format("15:04:05"))
	}
	return nil
}

func (p *prompt) use(args string) error {
	if strings.ContainsAny(args, "/+# ") {
		return errors.New("a serial number has no space, /, + or #")
	}
	p.using = args
	return nil
}

func (p *prompt) help(string) error {
	for _, c := range commands() {
		p.printf("%-10s %-16s %s", c.name, c.args, c.help)
	}
	return nil
}
