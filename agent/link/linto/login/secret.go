package login

import "log/slog"

// Secret is a password or token. Whatever prints it gets asterisks; only JSON,
// in which it is sent and stored, and a conversion to string have the value.
type Secret string

const hidden = "***"

// String keeps the value out of fmt.
func (Secret) String() string { return hidden }

// GoString keeps the value out of %#v.
func (Secret) GoString() string { return hidden }

// LogValue keeps the value out of every slog handler.
func (Secret) LogValue() slog.Value { return slog.StringValue(hidden) }
