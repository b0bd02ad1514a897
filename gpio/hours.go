package gpio

import (
	"fmt"
	"strings"
	"time"

	"lintod/agent/base/config"
)

// Hours is a part of each day in local time, written "22:00-07:00". The zero value is empty.
type Hours struct{ from, to int } // minutes since midnight

// UnmarshalText implements encoding.TextUnmarshaler.
func (h *Hours) UnmarshalText(text []byte) error {
	*h = Hours{}
	if len(text) == 0 {
		return nil
	}
	from, to, _ := strings.Cut(string(text), "-")
	f, err1 := time.Parse("15:04", strings.TrimSpace(from))
	t, err2 := time.Parse("15:04", strings.TrimSpace(to))
	if err1 != nil || err2 != nil || f.Equal(t) {
		return config.Want(`hours in quotes, such as "22:00-07:00"`)
	}
	*h = Hours{f.Hour()*60 + f.Minute(), t.Hour()*60 + t.Minute()}
	return nil
}

// MarshalText implements encoding.TextMarshaler.
func (h Hours) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

func (h Hours) String() string {
	if h == (Hours{}) {
		return ""
	}
	return fmt.Sprintf("%02d:%02d-%02d:%02d", h.from/60, h.from%60, h.to/60, h.to%60)
}

// Contain reports whether t is within the hours.
func (h Hours) Contain(t time.Time) bool {
	m := t.Hour()*60 + t.Minute()
	if h.from <= h.to {
		return h.from <= m && m < h.to
	}
	return m >= h.from || m < h.to
}
