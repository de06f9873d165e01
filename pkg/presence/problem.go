package presence

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"

	"example.com/presence/pkg/presence/auth"
	"example.com/presence/pkg/presence/internal/guard"
	"example.com/presence/pkg/presence/room"
)

// Errors of a Server's methods. Those that are one method's alone stand beside
// it.
var (
	// ErrDraining: the server is being shut down.
	ErrDraining = errors.New("the server is shutting down")
	// ErrNotInRoom: the user is not in the room.
	ErrNotInRoom = errors.New("the user is not in the room")
	// ErrTooManyRooms: there are as many rooms as Config.MaxRooms allows.
	ErrTooManyRooms = errors.New("there are as many rooms as may be")
	// ErrTooLarge: the message is larger than Config.MaxMessage.
	ErrTooLarge = errors.New("the message is too large")
	// ErrBusy: the room's clients could not be served as fast as messages came
	// in, for 2 s.
	ErrBusy = errors.New("the room is too busy")
	// ErrTooManyBans: 100,000 users are kept out of rooms already.
	ErrTooManyBans = room.ErrBansFull
)

// refusal is an error with an answer of its own.
type refusal struct {
	status    int
	detail    string
	retry     time.Duration // of 429 and 503: when to try again; a second at least
	anonymous bool          // of 401: the request has no credential
}

func (r *refusal) Error() string { return r.detail }

func refuse(status int, detail string, args ...any) error {
	return &refusal{status: status, detail: fmt.Sprintf(detail, args...)}
}

// problems is what the client is told of an error. Where it does not say so
// the error's own text is the detail.
var problems = []struct {
	err    error
	status int
	detail string
}{
	{auth.ErrNoToken, http.StatusUnauthorized, "no token: send it as Authorization: Bearer, or sign in for a cookie"},
	{auth.ErrBadToken, http.StatusUnauthorized, ""},
	{auth.ErrUnavailable, http.StatusServiceUnavailable, "the keys that tokens are checked with cannot be had just now"},
	{room.ErrName, http.StatusBadRequest, ""},
	{room.ErrEventName, http.StatusBadRequest, ""},
	{room.ErrEventReserved, http.StatusBadRequest, ""},
	{ErrBan, http.StatusBadRequest, ""},
	{errBanned, http.StatusForbidden, "the user was removed from the room"},
	{ErrNotInRoom, http.StatusNotFound, ""},
	{ErrDraining, http.StatusServiceUnavailable, ""},
	{ErrBusy, http.StatusServiceUnavailable, ""},
	{guard.ErrBusy, http.StatusServiceUnavailable, ""},
	{ErrTooManyRooms, http.StatusServiceUnavailable, ""},
	{ErrTooManyBans, http.StatusServiceUnavailable, ""},
	{room.ErrRetriesFull, http.StatusServiceUnavailable, ""},
}

// handle is a handler whose error is answered with a problem document
// (RFC 9457). What is not known is the server's fault: it is logged, and not
// told.
func (s *Server) handle(f func(http.ResponseWriter, *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		err := f(w, r)
		if err == nil {
			return
		}
		p := problemOf(err)
		switch {
		case p.status == http.StatusInternalServerError && r.Context().Err() == nil:
			s.log.ErrorContext(r.Context(), "request failed", "method", r.Method, "path", r.URL.Path, "err", err)
		case p.status == http.StatusServiceUnavailable && !errors.Is(err, ErrDraining):
			s.warn.Warn(r.Context(), p.detail, "path", r.URL.Path) // a limit was reached; details are few
		}
		writeProblem(w, p)
	}
}

// problemOf says what the client is told of an error.
func problemOf(err error) *refusal {
	if refused := new(refusal); errors.As(err, &refused) {
		return refused
	}
	if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
		return &refusal{status: http.StatusRequestEntityTooLarge, detail: fmt.Sprintf("the body is larger than %d bytes", tooLarge.Limit)}
	}
	for _, p := range problems {
		if errors.Is(err, p.err) {
			return &refusal{status: p.status, detail: cmp.Or(p.detail, err.Error()), anonymous: p.err == auth.ErrNoToken}
		}
	}
	return &refusal{status: http.StatusInternalServerError, detail: "the server failed to answer; its log says why"}
}

func writeProblem(w http.ResponseWriter, p *refusal) {
	h := w.Header()
	switch p.status {
	case http.StatusUnauthorized:
		challenge := "Bearer"
		if !p.anonymous { // else no error code (RFC 6750 section 3.1)
			// Section 3: no quote and no backslash in a description.
			challenge += ` error="invalid_token", error_description="` + strings.NewReplacer(`"`, "'", `\`, "/").Replace(p.detail) + `"`
		}
		h.Set("WWW-Authenticate", challenge)
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		seconds := max(1, (p.retry+time.Second-1)/time.Second)
		h.Set("Retry-After", strconv.Itoa(int(seconds)))
	}
	h.Set("Content-Type", "application/problem+json")
	h.Set("Cache-Control", "no-store")
	writeWhole(w, p.status, append(encode(struct {
		Type   string `json:"type"`
		Title  string `json:"title"`
		Status int    `json:"status"`
		Detail string `json:"detail"`
	}{"about:blank", http.StatusText(p.status), p.status, p.detail}), '\n'))
}

// writeWhole answers with a body that is there: its length is known.
func writeWhole(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	w.Write(body)
}

// writeJSON answers with v. Its error is nil, for handlers to return: if
// writing fails, the client has gone.
func writeJSON(w http.ResponseWriter, status int, v any) error {
	setJSON(w)
	writeWhole(w, status, append(encode(v), '\n'))
	return nil
}

func setJSON(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
}

func notFound(http.ResponseWriter, *http.Request) error {
	return refuse(http.StatusNotFound, "there is nothing at this path")
}

// methodNotAllowed answers with the methods that the path has (RFC 9110
// section 15.5.6).
func methodNotAllowed(routes chi.Router, w http.ResponseWriter, r *http.Request) error {
	var allow []string
	for _, method := range []string{http.MethodDelete, http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut} {
		if routes.Match(chi.NewRouteContext(), method, routePath(r)) {
			allow = append(allow, method)
		}
	}
	if len(allow) == 0 { // a method that chi does not know, at a path that is none
		return notFound(w, r)
	}
	w.Header().Set("Allow", strings.Join(allow, ", "))
	return refuse(http.StatusMethodNotAllowed, "%s is not a method of this path", r.Method)
}

// routePath is the request's path below the point where the server is mounted.
func routePath(r *http.Request) string {
	if path := chi.RouteContext(r.Context()).RoutePath; path != "" {
		return path
	}
	return r.URL.Path
}
