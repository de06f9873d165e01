package presence

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"

	"example.com/presence/pkg/presence/internal/guard"
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

// object is a JSON object by the exact names of its members; into a struct
// encoding/json would read DATA for data as well.
type object map[string]json.RawMessage

// decodeObject reads an object that has members of these names, and no others.
func decodeObject(body []byte, names ...string) (object, error) {
	var o object
	if err := decode(body, &o); err != nil {
		return nil, err
	}
	for name := range o {
		if !slices.Contains(names, name) {
			return nil, refuse(http.StatusBadRequest, "the body has the unknown member %q; known are %s", name, strings.Join(names, ", "))
		}
	}
	return o, nil
}

// text returns the member of that name, a string of 1 to most characters; empty
// if there is none.
func (o object) text(name string, most int) (s string, err error) {
	raw, there := o[name]
	if !there {
		return "", nil
	}
	// Into a string null would be left alone.
	if string(raw) == "null" || json.Unmarshal(raw, &s) != nil || s == "" || utf8.RuneCountInString(s) > most {
		return "", refuse(http.StatusBadRequest, "%s is a string of 1 to %d characters", name, most)
	}
	// encoding/json puts U+FFFD for half of a surrogate pair, and so would make
	// two ids one.
	if strings.ContainsRune(s, utf8.RuneError) {
		return "", refuse(http.StatusBadRequest, "%s has half of a surrogate pair, or U+FFFD, which stands for it", name)
	}
	return s, nil
}
