package main

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"lintod/agent"
	"lintod/agent/control"
)

func TestAnnouncePage(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	server := &control.Server{Path: socket, Log: slog.New(slog.DiscardHandler), Handlers: map[string]control.Handler{
		"page": func(context.Context, json.RawMessage) (any, error) {
			return agent.PageReply{URL: "http://127.0.0.1:8090/#key=x"}, nil
		},
	}}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = server.Run(ctx) }()
	var out bytes.Buffer
	announcePage(ctx, socket, &out) // which waits for the device
	if !strings.Contains(out.String(), "http://127.0.0.1:8090/#key=x") {
		t.Errorf("printed %q", out.String())
	}
	cancel()
	<-ended
}
