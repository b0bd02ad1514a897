package signed

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"lintod/agent/base/plainjson"
)

const (
	// Namespace separates signatures of orders from all other signatures of a key.
	Namespace = "lintod-order-v1"

	// Everybody, alone in Order.To, means every device of the scope.
	Everybody = "*"

	// MaxOrder is the maximum length of an order's text, and MaxEnvelope that of an
	// envelope, in bytes.
	MaxOrder    = 32 << 10
	MaxEnvelope = 64 << 10

	// MaxDevices is how many devices an order may name.
	MaxDevices = 1000

	maxName = 64 // bytes of a scope, a serial and a verb, as in a topic
)

// An Order is an administrator's request to devices. It is valid for a time, or
// once: either Issued and Expires are set, or Nonce is.
type Order struct {
	Scope   string
	To      []string        // serials, at most MaxDevices, or Everybody alone
	Do      string          // the verb, as the last level of its topic
	Args    json.RawMessage // a JSON object: the payload of the unsigned form, without "id"
	ID      string          // 1 to 64 letters, digits, dots, dashes or underscores
	Issued  time.Time       // whole seconds
	Expires time.Time       // whole seconds
	Nonce   string          // issued by a device: 32 hexadecimal digits
}

// orderText has the members of an order in the order in which they are written.
type orderText struct {
	V       int             `json:"v"`
	Scope   string          `json:"scope"`
	To      []string        `json:"to"`
	Do      string          `json:"do"`
	Args    json.RawMessage `json:"args"`
	ID      string          `json:"id"`
	Issued  int64           `json:"issued,omitempty"`
	Expires int64           `json:"expires,omitempty"`
	Nonce   string          `json:"nonce,omitempty"`
}

// Text is the order as it is signed: one line of printable ASCII. It fails for an
// order that ParseOrder would reject.
func (o Order) Text() (string, error) {
	t := orderText{V: 1, Scope: o.Scope, To: o.To, Do: o.Do, Args: o.Args, ID: o.ID, Nonce: o.Nonce}
	if len(t.Args) == 0 {
		t.Args = json.RawMessage("{}")
	}
	if o.Nonce == "" {
		t.Issued, t.Expires = o.Issued.Unix(), o.Expires.Unix()
	}
	raw, err := plainjson.Marshal(t)
	if err != nil {
		return "", fmt.Errorf("write the order: %w", err)
	}
	text := ascii(string(raw))
	if _, err := ParseOrder(text); err != nil {
		return "", fmt.Errorf("invalid order: %w", err)
	}
	return text, nil
}

// Length is how many bytes a serial in Order.To adds to an order.
func Length(serial string) int {
	raw, err := plainjson.Marshal(serial)
	if err != nil {
		return MaxOrder // too long for any order
	}
	return len(ascii(string(raw))) + len(",")
}

