package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"lintod/agent/base/printable"
	"lintod/agent/broker"
	"lintod/cmd/internal/cli"
	"lintod/cmd/lintoctl/fleet"
)

// stream prints the transcript of a device's stream.
func (c *call) stream() *cobra.Command {
	cmd := &cobra.Command{
		Use: "stream SERIAL", Short: "print the live transcript of a device, until Ctrl-C",
		Long: `Print the live transcript of a device that streams to its platform (mode = "stream" in [linto],
or "lintod stream" on the device), one utterance per line, until Ctrl-C. On a terminal, the last
line shows the current utterance. The command does not open the device's microphone.

The broker account must also be allowed to read SCOPE/tolinto/SERIAL/streaming/#.`,
		Example: `  lintoctl stream kitchen
  lintoctl stream kitchen -json`,
		Args: cli.Args(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := c.check(); err != nil {
				return err
			}
			if !fleet.IsSerial(args[0]) {
				return cli.Usagef("%q is not a serial; it must not be empty or contain /, +, or #", args[0])
			}
			p := &transcript{call: c, serial: args[0], live: isTerminal(c.stdout) && !c.json}
			told := c.scope + "/tolinto/" + args[0] + "/streaming/"
			filters := []string{told + "#", c.said(args[0], "streaming/start"), c.said(args[0], "streaming/stop")}
			return c.listen(cmd.Context(), filters, func(m broker.Message) error {
				if step, ok := strings.CutPrefix(m.Topic, told); ok {
					return p.platform(step, m.Payload)
				}
				return p.device(strings.HasSuffix(m.Topic, "/start"))
			})
		},
	}
	cmd.ValidArgsFunction = c.completeSerials
	return cmd
}

// listen passes messages on topics to handle, until ctx or handle ends it.
func (c *call) listen(ctx context.Context, filters []string, handle func(broker.Message) error) error {
	conn := c.conn(ctx, filters...)
	conn.Offline = func(err error) { fmt.Fprintf(c.stderr, "lintoctl: %v; retrying\n", err) }
	outer := ctx
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	conn.Handle = func(_ context.Context, m broker.Message) {
		if err := handle(m); err != nil {
			cancel(fmt.Errorf("print: %w", err)) // for example when piped into head
		}
	}
	if err := conn.Run(ctx); err != nil {
		return err
	}
	if outer.Err() != nil {
		return nil // Ctrl-C is the normal end
	}
	return context.Cause(ctx)
}

// transcript prints the transcript of a device as it arrives.
type transcript struct {
	call    *call
	serial  string
	live    bool   // show the current utterance
	partial string // the displayed one
	told    string // utterances of the current stream, which the final text may repeat
	heard   bool   // the platform has sent anything since the stream started
}

// wireStreaming is a platform's message about a stream (protocol 1.5).
type wireStreaming struct {
	Status  string          `json:"status"`
	Partial *string         `json:"partial"`
	Text    string          `json:"text"`
	Result  json.RawMessage `json:"result"`
	Message json.RawMessage `json:"message"`
}

// platform handles a message of the platform.
func (p *transcript) platform(step string, payload []byte) error {
	var m struct {
		Behavior struct {
			Streaming *wireStreaming  `json:"streaming"`
			Error     json.RawMessage `json:"error"`
		} `json:"behavior"`
		wireStreaming // of older servers
	}
	_ = json.Unmarshal(payload, &m) // unparsable messages are ignored
	p.heard = true
	s := m.wireStreaming
	if m.Behavior.Streaming != nil {
		s = *m.Behavior.Streaming
	}
	switch {
	case len(m.Behavior.Error) > 0:
		return p.print("error", clean(string(m.Behavior.Error)))
	case step == "error" || s.Status == "error":
		return p.print("error", strings.TrimSpace("the platform does not transcribe "+clean(string(s.Message))))
	case s.Status == "started":
		p.told = ""
		return nil
	case s.Status == "final":
		text := strings.TrimSpace(s.Text + finalText(s.Result))
		return p.print("text", strings.TrimSpace(strings.TrimPrefix(text, p.told)))
	case s.Text != "":
		p.told = strings.TrimSpace(p.told + " " + s.Text)
		return p.print("text", s.Text)
	case s.Partial != nil:
		return p.print("partial", *s.Partial)
	}
	return nil
}

// finalText parses a result, which is JSON in a string.
func finalText(raw json.RawMessage) string {
	var inner string
	if json.Unmarshal(raw, &inner) == nil {
		raw = json.RawMessage(inner)
	}
	var result struct{ Text string }
	if json.Unmarshal(raw, &result) != nil {
		return inner
	}
	return result.Text
}

// device records that the device starts or stops streaming.
func (p *transcript) device(begins bool) error {
	if begins {
		p.heard = false
	} else if !p.heard {
		fmt.Fprintf(p.call.stderr, "lintoctl: %s has streamed, but the platform sent nothing: it does not transcribe, or the account may not read tolinto/%s/streaming/#\n",
			clean(p.serial), clean(p.serial))
	}
	return nil
}

// print prints a complete text as one line.
func (p *transcript) print(kind, text string) error {
	w := p.call.stdout
	switch {
	case text == "" || kind == "partial" && text == p.partial:
		return nil
	case p.call.json:
		return p.call.emit(map[string]any{"v": 1, "time": time.Now(), "serial": p.serial, kind: text})
	case kind == "partial" && !p.live:
		return nil
	case kind == "partial":
		p.partial = text
		width, _ := p.call.size()
		_, err := fmt.Fprintf(w, "\r%s\x1b[K", tail(printable.Line(text), width-1))
		return err
	case p.partial != "":
		p.partial = ""
		if _, err := fmt.Fprint(w, "\r\x1b[K"); err != nil {
			return err
		}
	}
	if kind == "error" {
		text = "(" + text + ")"
	}
	_, err := fmt.Fprintf(w, "%s  %s\n", time.Now().Format(time.TimeOnly), printable.Line(text))
	return err
}

// tail returns the end of a line, of at most n characters.
func tail(line string, most int) string {
	if runes := []rune(line); len(runes) > most {
		return string(runes[len(runes)-most:])
	}
	return line
}
