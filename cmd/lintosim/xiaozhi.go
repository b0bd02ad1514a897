package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"lintod/cmd/internal/cli"
	"lintod/cmd/lintosim/gateway"
)

const aboutXiaozhi = `lintosim xiaozhi simulates a platform of the xiaozhi family: an OTA server that
provisions devices, an MQTT gateway with its UDP server, a WebSocket chat server, and
a chat that recognises your speech and answers aloud. Start it, start lintod with

    [xiaozhi]
    enabled = true
    ota_url = "http://127.0.0.1:8003/xiaozhi/ota/"

press the talk button (or run "lintod talk"), and say one of:

    hello                     what time is it            tell me a joke
    good morning              what can you do            how are you
    turn the volume to forty  what is your name          mute

Sentences are recognised by pocketsphinx, answers are spoken by espeak-ng and
encoded by opusenc (apt install pocketsphinx pocketsphinx-en-us espeak-ng
opus-tools).

It behaves like a real server, selected by -server: xinnan is the MQTT gateway that
supports only a part of MQTT and closes the connection of a client that uses the
rest; golang is a server with a real broker, its own session ID, and one key per
session; cheeko has a broker, a ping as first datagram, and a different client ID at
each OTA check. All of them have a WebSocket server. A violation by the device is
marked with "✗", the name of the rule, and the reason.

-fault injects faults, separated by commas, into the network (loss=10, reorder=5,
duplicate=2 in percent, delay=150ms, jitter=100ms, no-udp, no-udp-down, flood), the
order of sound and messages (early=40ms, tail=100ms, no-stop, mute), the hello
(hello=error, absent, late, broken, foreign, garbage; hello-takes=2s), the sound
(wrong-key, pcm), the session (goodbye= or cut= with connecting, listening,
thinking, speaking, idle; strange), the tools (no-tools), the OTA answers
(credentials, ota=500, error, empty, garbage, hang, endless), and the WebSocket
(refuse=400, 401, text, silent, 1007). The command "fault" at the prompt changes them.

-activate manual activates a device when you type "activate", -activate post at its
third request.

Keys, tokens, and passwords are never printed.

Exit status: 0 after an interrupt, 1 if the platform could not start or, with -strict,
a device violated a rule, 2 for invalid usage.`

// xiaozhiOptions is the command line of lintosim xiaozhi.
type xiaozhiOptions struct {
	device    string
	gateway   gateway.Options
	server    string
	activate  string
	transport string
	fault     string
	token     string // a file name
	json      bool
	strict    bool
}

