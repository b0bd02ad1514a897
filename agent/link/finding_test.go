package link

import (
	"crypto/x509"
	"strings"
	"testing"
	"time"
)

func check(t *testing.T, f Finding, level Level, text string) {
	t.Helper()
	if f.Level != level || !strings.Contains(f.Text, text) {
		t.Errorf("found %s: %s; want %s: …%s…", f.Level, f.Text, level, text)
	}
	if level != OK && f.Do == "" {
		t.Errorf("does not say what to do: %s", f.Text)
	}
}

func TestJudgeCertificate(t *testing.T) {
	now := time.Date(2027, 5, 1, 12, 0, 0, 0, time.UTC)
	day := 24 * time.Hour
	for left, want := range map[time.Duration]struct {
		level Level
		text  string
	}{
		-time.Second:            {Fail, "expired on 2027-05-01"},
		time.Hour:               {Warn, "within a day"},
		day + time.Hour:         {Warn, "within a week"},
		7*day - time.Hour:       {Warn, "within a week"},
		7*day + time.Hour:       {Warn, "within a month"},
		30*day + 12*time.Hour:   {OK, "valid until 2027-06-01"},
		365*day - 1*time.Second: {OK, "valid until"},
	} {
		cert := &x509.Certificate{NotBefore: now.Add(-day), NotAfter: now.Add(left)}
		check(t, JudgeCertificate("it", "renew it", cert, now), want.level, want.text)
	}
	check(t, JudgeCertificate("it", "renew it", &x509.Certificate{NotBefore: now.Add(day), NotAfter: now.Add(9 * day)}, now), Fail, "not valid before 2027-05-02")
}
