// Package agent composes the parts of the device and keeps them alive: which
// link uses which part, what is restarted after a failure, what the device
// reports about itself, and how it stops.
//
// What must not live here: how anything works. A part that needs rules of its
// own gets its own package, below.
package agent

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"lintod/agent/base/journal"
	"lintod/agent/base/state"
	"lintod/agent/buttons"
	"lintod/agent/control"
	"lintod/agent/link"
	"lintod/agent/page"
	"lintod/agent/settings"
	"lintod/agent/taps"
	"lintod/agent/turn"
	"lintod/agent/voice"
	"lintod/audio"
	"lintod/audio/endpoint"
	"lintod/audio/mixer"
	"lintod/audio/native"
	"lintod/audio/player"
	"lintod/audio/silero"
	"lintod/audio/tts"
	"lintod/audio/wake"
	"lintod/behaviors"
	"lintod/behaviors/remote"
	"lintod/gpio"
	"lintod/gpio/panel"
	"lintod/gpio/rfid"
)

// Version is set by the linker; see scripts/build.
var Version = "0.0.0-dev"

// stopLimit is how long a clean stop may take. Parts that take longer are
// named in the error and abandoned.
const stopLimit = 1800 * time.Millisecond

// Agent is the device. Make one with New, then Run it once.
type Agent struct {
	// Panel shows the simulated board; nil means one on standard input and output.
	Panel *panel.Panel
	// Doctor examines the device silently, until ctx ends; nil if there is no doctor.
	Doctor func(ctx context.Context, report func(link.Finding))
	// Configuration changes the configuration file; nil if it cannot be changed
	// remotely.
	Configuration *remote.Keeper

	cfg   Config
	log   *slog.Logger
	start time.Time

	store      *state.Store
	settings   *settings.Settings
	sound      *native.Process
	voiceModel func() *silero.Model
	hub        *audio.Hub
	player     *player.Player
	mixer      *mixer.Mixer // nil while the volume is set in software
	voice      *voice.Voice
	bus        *turn.Bus
	turns      *turn.Runner
	registry   *behaviors.Registry
	powers     *powers
	meetings   *meetings
	taps       *taps.Taps
	reader     *rfid.Reader // of cards
	dictate    *dictation
	buttons    *buttons.Buttons
	links      []Link         // the enabled ones
	wake       *wake.Listener // nil if no wake word is configured
	gpio       *gpio.Board
	parts      supervisor
	lamp       lamp
	waker      waker
	monitor    *monitor
	page       *page.Page // nil unless enabled
	recent     journal.Recent
	examining  sync.Mutex
}

// New composes the parts and starts nothing.
func New(cfg Config, log *slog.Logger) *Agent {
	a := &Agent{cfg: cfg, start: time.Now(), bus: &turn.Bus{}, registry: &behaviors.Registry{}}
	if cfg.Page.Enabled { // the page shows the latest log lines
		log = a.recent.Keep(log)
	}
	a.log = log
	a.parts.log = log
	a.openState()
	a.buildSound()
	a.settings = a.newSettings()
	a.voice = &voice.Voice{
		Speech:   &tts.Speaker{Config: cfg.TTS, Log: component(log, "tts")},
		Player:   a.player,
		Language: func() string { return a.settings.Get().Language },
		Chimes:   a.chimes(),
		Notify:   func(w turn.What, text string) { a.turns.Notify("", w, text) },
		Log:      component(log, "voice"),
	}
	a.turns = &turn.Runner{
		Microphone:  microphone{a.hub},
		Loudspeaker: a.voice,
		Endpoint: endpoint.Config{
			Silence:      cfg.Audio.EndpointSilence.Std(),
			MaxUtterance: cfg.Audio.MaxUtterance.Std(),
			NoSpeech:     cfg.Audio.NoSpeech.Std(),
			MinSpeech:    cfg.Audio.MinSpeech.Std(),
		},
		VoiceModel: a.voiceModel,
		// Offline until a link says otherwise.
		Initial: turn.Flags{Offline: true, Muted: a.settings.Get().Muted},
		Duplex:  cfg.Audio.Processing.EchoCancelling || cfg.duplex(),
		Unheard: cfg.unheard(),

		Bus: a.bus,
		Log: component(log, "turn"),
	}
	_, leds := cfg.Effective()
	a.lamp.there = len(leds) > 0
	a.registry.Add(behaviors.Everyday(a.box())...)
	a.registry.Add(behaviors.Turning(conversation{a.turns})...)
	a.registry.Add(behaviors.SayAs(a.box()))
	a.meetings = a.newMeetings()
	a.powers = a.newPowers()
	a.taps = a.newTaps()
	a.registry.Add(behaviors.OfStory(a.taps)...)
	a.links = a.newLinks()
	a.dictate = &dictation{}
	for _, l := range a.links {
		a.join(l)
	}
	a.buttons = &buttons.Buttons{
		Turns: a.turns, Settings: a.settings, Registry: a.registry,
		Say:     func(text string) error { return a.box().Say(text, behaviors.Progress{}) },
		Meeting: a.meetings.toggle, Dictation: a.dictate.toggle,
		Log: component(log, "buttons"),
	}
	a.taps.Press = a.buttons.Press
	a.reader = &rfid.Reader{Config: cfg.Cards.Reader, Report: a.taps.Read, Log: component(log, "reader")}
	a.gpio = &gpio.Board{Config: cfg.Config, Log: component(log, "gpio"), Gestured: a.gestured, Do: a.buttons.Press, Level: a.turns.Level}
	a.waker = waker{cfg.Wake, a.hub, a.turns, a.voice, a.settings, component(log, "wake")}
	if cfg.Wake.Enabled() {
		a.hub.Memory = wakeMemory
		a.wake = a.waker.listener()
	}
	a.monitor = &monitor{
		turns: a.turns, bus: a.bus, voice: a.voice, hub: a.hub, wake: a.wake, links: a.links, board: a.gpio, lamp: &a.lamp, cards: a.taps.Store,
		settings: a.settings, start: a.start,
		log: component(log, "health"),
	}
	if cfg.Page.Enabled {
		a.page = a.newPage()
		a.settings.Follow(a.page.Changed)
	}
	return a
}

