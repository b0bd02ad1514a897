package gpio

import (
	"maps"
	"slices"
	"time"
)

// Faults returns the current faults, one sentence each.
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

// fault is the state of a part that fails, or has failed.
type fault struct {
	sentence string    // the current fault, or ""
	last     string    // last logged
	said     time.Time // time of the last log entry
	told     bool      // the fault has been logged
}

// repeatAfter prevents a part that fails intermittently from filling the log.
const repeatAfter = 10 * time.Minute

// fault records that a part does not work, and logs it unless it was logged recently.
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

// mend records that a part works, and logs it if the fault was logged.
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

// noGPIO logs once that there is no hardware to drive.
func (b *Board) noGPIO() {
	b.mu.Lock()
	said := b.absent
	b.absent = true
	b.mu.Unlock()
	if !said {
		b.Log.Info("buttons and LEDs are off: " + ErrNoGPIO.Error())
	}
}
