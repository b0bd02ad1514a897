// Package certificate reads the files that TLS needs. For a file that cannot be
// used, the error states what it contains instead and how to convert it.
//
// What must not live here: connections, and errors in the other side's
// certificate (agent/base/neterr).
package certificate

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"lintod/agent/base/textfile"
)

// Pool reads the CA certificates in a PEM file. Errors name the path.
func Pool(path string) (*x509.CertPool, error) {
	text, err := read(path)
	if err != nil {
		return nil, err
	}
	pool, found := x509.NewCertPool(), false
	for _, block := range blocks(text) {
		if block.Type != "CERTIFICATE" && block.Type != "TRUSTED CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s contains an invalid certificate: %w", path, err)
		}
		pool.AddCert(cert)
		found = true
	}
	if !found {
		return nil, fmt.Errorf("%s %w", path, foreign(text, "certificate", path))
	}
	return pool, nil
}

// Pair reads a certificate and its key, both in PEM. Errors name the path, and
// never contain a part of the key.
func Pair(certFile, keyFile string) (tls.Certificate, error) {
	cert, err := read(certFile)
	if err != nil {
		return tls.Certificate{}, err
	}
	key, err := read(keyFile)
	if err != nil {
		return tls.Certificate{}, err
	}
	if !holds(cert, "CERTIFICATE") {
		return tls.Certificate{}, fmt.Errorf("%s %w", certFile, foreign(cert, "certificate", certFile))
	}
	if err := usable(key, keyFile); err != nil {
		return tls.Certificate{}, fmt.Errorf("%s %w", keyFile, err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	switch {
	case err != nil && strings.Contains(err.Error(), "does not match"):
		return pair, fmt.Errorf("the key in %s does not belong to the certificate in %s", keyFile, certFile)
	case err != nil:
		return pair, fmt.Errorf("%s and %s cannot be used: %w", certFile, keyFile, err)
	}
	return pair, nil
}

// read does not modify binary files, so that they can be recognised.
func read(path string) ([]byte, error) {
	raw, err := textfile.ReadRaw(path, textfile.Limit)
	if err != nil {
		return nil, err
	}
	if len(raw) > 0 && raw[0] == derSequence {
		return raw, nil
	}
	text, err := textfile.Text(raw)
	if err != nil {
		return nil, fmt.Errorf("%s %w", path, err)
	}
	return append(text[:len(text):len(text)], '\n'), nil
}

func blocks(text []byte) (list []*pem.Block) {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		list = append(list, block)
	}
	return list
}

// holds reports whether text contains a PEM block of a kind.
func holds(text []byte, kind string) bool {
	for _, block := range blocks(text) {
		if strings.HasSuffix(block.Type, kind) {
			return true
		}
	}
	return false
}

// usable rejects an invalid key, and one with a passphrase, which cannot be
// entered.
func usable(key []byte, path string) error {
	if !holds(key, "PRIVATE KEY") {
		return foreign(key, "key", path)
	}
	for _, block := range blocks(key) {
		switch {
		case block.Type == "ENCRYPTED PRIVATE KEY", strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED"):
			return fmt.Errorf("is protected by a passphrase; remove it: openssl pkey -in %s -out NEW", path)
		case block.Type == "OPENSSH PRIVATE KEY":
			return errors.New("is an SSH key; want a TLS key")
		}
	}
	return nil
}

const derSequence = 0x30

// foreign describes the contents of a file without the expected PEM block.
func foreign(text []byte, wanted, path string) error {
	tool := map[string]string{"certificate": "x509", "key": "pkey"}[wanted]
	switch {
	case holds(text, "PRIVATE KEY") && wanted == "certificate":
		return errors.New("contains a private key; want the certificate")
	case holds(text, "CERTIFICATE REQUEST"):
		return errors.New("contains a certificate request; want the certificate that the CA issued for it")
	case holds(text, "CERTIFICATE") && wanted == "key":
		return errors.New("contains a certificate; want its private key")
	case pkcs12(text):
		export := map[string]string{"certificate": "-nokeys", "key": "-nocerts -nodes"}[wanted]
		return fmt.Errorf("is a PKCS#12 file (.p12, .pfx); want PEM: openssl pkcs12 -in %s %s -out NEW", path, export)
	case len(text) > 0 && text[0] == derSequence:
		return fmt.Errorf("is in DER (binary) format; want PEM: openssl %s -inform der -in %s -out NEW", tool, path)
	case bytes.HasPrefix(text, []byte("ssh-")), bytes.Contains(text, []byte("OPENSSH")):
		return errors.New("is an SSH key; want a TLS key")
	case bytes.Contains(text, []byte("-----BEGIN")):
		return fmt.Errorf("contains no valid %s; it is truncated or damaged", wanted)
	}
	return fmt.Errorf("contains no %s; want PEM, which starts with -----BEGIN", wanted)
}

// pkcs12 detects the format by the version, which is 3 and comes first
// (RFC 7292); a certificate starts with another sequence, and a key with
// version 0 or 1.
func pkcs12(text []byte) bool {
	var outer, version asn1.RawValue
	if _, err := asn1.Unmarshal(text, &outer); err != nil || outer.Tag != asn1.TagSequence {
		return false
	}
	_, err := asn1.Unmarshal(outer.Bytes, &version)
	return err == nil && version.Tag == asn1.TagInteger && bytes.Equal(version.Bytes, []byte{3})
}
