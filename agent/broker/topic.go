package broker

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// WantLevel describes what TopicLevel accepts.
const WantLevel = "one level of a topic: 1 to 64 bytes, without / + #, control characters, or a leading $"

// TopicLevel reports whether s can be one level of a topic: servers split
// topics at slashes, + and # are wildcards, and subscribers of # do not
// receive topics that start with $ [MQTT-4.7.2-1].
func TopicLevel(s string) bool {
	return s != "" && len(s) <= 64 && utf8.ValidString(s) && s[0] != '$' &&
		!strings.ContainsAny(s, "/+#") && !strings.ContainsFunc(s, unicode.IsControl)
}
