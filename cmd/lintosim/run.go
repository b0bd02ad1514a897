package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"lintod/agent/base/config"
	"lintod/agent/broker"
	"lintod/cmd/internal/cli"
	"lintod/cmd/lintosim/platform"
)

const about = `lintosim is a LinTO platform in a box: an MQTT broker, and behind it a server
that listens to what your device says and answers. Start it, start lintod with

    [device]
    serial = "kitchen"
    [linto]
    enabled = true
    broker = "mqtt://127.0.0.1:1883"
    scope = "demo"

press the talk button (or run "lintod talk"), and say one of

    hello                     what time is it            tell me a joke
    good morning              what can you do            remind me
    turn the volume to forty  what is your name          mute

Every message is shown as it passes: ← from the device, → to it. Type "help" to
send behaviours to the device by hand. Sentences are recognised by pocketsphinx;
without it (apt install pocketsphinx pocketsphinx-en-us) answers go by length
and loudness only.

With -broker it answers the devices of a broker that runs already, and sees what
they publish, but not who comes and goes. That account must be allowed to read
+/fromlinto/# and to write +/tolinto/#.

With -http, devices can also log in: give them [linto.login] url, user and
password_file. Each account of -users is then one of the login; without -users
everybody may log in. The broker's name of a device that is logged in is its
session, which is shown.

-server 2021 speaks as older servers do: errors beside "say", those of a stream
on its own topics, the transcript as an object, no nlp/text and no skills, and
the token of a login is wanted in every message. It forgets a stream as soon as
it is stopped; the newest holds it for 3 s more, in which each start is refused.

With -users, an account may read and write +/tolinto/NAME/# and
+/fromlinto/NAME/# only, as on the official platform; the account "admin" may
read and write everything. Passwords, tokens and keys are never shown.

"lintosim xiaozhi" is a platform of the xiaozhi family instead.

Exit status: 0 after an interrupt, 1 when the platform could not start, 2 for a
wrong command line.`

// options is the command line.
type options struct {
	platform platform.Options
	json     bool
	users    string
	server   string
	result   string
	noFinal  bool
	broker   string
	join     broker.Config
	fault    string
}

// commandLine reads the options; do gets them.
func commandLine(do func(context.Context, options) error) *cobra.Command {
	o := options{join: broker.Defaults()}
	cmd := &cobra.Command{
		Use:   "lintosim [FLAG...]",
		Short: "a LinTO platform in a box",
		Long:  about,
		Example: `  lintosim
  lintosim -broker mqtt://10.0.0.5 -fault late
  lintosim completion bash`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return cli.Usagef("lintosim takes no arguments, only flags; got %q", args[0])
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
	f.StringVar(&o.platform.Listen, "listen", "127.0.0.1:1883", "`ADDRESS` for MQTT; port 0 takes a free one")
	f.StringVar(&o.platform.WebSocket, "websocket", "", "`ADDRESS` for MQTT over WebSocket, path /mqtt (default none)")
	f.StringVar(&o.broker, "broker", "", "join the broker at this `URL` (mqtt://, mqtts://, ws://, wss://) instead of being one")
	f.StringVar(&o.join.Username, "username", "", "`NAME` to join with")
	f.StringVar(&o.join.PasswordFile, "password-file", "", "`FILE` with the password to join with")
	f.StringVar(&o.join.CAFile, "ca-file", "", "`FILE` with the certificate authority of the broker to join")
	f.StringVar(&o.platform.HTTP, "http", "", "`ADDRESS` for devices that log in over HTTP (default none)")
	f.DurationVar(&o.platform.TokenLife, "token-life", 60*24*time.Hour, "`DURATION` for which the token of a login is valid")
	f.StringVar(&o.server, "server", string(platform.Server2024), "speak as real servers of that time did: `2021|2024`")
	f.IntVar(&o.platform.ChunkLimit, "chunk-limit", 0, "stop streams unasked after `N` chunks, as real flows may after 150")
	f.StringVar(&o.result, "result", "", "how recognisers tell the end of a stream: `text|final|none` (default text, with -server 2021 final)")
	f.BoolVar(&o.noFinal, "no-final", false, "the same as -result none")
	f.DurationVar(&o.platform.RecogniserOpens, "recogniser-opens", 20*time.Millisecond, "`DURATION` after \"started\" until a stream's recogniser can be reached; sound before that is dropped")
	f.DurationVar(&o.platform.RecogniserDelay, "recogniser-delay", 0, "`DURATION` that a stream's recogniser needs for its last word")
	f.IntVar(&o.platform.RecogniserDies, "recogniser-dies", 0, "number of `CHUNKS` after which a stream's recogniser dies (default never); real servers do not forget such a stream")
	f.BoolVar(&o.platform.NoChatbot, "no-chatbot", false, "leave chatbot requests unanswered unless the device is logged in, as some new flows do")
	f.StringVar(&o.platform.StatusLanguage, "status-language", "", "answer each status with this tts_lang, such as `fr-FR`, as real flows do")
	f.StringVar(&o.users, "users", "", "`FILE` with accounts, one name:password a line (default: everybody may connect)")
	f.StringVar(&o.platform.Scope, "scope", "demo", "`SCOPE` of devices that have not been seen yet; those seen keep their own")
	f.DurationVar(&o.platform.Delay, "delay", 0, "wait this `DURATION` before each answer")
	f.StringVar(&o.fault, "fault", "none", "spoil answers: `error|late|noid|duplicate|garbage|silent`")
	f.BoolVar(&o.json, "json", false, "print one JSON object a line, for scripts")
	for name, values := range map[string]string{"server": "2021 2024", "result": "text final none", "fault": "none error late noid duplicate garbage silent"} {
		cli.CompleteFlag(cmd, name, func() []string { return strings.Fields(values) })
	}
	return cmd
}

// complete makes the options of a platform of the values of flags.
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
		o.platform.RecogniserOpens = -1 // at once
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
		return nil, fmt.Errorf("%s: no account in it; write name:password", path)
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
	status, _ := cli.Run(ctx, root, args, stdout, stderr)
	return status
}

// serve runs a LinTO platform until ctx ends or the user leaves.
func serve(ctx context.Context, o options, stdin io.Reader, stdout, stderr io.Writer) error {
	events := newFeed[platform.Event]()
	o.platform.Observe = events.put
	sim := platform.New(o.platform)
	return stage[platform.Event]{
		events: events, start: sim.Start, end: sim.Close, json: o.json,
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
	events     *feed[E]
	start, end func() error
	json       bool
	// screen makes what shows events, and what tells the addresses.
	screen   func(out io.Writer, colour colours, begun time.Time) (printer[E], func())
	commands func(*prompt) []command
}

// run returns when ctx has ended or the user has left, and everything has stopped.
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
	// A read of standard input cannot be interrupted: this goroutine may outlive
	// us when standard input is no terminal and never ends.
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
