package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"lintod/agent"
	"lintod/agent/base/config"
	"lintod/agent/base/printable"
	"lintod/agent/broker"
	"lintod/agent/control"
	"lintod/cmd/internal/cli"
	"lintod/cmd/lintosim/platform"
)

const about = `lintosim simulates a LinTO platform: an MQTT broker, and a server that recognises
what your device sends and answers it. Start it, start lintod with

    [device]
    serial = "kitchen"
    [linto]
    enabled = true
    broker = "mqtt://127.0.0.1:1883"
    scope = "demo"

press the talk button (or run "lintod talk"), and say one of:

    hello                     what time is it            tell me a joke
    good morning              what can you do            remind me
    turn the volume to forty  what is your name          mute

Messages are printed as they pass: ← from the device, → to the device. Type "help"
for the commands that send behaviours by hand. Sentences are recognised by
pocketsphinx (apt install pocketsphinx pocketsphinx-en-us); without it, answers
depend on length and loudness only.

With -broker it uses an existing broker: it answers the devices there and sees what
they publish, but not when they connect or disconnect. The account must be allowed
to read +/fromlinto/# and to write +/tolinto/#.

With -http, devices can also log in, with [linto.login] url, user, and
password_file. The accounts are those of -users; without -users every login is
accepted. The name of a device that has logged in is its session, which is printed.

-server 2021 behaves like older servers: errors next to "say", stream errors on
their own topics, the transcript as an object, no nlp/text, no skills, and the login
token required in every message. It releases a stream as soon as it is stopped;
2024 holds it for another 3 s, during which every start is rejected.

With -users, an account may read and write +/tolinto/NAME/# and +/fromlinto/NAME/#
only, as on the official platform; the account "admin" may read and write
everything. Passwords, tokens, and keys are never printed.

"lintosim xiaozhi" simulates a platform of the xiaozhi family instead, and
"lintosim folotoy" a FoloToy integration next to a platform.

Exit status: 0 after an interrupt, 1 if the platform could not start, 2 for invalid
usage.`

// options is the command line.
type options struct {
	platform platform.Options
	device   string
	json     bool
	users    string
	server   string
	result   string
	noFinal  bool
	broker   string
	join     broker.Config
	fault    string
}

// commandLine parses the options and passes them to do.
func commandLine(do func(context.Context, options) error) *cobra.Command {
	o := options{join: broker.Defaults()}
	cmd := &cobra.Command{
		Use:   "lintosim [FLAG...]",
		Short: "simulate a LinTO platform",
		Long:  about,
		Example: `  lintosim
  lintosim -broker mqtt://10.0.0.5 -fault late
  lintosim completion bash`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return cli.Usagef("unexpected argument %q; lintosim has only flags", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.complete(); err != nil {
				return cli.Usagef("%w", err)
			}
			return do(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.platform.Listen, "listen", "127.0.0.1:1883", "`ADDRESS` for MQTT; port 0 selects a free port")
	f.StringVar(&o.platform.WebSocket, "websocket", "", "`ADDRESS` for MQTT over WebSocket, path /mqtt (default none)")
	joinFlags(f, &o.broker, &o.join)
	f.StringVar(&o.platform.HTTP, "http", "", "`ADDRESS` for devices that log in over HTTP (default none)")
	f.DurationVar(&o.platform.TokenLife, "token-life", 60*24*time.Hour, "`DURATION` of validity of a login token")
	f.StringVar(&o.server, "server", string(platform.Server2024), "behave like real servers of that year: `2021|2024`")
	f.IntVar(&o.platform.ChunkLimit, "chunk-limit", 0, "stop streams after `N` chunks, as real flows may after 150")
	f.StringVar(&o.result, "result", "", "how recognisers report the end of a stream: `text|final|none` (default text; with -server 2021 final)")
	f.BoolVar(&o.noFinal, "no-final", false, "the same as -result none")
	f.DurationVar(&o.platform.RecogniserOpens, "recogniser-opens", 20*time.Millisecond, "`DURATION` after \"started\" until a stream's recogniser is reachable; earlier sound is dropped")
	f.DurationVar(&o.platform.RecogniserDelay, "recogniser-delay", 0, "`DURATION` that a stream's recogniser takes for its last word")
	f.IntVar(&o.platform.RecogniserDies, "recogniser-dies", 0, "number of `CHUNKS` after which a stream's recogniser fails (default never); real servers do not release such a stream")
	f.BoolVar(&o.platform.NoChatbot, "no-chatbot", false, "leave chatbot requests unanswered unless the device is logged in, as some new flows do")
	f.StringVar(&o.platform.StatusLanguage, "status-language", "", "answer each status with this tts_lang, such as `fr-FR`, as real flows do")
	f.StringVar(&o.users, "users", "", "`FILE` with accounts, one name:password per line (default: all connections are accepted)")
	f.StringVar(&o.platform.Scope, "scope", "demo", "`SCOPE` of devices that have not connected yet; others keep their own")
	f.DurationVar(&o.platform.Delay, "delay", 0, "wait this `DURATION` before each answer")
	f.StringVar(&o.fault, "fault", "none", "inject a fault into answers: `error|late|noid|duplicate|garbage|silent`")
	f.StringVar(&o.device, "device", "", deviceFlag)
	f.BoolVar(&o.json, "json", false, "print JSON Lines, for scripts")
	for name, values := range map[string]string{"server": "2021 2024", "result": "text final none", "fault": "none error late noid duplicate garbage silent"} {
		cli.CompleteFlag(cmd, name, func() []string { return strings.Fields(values) })
	}
	return cmd
}

// complete converts the flags to the options of a platform.
func (o *options) complete() error {
	var err error
	if o.platform.Fault, err = platform.ParseFault(o.fault); err != nil {
		return fmt.Errorf("-fault: %w", err)
	}
	if o.platform.Server, err = platform.ParseGeneration(o.server); err != nil {
		return fmt.Errorf("-server: %w", err)
	}
	if o.noFinal {
		o.result = string(platform.NoResult)
	}
	if o.result != "" {
		if o.platform.Result, err = platform.ParseResult(o.result); err != nil {
			return fmt.Errorf("-result: %w", err)
		}
	}
	if o.platform.RecogniserOpens == 0 {
		o.platform.RecogniserOpens = -1 // immediately
	}
	if o.broker != "" {
		o.join.Broker = config.Strings{o.broker}
		o.platform.Join = &o.join
	}
	if o.users != "" {
		o.platform.Users, err = readUsers(o.users)
	}
	return err
}

// readUsers reads a file of name:password lines; # starts a comment line.
func readUsers(path string) (map[string]string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the accounts: %w", err)
	}
	users := map[string]string{}
	lines := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, password, ok := strings.Cut(line, ":")
		if !ok || name == "" || strings.ContainsAny(name, "/+#") {
			return nil, fmt.Errorf("%s:%d: want name:password, the name without / + #", path, n)
		}
		users[name] = password
	}
	if len(users) == 0 {
		return nil, fmt.Errorf("%s: no accounts; want name:password", path)
	}
	return users, lines.Err()
}

