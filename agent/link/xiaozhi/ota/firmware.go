package ota

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Firmware is a version that the server offers: newer than the current one, or
// forced.
type Firmware struct {
	Version string
	URL     string // http:// or https://
	Force   bool
}

// invalidURL is part of the URL that xinnan's servers send if they have no
// firmware to offer.
const invalidURL = "NOT_ACTIVATED_FIRMWARE_THIS_IS_A_INVALID_URL"

// offer returns the firmware if it is relevant to the user, otherwise nil: servers
// always send the member.
func offer(f Firmware, present string) *Firmware {
	if !plausible(f.URL) || !f.Force && !newer(f.Version, present) {
		return nil
	}
	return &f
}

func plausible(address string) bool {
	u, err := url.Parse(address)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Hostname() != "" && u.User == nil &&
		len(address) <= maxText && visible(address) && !strings.Contains(address, invalidURL)
}

// newer compares versions number by number; if one is a prefix of the other, the
// longer one is newer. Versions with other parts are never newer.
func newer(offered, present string) bool {
	a, okA := numbers(offered)
	b, okB := numbers(present)
	return okA && okB && slices.Compare(a, b) > 0
}

func numbers(version string) (list []uint64, ok bool) {
	version = strings.TrimPrefix(version, "v")
	if i := strings.IndexAny(version, "-+~"); i >= 0 {
		version = version[:i] // suffixes such as dev or a build number are not compared
	}
	for part := range strings.SplitSeq(version, ".") {
		n, err := strconv.ParseUint(part, 10, 32)
		if err != nil || len(list) == 8 {
			return nil, false
		}
		list = append(list, n)
	}
	return list, true
}
