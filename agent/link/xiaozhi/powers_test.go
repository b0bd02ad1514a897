package xiaozhi

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"testing"

	"lintod/agent/base/config"
	"lintod/agent/link"
	"lintod/agent/link/xiaozhi/mcp"
	"lintod/agent/signed/verifier"
	"lintod/behaviors"
)

// refusals records refused requests.
type refusals struct {
	verbs []string
}

func (r *refusals) Refuse(q behaviors.Request, _ error) { r.verbs = append(r.verbs, q.Verb) }

// A device without LEDs has no tools for them: a model would try them.
func TestToolsOfLEDs(t *testing.T) {
	for _, leds := range []bool{false, true} {
		l := &Link{Device: link.Device{Registry: &behaviors.Registry{}, Features: link.Features{LEDs: leds}}}
		l.Registry.Add(behaviors.Everyday(nil)...)
		for _, name := range []string{"self.led.set_color", "self.led.set_mode", "self.led.set_rainbow_speed"} {
			if got := slices.ContainsFunc(l.offered(), func(tool mcp.Tool) bool { return tool.Name == name }); got != leds {
				t.Errorf("LEDs %v: %s offered: %v", leds, name, got)
			}
		}
	}
}

// This protocol has no signatures, so verbs that must be signed are refused and
// audited, also the second verb of a tool, and one with power.
func TestWhatMustBeSignedIsRefused(t *testing.T) {
	for require, want := range map[string]string{
		"": "", "volume": "volume", "start_volume": "start_volume", "all": "volume", "privileged": "",
	} {
		done := 0
		verb := func(name string) behaviors.Verb {
			return behaviors.Verb{Name: name, Power: behaviors.Safe, Do: func(context.Context, behaviors.Call) (any, error) {
				done++
				return nil, nil
			}}
		}
		audit := &refusals{}
		registry := &behaviors.Registry{Signed: verifier.Config{Require: config.Strings{require}}.Requires, Refused: audit.Refuse}
		log := slog.New(slog.DiscardHandler)
		l := &Link{Device: link.Device{Registry: registry, Powers: &behaviors.Executor{
			Registry: registry, Audit: &behaviors.Audit{Path: filepath.Join(t.TempDir(), "audit.log"), Log: log}, Log: log,
		}}}
		l.Registry.Add(verb("volume"), verb("start_volume"), behaviors.Verb{Name: "shellexec", Power: behaviors.Privileged})
		_, err := l.doer([]string{"start_volume"})(t.Context(), "volume", behaviors.Arguments{Values: map[string]json.RawMessage{}})
		var failure *behaviors.Failure
		if refused := errors.As(err, &failure) && failure.Code == behaviors.Refused; refused != (want != "") || refused == (done == 2) {
			t.Errorf("%q: %v, %d verbs were executed", require, err, done)
		}
		if got := append(audit.verbs, "")[0]; got != want {
			t.Errorf("%q: audited as refused: %q, want %q", require, got, want)
		}
		if require != "privileged" {
			continue
		}
		_, err = l.doer(nil)(t.Context(), "shellexec", behaviors.Arguments{})
		if !errors.As(err, &failure) || failure.Code != behaviors.Refused {
			t.Errorf("a verb with power: %v", err)
		}
	}
}
