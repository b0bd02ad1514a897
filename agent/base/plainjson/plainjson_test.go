package plainjson

import "testing"

func TestMarshal(t *testing.T) {
	for want, v := range map[string]any{
		`"a < b && c > d"`:   "a < b && c > d",
		`"line\n"`:           "line\n",
		`{"a":"<","b":null}`: map[string]any{"a": "<", "b": nil},
	} {
		if got, err := Marshal(v); err != nil || string(got) != want {
			t.Errorf("%s, %v; want %s", got, err, want)
		}
	}
	if got, err := Marshal(func() {}); err == nil {
		t.Errorf("a function became %s", got)
	}
}