// join connects a link to the parts of the device that use it.
func (a *Agent) join(l Link) {
	if talker, talks := l.(turn.Talker); talks {
		a.turns.Talkers = append(a.turns.Talkers, talker)
	}
	if follower, follows := l.(settingsFollower); follows {
		a.settings.Follow(follower.StatusChanged)
	}
	if d, takes := l.(dictator); takes && a.dictate.link == nil {
		a.dictate.link = d
	}
	if reporter, reports := l.(meetingReporter); reports {
		a.meetings.reporters = append(a.meetings.reporters, reporter)
	}
	if p, knows := l.(taps.Platform); knows {
		a.taps.Platforms = append(a.taps.Platforms, p)
	}
	if reporter, reports := l.(tunnelReporter); reports {
		a.powers.reporters[l.Name()] = reporter
	}
}

// openState continues without a writable disk: the device then loses its state at
// a restart.
func (a *Agent) openState() {
	language, _ := a.cfg.TTS.Find(a.cfg.TTS.Language) // validated before
	defaults := state.Saved{Volume: a.cfg.Device.Volume, Language: language}
	store, err := state.Open(a.cfg.Device.StateDir, defaults, component(a.log, "state"))
	if err != nil {
		a.log.Error("settings cannot be saved and will be lost at the next restart", "error", err)
	}
	a.store = store
}

// newSettings returns the saved settings, already applied.
func (a *Agent) newSettings() *settings.Settings {
	s := &settings.Settings{
		Store: a.store, Loudness: a.player, Find: a.cfg.TTS.Find,
		Mute: a.mute, Muted: a.muted, Log: component(a.log, "settings"),
	}
	if a.mixer != nil {
		s.Loudness = a.mixer
	}
	language, _ := a.cfg.TTS.Find(a.cfg.TTS.Language) // validated before
	s.CheckLanguage(language)
	s.SetVolume(s.Get().StartVolume)
	return s
}

func component(log *slog.Logger, name string) *slog.Logger { return log.With("component", name) }

// room is how much sound from before a turn is used to measure the background
// noise.
const room = 5500 * time.Millisecond

