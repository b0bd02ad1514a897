// Package plainjson writes JSON without the escapes for HTML.
//
// What must not live here: the contents.
package plainjson

import (
	"bytes"
	"encoding/json"
)

// Marshal is json.Marshal without escaping <, > and &. The error is that of
// encoding/json.
func Marshal(v any) ([]byte, error) {
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(text.Bytes(), []byte("\n")), nil
}
