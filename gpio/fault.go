package gpio

import (
	"maps"
	"slices"
	"time"
)

// Faults returns what does not work at the moment, one sentence each.
func (b *Board) Faults() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	sentences := []string{}
	for _, part := range slices.Sorted(maps.Keys(b.faults)) {
		if f := b.faults[part]; f.sentence != "" {
			sentences = append(sentences, part+": "+f.sentence)
		}
	}
	return sentences
}

// fault is what is known of a part that fails, or has failed.
type fault struct {
	sentence string    // what is wrong now, or ""
	last     string    // what was said last
	said     time.Time // and when
	told     bool      // the log knows that the part does not work
}

// repeatAfter keeps a part that comes and goes from filling the log.
const repeatAfter = 10 * time.Minute

// fault notes that a part does not work, and says so unless it is no news.
func (b *Board) fault(part string, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.faults == nil {
		b.faults = map[string]*fault{}
	}
	f := b.faults[part]
	if f == nil {
		f = &fault{}
		b.faults[part] = f
	}
	again := f.sentence == "" && time.Since(f.said) >= repeatAfter
	f.sentence = err.Error()
	if f.last == f.sentence && !again {
		return
	}
	f.last, f.said, f.told = f.sentence, time.Now(), true
	b.Log.Warn(part+" failed; everything else works", "error", err)
}

// mend notes that a part works, and says so if the log knows otherwise.
func (b *Board) mend(part string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f := b.faults[part]
	if f == nil {
		return
	}
	f.sentence = ""
	if f.told {
		f.told = false
		b.Log.Info(part + " works again")
	}
}

// noGPIO says once that there is nothing to drive.
func (b *Board) noGPIO() {
	b.mu.Lock()
	said := b.absent
	b.absent = true
	b.mu.Unlock()
	if !said {
		b.Log.Info("buttons and LEDs are off: " + ErrNoGPIO.Error())
	}
}