func (a *Agent) buildSound() {
	cards := newCards(a.cfg.Audio, component(a.log, "sound"))
	a.sound, a.voiceModel = cards.process, cards.voiceModel
	a.hub = &audio.Hub{
		Open:    cards.input.OpenInput,
		Preroll: a.cfg.Audio.Preroll.Std(),
		Room:    room,
		Privacy: a.cfg.Audio.Privacy,
		Gated:   a.cfg.Audio.Processing.NoiseSuppression || a.cfg.Audio.Processing.EchoCancelling,
		Log:     component(a.log, "microphone"),
	}
	a.player = &player.Player{
		Open: cards.output.OpenOutput,
		Rate: a.cfg.Audio.OutputRate,
		Lead: a.cfg.Audio.OutputLead.Std(),
		Log:  component(a.log, "loudspeaker"),
	}
	if a.cfg.Audio.Mixer != "" {
		a.mixer = &mixer.Mixer{
			Device: a.cfg.Audio.MixerDevice, Control: a.cfg.Audio.Mixer, Env: native.Environ(),
			Software: a.player.SetVolume, Log: component(a.log, "mixer"),
		}
	}
}

// chimes uses the default sound for each configured file that cannot be used.
func (a *Agent) chimes() map[string][]int16 {
	sounds, faults := a.cfg.Sounds.Load(a.cfg.Audio.OutputRate)
	for _, err := range faults {
		a.log.Warn("a configured sound cannot be used; using the default", "error", err)
	}
	return sounds
}

// Run runs the device until ctx ends. It then signs off from the platforms,
// stops all sound, and returns within two seconds, naming the parts that did
// not stop.
func (a *Agent) Run(ctx context.Context) error {
	if err := a.prepare(ctx); err != nil {
		return err
	}
	defer func() {
		if err := a.store.Flush(); err != nil {
			a.log.Warn("the latest settings could not be saved", "error", err)
		}
	}()
	var all sync.WaitGroup
	for name, run := range a.list() {
		all.Go(func() { a.parts.keep(ctx, name, run) })
	}
	gone := make(chan struct{})
	go func() { all.Wait(); close(gone) }()
	<-ctx.Done()
	a.log.Info("stopping", "reason", context.Cause(ctx))
	select {
	case <-gone:
		return nil
	case <-time.After(stopLimit):
		return fmt.Errorf("parts that did not stop within %v: %v", stopLimit, a.parts.running())
	}
}

// prepare keeps the microphone closed from the start if it was muted.
func (a *Agent) prepare(ctx context.Context) error {
	if a.settings.Get().Muted {
		return a.hub.SetMuted(ctx, true)
	}
	return nil
}

// list returns everything that runs, by the name used in the counters.
func (a *Agent) list() map[string]func(context.Context) error {
	parts := map[string]func(context.Context) error{
		"turn":        a.turns.Run,
		"microphone":  a.hub.Run,
		"loudspeaker": a.player.Run,
		"health":      a.monitor.watch,
		"control":     a.control().Run,
		"sound":       a.sound.Run,
	}
	parts["cards"], parts["downloads"] = a.taps.Run, a.taps.Store.Run
	if a.cfg.Cards.Reader.Configured() {
		parts["reader"] = a.reader.Run
	}
	parts["powers"], parts["tunnels"] = a.powers.executor.Run, a.powers.tunnels.Run
	if a.cfg.Behaviors.Managemeeting.Enabled {
		parts["recorder"], parts["meetings"] = a.meetings.recorder.Run, a.meetings.report
	}
	if a.Configuration != nil {
		parts["configuration"] = a.watchConfiguration
	}
	if a.mixer != nil {
		parts["mixer"] = a.mixer.Run
	}
	a.gpio.Panel = a.Panel
	a.gpio.Show(a.monitor.activity().LEDs()) // so that it never shows a state that has not been reached
	loops := map[string]probe{"turn": a.turns.Probe, "buttons": a.buttons.Probe, "cards": a.taps.Probe}
	parts["gpio"], parts["buttons"] = a.gpio.Run, a.buttons.Run
	for _, l := range a.links {
		parts[l.Name()], loops[l.Name()] = l.Run, l.Probe
	}
	if a.wake != nil {
		parts["wake"] = a.wake.Run
	}
	if a.page != nil {
		parts["page"] = a.page.Run
	}
	if interval := watchdogInterval(a.log); interval > 0 {
		parts["watchdog"] = a.newWatchdog(interval, loops).Run
	}
	return parts
}

func (a *Agent) local() local {
	return local{a.turns, a.bus, a.voice, a.player, a.cfg.Behaviors.Play, a.dictate, a.waker, a.taps, a.status}
}

func (a *Agent) control() *control.Server {
	l := a.local()
	handlers := l.handlers()
	handlers["page"] = a.openPage
	return &control.Server{
		Path:     a.cfg.Device.Socket,
		Handlers: handlers,
		Streams:  l.streams(),
		Log:      component(a.log, "control"),
	}
}
