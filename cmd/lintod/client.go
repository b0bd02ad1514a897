package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"lintod/agent"
	"lintod/agent/base/printable"
	"lintod/agent/control"
	"lintod/agent/turn"
	"lintod/cmd/internal/cli"
)

// Commands that use the running daemon's Unix socket, which is accessible to root and the group
// lintod.

func (c *call) status() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "status",
		Short:   "print what the running daemon is doing",
		Example: "  lintod status -json",
		Args:    cli.Args(0, 0),
	}
	asJSON := cmd.Flags().Bool("json", false, "print JSON")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := c.load()
		if err != nil {
			return err
		}
		var raw json.RawMessage
		if err := control.Call(cmd.Context(), cfg.Device.Socket, "status", nil, &raw); err != nil {
			return err
		}
		if *asJSON {
			return printJSON(c.stdout, raw)
		}
		var s agent.Status
		if err := json.Unmarshal(raw, &s); err != nil {
			return fmt.Errorf("invalid answer of the daemon: %w", err)
		}
		return s.Print(c.stdout)
	}
	return cmd
}

func (c *call) talk() *cobra.Command {
	var args agent.TalkArgs
	cmd := &cobra.Command{
		Use:   "talk",
		Short: "start a turn, as a tap on the talk button does",
		Example: `  lintod talk -wait
  lintod talk -stop`,
		Args: cli.Args(0, 0),
	}
	wait := cmd.Flags().Bool("wait", false, "print what happens until the device is idle again; exit with status 1 if the turn failed")
	cmd.Flags().BoolVar(&args.Stop, "stop", false, "end the recording and send it; while the device speaks, silence it and discard queued announcements")
	cmd.Flags().StringVar(&args.Link, "link", "", "talk to the platform with this `NAME`; default: the first")
	cli.CompleteFlag(cmd, "link", c.links)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := c.load()
		if err != nil {
			return err
		}
		if !*wait {
			return control.Call(cmd.Context(), cfg.Device.Socket, "talk", args, nil)
		}
		return follow(cmd.Context(), cfg, args, c.stdout)
	}
	return cmd
}

// follow starts a turn and prints what happens.
func follow(ctx context.Context, cfg agent.Config, args agent.TalkArgs, out io.Writer) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var problem error
	tell := func(raw json.RawMessage) error {
		var n turn.Notice
		if err := json.Unmarshal(raw, &n); err != nil {
			return fmt.Errorf("invalid answer of the daemon: %w", err)
		}
		printable.Fprintf(out, "%7.2f s  %s\n", n.Since.Seconds(), n.Sentence())
		if n.What == turn.Problem || n.What == turn.Refused {
			problem = errors.New(n.Text)
		}
		if n.What == turn.Refused || n.What == turn.StateChanged && n.State == turn.Idle {
			return io.EOF
		}
		return nil
	}
	err := control.Stream(ctx, cfg.Device.Socket, "follow", args, tell)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return problem
}

func (c *call) say() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "say TEXT",
		Short: "speak a text",
		Long:  "Speak a text, and exit when it has been spoken. An interrupt stops the speech.",
		Example: `  lintod say "good morning"
  lintod say -- -5 degrees outside`,
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := c.load()
			if err != nil {
				return err
			}
			return control.Call(cmd.Context(), cfg.Device.Socket, "say", agent.SayArgs{Text: strings.Join(args, " ")}, nil)
		},
	}
	cli.Text(cmd)
	return cmd
}

func (c *call) play() *cobra.Command {
	return &cobra.Command{
		Use:   "play FILE|URL",
		Short: "play a sound file or an HTTP stream",
		Long: `Play a sound file (WAV, FLAC, MP3, Ogg with Vorbis or Opus; AAC, MP4, WebM, and
others if ffmpeg is installed), or a stream or playlist (M3U, PLS) from an HTTP or
HTTPS address, and exit when it has been played. A turn, an announcement, another
sound, "lintod talk -stop", or an interrupt stops it.`,
		Example: "  lintod play bell.flac",
		Args:    cli.Args(1, 1),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveDefault // files
		},
		RunE: func(cmd *cobra.Command, args []string) error { return c.playSound(cmd.Context(), args[0]) },
	}
}