// ascii escapes everything except printable ASCII, which in JSON occurs only
// within strings.
func ascii(text string) string {
	var b strings.Builder
	for _, r := range text {
		switch {
		case r >= ' ' && r <= '~':
			b.WriteRune(r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&b, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

// ParseOrder parses the text of an order. It rejects unknown members, duplicate
// names, also within the arguments, and anything but printable ASCII.
func ParseOrder(text string) (Order, error) {
	var o Order
	if err := printableASCII(text); err != nil {
		return o, err
	}
	m, err := members([]byte(text))
	if err != nil {
		return o, err
	}
	if string(m["v"]) != "1" {
		return o, errors.New(`"v" is not 1`)
	}
	if o.Scope, err = name(m, "scope"); err != nil {
		return o, err
	}
	if o.Do, err = name(m, "do"); err != nil {
		return o, err
	}
	if o.To, err = devices(m["to"]); err != nil {
		return o, err
	}
	if o.Args, err = arguments(m["args"]); err != nil {
		return o, err
	}
	if o.ID, err = text1(m, "id"); err != nil || !ValidID(o.ID) {
		return o, errors.New(`"id" is not 1 to 64 letters, digits, dots, dashes or underscores`)
	}
	known := []string{"v", "scope", "to", "do", "args", "id"}
	if _, ok := m["nonce"]; ok {
		known = append(known, "nonce")
		if o.Nonce, err = text1(m, "nonce"); err != nil || !validNonce.MatchString(o.Nonce) {
			return o, errors.New(`"nonce" is not 32 hexadecimal digits`)
		}
	} else {
		known = append(known, "issued", "expires")
		if o.Issued, err = seconds(m, "issued"); err != nil {
			return o, err
		}
		if o.Expires, err = seconds(m, "expires"); err != nil {
			return o, err
		}
		if o.Expires.Before(o.Issued) {
			return o, errors.New(`"expires" is before "issued"`)
		}
	}
	for key := range m {
		if !slices.Contains(known, key) {
			return o, fmt.Errorf("unexpected member %.40q", key)
		}
	}
	return o, nil
}

var (
	validID    = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)
	validNonce = regexp.MustCompile(`^[0-9a-f]{32}$`)
)

// ValidID reports whether id is a valid id of an order.
func ValidID(id string) bool { return validID.MatchString(id) }

func printableASCII(text string) error {
	if len(text) > MaxOrder {
		return fmt.Errorf("the order has %d bytes; want at most %d", len(text), MaxOrder)
	}
	for i := range len(text) {
		if text[i] < ' ' || text[i] > '~' {
			return fmt.Errorf("byte %d of the order is 0x%02x; want printable ASCII, and the rest as \\u escapes", i+1, text[i])
		}
	}
	return nil
}

func text1(m map[string]json.RawMessage, key string) (s string, err error) {
	raw := m[key]
	if len(raw) == 0 || raw[0] != '"' || json.Unmarshal(raw, &s) != nil {
		return "", fmt.Errorf("%q is not a string", key)
	}
	return s, nil
}

func name(m map[string]json.RawMessage, key string) (string, error) {
	s, err := text1(m, key)
	if err == nil && !validName(s) {
		err = fmt.Errorf("%q is not one level of a topic", key)
	}
	return s, err
}

// validName checks the minimum requirements of a level of a topic; the device
// compares the names with its own.
func validName(s string) bool {
	return s != "" && len(s) <= maxName && utf8.ValidString(s) && !strings.ContainsAny(s, "/+#\x00")
}

func devices(raw json.RawMessage) ([]string, error) {
	var to []string
	if len(raw) == 0 || raw[0] != '[' || json.Unmarshal(raw, &to) != nil || len(to) == 0 || len(to) > MaxDevices {
		return nil, fmt.Errorf(`"to" is not a list of 1 to %d serials`, MaxDevices)
	}
	for _, serial := range to {
		if !validName(serial) || serial == Everybody && len(to) > 1 {
			return nil, fmt.Errorf(`"to" has an element that is not a serial; %q must be the only one`, Everybody)
		}
	}
	return to, nil
}

func arguments(raw json.RawMessage) (json.RawMessage, error) {
	if len(raw) == 0 || raw[0] != '{' {
		return nil, errors.New(`"args" is not an object`)
	}
	args, err := members(raw)
	if err != nil {
		return nil, err
	}
	if _, ok := args["id"]; ok {
		return nil, errors.New(`"args" has an "id"; use the order's own`)
	}
	return raw, nil
}

func seconds(m map[string]json.RawMessage, key string) (time.Time, error) {
	const last = 1 << 40 // 34,000 years from now
	n, err := strconv.ParseInt(string(m[key]), 10, 64)
	if err != nil || n <= 0 || n > last {
		return time.Time{}, fmt.Errorf("%q is not a time in whole seconds since 1970", key)
	}
	return time.Unix(n, 0), nil
}

// For reports whether the order names a device.
func (o Order) For(serial string) bool { return slices.Contains(o.To, serial) }

// Broadcast reports whether the order is for every device of its scope.
func (o Order) Broadcast() bool { return len(o.To) == 1 && o.To[0] == Everybody }

// Payload is the equivalent unsigned request: the arguments with the order's id. It
// is the same for orders that differ only in their times.
func (o Order) Payload() ([]byte, error) {
	m, err := members(o.Args)
	if err != nil {
		return nil, err
	}
	if m["id"], err = json.Marshal(o.ID); err != nil {
		return nil, err
	}
	return plainjson.Marshal(m)
}
