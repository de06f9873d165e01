package presence

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"example.com/presence/pkg/presence/auth"
	"example.com/presence/pkg/presence/internal/hub"
	"example.com/presence/pkg/presence/internal/input"
	"example.com/presence/pkg/presence/room"
)

// getSession answers with the user of the request's token:
//
//	{"user":{"id":"alice","name":"Alice","admin":false,"expires":"2026-11-26T10:00:00Z"},"guests":true}
//
// user is null without a token, and if the only token is an invalid cookie. A 401 would be no
// alternative: a browser writes each 401 of a page to its console, and a page must be able to ask.
// expires is left out if the token never expires. guests reports whether POST /login exists.
func (s *Server) getSession(w http.ResponseWriter, r *http.Request) error {
	type named struct {
		ID      string    `json:"id"`
		Name    string    `json:"name"`
		Admin   bool      `json:"admin"`
		Expires time.Time `json:"expires,omitzero"`
	}
	var answer struct {
		User   *named `json:"user"`
		Guests bool   `json:"guests"`
	}
	if err := s.origins.check(r); err != nil {
		return err
	}
	answer.Guests = s.config.Guest != nil
	switch user, err := s.authenticate(r); {
	case err == nil:
		answer.User = &named{user.ID, user.Name, user.Admin, user.Expires.UTC().Truncate(time.Millisecond)}
		if answer.User.Expires.Year() > 9999 { // RFC 3339 cannot express it
			answer.User.Expires = time.Time{}
		}
	case errors.Is(err, auth.ErrNoToken):
	case errors.Is(err, auth.ErrBadToken) && s.cookieAlone(r):
	default:
		return err
	}
	return writeJSON(w, http.StatusOK, answer)
}

// cookieAlone reports whether the invalid credential is the cookie and the request has no other. A
// token in the query does not count, because the cookie takes precedence over it.
func (s *Server) cookieAlone(r *http.Request) bool {
	if _, err := s.authenticate(only(r, "Cookie", r.Header["Cookie"]...)); !errors.Is(err, auth.ErrBadToken) {
		return false
	}
	rest := r.Clone(r.Context())
	rest.Header.Del("Cookie")
	rest.URL.RawQuery = ""
	_, err := s.authenticate(rest)
	return errors.Is(err, auth.ErrNoToken)
}

// postSession sets the cookie to a valid token, and renews the streams that the user opened with
// the previous one.
func (s *Server) postSession(w http.ResponseWriter, r *http.Request) error {
	token, err := s.readForm(w, r, "token")
	if err != nil {
		return err
	}
	if strings.Trim(token, tokenCharacters) != "" {
		return fmt.Errorf("%w: it has characters that are not allowed in a token", auth.ErrBadToken)
	}
	user, err := s.authenticate(only(r, "Authorization", "Bearer "+token))
	if err != nil {
		return err
	}
	if err := s.setCookie(w, r, token, user.Expires); err != nil {
		return err
	}
	// A sign-out with the new cookie must also end the streams of the old one, which no client has
	// anymore.
	from, to := "", ""
	if old, err := r.Cookie(auth.CookieName); err == nil {
		if to = s.session(r, token); to != "" {
			from = s.session(r, old.Value)
		}
	}
	lease := hub.Lease{SID: user.SID, Session: to, Expires: user.Expires}
	if err := s.hub.Renew(r.Context(), room.UserID(user.ID), room.Patterns(user.Join), lease, from); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// session returns the User.Session of a cookie with that value, empty if it is not a valid token.
func (s *Server) session(r *http.Request, token string) string {
	user, err := s.config.Authenticator.Authenticate(only(r, "Cookie", auth.CookieName+"="+token))
	if err != nil {
		return ""
	}
	return user.Session
}

// only returns a copy of the request with only that header and without a query.
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
	if user.Session != "" { // else the Authenticator does not identify sessions
		if err := s.hub.SignOut(r.Context(), room.UserID(user.ID), user.Session); err != nil {
			return err
		}
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// postLogin signs in a new guest with the name in the body.
func (s *Server) postLogin(w http.ResponseWriter, r *http.Request) error {
	name, err := s.readForm(w, r, "name")
	if err != nil {
		return err
	}
	name = strings.TrimSpace(name)
	if name == "" || !input.PlainBytes(name, input.MaxUserName) {
		return refuse(http.StatusBadRequest, "name must be 1 to %d bytes without control characters", input.MaxUserName)
	}
	token, guest, err := s.config.Guest(name)
	if err != nil {
		return err
	}
	if err := s.setCookie(w, r, token, guest.Expires); err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, map[string]string{"id": guest.ID, "name": guest.Name})
}

// readForm reads a JSON body from a page that may use the cookie. The body is an object with that
// one member, a string.
func (s *Server) readForm(w http.ResponseWriter, r *http.Request, member string) (string, error) {
	if err := s.origins.check(r); err != nil {
		return "", err
	}
	body, err := readJSON(w, r)
	if err != nil {
		return "", err
	}
	form, err := decodeObject(body, member)
	if err != nil {
		return "", err
	}
	if _, there := form.Get(member); !there {
		return "", refuse(http.StatusBadRequest, "the body has no %s", member)
	}
	return textOf(form, member, maxForm)
}

// tokenCharacters are the characters of a bearer token (RFC 6750 section 2.1). A cookie changes
// none of them.
const tokenCharacters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~+/="