// playSound passes an open file: the daemon may not be allowed to open it.
func (c *call) playSound(ctx context.Context, name string) error {
	cfg, err := c.load()
	if err != nil {
		return err
	}
	if strings.HasPrefix(name, "http://") || strings.HasPrefix(name, "https://") {
		return control.Call(ctx, cfg.Device.Socket, "play", agent.PlayArgs{URL: name}, nil)
	}
	file, err := os.Open(name)
	if err != nil {
		return err
	}
	defer file.Close()
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", name)
	}
	return control.CallWithFile(ctx, cfg.Device.Socket, "play", agent.PlayArgs{}, file)
}

func (c *call) card() *cobra.Command {
	var args agent.CardArgs
	cmd := &cobra.Command{
		Use:   "card UID",
		Short: "do what holding a card to the reader does",
		Long: `Do what holding a card to the reader does, and print the result: it plays, it is
paused because it was playing, its content is downloaded and then played, an action
of [cards] map was run, or the platform's assistant talks. UID is hexadecimal, with
or without ":". Exits with status 1 if the card is unknown.`,
		Example: "  lintod card 04:A1:B2:C3",
		Args:    cli.Args(1, 1),
		RunE: func(cmd *cobra.Command, words []string) error {
			cfg, err := c.load()
			if err != nil {
				return err
			}
			args.UID = words[0]
			var reply agent.CardReply
			if err := control.Call(cmd.Context(), cfg.Device.Socket, "card", args, &reply); err != nil {
				return err
			}
			if reply.Result != "" {
				printable.Fprintf(c.stdout, "%s\n", reply.Result)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&args.Removed, "removed", false, "do what removing the card does")
	return cmd
}

func (c *call) ask() *cobra.Command {
	var link string
	cmd := &cobra.Command{
		Use:   "ask TEXT",
		Short: "send a written question; the answer is printed and spoken",
		Long: `Send a written question to the platform. The answer is printed and spoken. If the
platform reports an error, with or without an answer, the error is printed to
standard error and the exit status is 1.`,
		Example: `  lintod ask "what time is it"`,
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := c.load()
			if err != nil {
				return err
			}
			var reply agent.AskReply
			question := agent.AskArgs{Text: strings.Join(args, " "), Link: link}
			if err := control.Call(cmd.Context(), cfg.Device.Socket, "ask", question, &reply); err != nil {
				return err
			}
			if reply.Text == "" {
				fmt.Fprintln(c.stderr, "the answer contains no text")
			} else {
				printable.Fprintf(c.stdout, "%s\n", reply.Text)
			}
			if reply.Error != "" {
				return errors.New(reply.Error)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&link, "link", "", "ask the platform with this `NAME`; default: the first")
	cli.CompleteFlag(cmd, "link", c.links)
	cli.Text(cmd)
	return cmd
}

func (c *call) stream() *cobra.Command {
	var args agent.StreamArgs
	cmd := &cobra.Command{
		Use:   "stream",
		Short: "transcribe continuously what the microphone hears",
		Long: `Send what the microphone hears to the platform for transcription, until
"lintod stream -stop".`,
		Example: `  lintod stream
  lintod stream -stop`,
		Args: cli.Args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := c.load()
			if err != nil {
				return err
			}
			return control.Call(cmd.Context(), cfg.Device.Socket, "stream", args, nil)
		},
	}
	cmd.Flags().BoolVar(&args.Stop, "stop", false, "stop the transcription")
	return cmd
}

// patience is how long a shell waits for the daemon when it completes a word.
const patience = 500 * time.Millisecond

// links returns the names of the running daemon's links.
func (c *call) links() []string {
	cfg, err := c.load()
	if err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var s agent.Status
	if err := control.Call(ctx, cfg.Device.Socket, "status", nil, &s); err != nil {
		return nil
	}
	var names []string
	for _, name := range slices.Sorted(maps.Keys(s.Links)) {
		names = append(names, printable.Line(name))
	}
	return names
}
