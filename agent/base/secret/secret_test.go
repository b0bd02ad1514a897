package secret

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestIsNotPrinted(t *testing.T) {
	type outer struct{ Password Text }
	v := outer{"PLANTED"}
	var log strings.Builder
	for _, h := range []slog.Handler{slog.NewTextHandler(&log, nil), slog.NewJSONHandler(&log, nil)} {
		slog.New(h).Info("m", "s", v.Password)
	}
	shown := fmt.Sprintf("%v %+v %#v %s %q", v, v, v, v.Password, v.Password) + log.String()
	if strings.Contains(shown, "PLANTED") {
		t.Error(shown)
	}
	raw, err := json.Marshal(v)
	if err != nil || string(raw) != `{"Password":"PLANTED"}` {
		t.Errorf("%s, %v", raw, err)
	}
}
