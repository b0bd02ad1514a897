package wsdial

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gorilla/websocket"
)

// dial connects to a server that reads the request and then acts.
func dial(t *testing.T, ctx context.Context, act func(far net.Conn)) error {
	t.Helper()
	near, far := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer far.Close()
		if _, err := http.ReadRequest(bufio.NewReader(far)); err == nil {
			act(far)
		}
	}()
	ws, _, err := Dial(ctx, "ws://h/", nil, nil, func(context.Context, string, string) (net.Conn, error) { return near, nil }) //nolint:bodyclose // see Dial
	if err == nil {
		ws.Close()
		t.Error("connected")
	}
	<-done
	return err
}

func TestAnswerIsLimited(t *testing.T) {
	sent := 0
	err := dial(t, t.Context(), func(far net.Conn) {
		_, _ = io.WriteString(far, "HTTP/1.1 101 Switching Protocols\r\nX: ")
		for line := []byte(strings.Repeat("x", 1<<10)); ; sent += len(line) {
			if _, err := far.Write(line); err != nil {
				return
			}
		}
	})
	if !errors.Is(err, ErrAnswer) || sent > 2*MaxAnswer {
		t.Errorf("after %d bytes: %v", sent, err)
	}
}

func TestUpgradeEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	if err := dial(t, ctx, func(far net.Conn) {
		cancel()
		_, _ = io.Copy(io.Discard, far) // until the other side closes
	}); !errors.Is(err, context.Canceled) {
		t.Errorf("Dial: %v", err)
	}
}

// After the upgrade more than MaxAnswer may be received, and the context has no
// effect.
func TestConnectionOutlivesItsUpgrade(t *testing.T) {
	long := strings.Repeat("x", 4*MaxAnswer)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ws, err := (&websocket.Upgrader{}).Upgrade(w, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		defer ws.Close()
		_, _, _ = ws.ReadMessage()
		_ = ws.WriteMessage(websocket.TextMessage, []byte(long))
	}))
	defer s.Close()
	ctx, cancel := context.WithCancel(t.Context())
	ws, _, err := Dial(ctx, strings.Replace(s.URL, "http:", "ws:", 1), nil, nil, (&net.Dialer{}).DialContext) //nolint:bodyclose // see Dial
	if err != nil {
		t.Fatal(err)
	}
	defer ws.Close()
	cancel()
	if err := ws.WriteMessage(websocket.TextMessage, []byte("{}")); err != nil {
		t.Fatal(err)
	}
	if _, got, err := ws.ReadMessage(); err != nil || string(got) != long {
		t.Errorf("received %d bytes, %v", len(got), err)
	}
}
