package state

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"lintod/agent/base/journal/journaltest"
)

// ledgerEnv is the directory in which the test binary, run as a child,
// continuously starts and finishes requests.
const ledgerEnv = "STATE_TEST_LEDGER"

func openLedger(t *testing.T, dir string) (*Ledger, *bytes.Buffer) {
	t.Helper()
	var log bytes.Buffer
	l, err := OpenLedger(dir, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	return l, &log
}

func begin(t *testing.T, l *Ledger, e Entry) Entry {
	t.Helper()
	e, err := l.Begin(e)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func finish(t *testing.T, l *Ledger, seq uint64, answer string) {
	t.Helper()
	if err := l.Finish(seq, json.RawMessage(answer)); err != nil {
		t.Fatal(err)
	}
}

func TestLedgerSurvives(t *testing.T) {
	dir := t.TempDir()
	l, _ := openLedger(t, dir)
	asked := time.Now().UTC().Round(0)
	open := begin(t, l, Entry{Link: "linto", Verb: "shellexec", ID: "a", Digest: "d", Asked: asked})
	done := begin(t, l, Entry{Link: "linto", Verb: "shellexec", ID: "b"})
	sent := begin(t, l, Entry{Link: "linto", Verb: "shellexec", ID: "c"})
	other := begin(t, l, Entry{Link: "folotoy", Verb: "shellexec"})
	finish(t, l, done.Seq, `{"n":1}`)
	finish(t, l, sent.Seq, `{"n":2}`)
	finish(t, l, other.Seq, `{"n":3}`)
	if err := l.Sent(sent.Seq); err != nil {
		t.Fatal(err)
	}

	l, log := openLedger(t, dir)
	if u := l.Unfinished(); len(u) != 1 || u[0].Seq != open.Seq || u[0].Digest != "d" || !u[0].Asked.Equal(asked) {
		t.Errorf("unfinished: %+v", u)
	}
	if u := l.Unsent("linto"); len(u) != 1 || string(u[0].Answer) != `{"n":1}` {
		t.Errorf("to deliver: %+v", u)
	}
	if err := l.Again(sent.Seq); err != nil {
		t.Fatal(err)
	}
	if u := l.Unsent("linto"); len(u) != 2 {
		t.Errorf("to deliver again: %+v", u)
	}
	if e, ok := l.Last(func(e Entry) bool { return e.ID == "c" }); !ok || e.Seq != sent.Seq {
		t.Errorf("found %+v, %v", e, ok)
	}
	if next := begin(t, l, Entry{}); next.Seq <= other.Seq {
		t.Errorf("number %d was given twice", next.Seq)
	}
	if log.Len() > 0 {
		t.Errorf("log: %s", log)
	}
	info, err := os.Stat(l.path(open.Seq))
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestLedgerDropsDeliveredEntriesFirst(t *testing.T) {
	l, log := openLedger(t, t.TempDir())
	running := begin(t, l, Entry{Link: "x"})
	unsent := begin(t, l, Entry{Link: "x"})
	finish(t, l, unsent.Seq, `1`)
	for range maxEntries + 5 {
		e := begin(t, l, Entry{Link: "x"})
		finish(t, l, e.Seq, `2`)
		if err := l.Sent(e.Seq); err != nil {
			t.Fatal(err)
		}
	}
	if u := l.Unsent("x"); len(u) != 1 || u[0].Seq != unsent.Seq {
		t.Errorf("to deliver: %+v", u)
	}
	if u := l.Unfinished(); len(u) != 1 || u[0].Seq != running.Seq {
		t.Errorf("unfinished: %+v", u)
	}
	files, err := os.ReadDir(l.dir)
	if err != nil || len(files) > maxEntries || l.Lost() != 0 || log.Len() > 0 {
		t.Errorf("%d files, %v, lost %d, log %s", len(files), err, l.Lost(), log)
	}
}

func TestLedgerIsBoundedInBytes(t *testing.T) {
	l, log := openLedger(t, t.TempDir())
	big := `"` + strings.Repeat("x", 1<<20) + `"`
	for range 10 {
		finish(t, l, begin(t, l, Entry{Link: "x"}).Seq, big)
	}
	unsent := l.Unsent("x")
	if len(unsent) != 3 || l.Lost() != 7 || strings.Count(log.String(), "\n") != 7 {
		t.Errorf("%d kept, %d lost, log %s", len(unsent), l.Lost(), log)
	}
	if last := unsent[len(unsent)-1]; last.Seq != 10 {
		t.Errorf("the latest entry is missing, %d is the last", last.Seq)
	}
}

func TestUnreadableEntriesArePutAside(t *testing.T) {
	dir := t.TempDir()
	l, _ := openLedger(t, dir)
	good := begin(t, l, Entry{Verb: "good"})
	for i, text := range []string{"", "{", `{"seq":1}`, `[1]`, strings.Repeat("x", maxEntry+1)} {
		if err := os.WriteFile(l.path(uint64(100+i)), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/dev/zero", l.path(200)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(l.path(300)+".tmp", []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	l, log := openLedger(t, dir)
	if u := l.Unfinished(); len(u) != 1 || u[0].Seq != good.Seq {
		t.Errorf("unfinished: %+v", u)
	}
	if n := strings.Count(log.String(), "\n"); n != 6 {
		t.Errorf("%d log lines: %s", n, log)
	}
}

// A started request with an id is known after its entry was dropped, after a
// restart, and if its entry, or a line of the record, cannot be read.
func TestBegunIsRememberedForLonger(t *testing.T) {
	dir := t.TempDir()
	l, err := OpenLedger(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	asked := time.Now()
	for i := range maxEntries + 10 {
		e, err := l.Begin(Entry{Link: "l", Verb: "v", ID: fmt.Sprint(i), Digest: "d", Asked: asked})
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(l.Finish(e.Seq, json.RawMessage("{}")), l.Sent(e.Seq)); err != nil {
			t.Fatal(err)
		}
	}
	files, err := filepath.Glob(filepath.Join(dir, ledgerDir, "*.json"))
	if err != nil || len(files) != maxEntries {
		t.Fatalf("%d entries, %v", len(files), err)
	}
	for _, file := range files {
		if err := os.WriteFile(file, []byte("\x00\x00\x00"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ids, err := os.OpenFile(filepath.Join(dir, ledgerDir, "ids"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = ids.WriteString("torn by a power c")
	ids.Close()
	for range 2 { // the second time with what was added after the torn line
		if l, err = OpenLedger(dir, slog.New(slog.DiscardHandler)); err != nil {
			t.Fatal(err)
		}
		for i := range maxEntries + 10 {
			if b, ok := l.Begun("l", "v", fmt.Sprint(i)); !ok || b.Digest != "d" || b.Asked.Unix() != asked.Unix() {
				t.Fatalf("%d: %+v, %v", i, b, ok)
			}
		}
		if _, ok := l.Begun("other", "v", "1"); ok {
			t.Error("the id of another link is known")
		}
		if _, err := l.Begin(Entry{Link: "l", Verb: "v", ID: "new", Digest: "d", Asked: asked}); err != nil {
			t.Fatal(err)
		}
	}
	if _, ok := l.Begun("l", "v", "new"); !ok {
		t.Error("what follows a torn line is missing")
	}
}

func TestMemoryOfIDsIsBounded(t *testing.T) {
	m := openIDs(filepath.Join(t.TempDir(), "ids"), slog.New(slog.DiscardHandler))
	m.lines = 2*maxIDs - 1 // as if the file had that length
	for i := range 2 * maxIDs {
		m.remember(fmt.Sprint("l v ", i), Begun{})
	}
	for _, id := range []string{"a", "b"} {
		if err := m.add(Entry{Link: "l", Verb: "v", ID: id, Asked: time.Now(), Digest: "d"}); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(m.path)
	if err != nil || strings.Count(string(text), "\n") != maxIDs || len(m.known) != maxIDs || m.lines != maxIDs {
		t.Errorf("%d lines, %d known, %d counted, %v", strings.Count(string(text), "\n"), len(m.known), m.lines, err)
	}
}

// For any contents of the file, it is read, and can be appended to.
func FuzzIDs(f *testing.F) {
	f.Add([]byte("2026-11-27T00:00:00Z l v 1 d\n"))
	f.Add([]byte("\x00\x00\nl v 1"))
	path := filepath.Join(f.TempDir(), "ids")
	f.Fuzz(func(t *testing.T, text []byte) {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := openIDs(path, slog.New(slog.DiscardHandler)).add(Entry{Link: "l", Verb: "v", ID: "added", Asked: time.Now(), Digest: "d"}); err != nil {
			t.Fatal(err)
		}
		if _, ok := openIDs(path, slog.New(slog.DiscardHandler)).known[idKey("l", "v", "added")]; !ok {
			t.Errorf("%q: what was added is not read", text)
		}
	})
}

// FuzzLedgerEntry replaces an entry by any data.
func FuzzLedgerEntry(f *testing.F) {
	f.Add([]byte(`{"seq":1,"link":"l","verb":"v","done":true,"answer":{}}`))
	f.Add([]byte(`{"seq":18446744073709551615}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		dir := t.TempDir()
		if err := os.MkdirAll(filepath.Join(dir, ledgerDir), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, ledgerDir, "0000000000000001.json"), text, 0o600); err != nil {
			t.Fatal(err)
		}
		l, err := OpenLedger(dir, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		e, err := l.Begin(Entry{Link: "l", Verb: "v"})
		if err != nil || l.Finish(e.Seq, json.RawMessage("{}")) != nil {
			t.Errorf("%q: the ledger cannot continue: %v", text, err)
		}
	})
}

func TestLedgerWithoutADisk(t *testing.T) {
	notADir := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(notADir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	late, err := OpenLedger(notADir, slog.New(slog.DiscardHandler))
	if err == nil {
		t.Error("opened")
	}
	if _, err := late.Begin(Entry{}); err == nil || late.Open() == nil {
		t.Errorf("started with a file as the directory: %v", err)
	}
	if err := os.Remove(notADir); err != nil {
		t.Fatal(err)
	}
	if err := late.Open(); err != nil {
		t.Error(err)
	}
	begin(t, late, Entry{Link: "x"})
	l, _ := openLedger(t, t.TempDir())
	e := begin(t, l, Entry{Link: "x"})
	if err := os.RemoveAll(l.dir); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(l.dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Begin(Entry{}); err == nil {
		t.Error("started without a disk")
	}
	if err := l.Finish(e.Seq, json.RawMessage(`1`)); err == nil || len(l.Unsent("x")) != 1 {
		t.Errorf("error %v, to deliver %+v", err, l.Unsent("x"))
	}
}

func keepLedger(dir string) {
	l, err := OpenLedger(dir, slog.New(slog.NewTextHandler(os.Stderr, nil)))
	if err != nil {
		panic(err)
	}
	for {
		e, err := l.Begin(Entry{Link: "x"})
		if err != nil {
			panic(err)
		}
		fmt.Println(e.Seq) // now it may be executed
		if err := l.Finish(e.Seq, json.RawMessage(`"done"`)); err != nil {
			panic(err)
		}
		if err := l.Sent(e.Seq); err != nil {
			panic(err)
		}
	}
}

// Every request reported as started is in the ledger after kill -9 at a
// random time, and no number is assigned twice.
func TestLedgerKilledAtRandomTimes(t *testing.T) {
	dir := t.TempDir()
	seen := map[string]bool{}
	for round := range 20 {
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), ledgerEnv+"="+dir)
		var said, log journaltest.Buffer
		child.Stdout, child.Stderr = &said, &log
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		for strings.Count(said.String(), "\n") < 3+round%5 {
			if child.ProcessState != nil || log.String() != "" {
				t.Fatalf("the child failed: %s", log.String())
			}
			time.Sleep(time.Millisecond)
		}
		child.Process.Signal(syscall.SIGKILL)
		child.Wait()
		lines := strings.Fields(said.String())
		for _, seq := range lines {
			if seen[seq] {
				t.Fatalf("number %s was assigned twice", seq)
			}
			seen[seq] = true
		}
		l, openLog := openLedger(t, dir)
		last := lines[len(lines)-1]
		if _, ok := l.Last(func(e Entry) bool { return fmt.Sprint(e.Seq) == last }); !ok {
			t.Errorf("started, but missing: %s", last)
		}
		if openLog.Len() > 0 {
			t.Errorf("log: %s", openLog)
		}
	}
}
