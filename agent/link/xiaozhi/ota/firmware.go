package ota

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Firmware is a version that the server offers: newer than the present one, or to be
// installed in any case.
type Firmware struct {
	Version string
	URL     string // http:// or https://
	Force   bool
}

// invalidURL is in the address that xinnan's servers send where they have nothing to offer.
const invalidURL = "NOT_ACTIVATED_FIRMWARE_THIS_IS_A_INVALID_URL"

// offer returns the firmware that is worth a user's attention, nil where there is none: servers
// send the member always.
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

// newer compares versions number by number; of two that begin alike, the longer is newer. What
// is not made of numbers is never newer.
func newer(offered, present string) bool {
	a, okA := numbers(offered)
	b, okB := numbers(present)
	return okA && okB && slices.Compare(a, b) > 0
}

func numbers(version string) (list []uint64, ok bool) {
	version = strings.TrimPrefix(version, "v")
	if i := strings.IndexAny(version, "-+~"); i >= 0 {
		version = version[:i] // what stands behind, dev or a build, is not compared
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
