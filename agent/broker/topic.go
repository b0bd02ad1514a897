package broker

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// WantLevel says what TopicLevel accepts.
const WantLevel = "one level of a topic: 1 to 64 bytes, without / + #, control characters, or a leading $"

// TopicLevel tells whether s can be one level of a topic: servers split topics
// at the slashes and count, + and # are wildcards, and who
// subscribes to # does not get what begins with $ [MQTT-4.7.2-1].
func TopicLevel(s string) bool {
	return s != "" && len(s) <= 64 && utf8.ValidString(s) && s[0] != '$' &&
		!strings.ContainsAny(s, "/+#") && !strings.ContainsFunc(s, unicode.IsControl)
}
