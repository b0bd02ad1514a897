package link

import (
	"crypto/x509"
	"strings"
	"testing"
	"time"
)

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
		f := JudgeCertificate("it", "renew it", cert, now)
		if f.Level != want.level || !strings.Contains(f.Text, want.text) || (f.Do == "") != (want.level == OK) {
			t.Errorf("%v before it expires: %+v, want %v", left, f, want)
		}
	}
	early := &x509.Certificate{NotBefore: now.Add(day), NotAfter: now.Add(9 * day)}
	if f := JudgeCertificate("it", "renew it", early, now); f.Level != Fail || f.Do == "" {
		t.Errorf("a day before it becomes valid: %+v", f)
	}
}
