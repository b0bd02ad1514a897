package link

import (
	"crypto/x509"
	"fmt"
	"strings"
	"time"
)

// Level is the severity of a finding.
type Level string

// The levels of findings. With a failure the device does not work as intended.
const (
	OK   Level = "ok"
	Warn Level = "warn"
	Fail Level = "fail"
)

// Finding is the result of one check, for the owner of the device.
type Finding struct {
	Subject string `json:"subject"`
	Level   Level  `json:"level"`
	Text    string `json:"text"`         // one sentence
	Do      string `json:"do,omitempty"` // what to do
}

// Report makes a finding from an error whose text has the form "what is wrong;
// what to do". If the second half is missing, otherwise is used.
func Report(subject string, l Level, err error, otherwise string) Finding {
	text, do, _ := strings.Cut(err.Error(), "; ")
	if do == "" {
		do = otherwise
	}
	return Finding{subject, l, text, do}
}

// JudgeCertificate reports how long a certificate is valid. The texts become more
// urgent 30, 7 and 1 days before it expires.
func JudgeCertificate(whose, do string, cert *x509.Certificate, now time.Time) Finding {
	const day = 24 * time.Hour
	left := cert.NotAfter.Sub(now)
	until := cert.NotAfter.UTC().Format(time.DateOnly)
	switch {
	case left <= 0:
		return Finding{Subject: "certificate", Level: Fail, Text: fmt.Sprintf("%s expired on %s", whose, until), Do: do}
	case now.Before(cert.NotBefore):
		return Finding{Subject: "certificate", Level: Fail, Text: fmt.Sprintf("%s is not valid before %s", whose, cert.NotBefore.UTC().Format(time.DateOnly)), Do: "is the clock correct?"}
	case left <= day:
		return Finding{Subject: "certificate", Level: Warn, Text: fmt.Sprintf("%s expires within a day, on %s", whose, until), Do: do + " today"}
	case left <= 7*day:
		return Finding{Subject: "certificate", Level: Warn, Text: fmt.Sprintf("%s expires within a week, on %s", whose, until), Do: do + " now"}
	case left <= 30*day:
		return Finding{Subject: "certificate", Level: Warn, Text: fmt.Sprintf("%s expires within a month, on %s", whose, until), Do: do}
	}
	return Finding{Subject: "certificate", Level: OK, Text: fmt.Sprintf("%s is valid until %s", whose, until)}
}
