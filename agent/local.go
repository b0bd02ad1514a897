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

// PlayArgs are the arguments of play. Without an address, the file that is
// passed with the request is played.
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
	Ask   bool   `json:"ask"`             // the platform asks a question, and the device listens next
	Error string `json:"error,omitempty"` // an error that the platform reports with the answer
}

// maxReply bounds an answer on the socket, in bytes. It is longer than any answer
// of practical use.
const maxReply = 128 << 10

// noticeQueue is how many notices wait for a slow client; beyond that, the oldest
// are dropped.
const noticeQueue = 256

// local serves the device's own commands on the unix socket.
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

// streams returns the commands of the unix socket that send events until the
// client disconnects.
func (l local) streams() map[string]control.StreamHandler {
	return map[string]control.StreamHandler{
		"events": l.events,
		"follow": l.follow,
		"wake":   l.waker.try,
	}
}

// events sends all events until the client disconnects.
func (l local) events(ctx context.Context, _ json.RawMessage, send func(any) error) error {
	return l.sendNotices(ctx, send)
}

// follow does what talk does, and sends the events that result.
func (l local) follow(ctx context.Context, raw json.RawMessage, send func(any) error) error {
	var args TalkArgs
	if err := json.Unmarshal(raw, &args); err != nil {
		return fmt.Errorf("arguments of follow: %w", err)
	}
	return l.sendNotices(ctx, send, func() error { return l.trigger(ctx, args) })
}

// sendNotices subscribes before it begins, so that no event is missed.
func (l local) sendNotices(ctx context.Context, send func(any) error, begin ...func() error) error {
	notices := l.bus.Subscribe(noticeQueue)
	defer notices.Close()
	for _, f := range begin {
		if err := f(); err != nil {
			return err
		}
	}
	for {
		select {
		case <-ctx.Done(): // the daemon is stopping, or the client is gone and does not read this
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

// trigger acts as the talk button. Stopping ends the utterance while the
// device listens, and otherwise the device's own speech.
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

// play returns when the file or stream has been played. Clients of this socket
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
		defer file.Close() // in case it is never played
		if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
			return nil, errors.New("not a regular file") // reading a pipe could last forever
		}
		open = func(context.Context) (audio.Sound, error) { return opener.File(file) }
	} else if err := opener.Check(args.URL); err != nil {
		return nil, err
	}
	return nil, l.player.Play(ctx, player.Item{Class: player.Media, Open: open})
}

// ask returns the answer as soon as it is complete; the device continues to speak
// it.
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

// reaches reports whether the link of a name, or the first link, reaches its
// platform. An unknown name counts as reached: Ask returns its error.
func (l local) reaches(link string) bool {
	for _, t := range l.turns.Talkers {
		if link == "" || t.Name() == link {
			return l.turns.Online(t.Name())
		}
	}
	return true
}
