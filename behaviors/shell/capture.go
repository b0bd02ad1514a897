package shell

import (
	"fmt"
	"strings"
	"sync"
)

// capture keeps the beginning and the end of what is written to it. Writes are allowed while it is
// read.
type capture struct {
	mu                 sync.Mutex
	head, tail         []byte
	headSize, tailSize int
	next               int // position of the next byte in the full tail
	dropped            int64
}

func newCapture(size int) *capture {
	return &capture{headSize: size - size/4, tailSize: size / 4}
}

// Write never fails and never blocks.
func (c *capture) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := len(p)
	fits := min(n, c.headSize-len(c.head))
	c.head = append(c.head, p[:fits]...)
	p = p[fits:]
	if over := len(p) - c.tailSize; over > 0 {
		c.dropped += int64(over)
		p = p[over:]
	}
	fits = min(len(p), c.tailSize-len(c.tail))
	c.tail = append(c.tail, p[:fits]...)
	for p = p[fits:]; len(p) > 0; {
		fits = copy(c.tail[c.next:], p)
		c.next = (c.next + fits) % c.tailSize
		c.dropped += int64(fits)
		p = p[fits:]
	}
	return n, nil
}

// text returns the stored text, as valid UTF-8, with a note in place of missing bytes, and their
// number.
func (c *capture) text() (string, int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	end := string(c.tail[c.next:]) + string(c.tail[:c.next])
	text := string(c.head) + end
	if c.dropped > 0 {
		text = fmt.Sprintf("%s\n[%d bytes dropped]\n%s", c.head, c.dropped, end)
	}
	return strings.ToValidUTF8(text, "\uFFFD"), c.dropped
}
