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
	"example.com/presence/pkg/presence/internal/input"
	"example.com/presence/pkg/presence/internal/redact"
	"example.com/presence/pkg/presence/internal/refusal"
	"example.com/presence/pkg/presence/internal/stream"
	"example.com/presence/pkg/presence/room"
)

// The methods of a Server return errors that wrap these errors.
var (
	// ErrDraining means that the server is shutting down.
	ErrDraining = hub.ErrDraining
	// ErrIncomplete means that a result may lack users on other nodes: a node has not answered
	// within 1 s, or this node has no contact with the backplane. The result is returned all the
	// same.
	ErrIncomplete = hub.ErrIncomplete
	// ErrNotInRoom means that the user is not in the room.
	ErrNotInRoom = hub.ErrNotInRoom
	// ErrTooManyRooms means that Config.MaxRooms rooms exist and all of them are in use.
	ErrTooManyRooms = hub.ErrTooManyRooms
	// ErrTooLarge means that the message is larger than Config.MaxMessage.
	ErrTooLarge = errors.New("message too large")
	// ErrBusy means that the clients of the room, or the message log, could not keep up with the
	// messages for 2 s.
	ErrBusy = hub.ErrBusy
	// ErrOverloaded means that the limit of all unsent events is reached, and that the clients of
	// the room have not taken more than its share: see Config.MaxUnsentTotal.
	ErrOverloaded = hub.ErrOverloaded
	// ErrBan means that the ban time is not between 1 s and 24 h.
	ErrBan = hub.ErrBan
	// ErrTooManyBans means that the limit of the ban table is reached, 100,000 by default. A ban
	// that exists can still be replaced.
	ErrTooManyBans = hub.ErrTooManyBans
	// ErrNotBanned means that the user is not banned from the room.
	ErrNotBanned = hub.ErrNotBanned
	// ErrUserID means that a text cannot be the id of a user.
	ErrUserID = fmt.Errorf("invalid user ID (1 to %d bytes of UTF-8, as in the sub of a token)", input.MaxUserID)
	// ErrMessageID means that a text cannot be the id of a message.
	ErrMessageID = errors.New("invalid message ID (EPOCH-SEQ, as in the id of a message: ten hexadecimal digits, a hyphen and a number)")
)

// errUnread means that the pages that clients have not read yet are at their limit.
var errUnread = errors.New("limit of unread pages reached")

// problem is an error with the fields of its HTTP response.
type problem struct {
	status    int
	detail    string
	cause     refusal.Cause // empty: no refusal, such as the response of readyz
	reason    string        // if the authentication failed: one of auth.Reasons
	private   string        // detail for the log, if it differs; values from clients are redacted and cut
	retry     time.Duration // Retry-After of 429 and 503, at least 1 s
	until     time.Time     // if the user is banned: the end of the ban, in UTC
	anonymous bool          // for 401: the request has no token
}

func (p *problem) Error() string { return p.detail }

// maxPrivate is the maximum length of problem.private in the log, in bytes.
const maxPrivate = 1024

// logged returns the detail in the form in which it may be logged.
func (p *problem) logged() string {
	if p.private != "" {
		return redact.Cut(p.private, maxPrivate)
	}
	return redact.Text(p.detail)
}

// causes maps the status of a problem to its cause, for statuses with only one cause.
var causes = map[int]refusal.Cause{
	http.StatusBadRequest:            refusal.BadRequest,
	http.StatusUnauthorized:          refusal.Token,
	http.StatusNotFound:              refusal.NotFound,
	http.StatusMethodNotAllowed:      refusal.Method,
	http.StatusConflict:              refusal.Conflict,
	http.StatusRequestEntityTooLarge: refusal.TooLarge,
	http.StatusUnsupportedMediaType:  refusal.MediaType,
	http.StatusTooManyRequests:       refusal.Rate,
}

// reject returns a problem with the given status and detail. The status must be in causes.
func reject(status int, detail string, args ...any) error {
	return &problem{status: status, cause: causes[status], detail: fmt.Sprintf(detail, args...)}
}

// forbid returns a problem with the status 403.
func forbid(cause refusal.Cause, detail string, args ...any) *problem {
	return &problem{status: http.StatusForbidden, cause: cause, detail: fmt.Sprintf(detail, args...)}
}

