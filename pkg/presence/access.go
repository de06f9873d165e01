package presence

import (
	"errors"
	"net/http"
	"net/url"
	"time"

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
func (s *Server) visitor(r *http.Request, rights func(User) room.Patterns, names ...string) (visit, error) {
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
	if !rights(user).Match(name) {
		return visit{}, refuse(http.StatusForbidden, "the token does not allow this in room %q", name)
	}
	if until := s.hub.BanEnd(name, room.UserID(user.ID)); !until.IsZero() {
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

func mayJoin(u User) room.Patterns { return u.Join }
func maySend(u User) room.Patterns { return u.Send }

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
