package link

import (
	"crypto/x509"
	"fmt"
	"strings"
	"time"
)

// Level is how bad a finding is.
type Level string

// What a finding can be. A device with a failure does not do what it is for.
const (
	OK   Level = "ok"
	Warn Level = "warn"
	Fail Level = "fail"
)

// Finding is one thing that was looked at, for the owner of the device.
type Finding struct {
	Subject string `json:"subject"`
	Level   Level  `json:"level"`
	Text    string `json:"text"`         // one sentence
	Do      string `json:"do,omitempty"` // what to do
}

// Report makes a finding of an error in the house's form, "what is wrong; what to
// do"; some leave the second half to otherwise.
func Report(subject string, l Level, err error, otherwise string) Finding {
	text, do, _ := strings.Cut(err.Error(), "; ")
	if do == "" {
		do = otherwise
	}
	return Finding{subject, l, text, do}
}

// JudgeCertificate judges how long a certificate is valid. It becomes louder 30, 7 and 1 days before the end.
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