// problems maps errors to HTTP responses. If detail is empty, the text of the error is the detail.
var problems = []struct {
	err    error
	status int
	cause  refusal.Cause
	detail string
}{
	{auth.ErrNoToken, http.StatusUnauthorized, refusal.Anonymous, "no token: send an Authorization: Bearer header or the session cookie"},
	{auth.ErrBadToken, http.StatusUnauthorized, refusal.Token, ""},
	{auth.ErrUnavailable, http.StatusServiceUnavailable, refusal.KeysUnavailable, "token verification keys unavailable"},
	{room.ErrName, http.StatusBadRequest, refusal.BadRequest, ""},
	{room.ErrEventName, http.StatusBadRequest, refusal.BadRequest, ""},
	{room.ErrEventReserved, http.StatusBadRequest, refusal.BadRequest, ""},
	{ErrBan, http.StatusBadRequest, refusal.BadRequest, ""},
	{ErrUserID, http.StatusBadRequest, refusal.BadRequest, ""},
	{ErrMessageID, http.StatusBadRequest, refusal.BadRequest, ""},
	{ErrNotInRoom, http.StatusNotFound, refusal.NotFound, ""},
	{ErrNotBanned, http.StatusNotFound, refusal.NotFound, ""},
	{ErrDraining, http.StatusServiceUnavailable, refusal.Draining, ""},
	{ErrBusy, http.StatusServiceUnavailable, refusal.RoomBusy, ""},
	{guard.ErrBusy, http.StatusServiceUnavailable, refusal.Answers, ""},
	{errUnread, http.StatusServiceUnavailable, refusal.Answers, ""},
	{hub.ErrHistoryReads, http.StatusServiceUnavailable, refusal.Answers, ""},
	{ErrTooManyRooms, http.StatusServiceUnavailable, refusal.Rooms, ""},
	{ErrOverloaded, http.StatusServiceUnavailable, refusal.RoomBacklog, ""},
	{hub.ErrSnapshots, http.StatusServiceUnavailable, refusal.Unsent, ""},
	{hub.ErrReplays, http.StatusServiceUnavailable, refusal.Unsent, ""},
	{hub.ErrUserRooms, http.StatusServiceUnavailable, refusal.UserRooms, ""},
	{hub.ErrFull, http.StatusServiceUnavailable, refusal.Connections, ""},
	{hub.ErrUserFull, http.StatusServiceUnavailable, refusal.UserConnections, ""},
	{stream.ErrFull, http.StatusServiceUnavailable, refusal.OpenFiles, ""},
	{ErrTooManyBans, http.StatusServiceUnavailable, refusal.Bans, ""},
	{backplane.ErrKeysFull, http.StatusServiceUnavailable, refusal.IdempotencyKeys, "idempotency key limit reached"},
	{backplane.ErrUnavailable, http.StatusServiceUnavailable, refusal.Backplane, "backplane unavailable"},
	{backplane.ErrClosed, http.StatusServiceUnavailable, refusal.Draining, "backplane closed"},
}

// problemOf returns the problem for err. If problems has no entry for err, the status is 500.
func problemOf(err error) *problem {
	if p := new(problem); errors.As(err, &p) {
		return p
	}
	if limited := new(hub.RateError); errors.As(err, &limited) {
		return &problem{status: http.StatusTooManyRequests, cause: refusal.Cost, detail: err.Error(), retry: limited.Wait}
	}
	if banned := new(hub.BannedError); errors.As(err, &banned) {
		return &problem{status: http.StatusForbidden, cause: refusal.Banned, private: banned.Error(), until: banned.End(),
			detail: fmt.Sprintf("you are banned from room %q for another %s", banned.Room, rounded(time.Until(banned.Until)))}
	}
	if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
		return &problem{status: http.StatusRequestEntityTooLarge, cause: refusal.TooLarge, detail: fmt.Sprintf("body too large (maximum %d bytes)", tooLarge.Limit)}
	}
	for _, p := range problems {
		if errors.Is(err, p.err) {
			found := &problem{status: p.status, cause: p.cause, detail: cmp.Or(p.detail, err.Error()), anonymous: p.err == auth.ErrNoToken}
			switch p.cause {
			case refusal.Anonymous, refusal.Token, refusal.KeysUnavailable:
				found.reason = auth.FailureReason(err)
				if detail := auth.LogDetail(err); detail != err.Error() {
					found.private = detail
				}
			}
			return found
		}
	}
	return &problem{status: http.StatusInternalServerError, cause: refusal.Internal, detail: "internal error: see the server log"}
}

// rounded returns the text of a duration, rounded up: in seconds below 2 min, in minutes below 2 h,
// and else in hours. It is at least 1 s.
func rounded(d time.Duration) string {
	up := func(unit time.Duration) int { return int((max(1, d) + unit - 1) / unit) }
	switch {
	case up(time.Second) < 120:
		return fmt.Sprintf("%d s", up(time.Second))
	case up(time.Minute) < 120:
		return fmt.Sprintf("%d min", up(time.Minute))
	}
	return fmt.Sprintf("%d h", up(time.Hour))
}

func writeProblem(w http.ResponseWriter, p *problem) {
	h := w.Header()
	switch p.status {
	case http.StatusUnauthorized:
		challenge := "Bearer"
		if !p.anonymous { // no error code without a token (RFC 6750 section 3.1)
			// error_description must not contain a quote or a backslash (section 3).
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
		Type   string    `json:"type"`
		Title  string    `json:"title"`
		Status int       `json:"status"`
		Detail string    `json:"detail"`
		Until  time.Time `json:"until,omitzero"` // an extension member (RFC 9457 section 3.2)
	}{"about:blank", http.StatusText(p.status), p.status, p.detail, p.until}), '\n'))
}

// writeWhole writes a response with the given status, a Content-Length and the complete body.
func writeWhole(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	w.Write(body)
}

// writeJSON writes a response with the given status and v as JSON. It always returns nil, so that a
// handler can return its result: a write fails only if the client has disconnected.
func writeJSON(w http.ResponseWriter, status int, v any) error {
	setJSON(w)
	writeWhole(w, status, append(compact.Encode(v), '\n'))
	return nil
}

func setJSON(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
}
