package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"lintod/agent/cards"
	"lintod/agent/taps"
	"lintod/audio"
	"lintod/audio/codec"
	"lintod/audio/media"
)

// CardArgs are the arguments of card on the unix socket.
type CardArgs struct {
	UID     string `json:"uid"`
	Removed bool   `json:"removed,omitempty"`
}

// CardReply is the answer to card.
type CardReply struct {
	Result taps.Result `json:"result"` // "" for a card that was removed
}

// newTaps continues without stored content: content that must be downloaded again
// is better than none.
func (a *Agent) newTaps() *taps.Taps {
	log := component(a.log, "cards")
	cfg := a.cfg.Cards
	if cfg.Directory == "" {
		cfg.Directory = filepath.Join(a.cfg.Device.StateDir, "cards")
	}
	store := &cards.Store{Config: cfg.Config, Log: log}
	if err := store.Open(); err != nil {
		a.log.Error("card content cannot be read", "error", err)
	}
	t := &taps.Taps{Config: cfg, Store: store, Player: a.player, Open: a.openCard, Cue: a.voice.Cue, Log: log}
	store.Done = t.Downloaded
	return t
}

// openCard opens what a card plays. A file is opened as sound only, never as a
// playlist: downloaded content is untrusted.
func (a *Agent) openCard(ctx context.Context, path string, from time.Duration) (s audio.Sound, at time.Duration, err error) {
	if strings.HasPrefix(path, "http://") || strings.HasPrefix(path, "https://") { // configured by the owner
		s, err = (&media.Opener{Config: a.cfg.Behaviors.Play, Trusted: true}).Open(ctx, path)
		return s, 0, err
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		file.Close()
		return nil, 0, fmt.Errorf("%s is not a regular file", path)
	}
	if from > 0 {
		if at, err = codec.Skip(file, from); err != nil {
			file.Close()
			return nil, 0, err
		}
	}
	s, err = codec.Open(file)
	return s, at, err
}

// card returns the result of a tap.
func (l local) card(ctx context.Context, raw json.RawMessage) (any, error) {
	var args CardArgs
	if err := json.Unmarshal(raw, &args); err != nil {
		return nil, fmt.Errorf("arguments of card: %w", err)
	}
	if args.Removed {
		return CardReply{}, l.taps.Remove(args.UID)
	}
	result, err := l.taps.Tap(ctx, args.UID)
	return CardReply{result}, err
}
