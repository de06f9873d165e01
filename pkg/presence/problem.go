package presence

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"example.com/presence/pkg/presence/auth"
	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/internal/compact"
	"example.com/presence/pkg/presence/internal/guard"
	"example.com/presence/pkg/presence/internal/hub"
	"example.com/presence/pkg/presence/room"
)

// Errors of a Server's methods.
var (
	// ErrDraining: the server is shutting down.
	ErrDraining = hub.ErrDraining
	// ErrNotInRoom: the user is not in the room.
	ErrNotInRoom = hub.ErrNotInRoom
	// ErrTooManyRooms: Config.MaxRooms rooms exist, and all are in use.
	ErrTooManyRooms = hub.ErrTooManyRooms
	// ErrTooLarge: the message is larger than Config.MaxMessage.
	ErrTooLarge = errors.New("the message is too large")
	// ErrBusy: for 2 s the clients of the room, or the message log, were slower than the messages.
	ErrBusy = hub.ErrBusy
	// ErrBan: the ban time is not between 1 s and 24 h.
	ErrBan = hub.ErrBan
	// ErrTooManyBans: the limit of the ban table is reached, 100,000 by default.
	ErrTooManyBans = hub.ErrTooManyBans
)

// refusal is an error that contains its answer.
type refusal struct {
	status    int
	detail    string
	retry     time.Duration // of 429 and 503: Retry-After, at least 1 s
	anonymous bool          // of 401: the request has no token
}

func (r *refusal) Error() string { return r.detail }

func refuse(status int, detail string, args ...any) error {
	return &refusal{status: status, detail: fmt.Sprintf(detail, args...)}
}

// problems maps an error to its answer. If detail is empty, the text of the error is the detail.
var problems = []struct {
	err    error
	status int
	detail string
}{
	{auth.ErrNoToken, http.StatusUnauthorized, "no token: send an Authorization: Bearer header or the session cookie"},
	{auth.ErrBadToken, http.StatusUnauthorized, ""},
	{auth.ErrUnavailable, http.StatusServiceUnavailable, "the keys that verify tokens are not available"},
	{room.ErrName, http.StatusBadRequest, ""},
	{room.ErrEventName, http.StatusBadRequest, ""},
	{room.ErrEventReserved, http.StatusBadRequest, ""},
	{ErrBan, http.StatusBadRequest, ""},
	{hub.ErrBanned, http.StatusForbidden, "the user was removed from the room"},
	{ErrNotInRoom, http.StatusNotFound, ""},
	{ErrDraining, http.StatusServiceUnavailable, ""},
	{ErrBusy, http.StatusServiceUnavailable, ""},
	{guard.ErrBusy, http.StatusServiceUnavailable, ""},
	{ErrTooManyRooms, http.StatusServiceUnavailable, ""},
	{ErrTooManyBans, http.StatusServiceUnavailable, ""},
	{backplane.ErrKeysFull, http.StatusServiceUnavailable, "idempotency key limit reached"},
	{backplane.ErrUnavailable, http.StatusServiceUnavailable, "the backplane is unavailable"},
	{backplane.ErrClosed, http.StatusServiceUnavailable, "the backplane is closed"},
}

// problemOf returns the answer for an error.
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
	return &refusal{status: http.StatusInternalServerError, detail: "internal error: the server's log has the cause"}
}

func writeProblem(w http.ResponseWriter, p *refusal) {
	h := w.Header()
	switch p.status {
	case http.StatusUnauthorized:
		challenge := "Bearer"
		if !p.anonymous { // without a token there is no error code (RFC 6750 section 3.1)
			// A description has no quote and no backslash (section 3).
			challenge += ` error="invalid_token", error_description="` + strings.NewReplacer(`"`, "'", `\`, "/").Replace(p.detail) + `"`
		}
		h.Set("WWW-Authenticate", challenge)
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		seconds := max(1, (p.retry+time.Second-1)/time.Second)
		h.Set("Retry-After", strconv.Itoa(int(seconds)))
	}
	h.Set("Content-Type", "application/problem+json")
	h.Set("Cache-Control", "no-store")
	writeWhole(w, p.status, append(compact.Encode(struct {
		Type   string `json:"type"`
		Title  string `json:"title"`
		Status int    `json:"status"`
		Detail string `json:"detail"`
	}{"about:blank", http.StatusText(p.status), p.status, p.detail}), '\n'))
}

// writeWhole answers with a complete body and its Content-Length.
func writeWhole(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	w.Write(body)
}

// writeJSON answers with v. It always returns nil, so that a handler can return it: if the write
// fails, the client has disconnected.
func writeJSON(w http.ResponseWriter, status int, v any) error {
	setJSON(w)
	writeWhole(w, status, append(compact.Encode(v), '\n'))
	return nil
}

func setJSON(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
}
