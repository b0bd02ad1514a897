package signed_test

import (
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"lintod/agent/base/fuzzcost"
	"lintod/agent/signed"
)

func sum512(text string) []byte {
	sum := sha512.Sum512([]byte(text))
	return sum[:]
}

func TestOrdersThatAreRefused(t *testing.T) {
	change := func(old, new string) string {
		if !strings.Contains(text1, old) {
			t.Fatalf("%q is not in the order", old)
		}
		return strings.Replace(text1, old, new, 1)
	}
	long := make([]string, signed.MaxDevices+1)
	for i := range long {
		long[i] = fmt.Sprintf(`"s%d"`, i)
	}
	for name, text := range map[string]string{
		"nothing":                  "",
		"not an object":            `[]`,
		"null":                     `null`,
		"not closed":               text1[:len(text1)-1],
		"two values":               text1 + text1,
		"trailing data":            text1 + "x",
		"another version":          change(`"v":1`, `"v":2`),
		"version as a text":        change(`"v":1`, `"v":"1"`),
		"version with a fraction":  change(`"v":1`, `"v":1.0`),
		"no version":               change(`"v":1,`, ``),
		"an unknown member":        change(`"v":1`, `"v":1,"urgent":true`),
		"a name in capitals":       change(`"do"`, `"DO"`),
		"both in small and large":  change(`"do"`, `"DO":"volume","do"`),
		"a name twice":             change(`"do"`, `"do":"volume","do"`),
		"a name twice, escaped":    change(`"do"`, `"d\u006f":"volume","do"`),
		"an argument twice":        change(`"cmd"`, `"cmd":"ls","cmd"`),
		"an argument twice within": change(`"df -h /"`, `[{"a":1,"a":2}]`),
		"no scope":                 change(`"scope":"blk",`, ``),
		"scope null":               change(`"scope":"blk"`, `"scope":null`),
		"an empty scope":           change(`"scope":"blk"`, `"scope":""`),
		"a wildcard":               change(`"scope":"blk"`, `"scope":"#"`),
		"no device":                change(`["kitchen-01"]`, `[]`),
		"devices null":             change(`["kitchen-01"]`, `null`),
		"a device as a text":       change(`["kitchen-01"]`, `"kitchen-01"`),
		"a device null":            change(`["kitchen-01"]`, `["kitchen-01",null]`),
		"everybody and one":        change(`["kitchen-01"]`, `["*","kitchen-01"]`),
		"too many devices":         change(`["kitchen-01"]`, "["+strings.Join(long, ",")+"]"),
		"arguments in a list":      change(`{"cmd":"df -h /"}`, `["df"]`),
		"no arguments":             change(`"args":{"cmd":"df -h /"},`, ``),
		"an id in the arguments":   change(`{"cmd"`, `{"id":"x","cmd"`),
		"an id with a blank":       change(`0000AB"`, `0000 B"`),
		"an id that is a number":   change(`"01JE8V3Q0000000000000000AB"`, `7`),
		"a time with a fraction":   change(`1795788000`, `1795788000.5`),
		"a time with an exponent":  change(`1795788000`, `1795788e3`),
		"a time as a text":         change(`1795788000`, `"1795788000"`),
		"a time before 1970":       change(`1795788000`, `-1`),
		"a time out of range":      change(`1795788300`, `99999999999999999999`),
		"expires before issued":    change(`1795788300`, `1795787999`),
		"no expires":               change(`,"expires":1795788300`, ``),
		"nonce and times":          change(`"issued"`, `"nonce":"a3c1f0e2d4b59687a3c1f0e2d4b59687","issued"`),
		"a short nonce":            strings.Replace(text3, "a3c1", "", 1),
		"a nonce in capitals":      strings.Replace(text3, "a3c1", "A3C1", 1),
		"letters beyond ASCII":     change(`df -h /`, `df é`),
		"a control character":      change(`df -h /`, "df\t"),
		"DEL":                      change(`df -h /`, "df\x7f"),
		"a trailing line end":      text1 + "\n",
		"too long":                 change(`df -h /`, strings.Repeat("a", signed.MaxOrder)),
		"too deep":                 change(`"df -h /"`, strings.Repeat("[", 100)+strings.Repeat("]", 100)),
	} {
		if o, err := signed.ParseOrder(text); err == nil {
			t.Errorf("%s: read as %+v", name, o)
		}
	}
}

