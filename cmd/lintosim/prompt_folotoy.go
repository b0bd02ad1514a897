package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"lintod/cmd/lintosim/integrator"
)

// folotoyPrompt sends what an integration may send.
type folotoyPrompt struct {
	*prompt
	sim   *integrator.Integrator
	using string // the device chosen by hand; empty for the only one there is
}

// list is what can be typed.
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
		{"say", "TEXT", "have a text spoken, in the voice of the role", to(p.sim.Say)},
		{"play", "ADDRESS", "play a sound: an address, or one of ours: bell.wav, endless, missing", to(p.sim.Play)},
		{"role", "1-7", "name this role from now on", func(args string) error {
			role, err := strconv.Atoi(args)
			if err == nil {
				p.sim.SetRole(role)
			}
			return err
		}},
		{"volume", "0-100", "set the volume", to(func(serial, args string) error {
			return p.configure(serial, fmt.Sprintf(`{"volume":%s}`, args))
		})},
		{"config", "JSON", `the common configuration: config {"sleep_trigger_time":60}`, to(p.configure)},
		{"roles", "", "have all devices load their roles", func(string) error { return p.sim.LoadRoles() }},
		{"send", "PAYLOAD", "any other command", to(func(serial, args string) error { return p.sim.Raw(serial, []byte(args)) })},
		{"fault", "FAULT", "none, or what lintosim folotoy -help lists", func(args string) error {
			f, err := integrator.ParseFault(args)
			if err == nil {
				p.sim.SetFault(f)
			}
			return err
		}},
		{"devices", "", "list the devices seen", func(string) error {
			p.printf("%s", strings.Join(p.sim.Devices(), "\n"))
			return nil
		}},
		{"use", "SERIAL", "send to this device from now on", func(args string) error { p.using = args; return nil }},
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

// device is the serial that commands go to.
func (p *folotoyPrompt) device() (string, error) {
	if p.using != "" {
		return p.using, nil
	}
	switch list := p.sim.Devices(); len(list) {
	case 0:
		return "", errors.New("no device was heard of yet; name one: use SERIAL")
	case 1:
		return list[0], nil
	default:
		return "", fmt.Errorf("there are several devices; choose one with use: %s", strings.Join(list, " "))
	}
}
