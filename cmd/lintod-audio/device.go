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

// device is what PortAudio and the kernel report about one device.
type device struct {
	audio.Device
	// info is nil if PortAudio does not list the device: the card was busy, or absent, when the
	// list was made.
	info *portaudio.DeviceInfo
	// capture and playback are its kernel PCM devices, nil if it has none.
	capture, playback *alsa.PCM
}

// cardNumber matches what PortAudio appends to the name of a card's device: " (hw:1,0)". The card's
// number may change.
var cardNumber = regexp.MustCompile(` \(hw:(\d+),(\d+)\)( \{.*\})?$`)

// stableName returns name without the card's number.
func stableName(name string) string { return cardNumber.ReplaceAllString(name, "") }

// merge combines PortAudio's list, which was made when the cards were as in then, with the current
// cards.
func merge(infos []*portaudio.DeviceInfo, then, now []alsa.Card, owner func(alsa.PCM) (alsa.Owner, bool)) []device {
	var list []device
	for _, info := range infos {
		d := describe(info)
		if m := cardNumber.FindStringSubmatch(info.Name); m != nil {
			card, ok := same(then, now, m[1])
			if !ok {
				continue // another card may have its number now
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

// same returns the card with this index if it is the same in both lists.
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

// addPCM adds one side of a device, as reported by the kernel, to list. PortAudio omits devices
// that are in use, or were plugged in later.
func addPCM(list []device, card alsa.Card, pcm *alsa.PCM, isNew bool, owner func(alsa.PCM) (alsa.Owner, bool)) []device {
	user, busy := owner(*pcm)
	i := slices.IndexFunc(list, func(d device) bool { return d.Card == card.ID && d.Sub == pcm.Device })
	if i < 0 {
		if !busy && !isNew {
			return list // PortAudio has queried it, and cannot use it
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
		*channels = max(*channels, 1) // the number cannot be queried now
	}
	return list
}

// name gives each device of a card a name for the configuration: the card's ID, or its USB port if
// there is another card of the same model, whose IDs depend on their order. Further devices of a
// card are numbered.
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

// twins reports whether another card has the same name as the one with this ID.
func twins(cards []alsa.Card, id string) bool {
	i := slices.IndexFunc(cards, func(c alsa.Card) bool { return c.ID == id })
	return slices.ContainsFunc(cards, func(c alsa.Card) bool { return c.ID != id && c.Name == cards[i].Name })
}
