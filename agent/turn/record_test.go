package turn

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// TestOneLinePerTurn: the journal has one line with the figures of each
// turn, and nothing of what was said.
func TestOneLinePerTurn(t *testing.T) {
	var log bytes.Buffer
	play(t, []answer{{Text: "ten o'clock", Transcript: "what time is it"}}, func(s *stage) {
		s.Log = slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelInfo}))
		s.tap()
		s.speak(2 * time.Second)
		s.turn.Notify(RequestOut, "")
		s.loudspeaker.dry.Add(3)
		s.wait(10 * time.Second)
		s.expect(Idle)
		s.platform.err = errors.New("no route to platform")
		s.tap()
		s.speak(2 * time.Second)
		s.wait(10 * time.Second)
	})
	lines := strings.Split(strings.TrimSpace(log.String()), "\n")
	if len(lines) != 2 || strings.Contains(log.String(), "time is it") || strings.Contains(log.String(), "o'clock") {
		t.Fatalf("the log holds\n%s", &log)
	}
	wants := []map[string]any{
		{
			"level": "INFO", "turn": 1.0, "result": "spoken", "cause": "spoken", "trigger": "tap", "link": "platform", "underruns": 3.0,
			"frame_ms": 20.0, "request_ms": 2400.0,
		},
		{"level": "WARN", "turn": 2.0, "result": "failed", "cause": "platform: no route to platform"},
	}
	for i, want := range wants {
		var got map[string]any
		if err := json.Unmarshal([]byte(lines[i]), &got); err != nil {
			t.Fatal(err)
		}
		for key, value := range want {
			if got[key] != value {
				t.Errorf("%s is %v, want %v, in %s", key, got[key], value, lines[i])
			}
		}
		if end, ok := got["end_ms"].(float64); !ok || i == 0 && (got["answer_ms"] != end+1000 || got["total_ms"] != end+2000) {
			t.Errorf("want a second each for the platform and the speaker: %s", lines[i])
		}
	}
}

func TestRecordsAreBounded(t *testing.T) {
	var r records
	for i := range keptRecords + 3 {
		r.add(Record{Turn: i})
	}
	if list := r.list(); len(list) != keptRecords || list[0].Turn != 3 {
		t.Errorf("%d records, from turn %d on", len(list), list[0].Turn)
	}
}

// A gateway gets the sound while the user speaks, and the first sound may arrive
// before its sentence.
func TestLineIsInChronologicalOrder(t *testing.T) {
	at := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	after := func(ms int) time.Time { return at.Add(time.Duration(ms) * time.Millisecond) }
	r := Record{
		Triggered: at, Trigger: ByTap, Result: ResultSpoken,
		Framed: after(10), Requested: after(60), Heard: after(370), Finished: after(2400),
		Sounded: after(2600), Answered: after(2650), Closed: after(5000),
	}
	line := r.Line()
	if strings.Contains(line, "+-") {
		t.Errorf("a stage ends before it starts: %s", line)
	}
	where := -1
	for _, name := range []string{"frame", "request", "voice", "end", "sound", "answer", string(ResultSpoken)} {
		next := strings.Index(line, ", "+name+" ")
		if next <= where {
			t.Errorf("%s is not after the stage before it: %s", name, line)
		}
		where = next
	}
}
