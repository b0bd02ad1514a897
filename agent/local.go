package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"lintod/agent/base/printable"
	"lintod/agent/control"
	"lintod/agent/taps"
	"lintod/agent/turn"
	"lintod/agent/voice"
	"lintod/audio"
	"lintod/audio/media"
	"lintod/audio/player"
)

// TalkArgs are the arguments of talk and follow on the unix socket.
type TalkArgs struct {
	Stop bool   `json:"stop,omitempty"`
	Link string `json:"link,omitempty"`
}

// SayArgs are the arguments of say.
type SayArgs struct {
	Text string `json:"text"`
}

// PlayArgs are the arguments of play; without an address, the file that comes
// with the request is played.
type PlayArgs struct {
	URL string `json:"url,omitempty"`
}

// AskArgs are the arguments of ask.
type AskArgs struct {
	Text string `json:"text"`
	Link string `json:"link,omitempty"`
}

// AskReply is the answer to ask.
type AskReply struct {
	Text  string `json:"text"`            // may be empty: some answers are sound, or silence
	Ask   bool   `json:"ask"`             // the platform asks back, and the device listens next
	Error string `json:"error,omitempty"` // what the platform reports beside the answer
}

// maxReply bounds an answer on the socket, in bytes: more than anybody reads or hears.
const maxReply = 128 << 10

// noticeQueue is how many notices wait for a slow listener; then the oldest go.
const noticeQueue = 256

// local is what the unix socket offers: the device's own commands.
type local struct {
	turns   *turn.Runner
	bus     *turn.Bus
	voice   *voice.Voice
	player  *player.Player
	media   media.Config
	dictate *dictation
	waker   waker
	taps    *taps.Taps
	status  func() Status
}

func (l local) handlers() map[string]control.Handler {
	return map[string]control.Handler{
		"status": func(context.Context, json.RawMessage) (any, error) { return l.status(), nil },
		"talk":   l.talk,
		"say":    l.say,
		"play":   l.play,
		"ask":    l.ask,
		"card":   l.card,
		"stream": l.dictate.command,
	}
}

// streams are what the unix socket tells for as long as somebody listens.
func (l local) streams() map[string]control.StreamHandler {
	return map[string]control.StreamHandler{
		"events": l.events,
		"follow": l.follow,
		"wake":   l.waker.try,
	}
}

// events tells everything that happens, until the listener goes away.
func (l local) events(ctx context.Context, _ json.RawMessage, send func(any) error) error {
	return l.tell(ctx, send)
}

// follow does what talk does, and tells what comes of it.
func (l local) follow(ctx context.Context, raw json.RawMessage, send func(any) error) error {
	var args TalkArgs
	if err := json.Unmarshal(raw, &args); err != nil {
		return fmt.Errorf("arguments of follow: %w", err)
	}
	return l.tell(ctx, send, func() error { return l.trigger(ctx, args) })
}

// tell subscribes before it begins, so that nothing is missed.
func (l local) tell(ctx context.Context, send func(any) error, begin ...func() error) error {
	notices := l.bus.Subscribe(noticeQueue)
	defer notices.Close()
	for _, f := range begin {
		if err := f(); err != nil {
			return err
		}
	}
	for {
		select {
		case <-ctx.Done(): // the end of the daemon, or of a client who does not read this
			return fmt.Errorf("lintod is stopping: %w", context.Cause(ctx))
		case n := <-notices.C:
			if err := send(n); err != nil {
				return err
			}
		}
	}
}

func (l local) talk(ctx context.Context, raw json.RawMessage) (any, error) {
	var args TalkArgs
	if err := json.Unmarshal(raw, &args); err != nil {
		return nil, fmt.Errorf("arguments of talk: %w", err)
	}
	return nil, l.trigger(ctx, args)
}

// trigger does what the talk button would. "That was all" means the utterance
// while the device listens, and the device's own voice else.
func (l local) trigger(ctx context.Context, args TalkArgs) error {
	listening := l.turns.Snapshot().State == turn.Listening
	switch {
	case args.Stop && listening:
		l.turns.Post(turn.Release)
	case args.Stop:
		l.turns.Post(turn.Stop)
	default:
		return l.turns.Tap(ctx, args.Link)
	}
	return nil
}

// say returns when the text has been spoken.
func (l local) say(ctx context.Context, raw json.RawMessage) (any, error) {
	var args SayArgs
	if err := json.Unmarshal(raw, &args); err != nil {
		return nil, fmt.Errorf("arguments of say: %w", err)
	}
	if args.Text == "" {
		return nil, errors.New("text is empty")
	}
	return nil, l.voice.Say(ctx, args.Text)
}

// play returns when the file or stream has been played. Whoever may ask for it
// may have any address played.
func (l local) play(ctx context.Context, raw json.RawMessage) (any, error) {
	var args PlayArgs
	if err := json.Unmarshal(raw, &args); err != nil {
		return nil, fmt.Errorf("arguments of play: %w", err)
	}
	opener := &media.Opener{Config: l.media, Trusted: true}
	open := func(ctx context.Context) (audio.Sound, error) { return opener.Open(ctx, args.URL) }
	if args.URL == "" {
		file := control.File(ctx)
		if file == nil {
			return nil, errors.New("url or file is required")
		}
		defer file.Close() // if its turn never comes
		if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
			return nil, errors.New("not a regular file") // reading a pipe could last forever
		}
		open = func(context.Context) (audio.Sound, error) { return opener.File(file) }
	} else if err := opener.Check(args.URL); err != nil {
		return nil, err
	}
	return nil, l.player.Play(ctx, player.Item{Class: player.Media, Open: open})
}

// ask returns the answer as soon as it is there; the device goes on speaking it.
func (l local) ask(ctx context.Context, raw json.RawMessage) (any, error) {
	var args AskArgs
	if err := json.Unmarshal(raw, &args); err != nil {
		return nil, fmt.Errorf("arguments of ask: %w", err)
	}
	if args.Text == "" {
		return nil, errors.New("text is empty")
	}
	if !l.reaches(args.Link) {
		return nil, errors.New("the platform cannot be reached")
	}
	answer, err := l.turns.Ask(ctx, args.Link, args.Text)
	if err != nil {
		return nil, err
	}
	reply := AskReply{Text: printable.Cut(answer.Text, maxReply), Ask: answer.Ask}
	if answer.Problem != nil {
		reply.Error = printable.Cut(answer.Problem.Error(), maxReply)
	}
	return reply, nil
}

// reaches tells whether the link of a name, or the first, reaches its platform; of
// one that is not there Ask says so.
func (l local) reaches(link string) bool {
	for _, t := range l.turns.Talkers {
		if link == "" || t.Name() == link {
			return l.turns.Online(t.Name())
		}
	}
	return true
}
