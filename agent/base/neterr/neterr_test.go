package neterr

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"
)

var shop = Server{Name: "the shop", Address: "shop_url", CA: "shop_ca"}

func TestNetwork(t *testing.T) {
	for name, row := range map[string]struct {
		err  error
		want []string // what the sentence must contain; nil means that the error has no sentence
	}{
		"unknown name":   {&net.DNSError{Name: "a.test", IsNotFound: true}, []string{"a.test", "shop_url"}},
		"no name server": {&net.DNSError{Name: "a.test", IsTimeout: true}, []string{"a.test"}},
		"refused":        {syscall.ECONNREFUSED, []string{"shop_url"}},
		"no route":       {syscall.EHOSTUNREACH, []string{}},
		"no network":     {syscall.ENETUNREACH, []string{}},
		"another":        {errors.New("disk full"), nil},
	} {
		check(t, name, shop.Network(fmt.Errorf("dial: %w", row.err)), row.want)
	}
}

func TestCertificate(t *testing.T) {
	now := time.Now()
	at := func(from, to time.Duration) *x509.Certificate {
		return &x509.Certificate{NotBefore: now.Add(from), NotAfter: now.Add(to)}
	}
	utc := func(after time.Duration) string { return now.Add(after).UTC().Format("2006-01-02 15") }
	for name, row := range map[string]struct {
		err  error
		want []string
	}{
		"unknown CA":   {x509.UnknownAuthorityError{}, []string{"shop_ca"}},
		"old":          {x509.CertificateInvalidError{Cert: at(-2*time.Hour, -time.Hour), Reason: x509.Expired}, []string{utc(-time.Hour), utc(0)}},
		"clock wrong":  {x509.CertificateInvalidError{Cert: at(time.Hour, 2*time.Hour), Reason: x509.Expired}, []string{utc(time.Hour), utc(0)}},
		"another name": {x509.HostnameError{Certificate: &x509.Certificate{DNSNames: []string{"a.test"}}, Host: "b.test"}, []string{"b.test"}},
		"common name":  {x509.HostnameError{Certificate: &x509.Certificate{Subject: pkix.Name{CommonName: "b.test"}}, Host: "b.test"}, []string{"b.test", "subjectAltName"}},
		"for clients":  {x509.CertificateInvalidError{Cert: at(0, 1), Reason: x509.IncompatibleUsage}, []string{"serverAuth"}},
		"no CA":        {x509.CertificateInvalidError{Cert: at(0, 1), Reason: x509.NotAuthorizedToSign}, []string{"shop_ca"}},
		"another":      {errors.New("disk full"), nil},
	} {
		check(t, name, shop.Certificate(fmt.Errorf("dial: %w", row.err)), row.want)
	}
}

func check(t *testing.T, name, got string, want []string) {
	t.Helper()
	if got == "" != (want == nil) {
		t.Errorf("%s: got %q, want a sentence: %v", name, got, want != nil)
	}
	for _, key := range want {
		if !strings.Contains(got, key) {
			t.Errorf("%s: got %q, want %q in it", name, got, key)
		}
	}
}
