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
		want string // part of the sentence; "" for none
	}{
		"unknown name":   {&net.DNSError{Name: "a.test", IsNotFound: true}, "the name a.test is unknown; correct shop_url"},
		"no name server": {&net.DNSError{Name: "a.test", IsTimeout: true}, "a.test cannot be looked up"},
		"refused":        {syscall.ECONNREFUSED, "start the shop, or correct shop_url"},
		"no way":         {syscall.EHOSTUNREACH, "is the network up?"},
		"no network":     {syscall.ENETUNREACH, "is the network up?"},
		"another":        {errors.New("disk full"), ""},
	} {
		check(t, name, shop.Network(fmt.Errorf("dial: %w", row.err)), row.want)
	}
}

func TestCertificate(t *testing.T) {
	now := time.Now()
	at := func(from, to time.Duration) *x509.Certificate {
		return &x509.Certificate{NotBefore: now.Add(from), NotAfter: now.Add(to)}
	}
	for name, row := range map[string]struct {
		err  error
		want string
	}{
		"unknown CA":   {x509.UnknownAuthorityError{}, "shop_ca"},
		"old":          {x509.CertificateInvalidError{Cert: at(-2*time.Hour, -time.Hour), Reason: x509.Expired}, "the shop's certificate expired at"},
		"clock wrong":  {x509.CertificateInvalidError{Cert: at(time.Hour, 2*time.Hour), Reason: x509.Expired}, "the clock is wrong"},
		"another name": {x509.HostnameError{Certificate: &x509.Certificate{DNSNames: []string{"a.test"}}, Host: "b.test"}, `not for the name "b.test"`},
		"common name":  {x509.HostnameError{Certificate: &x509.Certificate{Subject: pkix.Name{CommonName: "b.test"}}, Host: "b.test"}, "subjectAltName"},
		"for clients":  {x509.CertificateInvalidError{Cert: at(0, 1), Reason: x509.IncompatibleUsage}, "serverAuth"},
		"no CA":        {x509.CertificateInvalidError{Cert: at(0, 1), Reason: x509.NotAuthorizedToSign}, "shop_ca"},
		"another":      {errors.New("disk full"), ""},
	} {
		check(t, name, shop.Certificate(fmt.Errorf("dial: %w", row.err)), row.want)
	}
}

func check(t *testing.T, name, got, want string) {
	t.Helper()
	if got == "" != (want == "") || !strings.Contains(got, want) {
		t.Errorf("%s: got %q, want %q in it", name, got, want)
	}
}
