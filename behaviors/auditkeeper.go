package behaviors

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"lintod/agent/base/plainjson"
	"lintod/agent/base/process"
)

const (
	keeperSize    = 4 << 20   // bytes in one file
	keeperLine    = 512 << 10 // bytes: a command of the maximum length, with each byte escaped
	keeperClients = 8
	keeperLimit   = 5 * time.Second // for one line
	keeperOK      = "ok"
)

// keep sends a record with the unhidden commands to the keeper. It returns when the keeper has
// written it.
func (a *Audit) keep(ctx context.Context, hidden slog.Record) error {
	record := slog.NewRecord(hidden.Time, hidden.Level, hidden.Message, 0)
	hidden.Attrs(func(attr slog.Attr) bool {
		if c, ok := attr.Value.Any().(CommandLine); ok {
			attr.Value = slog.StringValue(string(c))
		}
		record.AddAttrs(attr)
		return true
	})
	var line bytes.Buffer
	err := slog.NewJSONHandler(&line, nil).Handle(ctx, record)
	if err == nil {
		err = tellKeeper(a.Keeper, line.Bytes())
	}
	if err != nil {
		return fmt.Errorf("write the audit log of root (lintod-audit.socket): %w", err)
	}
	return nil
}

func tellKeeper(socket string, line []byte) error {
	conn, err := net.DialTimeout("unix", socket, keeperLimit)
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(keeperLimit))
	if _, err := conn.Write(line); err != nil {
		return err
	}
	answer, err := bufio.NewReader(io.LimitReader(conn, 1<<10)).ReadString('\n')
	switch {
	case err != nil:
		return fmt.Errorf("no answer: %w", err)
	case answer != keeperOK+"\n":
		return errors.New(answer[:len(answer)-1])
	}
	return nil
}

// AuditKeeper writes the lines that the daemon sends over a socket to a file of its own user, one
// JSON object per line, and adds their sender. It runs as root, so the daemon can neither read nor
// change existing lines. The file is rotated: at most 20 MiB in five files, so a flood of long
// commands removes the oldest lines.
type AuditKeeper struct {
	Path string
	// Daemon is the file with the PID of the process that may send lines; see process.IsDaemon.
	Daemon string
	// Idle is how long Run waits for a line before it returns; systemd starts the keeper again for
	// the next one.
	Idle time.Duration
	Log  *slog.Logger

	mu sync.Mutex
}

// Run accepts connections from l until ctx ends, or none has arrived for Idle.
func (k *AuditKeeper) Run(ctx context.Context, l *net.UnixListener) error {
	var clients sync.WaitGroup
	defer clients.Wait()
	defer context.AfterFunc(ctx, func() { _ = l.SetDeadline(time.Unix(1, 0)) })()
	places := make(chan struct{}, keeperClients)
	for ctx.Err() == nil {
		_ = l.SetDeadline(time.Now().Add(k.Idle))
		conn, err := l.AcceptUnix()
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil
		case err != nil:
			return fmt.Errorf("accept a line of the audit: %w", err)
		}
		places <- struct{}{} // each is released within keeperLimit
		clients.Go(func() {
			k.serve(ctx, conn)
			<-places
		})
	}
	return nil
}

// serve handles one line.
func (k *AuditKeeper) serve(ctx context.Context, conn *net.UnixConn) {
	defer conn.Close()
	if err := process.IsDaemon(ctx, conn, k.Daemon); err != nil {
		k.Log.Warn("an audit line is refused", "error", err)
		return
	}
	_ = conn.SetDeadline(time.Now().Add(keeperLimit))
	line, err := bufio.NewReaderSize(conn, keeperLine).ReadSlice('\n')
	if err != nil {
		return // truncated, or longer than any valid line
	}
	answer := keeperOK
	if err := k.write(conn, line); err != nil {
		k.Log.Error("an audit line is lost", "error", err)
		answer = err.Error()
	}
	_, _ = fmt.Fprintln(conn, answer)
}

func (k *AuditKeeper) write(conn *net.UnixConn, line []byte) error {
	kept := struct {
		Kept  time.Time       `json:"kept"`
		UID   *uint32         `json:"uid,omitempty"`
		PID   int32           `json:"pid,omitempty"`
		Entry json.RawMessage `json:"entry,omitempty"`
		Text  string          `json:"text,omitempty"` // invalid JSON
	}{Kept: time.Now()}
	if peer, err := process.Peer(conn); err == nil {
		kept.UID, kept.PID = &peer.Uid, peer.Pid
	}
	if line = bytes.TrimSpace(line); json.Valid(line) {
		kept.Entry = line
	} else {
		kept.Text = string(line)
	}
	text, err := plainjson.Marshal(kept)
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	_, err = (&auditFile{k.Path, keeperSize}).Write(append(text, '\n'))
	return err
}
