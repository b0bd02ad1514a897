package config

import "testing"

func TestSize(t *testing.T) {
	for text, want := range map[string]Size{
		"0": 0, "0B": 0, "1B": 1, "200MB": 200 * MB, "1.5GB": 1500 * MB, "2 gb": 2 * GB, "3tb": 3 * TB, "1kB": KB,
	} {
		var s Size
		if err := s.UnmarshalText([]byte(text)); err != nil || s != want {
			t.Errorf("%q: %d, %v", text, s, err)
		}
		var again Size
		if err := again.UnmarshalText([]byte(s.String())); err != nil || again != s {
			t.Errorf("%q is printed as %q", text, s)
		}
	}
	for _, text := range []string{"", "MB", "-1MB", "1", "many", "NaNMB", "1e30TB", "InfGB", "1MBs", "0x10MB x"} {
		var s Size
		if err := s.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is %v", text, s)
		}
	}
}
