//go:build cgo

package main

import (
	"regexp"
	"slices"
	"strconv"

	"github.com/gordonklaus/portaudio"

	"lintod/agent/base/alsa"
	"lintod/audio"
)

// device is what PortAudio and the kernel know of one device.
type device struct {
	audio.Device
	// info is nil when PortAudio does not know it: the card was busy, or not
	// there, when the list was made.
	info *portaudio.DeviceInfo
	// capture and playback are its sides in the kernel, nil where there is none.
	capture, playback *alsa.PCM
}

// cardNumber is what PortAudio appends to the name of a device that is a
// card's: " (hw:1,0)". The number is the card's of the moment.
var cardNumber = regexp.MustCompile(` \(hw:(\d+),(\d+)\)( \{.*\})?$`)

// stableName is name without the card's number.
func stableName(name string) string { return cardNumber.ReplaceAllString(name, "") }

// merge makes one list of PortAudio's, which was made while the cards were as
// in then, and of the cards that there are now.
func merge(infos []*portaudio.DeviceInfo, then, now []alsa.Card, owner func(alsa.PCM) (alsa.Owner, bool)) []device {
	var list []device
	for _, info := range infos {
		d := describe(info)
		if m := cardNumber.FindStringSubmatch(info.Name); m != nil {
			card, ok := same(then, now, m[1])
			if !ok {
				continue // its number may be another card's by now
			}
			d.Sub, _ = strconv.Atoi(m[2])
			d.on(card)
		}
		list = append(list, d)
	}
	for _, card := range now {
		for i := range card.PCMs {
			list = addPCM(list, card, &card.PCMs[i], !has(then, card), owner)
		}
	}
	name(list, now)
	return list
}

func describe(info *portaudio.DeviceInfo) device {
	latency := info.DefaultLowOutputLatency
	if info.MaxOutputChannels == 0 {
		latency = info.DefaultLowInputLatency
	}
	label := stableName(info.Name)
	return device{info: info, Device: audio.Device{
		Name:      label,
		Label:     label,
		Inputs:    info.MaxInputChannels,
		Outputs:   info.MaxOutputChannels,
		Rate:      int(info.DefaultSampleRate),
		LatencyMS: int(latency.Milliseconds()),
	}}
}

func (d *device) on(card alsa.Card) {
	d.Card = card.ID
	if card.Port != "" {
		d.Ports = append(d.Ports, "usb:"+card.Port)
	}
	if card.Path != "" {
		d.Ports = append(d.Ports, card.Path)
	}
}

// same returns the card with that index if it is the same one in both lists.
func same(then, now []alsa.Card, index string) (alsa.Card, bool) {
	for _, card := range now {
		if strconv.Itoa(card.Index) == index {
			return card, has(then, card)
		}
	}
	return alsa.Card{}, false
}

func has(list []alsa.Card, card alsa.Card) bool {
	return slices.ContainsFunc(list, func(c alsa.Card) bool {
		return c.Index == card.Index && c.ID == card.ID && c.Name == card.Name && c.Port == card.Port && c.Path == card.Path
	})
}

// addPCM adds to list what the kernel knows of one side of a device. PortAudio
// leaves out what is in use, and what was plugged in since.
func addPCM(list []device, card alsa.Card, pcm *alsa.PCM, isNew bool, owner func(alsa.PCM) (alsa.Owner, bool)) []device {
	user, busy := owner(*pcm)
	i := slices.IndexFunc(list, func(d device) bool { return d.Card == card.ID && d.Sub == pcm.Device })
	if i < 0 {
		if !busy && !isNew {
			return list // PortAudio has looked at it, and cannot use it
		}
		i = len(list)
		d := device{Device: audio.Device{Label: card.Name + ": " + pcm.Name, Sub: pcm.Device}}
		d.on(card)
		list = append(list, d)
	}
	d := &list[i]
	channels, by := &d.Outputs, &d.PlayedBy
	if pcm.Capture {
		d.capture = pcm
		channels, by = &d.Inputs, &d.RecordedBy
	} else {
		d.playback = pcm
	}
	if busy {
		*by = user.String()
	}
	if busy || d.info == nil {
		*channels = max(*channels, 1) // how many cannot be asked now
	}
	return list
}

// name gives each device of a card a name for the configuration: the card's id,
// or, where another card is of the same make, so that its id depends on which
// was first, the place where it is plugged in. Further devices of a card carry
// their number.
func name(list []device, cards []alsa.Card) {
	first := map[string]int{}
	for _, d := range list {
		if n, ok := first[d.Card]; !ok || d.Sub < n {
			first[d.Card] = d.Sub
		}
	}
	for i := range list {
		d := &list[i]
		switch {
		case d.Card == "":
		case d.Sub != first[d.Card]:
			d.Name = "hw:CARD=" + d.Card + ",DEV=" + strconv.Itoa(d.Sub)
		case len(d.Ports) > 0 && twins(cards, d.Card):
			d.Name = d.Ports[0]
		default:
			d.Name = d.Card
		}
	}
}

// twins tells whether another card has the name of the one with that id.
func twins(cards []alsa.Card, id string) bool {
	i := slices.IndexFunc(cards, func(c alsa.Card) bool { return c.ID == id })
	return slices.ContainsFunc(cards, func(c alsa.Card) bool { return c.ID != id && c.Name == cards[i].Name })
}
