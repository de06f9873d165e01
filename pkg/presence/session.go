package presence

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"example.com/presence/pkg/presence/auth"
	"example.com/presence/pkg/presence/room"
)

// visit is a request about a room by a user that has the right to it.
type visit struct {
	user  User
	room  room.Name
	query url.Values
}

// visitor authenticates and authorizes a request about a room. Names are the
// query's parameters beside room.
func (s *Server) visitor(r *http.Request, rights func(User) auth.Patterns, names ...string) (visit, error) {
	user, err := s.who(r)
	if err != nil {
		return visit{}, err
	}
	query, err := parseQuery(r, append(names, "room")...)
	if err != nil {
		return visit{}, err
	}
	name, err := roomOf(query)
	if err != nil {
		return visit{}, err
	}
	if !rights(user).Match(string(name)) {
		return visit{}, refuse(http.StatusForbidden, "the token does not allow this in room %q", name)
	}
	if until := s.memory.banned(name, room.UserID(user.ID), time.Now()); !until.IsZero() {
		return visit{}, refuse(http.StatusForbidden, "the user was removed from room %q until %s", name, until.UTC().Format(time.RFC3339))
	}
	return visit{user, name, query}, nil
}

// admin returns the query of a request that comes from an admin. Names are its
// parameters.
func (s *Server) admin(r *http.Request, names ...string) (url.Values, error) {
	user, err := s.who(r)
	if err != nil {
		return nil, err
	}
	if !user.Admin {
		return nil, refuse(http.StatusForbidden, "the token is not an admin's")
	}
	return parseQuery(r, names...)
}

func mayJoin(u User) auth.Patterns { return u.Join }
func maySend(u User) auth.Patterns { return u.Send }

// who says who asks. A cookie goes along with whatever a browser is made to
// ask, so a request that has one for its credential must come from a page that may use it: opening
// the stream changes who is here, too.
func (s *Server) who(r *http.Request) (User, error) {
	user, err := s.config.Authenticator.Authenticate(r)
	// An auth.JWT returns checked users. A program that wraps one has a type of its own, and may
	// change the user.
	if _, checked := s.config.Authenticator.(*auth.JWT); err == nil && !checked {
		user, err = user.Checked()
	}
	switch {
	case errors.Is(err, auth.ErrNoToken), errors.Is(err, auth.ErrBadToken), errors.Is(err, auth.ErrUnavailable):
		return User{}, err
	case err != nil:
		s.warn.Warn(r.Context(), "authenticator failed", "err", err)
		return User{}, refuse(http.StatusUnauthorized, "the request could not be authenticated")
	}
	if user.Session != "" {
		err = s.origins.check(r)
	}
	return user, err
}

// getSession says whom the request's token names:
//
//	{"user":{"id":"alice","name":"Alice","admin":false,"expires":"2026-11-26T10:00:00Z"},"guests":true}
//
// user is null if there is no token, or only a cookie that is no longer good: a
// browser writes every 401 that a page is answered with to its console, and a
// page must be able to ask. expires is left out if the token never ends; guests
// says whether there is POST /login.
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
	switch user, err := s.who(r); {
	case err == nil:
		answer.User = &named{user.ID, user.Name, user.Admin, user.Expires.UTC().Truncate(time.Millisecond)}
		if answer.User.Expires.Year() > 9999 { // which RFC 3339 cannot say
			answer.User.Expires = time.Time{}
		}
	case errors.Is(err, auth.ErrNoToken):
	case errors.Is(err, auth.ErrBadToken) && s.cookieAlone(r):
	default:
		return err
	}
	return writeJSON(w, http.StatusOK, answer)
}

// cookieAlone reports whether what is bad of the request's credentials is its
// cookie, and beside it there is no other, of a query aside, which comes after it.
func (s *Server) cookieAlone(r *http.Request) bool {
	if _, err := s.who(only(r, "Cookie", r.Header["Cookie"]...)); !errors.Is(err, auth.ErrBadToken) {
		return false
	}
	rest := r.Clone(r.Context())
	rest.Header.Del("Cookie")
	rest.URL.RawQuery = ""
	_, err := s.who(rest)
	return errors.Is(err, auth.ErrNoToken)
}

