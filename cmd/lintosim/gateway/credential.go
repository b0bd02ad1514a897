package gateway

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
)

var (
	macAddress = regexp.MustCompile(`^[0-9a-f]{2}(:[0-9a-f]{2}){5}$`)
	anyMAC     = regexp.MustCompile(`^[0-9A-Fa-f]{2}([:-][0-9A-Fa-f]{2}){5}$`)
)

// underscored returns a MAC address in the form of topics and client IDs.
func underscored(mac string) string { return strings.ReplaceAll(mac, ":", "_") }

// sign returns the password for a client ID and a user name.
func sign(key, clientID, username string) string {
	h := hmac.New(sha256.New, []byte(key))
	h.Write([]byte(clientID + "|" + username))
	return base64.StdEncoding.EncodeToString(h.Sum(nil))
}

// login checks the credentials of a client, and returns the MAC address in its client ID. A client
// ID with two parts needs no credentials.
func login(key string, c connect, twoParts bool) (mac string, err error) {
	parts := strings.Split(c.clientID, "@@@")
	switch {
	case len(parts) == 2 && twoParts:
		mac = strings.ReplaceAll(parts[1], "_", ":")
		if !macAddress.MatchString(mac) {
			return "", fmt.Errorf("the client ID has no MAC address with lower-case digits: %q", parts[1])
		}
		return mac, nil
	case len(parts) != 3:
		return "", errors.New("the client ID is not <group>@@@<mac>@@@<uuid>")
	case !hmac.Equal([]byte(c.password), []byte(sign(key, c.clientID, c.username))):
		return "", errors.New("wrong password for this client ID and user name")
	}
	user, err := base64.StdEncoding.DecodeString(c.username)
	var members map[string]any
	if err != nil || json.Unmarshal(user, &members) != nil || members == nil {
		return "", errors.New("the user name is not base64 of a JSON object")
	}
	return strings.ReplaceAll(parts[1], "_", ":"), nil
}

// uuid generates a random UUID, version 4.
func uuid() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
