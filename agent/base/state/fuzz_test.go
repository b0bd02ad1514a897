package state

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"lintod/agent/base/fuzzcost"
)

// For any contents of a file, the ledger opens with little memory, respects its
// limits, and continues with an unused number; accepted entries are the same at the
// next start.
func FuzzLedger(f *testing.F) {
	f.Add(uint64(7), []byte(`{"seq":7,"link":"linto","verb":"shellexec","digest":"d","done":true,"answer":{"code":"ok"}}`))
	f.Add(uint64(1), []byte(`{"seq":1,"asked":"2026-01-01T00:00:00Z"}`))
	f.Add(^uint64(0), []byte(`{"seq":18446744073709551615}`))
	f.Add(uint64(0), []byte(`{}`))
	f.Add(uint64(3), []byte("\x00\xff"))
	dir := f.TempDir()
	quiet := slog.New(slog.DiscardHandler)
	f.Fuzz(func(t *testing.T, seq uint64, text []byte) {
		folder := filepath.Join(dir, ledgerDir)
		defer os.RemoveAll(folder)
		if err := os.MkdirAll(folder, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(folder, fmt.Sprintf("%016d.json", seq)), text, 0o600); err != nil {
			t.Fatal(err)
		}
		var l *Ledger
		fuzzcost.Check(t, func() {
			var err error
			if l, err = OpenLedger(dir, quiet); err != nil {
				t.Fatal(err)
			}
		})
		for _, e := range l.entries {
			if e.Seq != seq {
				t.Errorf("%q is entry %d, not %d", text, e.Seq, seq)
			}
		}
		known := len(l.entries)
		e, err := l.Begin(Entry{Link: "linto", Verb: "x"})
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Finish(e.Seq, json.RawMessage(`{}`)); err != nil {
			t.Fatal(err)
		}
		again, err := OpenLedger(dir, quiet)
		if err != nil || len(again.entries) != known+1 || again.entries[known].Seq != e.Seq || again.next <= e.Seq {
			t.Errorf("after %q: %+v, next %d, %v", text, again.entries, again.next, err)
		}
	})
}
