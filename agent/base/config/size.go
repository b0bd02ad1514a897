package config

import (
	"math"
	"strconv"
	"strings"
)

// Size is an amount of data in bytes, written as "200MB" or "1.5GB".
type Size int64

// Units as for disks.
const (
	KB Size = 1000
	MB      = 1000 * KB
	GB      = 1000 * MB
	TB      = 1000 * GB
)

func units() []struct {
	name string
	size Size
} {
	return []struct {
		name string
		size Size
	}{{"TB", TB}, {"GB", GB}, {"MB", MB}, {"KB", KB}, {"B", 1}}
}

// UnmarshalText implements encoding.TextUnmarshaler. "0" needs no unit.
func (s *Size) UnmarshalText(text []byte) error {
	number, unit := string(text), Size(0)
	for _, u := range units() {
		if rest, ok := strings.CutSuffix(strings.ToUpper(string(text)), u.name); ok {
			number, unit = strings.TrimSpace(rest), u.size
			break
		}
	}
	v, err := strconv.ParseFloat(number, 64)
	if err != nil || !(v >= 0) || v*float64(max(unit, 1)) >= math.MaxInt64 || (unit == 0 && v != 0) {
		return Want(`a size: a number with a unit, in quotes, for example "200MB" or "1.5GB"`)
	}
	*s = Size(math.Round(v * float64(unit)))
	return nil
}

// MarshalText writes the form that UnmarshalText parses.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

func (s Size) String() string {
	for _, u := range units() {
		if s >= u.size {
			return strconv.FormatFloat(math.Round(float64(s)/float64(u.size)*1000)/1000, 'f', -1, 64) + u.name
		}
	}
	return "0"
}
