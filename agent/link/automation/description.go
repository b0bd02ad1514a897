package automation

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"lintod/agent/base/state"
	"lintod/agent/broker"
)

// description is where and in which form the device is described, and where its topics are.
// What was published last is kept over restarts, so that it can be taken back.
type description struct {
	Base   string `json:"base"` // of the device's topics
	Prefix string `json:"prefix"`
	Form   string `json:"form"`
	ID     string `json:"id"`
	// Components are the platforms of the entities, by their keys. There are none where
	// nothing is described.
	Components map[string]string `json:"components"`
}

func (l *Link) description() description {
	d := description{l.Config.Topic + "/" + l.Serial, l.Config.Discovery, l.Config.Form, deviceID(l.Serial), map[string]string{}}
	if d.Prefix != "" {
		for key, e := range l.entities() {
			d.Components[key] = e.Platform
		}
	}
	return d
}

// topics are those of the messages, in order.
func (d description) topics() (list []string) {
	if d.Form == deviceForm && len(d.Components) > 0 {
		return []string{d.deviceTopic()}
	}
	for _, key := range slices.Sorted(maps.Keys(d.Components)) {
		list = append(list, d.entityTopic(d.Components[key], key))
	}
	return list
}

func (d description) deviceTopic() string { return d.Prefix + "/device/" + d.ID + "/config" }

func (d description) entityTopic(platform, key string) string {
	return d.Prefix + "/" + platform + "/" + d.ID + "/" + key + "/config"
}

func retained(topic string, payload []byte) broker.Message {
	return broker.Message{Topic: topic, Payload: payload, QoS: 1, Retain: true}
}

// steps are the messages that describe the device where last is what was described before;
// describeGap has to be between two steps.
func (l *Link) steps(last description) [][]broker.Message {
	now := l.description()
	var first, second []broker.Message
	if last.Base != "" && last.Base != now.Base { // the serial has changed, or the topic
		first = append(first, cleared(last.Base)...)
	}
	here := last.Prefix == now.Prefix && last.ID == now.ID && len(now.Components) > 0
	switch {
	case here && last.Form == now.Form:
	case here: // consumers keep what their users have changed of the entities
		for _, topic := range last.topics() {
			first = append(first, retained(topic, []byte(`{"migrate_discovery":true}`)))
			second = append(second, retained(topic, nil))
		}
		last.Components = nil
	default:
		for _, topic := range last.topics() {
			first = append(first, retained(topic, nil))
		}
		last.Components = nil
	}
	if len(now.Components) > 0 {
		first = append(first, l.configs(now, last.Components)...)
	}
	steps := [][]broker.Message{first}
	if len(second) > 0 {
		steps = append(steps, second)
	}
	return steps
}

// configs describe the device. An entity that was described before and has fallen away is
// removed (decision H9).
func (l *Link) configs(now description, before map[string]string) (list []broker.Message) {
	all := l.entities()
	if now.Form == deviceForm {
		for key, platform := range before {
			if _, stays := all[key]; !stays {
				all[key] = entity{Platform: platform}
			}
		}
		return []broker.Message{retained(now.deviceTopic(), encode(struct {
			shared
			Components map[string]entity `json:"components"`
		}{l.shared(), all}))}
	}
	for _, key := range slices.Sorted(maps.Keys(before)) {
		if platform := before[key]; platform != now.Components[key] {
			list = append(list, retained(now.entityTopic(platform, key), nil))
		}
	}
	for _, key := range slices.Sorted(maps.Keys(all)) {
		e := all[key]
		topic := now.entityTopic(e.Platform, key)
		e.Platform = ""
		list = append(list, retained(topic, encode(struct {
			entity
			shared
		}{e, l.shared()})))
	}
	return list
}

// announce publishes the first step, and returns those that follow; none after the last, and
// where the connection was lost.
func (l *Link) announce(ctx context.Context, steps [][]broker.Message) [][]broker.Message {
	l.described = time.Now()
	for _, m := range steps[0] {
		if !l.publish(ctx, m) {
			return nil // the next connect begins anew
		}
	}
	if len(steps) == 1 {
		l.remember(l.description())
	}
	return steps[1:]
}

// cleared are messages that have the broker forget the state of a device.
func cleared(base string) (list []broker.Message) {
	for _, topic := range append([]string{"status"}, stateTopics...) {
		list = append(list, retained(base+"/"+topic, nil))
	}
	return list
}

// Withdraw removes what the broker keeps of the device, as the owner has turned the link off
// (decision H10). It returns when that is done, when the broker cannot be reached, or when
// ctx ends. Nothing but the farewell is published afterwards.
func (l *Link) Withdraw(ctx context.Context) {
	done := make(chan struct{})
	select {
	case l.leaving <- done:
	case <-ctx.Done():
		return
	}
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// clear does what Withdraw says.
func (l *Link) clear(ctx context.Context) {
	messages := cleared(l.last.Base)
	for _, topic := range l.last.topics() {
		messages = append(messages, retained(topic, nil))
	}
	for _, m := range messages {
		if !l.publish(ctx, m) {
			return
		}
	}
	l.remember(description{})
}

func (l *Link) file() string { return filepath.Join(l.StateDir, "automation.json") }

// maxFile bounds the file with the last description, in bytes.
const maxFile = 64 << 10

func (l *Link) loadDescription() (d description) {
	raw, err := state.ReadFile(l.file(), maxFile)
	if err == nil {
		err = json.Unmarshal(raw, &d)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		l.Log.Warn("what home automation knows of this device is not known; entities that have fallen away may stay there", "error", err)
	}
	return d
}

// remember keeps what was described.
func (l *Link) remember(d description) {
	before := encode(l.last)
	l.last = d
	if text := encode(d); string(text) != string(before) {
		if err := state.ReplaceFile(l.file(), text); err != nil {
			l.Log.Warn("entities that fall away may stay in home automation", "error", err)
		}
	}
}
