// Package secret is text that no log, error or status may show.
//
// What must not live here: where secrets are kept.
package secret

import "log/slog"

// Text is a password, token or key. Whatever prints it gets Hidden; only JSON, in which it is
// sent and stored, and a conversion to string have the value.
type Text string

// Hidden is printed in its place.
const Hidden = "***"

// String keeps the value out of fmt.
func (Text) String() string { return Hidden }

// GoString keeps the value out of %#v.
func (Text) GoString() string { return Hidden }

// LogValue keeps the value out of every slog handler.
func (Text) LogValue() slog.Value { return slog.StringValue(Hidden) }
