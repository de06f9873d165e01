package presence

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"time"

	"github.com/go-chi/chi/v5"

	"example.com/presence/pkg/presence/room"
)

// The bounds of a ban, and what it is if nothing is said.
const minBan, defaultBan, maxBan = time.Second, time.Minute, 24 * time.Hour

// maxInfo is the largest info of a member, in bytes of compact JSON.
const maxInfo = 1 << 10

// large has the handler wait for a slot of its connection, before it costs more
// than a goroutine.
func (s *Server) large(f func(http.ResponseWriter, *http.Request) error) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		release, err := s.guard.Large(r)
		if err != nil {
			return err
		}
		defer release()
		return f(w, r)
	}
}

// getPresence says who is in a room now, a page at a time, by member id:
//
//	{"room":"lobby","connections":3,"users":2,"members":[{"id":"alice",…}],"next":"alice"}
//
// next is there if members follow; it is the after of their page. Who is there
// from the first page to the last is on one of them, once, whoever comes and
// goes meanwhile.
func (s *Server) getPresence(w http.ResponseWriter, r *http.Request) error {
	v, err := s.visitor(r, mayJoin, "limit", "after")
	if err != nil {
		return err
	}
	limit, err := pageLimit(v.query)
	if err != nil {
		return err
	}
	page := memberPage{Room: v.room, Members: []Member{}}
	c, err := s.find(v.room)
	switch {
	case err == nil:
		more := false
		c.mu.Lock()
		page.Connections, page.Users = c.room.Connections(), c.room.Users()
		page.Members, more = c.room.Members(room.UserID(v.query.Get("after")), limit)
		c.mu.Unlock()
		if more {
			page.Next = page.Members[limit-1].ID
		}
	case !errors.Is(err, ErrNotInRoom):
		return err
	}
	page.write(w)
	return nil
}

// memberPage is an answer of GET /presence.
type memberPage struct {
	Room        room.Name   `json:"room"`
	Connections int         `json:"connections"`
	Users       int         `json:"users"`
	Members     []Member    `json:"members"`
	Next        room.UserID `json:"next,omitempty"`
}

// write encodes the page a piece at a time: 1,000 members are over 1 MB, and a
// client may take minutes for them.
func (p memberPage) write(w http.ResponseWriter) {
	const piece = 16 << 10
	setJSON(w)
	members, next := p.Members, p.Next
	p.Members, p.Next = []Member{}, ""
	b := bytes.TrimSuffix(encode(p), []byte("]}"))
	for i, m := range members {
		if i > 0 {
			b = append(b, ',')
		}
		if b = append(b, encode(m)...); len(b) >= piece {
			if _, err := w.Write(b); err != nil {
				return // the client has gone
			}
			b = b[:0]
		}
	}
	b = append(b, ']')
	if next != "" {
		b = append(append(b, `,"next":`...), encode(next)...)
	}
	w.Write(append(b, "}\n"...))
}

// Members returns who is in the room, by id. The slice is the caller's own,
// empty and not nil if nobody is there; the bytes of an Info are the room's, and
// must not be changed. The error is that of a room's name, or [ErrDraining].
func (s *Server) Members(roomName string) ([]Member, error) {
	name, err := room.ParseName(roomName)
	if err != nil {
		return nil, fmt.Errorf("presence: members of room %q: %w", roomName, err)
	}
	c, err := s.find(name)
	switch {
	case errors.Is(err, ErrNotInRoom):
		return []Member{}, nil
	case err != nil:
		return nil, fmt.Errorf("presence: members of room %q: %w", roomName, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	members, _ := c.room.Members("", math.MaxInt)
	return members, nil
}

// putState replaces what the room knows of the user: the body is its new info,
// any JSON.
func (s *Server) putState(w http.ResponseWriter, r *http.Request) error {
	v, err := s.visitor(r, mayJoin)
	if err != nil {
		return err
	}
	body, err := readJSON(w, r)
	if err != nil {
		return err
	}
	var info json.RawMessage
	if err := decode(body, &info); err != nil {
		return err
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, info); err != nil {
		return refuse(http.StatusBadRequest, "the body is not JSON: %v", err)
	}
	if compact.Len() > maxInfo {
		return refuse(http.StatusRequestEntityTooLarge, "the state is larger than %d bytes", maxInfo)
	}
	c, err := s.find(v.room)
	switch {
	case err == nil && c.update(room.UserID(v.user.ID), bytes.Clone(compact.Bytes())):
		w.WriteHeader(http.StatusNoContent)
		return nil
	case err == nil || errors.Is(err, ErrNotInRoom):
		return refuse(http.StatusConflict, "the user is not in room %q: its state needs an open stream of the room", v.room)
	}
	return err
}

// deleteMember removes a user from a room and bans it for a time. The id is in
// the path, or, as proxies and browsers change a path with %2F, . or .. in it,
// in the query.
func (s *Server) deleteMember(w http.ResponseWriter, r *http.Request) error {
	query, err := s.admin(r, "room", "id", "for")
	if err != nil {
		return err
	}
	name, err := roomOf(query)
	if err != nil {
		return err
	}
	ban := defaultBan
	if query.Has("for") {
		if ban, err = time.ParseDuration(query.Get("for")); err != nil {
			return refuse(http.StatusBadRequest, "for is a time such as 60s or 24h")
		}
	}
	user, err := memberID(r, query)
	if err != nil {
		return err
	}
	if err := s.kick(name, user, ban); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// memberID returns the id that the path has or the query.
func memberID(r *http.Request, query url.Values) (room.UserID, error) {
	id := chi.URLParam(r, "id")
	switch {
	case id != "" && query.Has("id"):
		return "", refuse(http.StatusBadRequest, "the id is given in the path and in the query, and must be given once")
	case id == "" && query.Get("id") == "":
		return "", refuse(http.StatusBadRequest, "id is required: the member's id")
	case id == "":
		return room.UserID(query.Get("id")), nil
	}
	if r.URL.RawPath != "" { // chi routed by it
		decoded, err := url.PathUnescape(id)
		if err != nil {
			return "", refuse(http.StatusBadRequest, "the id is not percent-encoded")
		}
		id = decoded
	}
	return room.UserID(id), nil
}

// ErrBan: the time for which a user is to be kept out is not within 1 s and
// 24 h.
var ErrBan = fmt.Errorf("a user is kept out for %v to %v", minBan, maxBan)

// Kick takes the user out of the room: its connections there end, the others
// hear that it has left at once, with the reason removed, and the room refuses
// it for a time, 1 s to 24 h.
//
// The errors are [ErrNotInRoom], [ErrBan], [ErrTooManyBans], [ErrDraining], and
// that of the room's name; none of it was done then. It takes no time on a
// single node; ctx is for more of them.
func (s *Server) Kick(ctx context.Context, roomName, user string, ban time.Duration) error {
	name, err := room.ParseName(roomName)
	if err == nil {
		err = s.kick(name, room.UserID(user), ban)
	}
	if err != nil {
		return fmt.Errorf("presence: kick %q out of room %q: %w", user, roomName, err)
	}
	return nil
}

func (s *Server) kick(name room.Name, user room.UserID, ban time.Duration) error {
	if ban < minBan || ban > maxBan {
		return ErrBan
	}
	c, err := s.find(name)
	if err != nil {
		return err
	}
	return c.kick(user, ban)
}
