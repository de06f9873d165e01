package presence

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"unicode/utf8"

	"example.com/presence/pkg/presence/internal/guard"
	"example.com/presence/pkg/presence/internal/input"
	"example.com/presence/pkg/presence/internal/refusal"
)

// maxForm is the maximum size of a request body that is not a message, in bytes.
const maxForm = 16 << 10

// readBody reads a UTF-8 body of at most limit bytes. It rejects a body with a larger
// Content-Length or with a content coding without reading it. The response then closes the HTTP/1
// connection, because net/http would otherwise read the body before it sends the response.
func readBody(w http.ResponseWriter, r *http.Request, limit int) ([]byte, error) {
	var rejected error
	if coding := strings.Join(r.Header.Values("Content-Encoding"), ", "); coding != "" && !strings.EqualFold(coding, "identity") {
		rejected = reject(http.StatusUnsupportedMediaType, "unsupported Content-Encoding %.100q: send the body without a content coding", coding)
	} else if r.ContentLength > int64(limit) {
		rejected = &http.MaxBytesError{Limit: int64(limit)}
	}
	if rejected != nil {
		if r.ProtoMajor == 1 { // over HTTP/2, other requests share the connection
			w.Header().Set("Connection", "close")
		}
		return nil, rejected
	}
	if a, ok := w.(*guard.Answer); ok {
		w = a.Unwrap() // http.MaxBytesReader can close the connection only through net/http's own writer
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, int64(limit)))
	if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
		return nil, err
	} else if err != nil {
		return nil, reject(http.StatusBadRequest, "body incomplete or not received within %v", guard.BodyTime)
	}
	if !utf8.Valid(body) {
		return nil, reject(http.StatusBadRequest, "body not valid UTF-8")
	}
	return body, nil
}

// mediaType returns the media type of the request body without parameters. It returns "" if the
// Content-Type header is missing or malformed, or if the charset is not UTF-8 or US-ASCII.
func mediaType(r *http.Request) string {
	kind, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	charset := strings.ToLower(params["charset"])
	if err != nil || charset != "" && charset != "utf-8" && charset != "us-ascii" {
		return ""
	}
	return kind
}

// readJSON reads a JSON body that is not a message. It does not parse the body.
func readJSON(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if mediaType(r) != "application/json" {
		return nil, reject(http.StatusUnsupportedMediaType, "unsupported media type: send application/json in UTF-8")
	}
	return readBody(w, r, maxForm)
}

// decode parses body into v. The body must contain exactly one JSON value.
func decode(body []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(body))
	if err := d.Decode(v); err != nil {
		return reject(http.StatusBadRequest, "invalid JSON body: %s", strings.TrimPrefix(err.Error(), "json: "))
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return reject(http.StatusBadRequest, "invalid JSON body: more than one JSON value")
	}
	return nil
}

// decodeObject parses a JSON object and rejects a field that is not listed in names. It treats null
// as an empty object.
func decodeObject(body []byte, names ...string) (input.Object, error) {
	var v input.Value
	if err := decode(body, &v); err != nil {
		return nil, err
	}
	o, ok := v.Object()
	if !ok && !v.Null() {
		return nil, reject(http.StatusBadRequest, "invalid JSON body: not an object")
	}
	if name, found := o.Unknown(names...); found {
		known := fmt.Sprintf("(known fields: %s)", strings.Join(names, ", "))
		return nil, &problem{status: http.StatusBadRequest, cause: refusal.BadRequest,
			detail: fmt.Sprintf("unknown JSON field %q %s", name, known), private: "unknown JSON field " + known}
	}
	return o, nil
}

// textOf returns the value of the named field, a string of 1 to max characters. It returns "" if
// the field is absent.
func textOf(o input.Object, name string, max int) (string, error) {
	v, there := o.Get(name)
	if !there {
		return "", nil
	}
	s, ok := v.Text()
	if !ok || s == "" || !input.Chars(s, max) {
		return "", reject(http.StatusBadRequest, "invalid JSON field %q: must be a string of 1 to %d characters", name, max)
	}
	// encoding/json decodes an unpaired surrogate as U+FFFD, so two different ids could become
	// equal.
	if !input.Exact(s) {
		return "", reject(http.StatusBadRequest, "invalid JSON field %q: contains an unpaired surrogate or U+FFFD", name)
	}
	return s, nil
}