// postSession puts a good token into the cookie, and has the streams go on that
// the user opened with its last one.
func (s *Server) postSession(w http.ResponseWriter, r *http.Request) error {
	token, err := s.readForm(w, r, "token")
	if err != nil {
		return err
	}
	if strings.Trim(token, tokenCharacters) != "" {
		return fmt.Errorf("%w: it has characters that none has", auth.ErrBadToken)
	}
	user, err := s.who(only(r, "Authorization", "Bearer "+token))
	if err != nil {
		return err
	}
	if err := s.setCookie(w, r, token, user.Expires); err != nil {
		return err
	}
	// Signing out with the new cookie is to end what was opened with the old
	// one, too, which nobody has any more.
	from, to := "", ""
	if old, err := r.Cookie(auth.CookieName); err == nil {
		if to = s.session(r, token); to != "" {
			from = s.session(r, old.Value)
		}
	}
	s.conns.renew(user, from, to)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// session is the User.Session of a cookie of that value; empty if that is no
// good token.
func (s *Server) session(r *http.Request, token string) string {
	user, err := s.config.Authenticator.Authenticate(only(r, "Cookie", auth.CookieName+"="+token))
	if err != nil {
		return ""
	}
	return user.Session
}

// only returns the request with that header alone, and without a query.
func only(r *http.Request, header string, values ...string) *http.Request {
	r = r.Clone(r.Context())
	r.Header = http.Header{header: values}
	r.URL.RawQuery = ""
	return r
}

// deleteSession clears the cookie and ends the streams that were opened with
// it.
func (s *Server) deleteSession(w http.ResponseWriter, r *http.Request) error {
	if err := s.origins.check(r); err != nil {
		return err
	}
	cookie := r.Clone(r.Context())
	cookie.Header.Del("Authorization")
	cookie.URL.RawQuery = ""
	user, err := s.who(cookie)
	if errors.Is(err, auth.ErrUnavailable) {
		return err // whose streams are to end cannot be said; it keeps the cookie, to try again
	}
	s.clearCookie(w, r)
	if err != nil {
		return err
	}
	if user.Session != "" { // else the Authenticator does not say what belongs to a cookie
		s.conns.signOut(room.UserID(user.ID), user.Session)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// postLogin makes a guest of anyone who says a name.
func (s *Server) postLogin(w http.ResponseWriter, r *http.Request) error {
	name, err := s.readForm(w, r, "name")
	if err != nil {
		return err
	}
	name = strings.TrimSpace(name)
	if len(name) < 1 || len(name) > 128 || !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl) {
		return refuse(http.StatusBadRequest, "a name is 1 to 128 bytes without control characters")
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

// readForm reads the JSON body of a page that may use the cookie, an object
// with that one member, a string.
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
	if form[member] == nil {
		return "", refuse(http.StatusBadRequest, "the body has no %s", member)
	}
	return form.text(member, maxForm)
}

// tokenCharacters are those of a bearer token (RFC 6750 section 2.1). None is
// changed by a cookie.
const tokenCharacters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~+/="

const (
	// maxForm is the largest body of what is no message, in bytes.
	maxForm = 16 << 10
	// maxCookie is the longest token that goes into a cookie: browsers take
	// 4,096 bytes with name and attributes (RFC 6265 section 6.1).
	maxCookie = 3800
)

func (s *Server) setCookie(w http.ResponseWriter, r *http.Request, token string, expires time.Time) error {
	if len(token) > maxCookie {
		return refuse(http.StatusRequestEntityTooLarge, "the token is larger than the %d bytes that fit a cookie", maxCookie)
	}
	cookie := s.cookie(r)
	cookie.Value = token
	if !expires.IsZero() {
		cookie.MaxAge = max(1, int(time.Until(expires).Seconds()))
	}
	http.SetCookie(w, cookie)
	clearUnpartitioned(w, cookie)
	return nil
}

func (s *Server) clearCookie(w http.ResponseWriter, r *http.Request) {
	cookie := s.cookie(r)
	cookie.MaxAge = -1
	http.SetCookie(w, cookie)
	clearUnpartitioned(w, cookie)
}

// clearUnpartitioned clears the cookie beside a partitioned one that has the same
// name and is none: a browser keeps both, and sends the older one first. Servers
// of before the attribute have set it.
func clearUnpartitioned(w http.ResponseWriter, cookie *http.Cookie) {
	if !cookie.Partitioned {
		return
	}
	old := *cookie
	old.Value, old.MaxAge, old.Partitioned = "", -1, false
	http.SetCookie(w, &old)
}

func (s *Server) cookie(r *http.Request) *http.Cookie {
	c := s.config.Cookie
	return &http.Cookie{
		Name: auth.CookieName, Path: mountPoint(r), Domain: c.Domain,
		HttpOnly: true, Secure: !c.Insecure, SameSite: c.SameSite,
		// Else Chromium drops it in another site's page. With the attribute there
		// is a cookie for each site whose page sets it (CHIPS).
		Partitioned: c.SameSite == http.SameSiteNoneMode,
	}
}

// mountPoint is the path below which this server answers, as the browser sees
// it: what comes before the path that was routed here.
func mountPoint(r *http.Request) string {
	path := r.URL.Path
	if u, err := url.ParseRequestURI(r.RequestURI); err == nil {
		path = u.Path // http.StripPrefix leaves it as it came
	}
	mount, found := strings.CutSuffix(path, routePath(r))
	if !found || mount == "" {
		return "/"
	}
	return mount
}
