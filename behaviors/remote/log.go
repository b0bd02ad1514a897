package remote

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"lintod/agent/base/printable"
	"lintod/agent/base/process"
	"lintod/behaviors"
)

const (
	maxLines   = 1000
	maxWait    = 60        // seconds
	maxLine    = 2 << 10   // bytes of one line
	maxLog     = 48 << 10  // bytes of all lines
	maxEntry   = 256 << 10 // maximum size of a journal entry, in bytes
	maxCursor  = 256       // bytes
	gatherTime = 500 * time.Millisecond
	readLimit  = 20 * time.Second
)

// logQuery requests the last lines of lintod's journal, or those that follow a cursor.
type logQuery struct {
	Lines int    `json:"lines"`
	After string `json:"after,omitempty"`
	// Wait is how many seconds to wait for the first line after After.
	Wait int `json:"wait,omitempty"`
}

// logLine is one line of the journal.
type logLine struct {
	At       time.Time `json:"at"`
	Priority int       `json:"priority"` // as in syslog(3), 0 to 7
	Text     string    `json:"text"`
}

// logPage is the result of the verb.
type logPage struct {
	Lines []logLine `json:"lines"`
	// Cursor is the position after the last line, for the next request.
	Cursor string `json:"cursor,omitempty"`
	// Dropped is how many older lines did not fit.
	Dropped int `json:"dropped,omitempty"`
}

// read reads the journal with journalctl, for lintod's own unit only.
func (q logQuery) read(ctx context.Context) (*logPage, error) {
	if len(q.After) > maxCursor || strings.ContainsAny(q.After, "\x00\n") {
		return nil, &behaviors.ArgumentError{Field: "after", Got: "something else", Want: "a cursor of an earlier answer"}
	}
	argv := []string{"journalctl", "--unit=lintod.service", "--output=json", "--no-pager", "--quiet", "--output-fields=MESSAGE,PRIORITY"}
	limit := readLimit
	switch {
	case q.After == "":
		argv = append(argv, "--lines="+strconv.Itoa(min(max(q.Lines, 1), maxLines)))
	case q.Wait > 0:
		argv = append(argv, "--follow", "--lines=all", "--after-cursor="+q.After)
		limit = time.Duration(min(q.Wait, maxWait)) * time.Second
	default:
		argv = append(argv, "--after-cursor="+q.After)
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	child, err := process.Start(ctx, process.Command{Argv: argv, Stdin: strings.NewReader("")})
	if err != nil {
		return nil, err
	}
	page := &logPage{Lines: []logLine{}, Cursor: q.After}
	following := q.After != "" && q.Wait > 0
	unread := page.gather(child.Stdout, max(q.Lines, 1), func() {
		if following { // the first line has arrived; wait for more that arrive with it
			time.AfterFunc(gatherTime, cancel)
		}
	})
	_, _ = io.Copy(io.Discard, child.Stdout)
	err = child.Wait()
	switch {
	case following && ctx.Err() != nil:
		return page, nil
	case err != nil:
		return nil, fmt.Errorf("read the journal: %w", err)
	}
	return page, unread
}

// gather reads the output of journalctl to the end, and keeps the last lines. first is called for
// the first line.
func (p *logPage) gather(r io.Reader, most int, first func()) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxEntry)
	size := 0
	for lines.Scan() {
		line, cursor, err := parseEntry(lines.Bytes())
		if err != nil {
			return err
		}
		p.Lines, p.Cursor = append(p.Lines, line), cursor
		if len(p.Lines) == 1 {
			first()
		}
		for size += len(line.Text); size > maxLog || len(p.Lines) > most; p.Dropped++ {
			size -= len(p.Lines[0].Text)
			p.Lines = p.Lines[1:]
		}
	}
	if err := lines.Err(); errors.Is(err, bufio.ErrTooLong) {
		return fmt.Errorf("read the journal: %w", err)
	}
	return nil // Wait reports a child that was killed
}

// parseEntry parses an entry as documented in systemd.journal-fields(7) and journalctl(1): invalid
// UTF-8 is a list of bytes, and a value that is too long is null.
func parseEntry(raw []byte) (logLine, string, error) {
	var e struct {
		Cursor   string          `json:"__CURSOR"`
		At       string          `json:"__REALTIME_TIMESTAMP"`
		Priority string          `json:"PRIORITY"`
		Message  json.RawMessage `json:"MESSAGE"`
	}
	if err := json.Unmarshal(raw, &e); err != nil {
		return logLine{}, "", fmt.Errorf("the journal has an invalid entry: %w", err)
	}
	var text string
	if json.Unmarshal(e.Message, &text) != nil {
		var octets []uint8
		var numbers []uint16
		_ = json.Unmarshal(e.Message, &numbers)
		for _, n := range numbers {
			octets = append(octets, uint8(n))
		}
		text = string(octets)
	}
	microseconds, _ := strconv.ParseInt(e.At, 10, 64)
	priority, err := strconv.Atoi(e.Priority)
	if err != nil {
		priority = 6 // info
	}
	return logLine{time.UnixMicro(microseconds).UTC(), priority, printable.Clip(text, maxLine)}, e.Cursor, nil
}

// logVerb reads the journal of the device.
func logVerb(c Switch) behaviors.Verb {
	limits := c.limits("log")
	limits.AtOnce = 2
	return behaviors.Verb{
		Name: "log", About: "Read the last lines of the device's log.", Power: behaviors.Privileged,
		Params: []behaviors.Param{
			{Name: "lines", About: "how many lines at most, from 1 to 1000; 50 without it", Kind: behaviors.Whole, Min: 1, Max: maxLines},
			{Name: "after", About: "the cursor of an earlier answer: the lines that follow it", Kind: behaviors.Text, Max: maxCursor},
			{Name: "wait", About: "with after: how many seconds to wait for a line, from 0 to 60", Kind: behaviors.Whole, Min: 0, Max: maxWait},
		},
		Limits: limits,
		Do: func(ctx context.Context, call behaviors.Call) (any, error) {
			q := logQuery{Lines: call.Args.Whole("lines"), After: call.Args.Text("after"), Wait: call.Args.Whole("wait")}
			if q.Lines == 0 {
				q.Lines = 50
			}
			r, err := asRoot(ctx, task{Log: &q, Order: call.Order})
			if errors.Is(err, errNoSocket) {
				r.Log, err = q.read(ctx)
			}
			if err != nil {
				return nil, err
			}
			return r.Log, nil
		},
	}
}
