package presence

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"

	"example.com/presence/pkg/presence/auth"
	"example.com/presence/pkg/presence/internal/hub"
	"example.com/presence/pkg/presence/internal/input"
	"example.com/presence/pkg/presence/internal/redact"
	"example.com/presence/pkg/presence/internal/refusal"
	"example.com/presence/pkg/presence/room"
)

// access holds the user, the room and the query of an authorized request.
type access struct {
	user  User
	room  room.Name
	query url.Values
}

// authorize authenticates the request. It checks that the user has the right to the room and is not
// banned from it. names are the query parameters of the endpoint, except room.
func (s *Server) authorize(r *http.Request, needed right, names ...string) (access, error) {
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
	factsOf(r).room = string(name)
	if !needed.patterns(user).Match(name) {
		return access{}, needed.lacking(user, name)
	}
	if until := s.hub.BanEnd(name, room.UserID(user.ID)); !until.IsZero() {
		return access{}, &hub.BannedError{Room: name, Until: until}
	}
	return access{user, name, query}, nil
}

// authorizeAdmin checks that the user is an admin, and returns the query of the request. names are
// the query parameters of the endpoint.
func (s *Server) authorizeAdmin(r *http.Request, names ...string) (url.Values, error) {
	user, err := s.authenticate(r)
	if err != nil {
		return nil, err
	}
	if !user.Admin {
		return nil, forbid(refusal.AdminRight, "admin token required")
	}
	return parseQuery(r, names...)
}

// everyRoom matches each room.
var everyRoom = room.Patterns{"*"}

// mayJoin returns the patterns of the rooms that the user may join and watch: all for an admin.
func mayJoin(u User) room.Patterns {
	if u.Admin {
		return everyRoom
	}
	return u.Join
}

// maySend returns the patterns of the rooms that the user may send to: all for an admin.
func maySend(u User) room.Patterns {
	if u.Admin {
		return everyRoom
	}
	return u.Send
}

// right is a right to a room.
type right struct {
	name     string
	patterns func(User) room.Patterns
}

var (
	toJoin = right{"join", mayJoin}
	toSend = right{"send", maySend}
)

// lacking returns the problem of a user that lacks the right. The log has the rooms that the user
// may use, because many issuers put them into a claim of another name.
func (n right) lacking(u User, name room.Name) error {
	p := forbid(refusal.RoomRight, "token lacks the required right for room %q", name)
	p.private = fmt.Sprintf("%s: %s allowed in %s", p.detail, n.name, redact.List(n.patterns(u), input.MaxRoomName))
	if lobby := []string{string(room.Lobby)}; slices.Equal(u.Join, lobby) && slices.Equal(u.Send, lobby) {
		p.private += " (as without the claim presence)"
	}
	return p
}

// authenticate returns the user of the request's credential. If the credential is the cookie, the
// request must come from an allowed origin, because a browser attaches the cookie to the requests
// of every page. GET /events needs this check too, because it changes presence.
func (s *Server) authenticate(r *http.Request) (User, error) {
	user, err := s.identify(r)
	// An auth.JWT returns checked users. Any other Authenticator may return an invalid user, even
	// one that wraps an auth.JWT, so check its users here.
	if _, checked := s.config.Authenticator.(*auth.JWT); err == nil && !checked {
		user, err = user.Checked()
	}
	factsOf(r).user = auth.VerifiedUser(err)
	switch {
	case errors.Is(err, auth.ErrNoToken), errors.Is(err, auth.ErrBadToken), errors.Is(err, auth.ErrUnavailable):
		return User{}, err
	case err != nil:
		s.warn.Warn(r.Context(), "authenticator failed", "err", err)
		return User{}, &problem{status: http.StatusUnauthorized, cause: refusal.Token, reason: auth.FailureReason(err), detail: "authentication failed"}
	}
	factsOf(r).user = user.ID
	if user.Session != "" {
		err = s.origins.check(r)
	}
	return user, err
}
