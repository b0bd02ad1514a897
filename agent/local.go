package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"lintod/agent/base/printable"
	"lintod/agent/control"
	"lintod/agent/turn"
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

// handlers are what the unix socket offers.
func (a *Agent) handlers() map[string]control.Handler {
	return map[string]control.Handler{
		"status": func(context.Context, json.RawMessage) (any, error) { return a.status(), nil },
		"talk":   a.talk,
		"say":    a.say,
		"play":   a.play,
		"ask":    a.ask,
		"stream": a.dictate.command,
	}
}

// streams are what the unix socket tells for as long as somebody listens.
func (a *Agent) streams() map[string]control.StreamHandler {
	return map[string]control.StreamHandler{
		"events": a.events,
		"follow": a.follow,
	}
}

// events tells everything that happens, until the listener goes away.
func (a *Agent) events(ctx context.Context, _ json.RawMessage, send func(any) error) error {
	return a.tell(ctx, send)
}

// follow does what talk does, and tells what comes of it.
func (a *Agent) follow(ctx context.Context, raw json.RawMessage, send func(any) error) error {
	var args TalkArgs
	if err := json.Unmarshal(raw, &args); err != nil {
		return fmt.Errorf("arguments of follow: %w", err)
	}
	return a.tell(ctx, send, func() error { return a.trigger(ctx, args) })
}

// tell subscribes before it begins, so that nothing is missed.
func (a *Agent) tell(ctx context.Context, send func(any) error, begin ...func() error) error {
	notices := a.bus.Subscribe(noticeQueue)
	defer notices.Close()
	for _, f := range begin {
		if err := f(); err != nil {
			return err
		}
	}
	for {
		select {
		case <-ctx.Done(): // the end of the daemon, or of a client who does not read this
			return fmt.Errorf("lintod stops: %w", context.Cause(ctx))
		case n := <-notices.C:
			if err := send(n); err != nil {
				return err
			}
		}
	}
}

func (a *Agent) talk(ctx context.Context, raw json.RawMessage) (any, error) {
	var args TalkArgs
	if err := json.Unmarshal(raw, &args); err != nil {
		return nil, fmt.Errorf("arguments of talk: %w", err)
	}
	return nil, a.trigger(ctx, args)
}

// trigger does what the talk button would. "That was all" means the utterance
// while the device listens, and the device's own voice else.
func (a *Agent) trigger(ctx context.Context, args TalkArgs) error {
	listening := a.turns.Snapshot().State == turn.Listening
	switch {
	case args.Stop && listening:
		a.turns.Post(turn.Release)
	case args.Stop:
		a.turns.Post(turn.Stop)
	default:
		return a.turns.Tap(ctx, args.Link)
	}
	return nil
}

// say returns when the text has been spoken.
func (a *Agent) say(ctx context.Context, raw json.RawMessage) (any, error) {
	var args SayArgs
	if err := json.Unmarshal(raw, &args); err != nil {
		return nil, fmt.Errorf("arguments of say: %w", err)
	}
	if args.Text == "" {
		return nil, errors.New("say what? text is empty")
	}
	return nil, a.voice.Say(ctx, args.Text)
}

// play returns when the file or stream has been played. Whoever may ask for it
// may have any address played.
func (a *Agent) play(ctx context.Context, raw json.RawMessage) (any, error) {
	var args PlayArgs
	if err := json.Unmarshal(raw, &args); err != nil {
		return nil, fmt.Errorf("arguments of play: %w", err)
	}
	opener := &media.Opener{Config: a.cfg.Behaviors.Play, Trusted: true}
	open := func(ctx context.Context) (audio.Sound, error) { return opener.Open(ctx, args.URL) }
	if args.URL == "" {
		file := control.File(ctx)
		if file == nil {
			return nil, errors.New("play what? there is neither url nor file")
		}
		defer file.Close() // if its turn never comes
		if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
			return nil, errors.New("play what? that is no file") // reading a pipe could last for ever
		}
		open = func(context.Context) (audio.Sound, error) { return opener.File(file) }
	} else if err := opener.Check(args.URL); err != nil {
		return nil, err
	}
	return nil, a.player.Play(ctx, player.Item{Class: player.Media, Open: open})
}

// ask returns the answer as soon as it is there; the device goes on speaking it.
func (a *Agent) ask(ctx context.Context, raw json.RawMessage) (any, error) {
	var args AskArgs
	if err := json.Unmarshal(raw, &args); err != nil {
		return nil, fmt.Errorf("arguments of ask: %w", err)
	}
	if args.Text == "" {
		return nil, errors.New("ask what? text is empty")
	}
	if !a.reaches(args.Link) {
		return nil, errors.New("the platform cannot be reached")
	}
	answer, err := a.turns.Ask(ctx, args.Link, args.Text)
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
func (a *Agent) reaches(link string) bool {
	for _, t := range a.turns.Talkers {
		if link == "" || t.Name() == link {
			return a.turns.Online(t.Name())
		}
	}
	return true
}
