package xiaozhi

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"

	"lintod/agent/base/config"
	"lintod/agent/link/xiaozhi/mcp"
	"lintod/agent/link/xiaozhi/message"
	"lintod/behaviors"
)

// A tool is the server's name for a verb (protocol 2.8).
type tool struct {
	name  string
	about string // "" for the verb's own description
	behaviors.Word
	// also are verbs that are called with the same arguments after Verb: a volume is
	// also saved.
	also []string
	// user means that the tool is listed only for programs of people, not for the
	// model.
	user bool
}

type (
	names   = map[string]string
	members = map[string]json.RawMessage
)

var yes, no = json.RawMessage("true"), json.RawMessage("false")

// tools are those that every device offers if it has the verb, and LEDs for "lamp". Verbs that are
// neither here nor in the owner's list are not offered.
var tools = []tool{
	{
		name: "self.audio_speaker.set_volume", about: "Set the volume of the speaker, in percent.",
		Word: behaviors.Word{Verb: "volume", Params: names{"volume": "percent"}}, also: []string{"start_volume"},
	},
	{
		name: "self.audio_speaker.mute", about: "Silence the speaker; self.audio_speaker.unmute restores the volume.",
		Word: behaviors.Word{Verb: "silence", Fixed: members{"on": yes}},
	},
	{
		name: "self.audio_speaker.unmute", about: "Restore the volume from before self.audio_speaker.mute.",
		Word: behaviors.Word{Verb: "silence", Fixed: members{"on": no}},
	},
	{
		name: "self.led.set_color", about: "Set the colour of the LEDs: red, green and blue from 0 to 255, or color as #rrggbb.",
		Word: behaviors.Word{Verb: "lamp", Fixed: members{"mode": json.RawMessage(`"solid"`)}, Params: names{"red": "red", "green": "green", "blue": "blue", "color": "color"}},
	},
	{name: "self.led.set_mode", about: "Set the LED pattern while the device is idle.", Word: behaviors.Word{Verb: "lamp", Params: names{"mode": "mode"}}},
	{
		name: "self.led.set_rainbow_speed", about: "Show a rainbow on the LEDs, with the given number of milliseconds per step.",
		Word: behaviors.Word{Verb: "lamp", Fixed: members{"mode": json.RawMessage(`"rainbow"`)}, Params: names{"speed_ms": "step_ms"}},
	},
	{name: "self.reboot", user: true, Word: behaviors.Word{Verb: "reboot"}},
}

// statusTool and volumeTool only read; they request no verb.
func (l *Link) statusTool() mcp.Tool {
	return mcp.Tool{
		Name:        "self.get_device_status",
		Description: "The current status of the device: volume of the speaker, network, temperature. Call it before a relative change, and for any question about the device's state.",
		Call: func(context.Context, json.RawMessage) (string, error) {
			status, err := json.Marshal(deviceStatus(l.Volume(), "/"))
			return string(status), err
		},
	}
}

func (l *Link) volumeTool() mcp.Tool {
	return mcp.Tool{
		Name: "self.audio_speaker.get_volume", Description: "The volume of the speaker, in percent.",
		Call: func(context.Context, json.RawMessage) (string, error) { return fmt.Sprint(l.Volume()), nil },
	}
}

// wakeupTool is how gateways call the device (protocol 2.3, G26).
func (l *Link) wakeupTool() mcp.Tool {
	return mcp.Tool{
		Name: "self.remote_wakeup", UserOnly: true,
		Description: "Open a conversation on the device, as its wake word does.",
		Schema: map[string]any{"type": "object", "properties": map[string]any{
			"reason": map[string]any{"type": "string", "description": "what is said to the server in place of a wake word"},
			"action": map[string]any{"type": "string", "default": "listen"},
		}, "required": []string{"reason"}},
		Call: func(ctx context.Context, args json.RawMessage) (string, error) {
			var a struct{ Reason string }
			if err := json.Unmarshal(args, &a); err != nil || a.Reason == "" || len(a.Reason) > maxText {
				return "", fmt.Errorf("reason has %d bytes; want 1 to %d", len(a.Reason), maxText)
			}
			if !l.Config.AllowRemoteSpeech {
				return "", fmt.Errorf("not allowed by the owner of this device: allow_remote_speech in [xiaozhi]")
			}
			l.calls.wake(a.Reason)
			l.post(ctx, event{kind: request})
			return "true", nil
		},
	}
}

