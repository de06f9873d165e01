package presence

import (
	"errors"
	"net/http"
	"net/url"
	"time"

	"example.com/presence/pkg/presence/auth"
	"example.com/presence/pkg/presence/room"
)

// access is an authorized request about a room.
type access struct {
	user  User
	room  room.Name
	query url.Values
}

// authorize authenticates a request about a room. It checks that the user has the right to the room
// and is not banned from it. names are the query's parameters, room excluded.
func (s *Server) authorize(r *http.Request, rights func(User) room.Patterns, names ...string) (access, error) {
	user, err := s.authenticate(r)
	if err != nil {
		return access{}, err
	}
	query, err := parseQuery(r, append(names, "room")...)
	if err != nil {
		return access{}, err
	}
	name, err := roomOf(query)
	if err != nil {
		return access{}, err
	}
	if !rights(user).Match(name) {
		return access{}, refuse(http.StatusForbidden, "the token does not allow this in room %q", name)
	}
	if until := s.hub.BanEnd(name, room.UserID(user.ID)); !until.IsZero() {
		return access{}, refuse(http.StatusForbidden, "the user was removed from room %q until %s", name, until.UTC().Format(time.RFC3339))
	}
	return access{user, name, query}, nil
}

// authorizeAdmin returns the query of an admin's request. names are its parameters.
func (s *Server) authorizeAdmin(r *http.Request, names ...string) (url.Values, error) {
	user, err := s.authenticate(r)
	if err != nil {
		return nil, err
	}
	if !user.Admin {
		return nil, refuse(http.StatusForbidden, "the token is not an admin's")
	}
	return parseQuery(r, names...)
}

func mayJoin(u User) room.Patterns { return u.Join }
func maySend(u User) room.Patterns { return u.Send }

// authenticate returns the user of the request's credential. A browser attaches the cookie to every
// request of every page. So if the credential is the cookie, the request must come from an allowed
// origin. This includes GET /events, which changes presence.
func (s *Server) authenticate(r *http.Request) (User, error) {
	user, err := s.config.Authenticator.Authenticate(r)
	// An auth.JWT returns checked users. A program that wraps one has a type of its own and may
	// change the user, so its users are checked here.
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
