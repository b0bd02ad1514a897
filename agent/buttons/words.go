package buttons

import (
	"context"
	"encoding/json"
	"fmt"

	"lintod/behaviors"
)

// words are what a button may request with `behavior NAME {json}`: the verbs
// by their own names, and by the original names in configuration files.
var words = map[string]behaviors.Word{
	"ping":         {Verb: "ping"},
	"mute":         {Verb: "mute", Fixed: map[string]json.RawMessage{"on": json.RawMessage("true")}},
	"unmute":       {Verb: "mute", Fixed: map[string]json.RawMessage{"on": json.RawMessage("false")}},
	"volume":       {Verb: "volume", Params: map[string]string{"percent": "percent", "value": "percent"}},
	"silence":      {Verb: "silence", Params: map[string]string{"on": "on"}},
	"lamp":         {Verb: "lamp", Params: map[string]string{"mode": "mode", "color": "color"}},
	"start_volume": {Verb: "start_volume", Params: map[string]string{"percent": "percent"}},
	"endvolume":    {Verb: "start_volume", Params: map[string]string{"value": "percent"}},
	"language":     {Verb: "language", Params: map[string]string{"language": "language"}},
	"tts_lang":     {Verb: "language", Params: map[string]string{"value": "language"}},
	"say":          {Verb: "say", Params: map[string]string{"text": "text", "value": "text"}},
	"play":         {Verb: "play", Params: map[string]string{"url": "url"}},
	"next":         {Verb: "next"},
	"previous":     {Verb: "previous"},
	"pause":        {Verb: "pause"},
}

// ask executes a verb for a button. args is a JSON object or empty.
func (b *Buttons) ask(ctx context.Context, name string, args json.RawMessage) error {
	word, ok := words[name]
	if !ok {
		return fmt.Errorf("%w for a button: %q", behaviors.ErrUnknown, name)
	}
	var members map[string]json.RawMessage
	if len(args) > 0 {
		if err := json.Unmarshal(args, &members); err != nil {
			return err
		}
	}
	_, err := b.Registry.Do(ctx, behaviors.Call{Link: "button", Local: true}, word.Verb, word.Arguments(members))
	return err
}
