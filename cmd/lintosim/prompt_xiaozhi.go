package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"lintod/agent/base/printable"
	"lintod/cmd/lintosim/gateway"
)

// xiaozhiPrompt sends the messages of a server of the xiaozhi family.
type xiaozhiPrompt struct {
	*prompt
	sim   *gateway.Gateway
	ctx   context.Context
	using string // the device selected by the user; empty for the only one
}

// list returns the commands.
func (p *xiaozhiPrompt) list() []command {
	to := func(f func(mac string) error) func(string) error {
		return func(string) error {
			mac, err := p.device()
			if err != nil {
				return err
			}
			return f(mac)
		}
	}
	return []command{
		{"say", "TEXT", "speak to the device, in its session or, with golang, by requesting one", p.say},
		{"tools", "", "list the device's tools, including those for users only", p.tools},
		{"call", "TOOL [JSON]", "call a tool: call self.audio_speaker.set_volume {\"volume\":40}", p.call},
		{"alert", "TEXT", "show an alert", func(args string) error {
			return p.send(map[string]any{"type": "alert", "status": "lintosim", "message": args, "emotion": "happy"})
		}},
		{"emotion", "NAME", "show an emotion: happy, sad, thinking", func(args string) error {
			return p.send(map[string]any{"type": "llm", "text": "", "emotion": args})
		}},
		{"reboot", "", "ask the device to reboot", func(string) error {
			return p.send(map[string]any{"type": "system", "command": "reboot"})
		}},
		{"send", "JSON", "send any other message", p.sendAny},
		{"goodbye", "", "end the session from the server's side", to(p.sim.Goodbye)},
		{"drop", "", "close the connection without a message", to(p.sim.Drop)},
		{"activate", "", "activate all devices that show a code", func(string) error { p.sim.Activate(""); return nil }},
		{"fault", "FAULTS", "inject faults: none, or for example loss=10,jitter=100ms; see lintosim xiaozhi -help", p.fault},
		{"devices", "", "list known devices", p.devices},
		{"use", "MAC", "send to this device", func(args string) error { p.using = args; return nil }},
	}
}

// device returns the address for commands.
func (p *xiaozhiPrompt) device() (string, error) {
	if p.using != "" {
		return p.using, nil
	}
	var found []string
	for _, d := range p.sim.Devices() {
		if d.Online {
			found = append(found, d.MAC)
		}
	}
	switch len(found) {
	case 0:
		return "", errors.New("no device is connected; wait for one, or name it: use MAC")
	case 1:
		return found[0], nil
	}
	return "", fmt.Errorf("%d devices are connected; select one: use MAC", len(found))
}

func (p *xiaozhiPrompt) send(m map[string]any) error {
	mac, err := p.device()
	if err != nil {
		return err
	}
	return p.sim.Send(mac, m)
}

func (p *xiaozhiPrompt) sendAny(args string) error {
	var m map[string]any
	if err := json.Unmarshal([]byte(args), &m); err != nil || m == nil {
		return fmt.Errorf("%q is not a JSON object", printable.Line(args))
	}
	return p.send(m)
}

func (p *xiaozhiPrompt) say(args string) error {
	mac, err := p.device()
	if err != nil {
		return err
	}
	return p.sim.Say(mac, args, false)
}

func (p *xiaozhiPrompt) tools(string) error {
	mac, err := p.device()
	if err != nil {
		return err
	}
	tools, err := p.sim.AllTools(p.ctx, mac)
	if err != nil {
		return err
	}
	for _, t := range tools {
		p.printf("%-34s %s", t.Name, t.Description)
	}
	return nil
}

func (p *xiaozhiPrompt) call(args string) error {
	mac, err := p.device()
	if err != nil {
		return err
	}
	name, text, _ := strings.Cut(args, " ")
	arguments := map[string]any{}
	if text != "" {
		if err := json.Unmarshal([]byte(text), &arguments); err != nil {
			return fmt.Errorf("the arguments are not a JSON object: %w", err)
		}
	}
	result, err := p.sim.Call(p.ctx, mac, name, arguments)
	if err != nil {
		return err
	}
	p.printf("%s", result)
	return nil
}

func (p *xiaozhiPrompt) fault(args string) error {
	f, err := gateway.ParseFaults(args)
	if err != nil {
		return err
	}
	p.sim.SetFaults(f)
	return nil
}

func (p *xiaozhiPrompt) devices(string) error {
	for _, d := range p.sim.Devices() {
		state := "offline"
		switch {
		case d.InSession:
			state = "in session"
		case d.Online:
			state = "online"
		case !d.Activated:
			state = "shows the code " + d.Code
		}
		p.printf("%s %-22s %d tools", d.MAC, state, len(d.Tools))
	}
	return nil
}