// run is the whole program. It returns the exit status.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := commandLine(func(ctx context.Context, o options) error {
		return serve(ctx, o, stdin, stdout, stderr)
	})
	root.AddCommand(xiaozhiCommand(func(ctx context.Context, o xiaozhiOptions) error {
		return serveXiaozhi(ctx, o, stdin, stdout, stderr)
	}))
	root.AddCommand(folotoyCommand(func(ctx context.Context, o folotoyOptions) error {
		return serveFolotoy(ctx, o, stdin, stdout, stderr)
	}))
	status, _ := cli.Run(ctx, root, args, stdout, stderr)
	return status
}

// serve runs a LinTO platform until ctx ends or the user exits.
func serve(ctx context.Context, o options, stdin io.Reader, stdout, stderr io.Writer) error {
	events := newFeed[platform.Event]()
	o.platform.Observe = events.put
	sim := platform.New(o.platform)
	return stage[platform.Event]{
		device: o.device, events: events, start: sim.Start, end: sim.Close, json: o.json,
		screen: func(out io.Writer, colour colours, begun time.Time) (printer[platform.Event], func()) {
			if o.json {
				j := &jsonLines{out: out, begun: begun}
				return j, func() { j.ready(sim.URL(), sim.WebSocketURL(), sim.LoginURL()) }
			}
			t := &tale{out: out, colour: colour, begun: begun}
			return t, func() { t.ready(sim.URL(), sim.WebSocketURL(), sim.LoginURL()) }
		},
		commands: func(p *prompt) []command { return (&lintoPrompt{prompt: p, sim: sim}).list() },
	}.run(ctx, stdin, stdout, stderr)
}

// stage is a platform with a screen and a prompt.
type stage[E any] struct {
	device     string // control socket of a device whose web page address is printed; "" for none
	events     *feed[E]
	start, end func() error
	json       bool
	// screen returns the printer of events, and the function that prints the addresses.
	screen   func(out io.Writer, colour colours, begun time.Time) (printer[E], func())
	commands func(*prompt) []command
}

// run returns when ctx has ended or the user has exited, and everything has stopped.
func (s stage[E]) run(ctx context.Context, stdin io.Reader, stdout, stderr io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	console, err := openConsole(stdin, stdout)
	if err != nil {
		return err
	}
	defer console.close()
	begun := time.Now()
	if err := s.start(); err != nil {
		return err
	}
	screen, ready := s.screen(console, console.colour, begun)
	ready()
	var shown sync.WaitGroup
	shown.Go(func() { s.events.show(screen) })
	p := &prompt{out: console}
	if s.json {
		p.out = stderr
	}
	p.commands = s.commands(p)
	if s.device != "" {
		shown.Go(func() { announcePage(ctx, s.device, p.out) })
	}
	// A read of standard input cannot be interrupted: this goroutine may outlive run if standard
	// input is not a terminal and does not end.
	go func() {
		if p.read(ctx, console) {
			cancel()
		}
	}()
	<-ctx.Done()
	err = s.end()
	s.events.end()
	shown.Wait()
	return err
}

// joinFlags declares the flags of a broker that a simulator uses instead of its own.
func joinFlags(f *pflag.FlagSet, address *string, join *broker.Config) {
	f.StringVar(address, "broker", "", "use the broker at this `URL` (mqtt://, mqtts://, ws://, wss://) instead of its own")
	f.StringVar(&join.Username, "username", "", "user `NAME` at that broker")
	f.StringVar(&join.PasswordFile, "password-file", "", "`FILE` with the password for that broker")
	f.StringVar(&join.CAFile, "ca-file", "", "`FILE` with the certificate authority of that broker")
}

const deviceFlag = "print the address of the web page of the device with this control `SOCKET`"

// announcePage prints the address of a device's web page as soon as it is available, or after half
// a minute the reason why it is not.
func announcePage(ctx context.Context, socket string, out io.Writer) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		var page agent.PageReply
		err := control.Call(ctx, socket, "page", nil, &page)
		if err == nil {
			fmt.Fprintf(out, "see the device in a browser: %s (valid once, for ten minutes)\n", page.URL)
			return
		}
		select {
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				fmt.Fprintf(out, "the device has no web page: %s\n", printable.Line(err.Error()))
			}
			return
		case <-time.After(200 * time.Millisecond):
		}
	}
}
