//go:build cgo

package main

import (
	"fmt"
	"os"
	"regexp"
	"strings"
)

// A device is never named by its number: that depends on what else is plugged
// in. The same holds for the "(hw:1,0)" that PortAudio appends to a name.

var cardNumber = regexp.MustCompile(` \(hw:[\d,]+\)( \{.*\})?$`)

// stableName is name without the card's number.
func stableName(name string) string { return cardNumber.ReplaceAllString(name, "") }

// match returns the index in names of the device that wanted stands for: the
// name as PortAudio gives it, the same without the card's number, ALSA's
// "hw:CARD=id", or a part that occurs in one name only, in whatever case.
func match(names []string, wanted string) (int, error) {
	if wanted == "" {
		return 0, fmt.Errorf("the name of the device is empty")
	}
	for _, same := range []func(name string) bool{
		func(name string) bool { return name == wanted },
		func(name string) bool { return stableName(name) == wanted },
		func(name string) bool { return onCard(name, wanted) },
		func(name string) bool { return strings.Contains(strings.ToLower(name), strings.ToLower(wanted)) },
	} {
		found := indexes(names, same)
		switch {
		case len(found) == 1:
			return found[0], nil
		case len(found) > 1:
			return 0, fmt.Errorf("%q stands for several devices; name one of %s", wanted, quote(names, found))
		}
	}
	return 0, fmt.Errorf("there is no device %q; there are %s", wanted, quote(names, indexes(names, func(string) bool { return true })))
}

func indexes(names []string, ok func(string) bool) (found []int) {
	for i, name := range names {
		if ok(name) {
			found = append(found, i)
		}
	}
	return found
}

func quote(names []string, which []int) string {
	if len(which) == 0 {
		return "none"
	}
	quoted := make([]string, len(which))
	for i, n := range which {
		quoted[i] = fmt.Sprintf("%q", names[n])
	}
	return strings.Join(quoted, ", ")
}

var cardID = regexp.MustCompile(`^(?:plug)?hw:(?:CARD=)?([A-Za-z_][A-Za-z0-9_]*)(?:,(?:DEV=)?(\d+))?$`)

// asoundDir links the id of each card to its directory, "card1"; see
// "ls -l /proc/asound".
const asoundDir = "/proc/asound/"

// onCard reports whether wanted is ALSA's name, by the card's id, of name.
func onCard(name, wanted string) bool {
	parts := cardID.FindStringSubmatch(wanted)
	if parts == nil {
		return false
	}
	card, err := os.Readlink(asoundDir + parts[1])
	if err != nil {
		return false
	}
	hw := "(hw:" + strings.TrimPrefix(card, "card") + ","
	if parts[2] != "" {
		hw += parts[2] + ")"
	}
	return strings.Contains(name, hw)
}
