package xiaozhi

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/gorilla/websocket"

	"lintod/agent/link"
)

// Some servers end a session when the device connects again: the doctor opens no
// session while the user talks.
func TestExamineDoesNotDisturbTheSession(t *testing.T) {
	var sessions atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ws, err := (&websocket.Upgrader{}).Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer ws.Close()
		sessions.Add(1)
		if _, _, err := ws.ReadMessage(); err != nil {
			return
		}
		_ = ws.WriteMessage(websocket.TextMessage, []byte(`{"type":"hello","transport":"websocket"}`))
		_, _, _ = ws.ReadMessage() // until the doctor disconnects
	}))
	defer server.Close()
	c := Defaults()
	c.Enabled, c.WebSocketURL = true, "ws"+strings.TrimPrefix(server.URL, "http")
	at := link.Place{StateDir: t.TempDir(), Readable: func(path string) string { return path }}
	for _, tt := range []struct {
		running *link.Status
		want    int32
	}{
		{nil, 1},
		{&link.Status{Connected: true}, 1},
		{&link.Status{Connected: true, InSession: true}, 0},
	} {
		sessions.Store(0)
		found := map[string]link.Level{}
		c.Examine(t.Context(), at, tt.running, func(f link.Finding) { found[f.Subject] = f.Level })
		if got := sessions.Load(); got != tt.want {
			t.Errorf("%+v: %d sessions opened, want %d", tt.running, got, tt.want)
		}
		if level, ok := found["WebSocket"]; !ok || level != link.OK {
			t.Errorf("%+v: findings %v", tt.running, found)
		}
	}
}

// Setup passes on how the device is activated.
func TestTryOfADeviceToActivate(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"activation":{"code":"048291","message":"x\n048291","challenge":"c"},"websocket":{"url":"ws://127.0.0.1:1/"}}`))
	}))
	defer server.Close()
	c := Defaults()
	c.Enabled, c.URL = true, server.URL
	at := link.Place{StateDir: t.TempDir(), Readable: func(path string) string { return path }}
	if err := c.Try(t.Context(), at); !errors.Is(err, link.ErrActivate) || !strings.Contains(err.Error(), "048291") {
		t.Errorf("got %v", err)
	}
}
