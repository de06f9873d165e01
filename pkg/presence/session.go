package presence

import (
	"errors"
	"net/http"
	"strings"
	"time"
	"unicode"

	"example.com/presence/pkg/presence/auth"
	"example.com/presence/pkg/presence/internal/hub"
	"example.com/presence/pkg/presence/internal/input"
	"example.com/presence/pkg/presence/internal/refusal"
	"example.com/presence/pkg/presence/room"
)

// getSession responds with the user of the request's token:
//
//	{"user":{"id":"alice","name":"Alice","admin":false,"expires":"2026-11-26T10:00:00Z"},"guests":true}
//
// user is null if the request has no token, or if its only token is an invalid cookie. The status
// is not 401 in these cases, because browsers log each 401 to the console, and a page must be able
// to ask whether its user is signed in. expires is omitted if the token never expires. guests
// reports whether POST /login exists.
func (s *Server) getSession(w http.ResponseWriter, r *http.Request) error {
	type named struct {
		ID      string    `json:"id"`
		Name    string    `json:"name"`
		Admin   bool      `json:"admin"`
		Expires time.Time `json:"expires,omitzero"`
	}
	var response struct {
		User   *named `json:"user"`
		Guests bool   `json:"guests"`
	}
	if err := s.origins.check(r); err != nil {
		return err
	}
	response.Guests = s.config.Guest != nil
	switch user, err := s.authenticate(r); {
	case err == nil:
		response.User = &named{user.ID, user.Name, user.Admin, user.Expires.UTC().Truncate(time.Millisecond)}
		if response.User.Expires.Year() > 9999 { // RFC 3339 cannot express it
			response.User.Expires = time.Time{}
		}
	case errors.Is(err, auth.ErrNoToken):
	case errors.Is(err, auth.ErrBadToken) && s.onlyCookieInvalid(r):
	default:
		return err
	}
	return writeJSON(w, http.StatusOK, response)
}

// onlyCookieInvalid reports whether the invalid credential is the cookie and the request has no
// other credential. A token in the query does not count, because the cookie takes precedence over
// it.
func (s *Server) onlyCookieInvalid(r *http.Request) bool {
	if _, err := s.identify(only(r, "Cookie", r.Header["Cookie"]...)); !errors.Is(err, auth.ErrBadToken) {
		return false
	}
	rest := r.Clone(r.Context())
	rest.Header.Del("Cookie")
	rest.URL.RawQuery = ""
	_, err := s.identify(rest)
	return errors.Is(err, auth.ErrNoToken)
}

// postSession sets the cookie to a valid token, and renews the streams that the user opened with
// the previous token.
func (s *Server) postSession(w http.ResponseWriter, r *http.Request) error {
	token, err := s.readForm(w, r, "token")
	if err != nil {
		return err
	}
	if strings.Trim(token, tokenCharacters) != "" {
		return &problem{status: http.StatusUnauthorized, cause: refusal.Token, reason: "malformed",
			detail: auth.ErrBadToken.Error() + ": contains characters that are not allowed in a token"}
	}
	user, err := s.authenticate(only(r, "Authorization", "Bearer "+token))
	if err != nil {
		return err
	}
	if err := s.setCookie(w, r, token, user.Expires); err != nil {
		return err
	}
	// A sign-out with the new cookie must also end the streams that were opened with the old
	// cookie, because no client holds the old cookie anymore.
	from, to := "", ""
	if old := r.Header["Cookie"]; len(old) > 0 {
		if to = s.session(r, s.cookieName(r)+"="+token); to != "" {
			from = s.session(r, old...)
		}
	}
	lease := hub.Lease{SID: user.SID, Session: to, Expires: user.Expires}
	if err := s.hub.Renew(r.Context(), room.UserID(user.ID), mayJoin(user), lease, from); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// session returns the User.Session of a request with these Cookie headers. It returns "" if they
// have no valid token.
func (s *Server) session(r *http.Request, cookies ...string) string {
	user, err := s.identify(only(r, "Cookie", cookies...))
	if err != nil {
		return ""
	}
	return user.Session
}

// only returns a copy of the request with this header alone and without a query.
func only(r *http.Request, header string, values ...string) *http.Request {
	r = r.Clone(r.Context())
	r.Header = http.Header{header: values}
	r.URL.RawQuery = ""
	return r
}

// deleteSession clears the cookie and ends the streams that were opened with it.
func (s *Server) deleteSession(w http.ResponseWriter, r *http.Request) error {
	if err := s.origins.check(r); err != nil {
		return err
	}
	cookie := r.Clone(r.Context())
	cookie.Header.Del("Authorization")
	cookie.URL.RawQuery = ""
	user, err := s.authenticate(cookie)
	if errors.Is(err, auth.ErrUnavailable) {
		return err // the user is unknown; the client keeps the cookie and can retry
	}
	s.clearCookie(w, r)
	if err != nil {
		return err
	}
	if user.Session != "" { // empty if the Authenticator does not identify sessions
		if err := s.hub.SignOut(r.Context(), room.UserID(user.ID), user.Session); err != nil {
			return err
		}
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// postLogin creates a guest with the name in the body, and signs it in.
func (s *Server) postLogin(w http.ResponseWriter, r *http.Request) error {
	name, err := s.readForm(w, r, "name")
	if err != nil {
		return err
	}
	name = strings.TrimFunc(name, func(r rune) bool { return unicode.IsSpace(r) || unicode.Is(unicode.Cf, r) })
	hasControl := strings.ContainsFunc(name, unicode.IsControl)
	if name = input.Clean(name); name == "" || hasControl || len(name) > input.MaxUserName {
		return reject(http.StatusBadRequest, "invalid name: must be 1 to %d bytes without control characters", input.MaxUserName)
	}
	token, guest, err := s.config.Guest(name)
	if err != nil {
		return err
	}
	factsOf(r).user = guest.ID
	if err := s.setCookie(w, r, token, guest.Expires); err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, map[string]string{"id": guest.ID, "name": guest.Name})
}

// readForm returns the only field of a JSON object in the body, a string. It rejects a request that
// a page of another origin caused.
func (s *Server) readForm(w http.ResponseWriter, r *http.Request, field string) (string, error) {
	if err := s.origins.check(r); err != nil {
		return "", err
	}
	body, err := readJSON(w, r)
	if err != nil {
		return "", err
	}
	form, err := decodeObject(body, field)
	if err != nil {
		return "", err
	}
	if _, there := form.Get(field); !there {
		return "", reject(http.StatusBadRequest, "missing JSON field %q", field)
	}
	return textOf(form, field, maxForm)
}

// tokenCharacters are the characters of a bearer token (RFC 6750 section 2.1). All of them are
// valid in a cookie, so the cookie contains the token unchanged.
const tokenCharacters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~+/="
