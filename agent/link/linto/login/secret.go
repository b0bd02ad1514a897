package login

import "lintod/agent/base/secret"

// Secret is a password or token.
type Secret = secret.Text