func TestEnvelopesThatAreRefused(t *testing.T) {
	quoted, err := json.Marshal(text1)
	if err != nil {
		t.Fatal(err)
	}
	good := fmt.Sprintf(`{"signed":%s,"signature":%q}`, quoted, v1)
	if e, err := signed.ParseEnvelope([]byte(good)); err != nil || e.Signed != text1 {
		t.Fatalf("%+v, %v", e, err)
	}
	for name, payload := range map[string]string{
		"nothing":                "",
		"an additional member":   strings.Replace(good, `{`, `{"v":1,`, 1),
		"a missing member":       fmt.Sprintf(`{"signed":%s}`, quoted),
		"signed twice":           strings.Replace(good, `{`, fmt.Sprintf(`{"signed":%s,`, quoted), 1),
		"another case":           strings.Replace(good, `"signed"`, `"Signed"`, 1),
		"the order as an object": fmt.Sprintf(`{"signed":%s,"signature":%q}`, text1, v1),
		"armour":                 strings.Replace(good, v1, `-----BEGIN SSH SIGNATURE-----`, 1),
		"line ends in base64":    strings.Replace(good, v1[:70], v1[:70]+`\n`, 1),
		"base64 without padding": strings.Replace(good, v1, strings.TrimRight(v1, "="), 1),
		"a long signature":       strings.Replace(good, v1, base64.StdEncoding.EncodeToString(make([]byte, 5000)), 1),
		"not ASCII":              strings.Replace(good, "df -h /", "df é", 1),
		"a half character":       strings.Replace(good, "df -h /", `df \ud800`, 1),
		"too long":               good + strings.Repeat(" ", signed.MaxEnvelope),
		"trailing data":          good + "{}",
	} {
		if e, err := signed.ParseEnvelope([]byte(payload)); err == nil {
			t.Errorf("%s: read as %+v", name, e)
		}
	}
	if again, err := signed.ParseEnvelope(signed.Envelope{Signed: text1, Signature: []byte{1}}.Encode()); err != nil || again.Signed != text1 {
		t.Errorf("the written envelope is read as %+v, %v", again, err)
	}
}

func TestEnveloped(t *testing.T) {
	for payload, want := range map[string]bool{
		`{"signed":"x","signature":"y"}`: true, `{"signed":1}`: true, `{"signature":[]}`: true, ` {"a":1,"signed":2}`: true,
		``: false, `{}`: false, `"signed"`: false, `{"Signed":1}`: false, `{"value":"signed"}`: false, `[{"signed":1}]`: false, `{"signed":`: false,
	} {
		if signed.Enveloped([]byte(payload)) != want {
			t.Errorf("%s: want %v", payload, want)
		}
	}
}

// The request of an order does not depend on when it is signed, because it
// identifies repetitions.
func TestPayloadDoesNotDependOnTheTime(t *testing.T) {
	o, err := signed.ParseOrder(text1)
	if err != nil {
		t.Fatal(err)
	}
	first, err := o.Payload()
	if err != nil || string(first) != `{"cmd":"df -h /","id":"01JE8V3Q0000000000000000AB"}` {
		t.Errorf("%s, %v", first, err)
	}
	o.Nonce = "a3c1f0e2d4b59687a3c1f0e2d4b59687"
	if again, err := o.Payload(); err != nil || string(again) != string(first) {
		t.Errorf("%s, %v", again, err)
	}
}

// An order that was parsed is written in a form that is parsed to the same order.
func FuzzOrder(f *testing.F) {
	for _, text := range []string{text1, text2, text3, `{"v":1}`, `{`, `{"a":{"a":[{"b":1}]}}`} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var o signed.Order
		var err error
		fuzzcost.Check(t, func() { o, err = signed.ParseOrder(text) })
		if err != nil {
			return
		}
		again, err := o.Text()
		if err != nil {
			t.Fatalf("%q can be read, but not written: %v", text, err)
		}
		back, err := signed.ParseOrder(again)
		if err != nil || back.ID != o.ID || back.Do != o.Do || back.Scope != o.Scope || len(back.To) != len(o.To) || !back.Issued.Equal(o.Issued) || back.Nonce != o.Nonce {
			t.Errorf("%q became %q: %+v, %v", text, again, back, err)
		}
		one, err1 := o.Payload()
		two, err2 := back.Payload()
		if err1 != nil || err2 != nil || string(one) != string(two) {
			t.Errorf("%q requests %s, and rewritten %s", text, one, two)
		}
	})
}

func FuzzEnvelope(f *testing.F) {
	quoted, _ := json.Marshal(text1)
	f.Add(fmt.Appendf(nil, `{"signed":%s,"signature":%q}`, quoted, v1))
	f.Add([]byte(`{"signed":"","signature":""}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		var e signed.Envelope
		var err error
		fuzzcost.Check(t, func() { e, err = signed.ParseEnvelope(payload) })
		if err != nil {
			return
		}
		if !signed.Enveloped(payload) {
			t.Errorf("%q is an envelope, but is not recognised", payload)
		}
		back, err := signed.ParseEnvelope(e.Encode())
		if err != nil || back.Signed != e.Signed || string(back.Signature) != string(e.Signature) {
			t.Errorf("%q became %+v, %v", payload, back, err)
		}
	})
}
