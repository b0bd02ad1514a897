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

// description is where and in which form the device is described, and its topics.
// The last published one survives restarts, so that it can be withdrawn.
type description struct {
	Base   string `json:"base"` // prefix of the device's topics
	Prefix string `json:"prefix"`
	Form   string `json:"form"`
	ID     string `json:"id"`
	// Components are the platforms of the entities, by key; empty if nothing is
	// described.
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

// topics returns the topics of the messages, in order.
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

// steps returns the messages that replace the description last by the current one;
// there must be describeGap between two steps.
func (l *Link) steps(last description) [][]broker.Message {
	now := l.description()
	var first, second []broker.Message
	if last.Base != "" && last.Base != now.Base { // the serial or the topic has changed
		first = append(first, cleared(last.Base)...)
	}
	here := last.Prefix == now.Prefix && last.ID == now.ID && len(now.Components) > 0
	switch {
	case here && last.Form == now.Form:
	case here: // consumers keep the changes that their users have made to the entities
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

// configs describes the device. Entities that were described before and no longer
// exist are removed (decision H9).
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

// announce publishes the first step, and returns the remaining ones; none after the
// last, or if the connection was lost.
func (l *Link) announce(ctx context.Context, steps [][]broker.Message) [][]broker.Message {
	l.described = time.Now()
	for _, m := range steps[0] {
		if !l.publish(ctx, m) {
			return nil // the next connect starts again
		}
	}
	if len(steps) == 1 {
		l.remember(l.description())
	}
	return steps[1:]
}

// cleared returns messages that make the broker forget the state of a device.
func cleared(base string) (list []broker.Message) {
	for _, topic := range append([]string{"status"}, stateTopics...) {
		list = append(list, retained(base+"/"+topic, nil))
	}
	return list
}

// Withdraw removes what the broker retains for the device, because the owner has
// disabled the link (decision H10). It returns when that is done, when the broker
// cannot be reached, or when ctx ends. Afterwards only the final status is
// published.
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

// clear implements Withdraw.
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

// maxFile bounds the file of the last description, in bytes.
const maxFile = 64 << 10

func (l *Link) loadDescription() (d description) {
	raw, err := state.ReadFile(l.file(), maxFile)
	if err == nil {
		err = json.Unmarshal(raw, &d)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		l.Log.Warn("the last published description cannot be read; removed entities may remain in home automation", "error", err)
	}
	return d
}

// remember saves the published description.
func (l *Link) remember(d description) {
	before := encode(l.last)
	l.last = d
	if text := encode(d); string(text) != string(before) {
		if err := state.ReplaceFile(l.file(), text); err != nil {
			l.Log.Warn("removed entities may remain in home automation", "error", err)
		}
	}
}
