package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"lintod/cmd/internal/cli"
)

// value is the payload of most commands.
type value struct {
	Value any `json:"value"`
}

func ping(ctx context.Context, c *call) error {
	return c.toDevice(ctx, "pong", func(ctx context.Context, s *connection, serial string) error {
		began := time.Now()
		if err := s.ask(ctx, serial, "ping", "pong"); err != nil {
			return err
		}
		fmt.Fprintf(c.stdout, "%s: answer after %.1f ms\n", serial, time.Since(began).Seconds()*1e3)
		return nil
	})
}

func mute(ctx context.Context, c *call) error   { return c.acknowledged(ctx, "mute", "muteack") }
func unmute(ctx context.Context, c *call) error { return c.acknowledged(ctx, "unmute", "unmuteack") }

func say(ctx context.Context, c *call) error {
	return c.pinged(ctx, value{strings.Join(c.args[1:], " ")}, "say")
}

func volume(ctx context.Context, c *call) error {
	percent, err := strconv.Atoi(c.args[1])
	if err != nil || percent < 0 || percent > 100 {
		return cli.Usagef("volume %q; want a whole number from 0 to 100", c.args[1])
	}
	verbs := []string{"volume"}
	if c.keep {
		verbs = append(verbs, "endvolume")
	}
	return c.pinged(ctx, value{percent}, verbs...)
}

// language waits for the device's own answer, which tells of a refusal, or, from
// one that gives none, for a status with the new language.
func language(ctx context.Context, c *call) error {
	serial, tag := c.args[0], c.args[1]
	if err := checkSerials(serial); err != nil {
		return err
	}
	filters := []string{c.said(serial, "tts_lang"), c.said(serial, "status"), c.said(serial, "pong")}
	return c.connect(ctx, filters, func(ctx context.Context, s *connection) error {
		if err := s.send(ctx, 1, serial, "tts_lang", value{tag}); err != nil {
			return err
		}
		if err := s.send(ctx, 0, serial, "ping", struct{}{}); err != nil {
			return err
		}
		var refusal string
		there := false
		decided := s.await(ctx, func(m message) bool {
			if m.serial != serial || m.retained {
				return false
			}
			switch m.name {
			case "tts_lang":
				refusal = readRefusal(m.payload)
				return true
			case "status":
				st, ok := readStatus(m.payload)
				return ok && strings.EqualFold(st.Config.Sound.Language, tag)
			}
			there = there || m.name == "pong"
			return false
		})
		switch {
		case refusal != "":
			return fmt.Errorf("%s refuses: %s", serial, refusal)
		case !decided && there:
			return fmt.Errorf("%s is there, but has not said within %v that it speaks %s", serial, c.wait, tag)
		case !decided:
			return c.silent(serial)
		}
		return nil
	})
}

// acknowledged does a command that the protocol has an answer for.
func (c *call) acknowledged(ctx context.Context, verb, answer string) error {
	return c.toDevice(ctx, answer, func(ctx context.Context, s *connection, serial string) error {
		return s.ask(ctx, serial, verb, answer)
	})
}

// pinged does commands that the protocol has no answer for, and asks after them
// whether there is somebody to do them.
func (c *call) pinged(ctx context.Context, payload any, verbs ...string) error {
	return c.toDevice(ctx, "pong", func(ctx context.Context, s *connection, serial string) error {
		for _, verb := range verbs {
			if err := s.send(ctx, 1, serial, verb, payload); err != nil {
				return err
			}
		}
		return s.ask(ctx, serial, "ping", "pong")
	})
}

// toDevice connects for a command to the device that is the first argument.
func (c *call) toDevice(ctx context.Context, answer string, do func(context.Context, *connection, string) error) error {
	serial := c.args[0]
	if err := checkSerials(serial); err != nil {
		return err
	}
	return c.connect(ctx, []string{c.said(serial, answer)}, func(ctx context.Context, s *connection) error {
		return do(ctx, s, serial)
	})
}

func checkSerials(serials ...string) error {
	for _, serial := range serials {
		if !isLevel(serial) {
			return cli.Usagef("%q is no serial number; it must not be empty nor contain /, + or #", serial)
		}
	}
	return nil
}
