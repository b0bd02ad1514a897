package behaviors

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
)

// A request from any link passes Do or Submit, where an unsigned one is rejected and
// audited if it must be signed.
func TestUnsignedRequestIsRejected(t *testing.T) {
	for _, tt := range []struct {
		name    string
		require []string
		q       Request // a safe verb is called "safe", one with power "count"
		local   bool
		refused bool
	}{
		{"nothing must be", nil, Request{Verb: "safe"}, false, false},
		{"the verb must be", []string{"safe"}, Request{Verb: "safe"}, false, true},
		{"its word must be", []string{"volume/set"}, Request{Verb: "safe", Word: "volume/set"}, false, true},
		{"another word must be", []string{"volume"}, Request{Verb: "safe", Word: "volume/set"}, false, false},
		{"its power must be", []string{"privileged"}, Request{Verb: "count"}, false, true},
		{"another power must be", []string{"recording"}, Request{Verb: "count"}, false, false},
		{"it is signed", []string{"safe", "privileged"}, Request{Verb: "count", Signer: "ann"}, false, false},
		{"a safe one is signed", []string{"safe"}, Request{Verb: "safe", Signer: "ann"}, false, false},
		{"a request at the device", []string{"safe"}, Request{Verb: "safe"}, true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			verb, powers := counter(on())
			safe := 0
			o := openOffice(t, t.TempDir(), verb, Verb{Name: "safe", Power: Safe, Do: func(context.Context, Call) (any, error) { safe++; return nil, nil }}).run(t)
			o.Registry.Refused = o.Refuse
			o.Registry.Signed = func(names ...string) bool {
				return slices.ContainsFunc(names, func(name string) bool { return slices.Contains(tt.require, name) })
			}
			var refused bool
			if tt.q.Verb == "safe" {
				_, err := o.Registry.Do(t.Context(), Call{Link: "link", Word: tt.q.Word, Signer: tt.q.Signer, Local: tt.local}, "safe", Arguments{})
				refused = errors.Is(err, ErrUnsigned) && CodeOf(err) == Refused
			} else {
				refused = o.ask(t, tt.q).Code == Refused
			}
			done := safe + int(powers.Load())
			audited := strings.Contains(o.auditFile(t), `"msg":"behaviour refused"`)
			if refused != tt.refused || refused == (done == 1) || audited != tt.refused {
				t.Errorf("rejected %v, carried out %d times, rejection audited %v:\n%s", refused, done, audited, o.auditFile(t))
			}
			if twice := "refused: refused:"; strings.Contains(o.auditFile(t), twice) {
				t.Errorf("the code is in the audit twice:\n%s", o.auditFile(t))
			}
		})
	}
}