// ValidateTools reports tools of the owner's list that cannot be offered. verbs
// are those of the device.
func (c Config) ValidateTools(verbs *behaviors.Registry) (ps config.Problems) {
	if !c.Enabled {
		return nil
	}
	for i, name := range c.Tools {
		if _, ok := verbs.Find(name); !ok {
			var known []string
			for _, v := range verbs.Verbs() {
				known = append(known, v.Name)
			}
			ps.Add(fmt.Sprintf("tools[%d]", i+1), name, "a verb of this device: "+strings.Join(known, ", "))
		}
	}
	l := &Link{Config: c}
	l.Registry, l.Log, l.Features.LEDs = verbs, slog.New(slog.DiscardHandler), true
	if _, err := mcp.New("", "", l.offered(), l.Log); err != nil {
		ps.Add("tools", fmt.Sprintf("%d names", len(c.Tools)), "a list that can be offered: "+err.Error())
	}
	return ps
}

// initTools builds the table. ValidateTools has rejected invalid lists of the
// owner; any other failure is a bug, and affects only that tool.
func (l *Link) initTools() {
	list := l.offered()
	server, err := mcp.New("lintod", l.Version, list, l.Log)
	for ; err != nil; server, err = mcp.New("lintod", l.Version, list, l.Log) {
		l.Log.Error("tool not offered", "tool", list[len(list)-1].Name, "error", err)
		list = list[:len(list)-1]
	}
	l.tools = server
}

// offered returns the standard tools that the device has, and those of the
// owner's list.
func (l *Link) offered() []mcp.Tool {
	list := []mcp.Tool{l.statusTool(), l.volumeTool()}
	for _, t := range tools {
		verb, ok := l.Registry.Find(t.Verb)
		if !ok || t.Verb == "lamp" && !l.Features.LEDs {
			continue
		}
		made := mcp.ForVerb(t.name, t.about, verb, t.Word, l.doer(t.also))
		made.UserOnly = t.user
		list = append(list, made)
	}
	list = append(list, l.wakeupTool())
	for _, name := range l.Config.Tools {
		verb, ok := l.Registry.Find(name)
		if !ok {
			l.Log.Warn("configured tool not offered", "tool", name, "error", behaviors.ErrUnknown)
			continue
		}
		list = append(list, mcp.ForVerb("self."+strings.ToLower(name), "", verb, own(verb), l.doer(nil)))
	}
	return list
}

// own is a word that uses a verb's own parameter names.
func own(v behaviors.Verb) behaviors.Word {
	w := behaviors.Word{Verb: v.Name, Params: names{}}
	for _, p := range v.Params {
		w.Params[p.Name] = p.Name
	}
	return w
}

// doer executes verbs: safe ones directly, the others under the owner's policy.
func (l *Link) doer(also []string) mcp.Do {
	return func(ctx context.Context, name string, args behaviors.Arguments) (any, error) {
		if verb, ok := l.Registry.Find(name); ok && verb.Power != behaviors.Safe {
			return l.submit(ctx, name, args)
		}
		call := behaviors.Call{Link: Name, Source: "mcp"}
		for _, verb := range append([]string{name}, also...) { // check all before executing any
			if err := l.Registry.Permit(behaviors.Request{Link: Name, Source: call.Source, Verb: verb, Args: args}); err != nil {
				return nil, err
			}
		}
		result, err := l.Registry.Do(ctx, call, name, args)
		for _, other := range also {
			if err == nil {
				_, err = l.Registry.Do(ctx, call, other, args)
			}
		}
		return result, err
	}
}

// system executes a system message; only one command is known.
func (s *session) system(command string) {
	if command != "reboot" {
		s.Warn("unknown command from the server", fmt.Errorf("system: %q", command))
		return
	}
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), firmwareLimit)
		defer cancel()
		if _, err := s.submit(ctx, "reboot", behaviors.Arguments{}); err != nil {
			s.Log.Warn("reboot requested by the server", "error", err)
		}
	}()
}

// iot executes the command of servers that do not use tools, the only one that all
// of their devices have, as a call of the tool.
func (s *session) iot(m message.Message) {
	if m.Volume < 0 {
		s.unknown(m.Type)
		return
	}
	call := fmt.Sprintf(`{"id":"iot","function":"self.audio_speaker.set_volume","params":{"volume":%d}}`, m.Volume)
	s.tools.Handle(json.RawMessage(call), func(answer json.RawMessage) {
		s.Log.Debug("volume requested by the server", "answer", string(answer)) // such a server expects no answer
	})
}
