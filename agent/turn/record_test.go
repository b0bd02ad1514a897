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

// TestOneLineATurn: the journal has the figures of a turn in one line, and
// nothing of what was said.
func TestOneLineATurn(t *testing.T) {
	var log bytes.Buffer
	play(t, []answer{{Text: "ten o'clock", Transcript: "what time is it"}}, func(s *stage) {
		s.Log = slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelInfo}))
		s.tap()
		s.speak(2 * time.Second)
		s.turn.Tell(RequestOut, "")
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
			t.Errorf("the platform and the loudspeaker take a second each: %s", lines[i])
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

// A link that sends while the user speaks has the request out before the end: no stage takes less
// than no time.
func TestLineOfALiveRequest(t *testing.T) {
	at := time.Now()
	r := Record{Triggered: at, Requested: at.Add(time.Second), Finished: at.Add(3 * time.Second), Closed: at.Add(5 * time.Second)}
	if line := r.Line(); strings.Contains(line, "-") {
		t.Errorf("%s", line)
	}
}
