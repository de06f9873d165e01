package presence

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"strings"
	"unicode/utf8"

	"example.com/presence/pkg/presence/internal/guard"
	"example.com/presence/pkg/presence/internal/input"
)

// maxForm is the largest body of a request that is no message, in bytes.
const maxForm = 16 << 10

// readBody reads a body of up to limit bytes of UTF-8. One that the header
// announces as larger, or in a content coding, is refused before it is read: the
// answer then ends an HTTP/1 connection, as net/http would otherwise read the
// body before it sends the answer.
func readBody(w http.ResponseWriter, r *http.Request, limit int) ([]byte, error) {
	var refused error
	if coding := strings.Join(r.Header.Values("Content-Encoding"), ", "); coding != "" && !strings.EqualFold(coding, "identity") {
		refused = refuse(http.StatusUnsupportedMediaType, "Content-Encoding %.100q is not supported: send the body without one", coding)
	} else if r.ContentLength > int64(limit) {
		refused = &http.MaxBytesError{Limit: int64(limit)}
	}
	if refused != nil {
		if r.ProtoMajor == 1 { // over HTTP/2 it would end the other requests' connection
			w.Header().Set("Connection", "close")
		}
		return nil, refused
	}
	if a, ok := w.(*guard.Answer); ok {
		w = a.Unwrap() // has a method of net/http's own, by which it closes the connection
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, int64(limit)))
	if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
		return nil, err
	} else if err != nil {
		return nil, refuse(http.StatusBadRequest, "the body did not arrive whole, within %v", guard.BodyTime)
	}
	if !utf8.Valid(body) {
		return nil, refuse(http.StatusBadRequest, "the body is not UTF-8")
	}
	return body, nil
}

// mediaType is the type of the request's body, without its parameters; empty
// if it is none, or in another encoding than UTF-8.
func mediaType(r *http.Request) string {
	kind, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	charset := strings.ToLower(params["charset"])
	if err != nil || charset != "" && charset != "utf-8" && charset != "us-ascii" {
		return ""
	}
	return kind
}

// readJSON reads a body of JSON that is no message.
func readJSON(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if mediaType(r) != "application/json" {
		return nil, refuse(http.StatusUnsupportedMediaType, "the body is application/json, in UTF-8")
	}
	return readBody(w, r, maxForm)
}

// decode reads one JSON value into v.
func decode(body []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(body))
	if err := d.Decode(v); err != nil {
		return refuse(http.StatusBadRequest, "the body is not the JSON that is expected: %s", strings.TrimPrefix(err.Error(), "json: "))
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return refuse(http.StatusBadRequest, "the body has more than one JSON value")
	}
	return nil
}

// decodeObject reads an object that has members of these names, and no others. An object of null
// has none.
func decodeObject(body []byte, names ...string) (input.Object, error) {
	var v input.Value
	if err := decode(body, &v); err != nil {
		return nil, err
	}
	o, ok := v.Object()
	if !ok && !v.Null() {
		return nil, refuse(http.StatusBadRequest, "the body is not the JSON that is expected: it is not an object")
	}
	if name, found := o.Unknown(names...); found {
		return nil, refuse(http.StatusBadRequest, "the body has the unknown member %q; known are %s", name, strings.Join(names, ", "))
	}
	return o, nil
}

// textOf returns the member of that name, a string of 1 to max characters; empty if there is none.
func textOf(o input.Object, name string, max int) (string, error) {
	v, there := o.Get(name)
	if !there {
		return "", nil
	}
	s, ok := v.Text()
	if !ok || s == "" || !input.Chars(s, max) {
		return "", refuse(http.StatusBadRequest, "%s is a string of 1 to %d characters", name, max)
	}
	// U+FFFD stands for half of a surrogate pair, and so would make two ids one.
	if !input.Exact(s) {
		return "", refuse(http.StatusBadRequest, "%s has half of a surrogate pair, or U+FFFD, which stands for it", name)
	}
	return s, nil
}
