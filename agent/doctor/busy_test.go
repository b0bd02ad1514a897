package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"lintod/agent"
	"lintod/agent/broker/brokertest"
	"lintod/agent/control"
	"lintod/agent/status"
	"lintod/audio"
	"lintod/audio/cardtest"
	"lintod/audio/player"
)

// A card that the daemon has open is not a failure as long as the daemon receives
// sound.
func TestCardsInUseByTheDaemon(t *testing.T) {
	busy := errors.New("the microphone \"usb\" does not open: it is in use; who uses it?")
	for name, tt := range map[string]struct {
		frames      []uint64 // of the daemon, at each request
		microphone  Level
		speaker     player.Stats
		loudspeaker Level
	}{
		"it receives sound and has spoken": {[]uint64{10, 60}, OK, player.Stats{Frames: 500}, OK},
		"it receives no sound":             {[]uint64{10, 10}, Fail, player.Stats{Frames: 500, Failures: 1}, Fail},
	} {
		t.Run(name, func(t *testing.T) {
			x, found := box(t, map[string]string{
				"proc/asound/cards":                   " 1 [usb            ]: USB-Audio - USB\n                      USB\n",
				"proc/asound/card1/pcm0c/sub0/status": "owner_pid   : 815\n",
				"proc/815/comm":                       "lintod-audio\n",
			})
			var asked atomic.Int32
			serve(t, x, func() status.Report {
				return status.Report{Version: agent.Version, Mic: audio.Health{Open: true, Frames: tt.frames[min(asked.Add(1)-1, 1)]}, Speaker: tt.speaker}
			})
			asked.Store(0)
			x.running(t.Context())
			*found = nil
			x.microphone(t.Context(), cardtest.Result{In: busy})
			x.loudspeaker(cardtest.Result{In: busy, Out: busy}, true)
			check(t, (*found)[0], tt.microphone, "")
			check(t, (*found)[1], tt.loudspeaker, "")
			if f := (*found)[0]; f.Level == Fail && !strings.Contains(f.Text, "lintod-audio (pid 815)") {
				t.Errorf("does not name the program that uses the card: %+v", f)
			}
		})
	}
}

// serve is a daemon with that status.
func serve(t *testing.T, x *exam, report func() status.Report) {
	x.cfg.Device.Socket = filepath.Join(t.TempDir(), "s")
	server := &control.Server{Path: x.cfg.Device.Socket, Log: slog.New(slog.DiscardHandler), Handlers: map[string]control.Handler{
		"status": func(context.Context, json.RawMessage) (any, error) { return report(), nil },
	}}
	ended := make(chan error)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { ended <- server.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
	brokertest.Eventually(t, "the daemon answers", func() bool { _, err := x.ask(t.Context()); return err == nil })
}

// A device that is silent because of its settings is found from afar.
func TestSettingsThatSilence(t *testing.T) {
	for subject, set := range map[string]func(*status.Report){
		"":            func(*status.Report) {},
		"loudspeaker": func(r *status.Report) { r.Inaudible = true },
		"microphone":  func(r *status.Report) { r.Flags.Muted = true },
	} {
		x, found := box(t, nil)
		report := status.Report{Version: agent.Version, Serial: x.cfg.Device.Serial}
		set(&report)
		serve(t, x, func() status.Report { return report })
		x.running(t.Context())
		wrong := ""
		for _, f := range *found {
			if f.Level != OK {
				wrong += f.Subject
			}
		}
		if wrong != subject {
			t.Errorf("%q is wrong, not %q: %+v", wrong, subject, *found)
		}
	}
}
