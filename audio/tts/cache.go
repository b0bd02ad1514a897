package tts

import (
	"container/list"
	"sync"
)

// maxShare is the maximum share of the cache for one text: frequent texts are short.
const maxShare = 4

// overhead is the approximate size of an entry without its text and sound, in bytes.
const overhead = 200

// spoken is the key of a sound.
type spoken struct{ language, voice, text string }

// cache stores the sound of recent texts, only in memory: texts are private, and flash storage
// wears out.
type cache struct {
	mu      sync.Mutex
	entries map[spoken]*list.Element
	recent  list.List // of *entry, the newest first
	bytes   int
	hits    uint64
}

type entry struct {
	key  spoken
	pcm  []int16
	rate int
}

// bytes returns the size of an entry, including its text.
func (e *entry) bytes() int { return 2*len(e.pcm) + len(e.key.text) + overhead }

// get returns samples that must not be modified.
func (c *cache) get(key spoken) (pcm []int16, rate int, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	at, ok := c.entries[key]
	if !ok {
		return nil, 0, false
	}
	c.hits++
	c.recent.MoveToFront(at)
	e := at.Value.(*entry)
	return e.pcm, e.rate, true
}

func (c *cache) put(e *entry, limit int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, there := c.entries[e.key]; there {
		return // the same text was spoken twice at the same time
	}
	if c.entries == nil {
		c.entries = map[spoken]*list.Element{}
	}
	c.entries[e.key] = c.recent.PushFront(e)
	c.bytes += e.bytes()
	for c.bytes > limit {
		oldest := c.recent.Remove(c.recent.Back()).(*entry)
		delete(c.entries, oldest.key)
		c.bytes -= oldest.bytes()
	}
}

// kept collects a sound for the cache during synthesis. It belongs to one goroutine.
type kept struct {
	cache *cache
	key   spoken
	limit int // of the cache, in bytes
	pcm   []int16
	long  bool
}

func (k *kept) add(pcm []int16) {
	if k.long = k.long || 2*(len(k.pcm)+len(pcm)) > k.limit/maxShare; k.long {
		k.pcm = nil
		return
	}
	k.pcm = append(k.pcm, pcm...)
}

// whole is called when the sound is complete.
func (k *kept) whole(rate int) {
	if !k.long {
		k.cache.put(&entry{k.key, append([]int16(nil), k.pcm...), rate}, k.limit)
	}
}
