package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"lintod/cmd/lintosim/integrator"
)

// folotoyPrompt sends the messages of an integration.
type folotoyPrompt struct {
	*prompt
	sim   *integrator.Integrator
	using string // the device selected by the user; empty for the only one
}

// list returns the commands.
func (p *folotoyPrompt) list() []command {
	to := func(f func(serial, args string) error) func(string) error {
		return func(args string) error {
			serial, err := p.device()
			if err != nil {
				return err
			}
			return f(serial, args)
		}
	}
	return []command{
		{"say", "TEXT", "speak a text, in the voice of the role", to(p.sim.Say)},
		{"play", "ADDRESS", "play a sound: an address, or a built-in one: bell.wav, endless, missing", to(p.sim.Play)},
		{"role", "1-7", "use this role from now on", func(args string) error {
			role, err := strconv.Atoi(args)
			if err == nil {
				p.sim.SetRole(role)
			}
			return err
		}},
		{"volume", "0-100", "set the volume", to(func(serial, args string) error {
			return p.configure(serial, fmt.Sprintf(`{"volume":%s}`, args))
		})},
		{"config", "JSON", `send the common configuration: config {"sleep_trigger_time":60}`, to(p.configure)},
		{"roles", "", "make all devices load their roles", func(string) error { return p.sim.LoadRoles() }},
		{"send", "PAYLOAD", "send any other command", to(func(serial, args string) error { return p.sim.Raw(serial, []byte(args)) })},
		{"fault", "FAULT", "inject a fault: none, or one of those in lintosim folotoy -help", func(args string) error {
			f, err := integrator.ParseFault(args)
			if err == nil {
				p.sim.SetFault(f)
			}
			return err
		}},
		{"devices", "", "list known devices", func(string) error {
			p.printf("%s", strings.Join(p.sim.Devices(), "\n"))
			return nil
		}},
		{"use", "SERIAL", "send to this device", func(args string) error { p.using = args; return nil }},
	}
}

// configure sends updatecommonconfig.
func (p *folotoyPrompt) configure(serial, args string) error {
	var params map[string]any
	if json.Unmarshal([]byte(args), &params) != nil || params == nil {
		return fmt.Errorf("not a JSON object: %s", args)
	}
	return p.sim.Call(serial, "updatecommonconfig", params)
}

// device returns the serial for commands.
func (p *folotoyPrompt) device() (string, error) {
	if p.using != "" {
		return p.using, nil
	}
	switch list := p.sim.Devices(); len(list) {
	case 0:
		return "", errors.New("no device has been seen yet; name one: use SERIAL")
	case 1:
		return list[0], nil
	default:
		return "", fmt.Errorf("there are several devices; select one with use: %s", strings.Join(list, " "))
	}
}
