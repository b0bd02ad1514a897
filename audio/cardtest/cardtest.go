// Package cardtest tests a microphone and a speaker: it records the room, plays a tone, and reports
// whether the recording is plausible.
//
// Access to the cards, and their names, do not belong here.
package cardtest

import (
	"context"
	"fmt"
	"math"
	"time"

	"lintod/audio"
)

const (
	roomTime = time.Second
	echoTime = 400 * time.Millisecond // for sound still in transit
	// openLimit is how long a card may take to start, in addition to the requested time.
	openLimit = 20 * time.Second
)

// Result is the result of Try. In and Out are nil if the card works.
type Result struct {
	Room    Reading // the microphone before the tone
	Echo    Reading // and while the tone was played
	In, Out error
}

// Try records the room for a second, then plays a tone at rate while recording. It takes three
// seconds if the cards work, and some twenty more if they do not answer.
func Try(ctx context.Context, in, out audio.Card, rate int) Result {
	var r Result
	r.Room, r.Echo, r.In = listen(ctx, in, func() { r.Out = Play(ctx, out, Tone(rate), rate) })
	if r.In != nil && r.Out == nil {
		r.Out = Play(ctx, out, Tone(rate), rate)
	}
	return r
}

// listen records the room, then calls play and records until it has returned.
func listen(ctx context.Context, card audio.Card, play func()) (room, echo Reading, err error) {
	first, cancel := context.WithTimeout(ctx, openLimit)
	defer cancel()
	input, err := card.OpenInput(first)
	if err != nil {
		return room, echo, err
	}
	defer input.Close()
	if err := room.add(first, input, roomTime); err != nil {
		return room, echo, err
	}
	played := make(chan struct{})
	go func() { defer close(played); play() }()
	for more := true; more && err == nil; {
		select {
		case <-played:
			more = false
		default:
			err = echo.add(ctx, input, audio.FrameTime)
		}
	}
	<-played
	if err == nil {
		err = echo.add(ctx, input, echoTime)
	}
	return room, echo, err
}

// Record records for d.
func Record(ctx context.Context, card audio.Card, d time.Duration) (Reading, error) {
	ctx, cancel := context.WithTimeout(ctx, d+openLimit)
	defer cancel()
	var r Reading
	input, err := card.OpenInput(ctx)
	if err != nil {
		return r, err
	}
	defer input.Close()
	err = r.add(ctx, input, d)
	return r, err
}

// Play plays pcm, of rate samples a second, to its last sample.
func Play(ctx context.Context, card audio.Card, pcm []int16, rate int) error {
	length := time.Duration(len(pcm)) * time.Second / time.Duration(rate)
	ctx, cancel := context.WithTimeout(ctx, length+openLimit)
	defer cancel()
	output, err := card.OpenOutput(ctx, rate)
	if err != nil {
		return err
	}
	defer output.Close()
	if err := output.Write(ctx, pcm); err != nil {
		return fmt.Errorf("play the tone: %w", err)
	}
	return output.Drain(ctx)
}

const (
	toneHertz = 1000.0
	toneTime  = 800 * time.Millisecond
	toneLevel = 0.2 // of full scale: to be heard, not to frighten
)

// Tone is what Try plays: a sine that fades in and out.
func Tone(rate int) []int16 {
	n := int(toneTime.Seconds() * float64(rate))
	fade := float64(rate) / 50
	pcm := make([]int16, n)
	for i := range pcm {
		gain := min(1, float64(i)/fade, float64(n-i)/fade)
		pcm[i] = int16(math.MaxInt16 * toneLevel * gain * math.Sin(2*math.Pi*toneHertz*float64(i)/float64(rate)))
	}
	return pcm
}
