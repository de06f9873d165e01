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

// maxForm is the maximum body of a request that is not a message, in bytes.
const maxForm = 16 << 10

// readBody reads a body of at most limit bytes of UTF-8. A body with a larger Content-Length, or
// with a content coding, is refused before it is read. That answer closes an HTTP/1 connection,
// because net/http would otherwise read the body before it sends the answer.
func readBody(w http.ResponseWriter, r *http.Request, limit int) ([]byte, error) {
	var refused error
	if coding := strings.Join(r.Header.Values("Content-Encoding"), ", "); coding != "" && !strings.EqualFold(coding, "identity") {
		refused = refuse(http.StatusUnsupportedMediaType, "Content-Encoding %.100q is not supported: send the body without one", coding)
	} else if r.ContentLength > int64(limit) {
		refused = &http.MaxBytesError{Limit: int64(limit)}
	}
	if refused != nil {
		if r.ProtoMajor == 1 { // over HTTP/2 it would close the connection of other requests
			w.Header().Set("Connection", "close")
		}
		return nil, refused
	}
	if a, ok := w.(*guard.Answer); ok {
		w = a.Unwrap() // http.MaxBytesReader needs the writer of net/http to close the connection
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, int64(limit)))
	if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
		return nil, err
	} else if err != nil {
		return nil, refuse(http.StatusBadRequest, "the body is incomplete, or took longer than %v", guard.BodyTime)
	}
	if !utf8.Valid(body) {
		return nil, refuse(http.StatusBadRequest, "the body is not UTF-8")
	}
	return body, nil
}

// mediaType returns the media type of the request's body without parameters. It is empty if the
// header is missing or invalid, or if the charset is not UTF-8.
func mediaType(r *http.Request) string {
	kind, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	charset := strings.ToLower(params["charset"])
	if err != nil || charset != "" && charset != "utf-8" && charset != "us-ascii" {
		return ""
	}
	return kind
}

// readJSON reads a JSON body that is not a message.
func readJSON(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if mediaType(r) != "application/json" {
		return nil, refuse(http.StatusUnsupportedMediaType, "the body must be application/json in UTF-8")
	}
	return readBody(w, r, maxForm)
}

// decode reads one JSON value into v.
func decode(body []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(body))
	if err := d.Decode(v); err != nil {
		return refuse(http.StatusBadRequest, "invalid JSON body: %s", strings.TrimPrefix(err.Error(), "json: "))
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return refuse(http.StatusBadRequest, "the body has more than one JSON value")
	}
	return nil
}

// decodeObject reads an object. All its members must have one of these names. It accepts null as an
// object without members.
func decodeObject(body []byte, names ...string) (input.Object, error) {
	var v input.Value
	if err := decode(body, &v); err != nil {
		return nil, err
	}
	o, ok := v.Object()
	if !ok && !v.Null() {
		return nil, refuse(http.StatusBadRequest, "invalid JSON body: not an object")
	}
	if name, found := o.Unknown(names...); found {
		return nil, refuse(http.StatusBadRequest, "unknown JSON member %q: known members are %s", name, strings.Join(names, ", "))
	}
	return o, nil
}

// textOf returns the member of that name, a string of 1 to max characters. It returns "" if the
// member is absent.
func textOf(o input.Object, name string, max int) (string, error) {
	v, there := o.Get(name)
	if !there {
		return "", nil
	}
	s, ok := v.Text()
	if !ok || s == "" || !input.Chars(s, max) {
		return "", refuse(http.StatusBadRequest, "%s must be a string of 1 to %d characters", name, max)
	}
	// encoding/json decodes an unpaired surrogate as U+FFFD, so two ids could become one.
	if !input.Exact(s) {
		return "", refuse(http.StatusBadRequest, "%s has an unpaired surrogate or U+FFFD", name)
	}
	return s, nil
}
