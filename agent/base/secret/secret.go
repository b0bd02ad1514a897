// Package secret is text that must not appear in logs, errors or
// status.
//
// What must not live here: the storage of secrets.
package secret

import "log/slog"

// Text is a password, token or key. Printing it yields Hidden; only JSON, in which
// it is sent and stored, and a conversion to string yield the value.
type Text string

// Hidden is printed instead of the value.
const Hidden = "***"

// String hides the value from fmt.
func (Text) String() string { return Hidden }

// GoString hides the value from %#v.
func (Text) GoString() string { return Hidden }

// LogValue hides the value from every slog handler.
func (Text) LogValue() slog.Value { return slog.StringValue(Hidden) }
