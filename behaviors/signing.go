package behaviors

import "errors"

// ErrUnsigned is wrapped by the refusal of a request that must be signed and is not.
var ErrUnsigned = errors.New("a signature is missing")

type unsignedError struct{ error }

func (e unsignedError) Unwrap() []error { return []error{e.error, ErrUnsigned} }

// MustSign reports whether the owner requires a signature for a verb. word is the link's name of
// it, which the owner may have configured instead, or "".
func (r *Registry) MustSign(verb, word string) bool {
	if r.Signed == nil {
		return false
	}
	power := Safe
	if v, ok := r.Find(verb); ok {
		power = v.Power
	}
	return r.Signed(verb, string(power)) || word != "" && r.Signed(word)
}

// Permit refuses a request that must be signed and is not, and records the refusal in the audit. Do
// and Executor.Submit also refuse such requests; a link calls Permit only if a request has an
// earlier effect.
func (r *Registry) Permit(q Request) error {
	err := r.permit(q.Verb, q.Word, q.Signer)
	if err != nil && r.Refused != nil {
		r.Refused(q, err)
	}
	return err
}

func (r *Registry) permit(verb, word, signer string) error {
	if signer != "" || !r.MustSign(verb, word) {
		return nil
	}
	if word == "" {
		word = verb
	}
	return unsignedError{Fail(Refused, "the owner of this device requires a signature for %s", word)}
}
