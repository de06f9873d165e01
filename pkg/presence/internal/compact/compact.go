// Package compact encodes JSON in the server's wire format: on one line and without HTML escapes,
// which would make the text longer.
package compact

import (
	"bytes"
	"encoding/json"
)

// Marshal returns v as JSON on one line. Any error is from [json.Encoder.Encode].
func Marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

// Encode is like [Marshal], but for types whose encoding cannot fail. It panics on an error.
func Encode(v any) []byte {
	b, err := Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}
