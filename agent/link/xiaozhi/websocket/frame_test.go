package websocket

import (
	"bytes"
	"encoding/hex"
	"errors"
	"testing"

	"lintod/agent/base/fuzzcost"
)

const silence = "fb03fffefffefffe" // 60 ms

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	raw, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestFrames(t *testing.T) {
	for version, want := range map[int]string{
		1: silence,
		2: "00020000000000000000003c00000008" + silence,
		3: "00000008" + silence,
	} {
		if got := hex.EncodeToString(appendFrame(nil, version, 60, unhex(t, silence))); got != want {
			t.Errorf("version %d: %s, want %s", version, got, want)
		}
		json, opus, err := parseFrame(version, unhex(t, want))
		if err != nil || json || hex.EncodeToString(opus) != silence {
			t.Errorf("version %d: parsed as %t %x %v", version, json, opus, err)
		}
	}
}

func TestParsedFrames(t *testing.T) {
	stop := hex.EncodeToString([]byte(`{"type":"tts","state":"stop"}`))
	for name, tt := range map[string]struct {
		version int
		message string
		json    bool
		payload string
		err     error
	}{
		"2: JSON":                 {2, "0002000100000000000000000000001d" + stop, true, stop, nil},
		"3: JSON":                 {3, "0100001d" + stop, true, stop, nil},
		"2: tail":                 {2, "00020000000000000000003c00000008" + silence + "ff", false, silence, nil},
		"3: tail":                 {3, "00000008" + silence + "ff", false, silence, nil},
		"1: empty":                {1, "", false, "", nil},
		"2: empty packet":         {2, "00020000000000000000003c00000000", false, "", nil},
		"3: empty packet":         {3, "00000000", false, "", nil},
		"2: size beyond":          {2, "00020000000000000000003c00000009" + silence, false, "", errFrame},
		"2: size of 4 GB":         {2, "00020000000000000000003cffffffff" + silence, false, "", errFrame},
		"3: size beyond":          {3, "00000009" + silence, false, "", errFrame},
		"2: empty":                {2, "", false, "", errFrame},
		"3: empty":                {3, "", false, "", errFrame},
		"2: 15 bytes":             {2, "00020000000000000000003c000000", false, "", errFrame},
		"3: 3 bytes":              {3, "000000", false, "", errFrame},
		"2: a frame of version 3": {2, "00000008" + silence + "0000000000000000", false, "", errFrame},
		"2: type 2":               {2, "00020002000000000000003c00000008" + silence, false, "", errType},
		"3: type 2":               {3, "02000008" + silence, false, "", errType},
	} {
		json, payload, err := parseFrame(tt.version, unhex(t, tt.message))
		if json != tt.json || hex.EncodeToString(payload) != tt.payload || !errors.Is(err, tt.err) {
			t.Errorf("%s: parsed as %t %x %v", name, json, payload, err)
		}
	}
}

func FuzzFrame(f *testing.F) {
	for version := range 4 {
		f.Add(version, appendFrame(nil, version, 60, unhex(f, silence)))
	}
	f.Add(2, unhex(f, "00020001000000000000000000000002"+"7b7d"))
	f.Add(2, unhex(f, "00020000000000000000003cffffffff"))
	f.Add(3, unhex(f, "0100ffff7b7d"))
	f.Fuzz(func(t *testing.T, version int, message []byte) {
		version = (version&3+2)%3 + 1
		var json bool
		var payload []byte
		var err error
		fuzzcost.Check(t, func() { json, payload, err = parseFrame(version, message) })
		if err != nil || json {
			return
		}
		again := appendFrame(nil, version, 7, payload)
		if _, same, err := parseFrame(version, again); err != nil || !bytes.Equal(same, payload) {
			t.Errorf("version %d: %x gives %x, and again %x, %v", version, message, payload, same, err)
		}
	})
}
