package fleet

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"lintod/agent/base/pattern"
)

// A Selection defines the devices of a command.
type Selection struct {
	// Names are serials, and patterns with * and ?, which select among the known devices.
	Names []string
	// All selects each known device.
	All bool
	// Serials are from a list or an earlier run, and are not patterns.
	Serials []string
	// Where, if set, keeps the devices that match it. If nothing else is set, it selects among the
	// known devices.
	Where *Condition
	// Limit is the maximum number of devices; 0 means no limit.
	Limit int
}

// Left is a device that was not selected, with the reason.
type Left struct {
	Serial string `json:"serial"`
	Why    string `json:"why"`
}

// ErrNothing is returned if no device is selected.
var ErrNothing = errors.New("no device is selected")

// Validate reports invalid names.
func (s Selection) Validate() error {
	for _, name := range slices.Concat(s.Names, s.Serials) {
		if !IsSerial(name) {
			return fmt.Errorf("%q is not a serial; it must not be empty or contain /, +, or #", name)
		}
	}
	return nil
}

// Known reports whether the selection depends on the known devices.
func (s Selection) Known() bool {
	return s.All || s.Where != nil || slices.ContainsFunc(s.Names, isPattern)
}

// Empty reports whether the selection has no criteria.
func (s Selection) Empty() bool {
	return !s.All && s.Where == nil && len(s.Names) == 0 && s.Serials == nil
}

// Choose returns the serials of the selected devices, named ones first, and the candidates that
// were left out. Known devices that match no name are not candidates.
func (s Selection) Choose(known []Device, now time.Time) (chosen []string, left []Left) {
	byName := map[string]Device{}
	for _, d := range known {
		byName[d.Serial] = d
	}
	var candidates []string
	seen := map[string]bool{}
	add := func(serial string) {
		if !seen[serial] {
			seen[serial] = true
			candidates = append(candidates, serial)
		}
	}
	for _, name := range s.Names {
		if !isPattern(name) {
			add(name)
			continue
		}
		for _, d := range known {
			if pattern.List(d.Serial, name) {
				add(d.Serial)
			}
		}
	}
	for _, serial := range s.Serials {
		add(serial)
	}
	if s.All || s.Where != nil && len(s.Names) == 0 && s.Serials == nil {
		for _, d := range known {
			add(d.Serial)
		}
	}
	for _, serial := range candidates {
		if s.Where != nil {
			d, ok := byName[serial]
			if !ok {
				left = append(left, Left{serial, "its status is not known"})
				continue
			}
			if match, why := s.Where.Match(d, now); !match {
				left = append(left, Left{serial, why})
				continue
			}
		}
		if s.Limit > 0 && len(chosen) >= s.Limit {
			left = append(left, Left{serial, fmt.Sprintf("beyond the limit of %d", s.Limit)})
			continue
		}
		chosen = append(chosen, serial)
	}
	return chosen, left
}

func isPattern(name string) bool { return strings.ContainsAny(name, "*?") }