// xiaozhiCommand parses the options and passes them to do.
func xiaozhiCommand(do func(context.Context, xiaozhiOptions) error) *cobra.Command {
	var o xiaozhiOptions
	cmd := &cobra.Command{
		Use:   "xiaozhi",
		Short: "simulate a platform of the xiaozhi family",
		Long:  aboutXiaozhi,
		Example: `  lintosim xiaozhi
  lintosim xiaozhi -server golang -transport websocket
  lintosim xiaozhi -fault loss=10,jitter=100ms,reorder=5`,
		Args: cli.Args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.complete(); err != nil {
				return cli.Usagef("%w", err)
			}
			return do(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.server, "server", string(gateway.Xinnan), "behave like this server: `xinnan|golang|cheeko`")
	f.StringVar(&o.gateway.HTTP, "http", "127.0.0.1:8003", "`ADDRESS` for OTA and WebSocket; port 0 selects a free port")
	f.StringVar(&o.gateway.MQTT, "mqtt", "127.0.0.1:0", "`ADDRESS` for MQTT, which devices get from OTA")
	f.StringVar(&o.gateway.UDP, "udp", "127.0.0.1:0", "`ADDRESS` for UDP, which devices get in a hello")
	f.StringVar(&o.gateway.Host, "host", "", "`HOST` that devices get for MQTT and UDP (default that of the listener)")
	f.StringVar(&o.transport, "transport", "both", "transports in OTA answers: `both|mqtt|websocket`")
	f.IntVar(&o.gateway.FrameVersion, "frame-version", 0, "`VERSION` of WebSocket frames, 1 to 3 (default none: 1)")
	f.StringVar(&o.token, "token-file", "", "`FILE` with the token that WebSocket clients must send (default none)")
	f.StringVar(&o.activate, "activate", "free", "when a device is activated: `free|manual|post`")
	f.DurationVar(&o.gateway.CodeLife, "code-life", 0, "`DURATION` for which an activation code is valid (default unlimited)")
	f.IntVar(&o.gateway.Answers, "answers", 0, "end a session after `N` answers, as after a farewell (default never)")
	f.BoolVar(&o.gateway.Echo, "echo", false, "send back the user's speech instead of an answer")
	f.DurationVar(&o.gateway.ChatCloses, "chat-closes", 5*time.Millisecond, "`DURATION` that the chat server's socket takes to close; above 100ms a second hello kills its own session")
	f.StringVar(&o.fault, "fault", "none", "`FAULTS` such as loss=10,jitter=100ms,tail=100ms")
	f.BoolVar(&o.strict, "strict", false, "exit with status 1 if a device violated a rule")
	f.StringVar(&o.device, "device", "", deviceFlag)
	f.BoolVar(&o.json, "json", false, "print JSON Lines, for scripts")
	for name, values := range map[string]string{
		"server": "xinnan golang cheeko", "transport": "both mqtt websocket", "activate": "free manual post", "frame-version": "1 2 3",
	} {
		cli.CompleteFlag(cmd, name, func() []string { return strings.Fields(values) })
	}
	cli.CompleteFlag(cmd, "fault", func() []string { return append([]string{"none"}, gateway.FaultNames()...) })
	return cmd
}

// complete converts the flags to the options of a gateway.
func (o *xiaozhiOptions) complete() error {
	var err error
	if o.gateway.Faults, err = gateway.ParseFaults(o.fault); err != nil {
		return fmt.Errorf("-fault: %w", err)
	}
	if o.token != "" {
		token, err := os.ReadFile(o.token)
		if err != nil {
			return fmt.Errorf("-token-file: %w", err)
		}
		o.gateway.Token = strings.TrimSpace(string(token))
	}
	o.gateway.Server = gateway.Server(o.server)
	if !slices.Contains(gateway.Servers, o.gateway.Server) {
		return fmt.Errorf("unknown -server %q; want xinnan, golang, or cheeko", o.server)
	}
	switch o.activate {
	case "free":
	case "manual", "post":
		o.gateway.Activation = gateway.Activation(o.activate)
	default:
		return fmt.Errorf("invalid -activate %q; want free, manual, or post", o.activate)
	}
	switch o.transport {
	case "both":
	case "mqtt":
		o.gateway.NoWebSocket = true
	case "websocket":
		o.gateway.NoMQTT = true
	default:
		return fmt.Errorf("invalid -transport %q; want both, mqtt, or websocket", o.transport)
	}
	if v := o.gateway.FrameVersion; v < 0 || v > 3 {
		return fmt.Errorf("invalid -frame-version %d; want 1, 2, or 3", v)
	}
	return nil
}

// serveXiaozhi runs a gateway until ctx ends or the user exits.
func serveXiaozhi(ctx context.Context, o xiaozhiOptions, stdin io.Reader, stdout, stderr io.Writer) error {
	events := newFeed[gateway.Event]()
	o.gateway.Observe = events.put
	sim := gateway.New(o.gateway)
	err := stage[gateway.Event]{
		device: o.device, events: events, start: sim.Start, end: sim.Close, json: o.json,
		screen: func(out io.Writer, colour colours, begun time.Time) (printer[gateway.Event], func()) {
			if o.json {
				j := &xiaozhiLines{jsonLines{out: out, begun: begun}}
				return j, func() { j.ready(sim.OTA(), sim.MQTT(), sim.UDP(), sim.WebSocket()) }
			}
			t := &xiaozhiTale{tale: tale{out: out, colour: colour, begun: begun}}
			return t, func() { t.ready(sim.OTA(), sim.MQTT(), sim.UDP(), sim.WebSocket()) }
		},
		commands: func(p *prompt) []command { return (&xiaozhiPrompt{prompt: p, sim: sim, ctx: ctx}).list() },
	}.run(ctx, stdin, stdout, stderr)
	if broken := sim.Broken(); err == nil && o.strict && len(broken) > 0 {
		return fmt.Errorf("devices violated %d rules; the first is %s: %s", len(broken), broken[0].Rule, broken[0].Text)
	}
	return err
}
