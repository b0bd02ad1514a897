// Package verifier decides whether the device obeys a signed order: who may sign, whether
// it is for this device and this verb, whether it is still valid, and whether it was
// taken before. An order that it takes is on the disk before anything is done.
//
// What must not live here: the text of an order (agent/signed), how it arrives (agent/link), and
// what else must allow it (behaviors).
package verifier

import (
	"lintod/agent/base/config"
)

// Config is the [signed] table.
type Config struct {
	// Require lists what must be signed: "all", "privileged", "recording" or verbs.
	Require config.Strings `toml:"require"`
	// AllowedSigners is a file with the keys that may sign, in OpenSSH's form.
	AllowedSigners string `toml:"allowed_signers"`
	// Revoked is a file with keys that may not sign any more.
	Revoked string `toml:"revoked"`
	// MaxAge is the longest that an order may be valid.
	MaxAge config.Duration `toml:"max_age"`
	// Broadcast takes orders for all devices of a scope.
	Broadcast bool `toml:"broadcast"`
}

// Place is where an order has arrived.
type Place struct{ Scope, Serial, Verb string }
