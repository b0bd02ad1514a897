package xiaozhi

import (
	"sync"
	"time"

	"lintod/agent/link/xiaozhi/message"
)

// callKept is how long a server's request to speak stays valid.
const callKept = 5 * time.Second

// calls are the reasons for which the server requests an exchange.
type calls struct {
	mu      sync.Mutex
	at      time.Time
	request *message.Message // speak_request
	reason  string           // of self.remote_wakeup
}

func (c *calls) speak(m message.Message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at, c.request, c.reason = time.Now(), &m, ""
}

func (c *calls) wake(reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at, c.request, c.reason = time.Now(), nil, reason
}

// take passes the reason of the call to the exchange. Without a request the server is
// already speaking.
func (c *calls) take(t *talk) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fresh := time.Since(c.at) < callKept
	switch {
	case fresh && c.request != nil:
		t.wants, t.request, t.again = wantAnswer, c.request, c.request.AutoListen
	case fresh && c.reason != "":
		t.wants, t.question, t.again = wantAnswer, c.reason, true
	default:
		t.wants = join
	}
	c.request, c.reason = nil, ""
}
