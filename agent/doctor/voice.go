package doctor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"time"

	"lintod/audio"
	"lintod/audio/tts"
)

const voiceLimit = 30 * time.Second

// voice tests the speech engine, without playing, in the device's language
// and those with voices in the configuration.
func (x *exam) voice(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, voiceLimit)
	defer cancel()
	speaker := &tts.Speaker{Config: x.cfg.TTS, Log: slog.New(slog.DiscardHandler)}
	languages := []string{x.cfg.TTS.Language}
	if x.daemon != nil && x.daemon.Lang != "" {
		languages[0] = x.daemon.Lang
	}
	for _, tag := range slices.Sorted(maps.Keys(x.cfg.TTS.Voices)) {
		if tag != languages[0] {
			languages = append(languages, tag)
		}
	}
	for _, language := range languages {
		x.speaks(ctx, speaker, language)
	}
}

func (x *exam) speaks(ctx context.Context, speaker *tts.Speaker, language string) {
	const engine = "sudo apt install espeak-ng, or correct engine, command, voices, or address in [tts]"
	began := time.Now()
	sound, err := speaker.Speak(ctx, "1 2 3", language)
	if err != nil {
		x.add("voice", Fail, err.Error(), engine)
		return
	}
	first := time.Since(began)
	length, loudest, err := measure(ctx, sound)
	switch {
	case err != nil:
		x.add("voice", Fail, "speech output stopped early: "+err.Error(), engine)
	case loudest < 500:
		x.add("voice", Fail, fmt.Sprintf("the engine produced %v of silence", length), engine)
	default:
		x.add("voice", OK, fmt.Sprintf("%s speaks %s; first sound after %d ms", x.cfg.TTS.Engine, language, first.Milliseconds()), "")
	}
}

// measure reads a sound to its end.
func measure(ctx context.Context, sound audio.Sound) (length time.Duration, loudest int16, err error) {
	defer sound.Close()
	pcm := make([]int16, 4096)
	samples := 0
	for {
		n, err := sound.Read(ctx, pcm)
		samples += n
		for _, s := range pcm[:n] {
			loudest = max(loudest, s)
		}
		if err != nil {
			length = time.Duration(samples) * time.Second / time.Duration(sound.Rate())
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return length, loudest, err
		}
	}
}
