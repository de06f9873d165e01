package presence

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/go-chi/chi/v5"

	"example.com/presence/pkg/presence/internal/compact"
	"example.com/presence/pkg/presence/internal/hub"
	"example.com/presence/pkg/presence/internal/input"
	"example.com/presence/pkg/presence/internal/redact"
	"example.com/presence/pkg/presence/room"
)

// defaultBan is the ban time if the request does not specify one.
const defaultBan = time.Minute

// getPresence responds with the members of a room, one page at a time, sorted by member id:
//
//	{"room":"lobby","connections":3,"users":2,"members":[{"id":"alice",…}],"next":"alice"}
//
// next is present if there are more members. It is the after parameter of the next page. A member
// that stays in the room while a client reads all pages appears on exactly one of them. If members
// on other nodes may be missing, the page also has "complete":false.
func (s *Server) getPresence(w http.ResponseWriter, r *http.Request) error {
	v, err := s.authorize(r, toJoin, "limit", "after")
	if err != nil {
		return err
	}
	limit, err := pageLimit(v.query, defaultPage)
	if err != nil {
		return err
	}
	_, users := s.hub.Sizes(v.room)
	most := min(users, limit)
	if err := s.limits.costs.take(v.user, memberCost*most); err != nil {
		return err
	}
	key := pageKey{v.room, room.UserID(v.query.Get("after")), limit}
	if most >= cachedMembers {
		return s.writeCached(w, r, v.user, key)
	}
	page, err := s.memberPage(r.Context(), key)
	if err != nil {
		return err
	}
	s.limits.costs.charge(v.user, memberCost*max(0, len(page.Members)-most)) // those of other nodes
	setJSON(w)
	page.encode(w)
	return nil
}

// writeCached responds with a page that is at most as old as the flush interval. If too many such
// pages are unread, it makes one that is encoded while the client reads it.
func (s *Server) writeCached(w http.ResponseWriter, r *http.Request, u User, key pageKey) error {
	body, err := s.pages.get(key, time.Now(), func() ([]byte, time.Duration, error) {
		p, err := s.memberPage(r.Context(), key)
		if err != nil {
			return nil, 0, err
		}
		var body bytes.Buffer
		p.encode(&body)
		return body.Bytes(), p.interval, nil
	})
	if err != nil {
		return err
	}
	release, ok := s.pages.hold(u.ID, len(body))
	if !ok {
		p, err := s.memberPage(r.Context(), key)
		if err != nil {
			return err
		}
		setJSON(w)
		p.encode(w)
		return nil
	}
	defer release()
	setJSON(w)
	for piece := range slices.Chunk(body, pagePiece) {
		if _, err := w.Write(piece); err != nil {
			break // the client disconnected
		}
	}
	return nil
}

// memberPage returns a page of members.
func (s *Server) memberPage(ctx context.Context, key pageKey) (memberPage, error) {
	p, err := s.hub.Members(ctx, key.room, key.after, key.limit)
	incomplete := errors.Is(err, ErrIncomplete)
	if err != nil && !incomplete {
		return memberPage{}, err
	}
	page := memberPage{Room: key.room, Connections: p.Connections, Users: p.Users, Members: p.Members, incomplete: incomplete, interval: p.Interval}
	if p.More {
		page.Next = page.Members[key.limit-1].ID
	}
	return page, nil
}

// memberPage is the response body of GET /presence.
type memberPage struct {
	Room        room.Name     `json:"room"`
	Connections int           `json:"connections"`
	Users       int           `json:"users"`
	Members     []Member      `json:"members"`
	Next        room.UserID   `json:"next,omitempty"`
	incomplete  bool          // adds "complete":false
	interval    time.Duration // flush interval of the room
}

// pagePiece is the size in bytes of the pieces in which a page is written. 1,000 members take more
// than 1 MB, and a slow client may need minutes to read them.
const pagePiece = 16 << 10

// encode writes the page in pieces. It stops at the first error of w.
func (p memberPage) encode(w io.Writer) {
	members, next := p.Members, p.Next
	p.Members, p.Next = []Member{}, ""
	b := bytes.TrimSuffix(compact.Encode(p), []byte("]}"))
	for i, m := range members {
		if i > 0 {
			b = append(b, ',')
		}
		if b = append(b, compact.Encode(m)...); len(b) >= pagePiece {
			if _, err := w.Write(b); err != nil {
				return // the client disconnected
			}
			b = b[:0]
		}
	}
	b = append(b, ']')
	if next != "" {
		b = append(append(b, `,"next":`...), compact.Encode(next)...)
	}
	if p.incomplete {
		b = append(b, `,"complete":false`...)
	}
	w.Write(append(b, "}\n"...))
}

// Members returns the members of the room, sorted by id. The slice belongs to the caller. It is
// empty and not nil for an empty room. The bytes of each Info are shared and must not be changed.
//
// If the room has members only on other nodes, this node asks them for the list. The error wraps
// [room.ErrName] or [ErrDraining]; if other nodes are asked, also [ErrTooManyRooms] or an error of
// ctx or of the backplane. It wraps [ErrIncomplete] if members on other nodes may be missing; the
// slice has the others then.
func (s *Server) Members(ctx context.Context, roomName string) (members []Member, err error) {
	name, err := room.ParseName(roomName)
	if err == nil {
		var page hub.Page
		if page, err = s.hub.Members(ctx, name, "", math.MaxInt); err == nil {
			return page.Members, nil
		}
		members = page.Members
	}
	return members, fmt.Errorf("presence: list members of room %q: %w", roomName, err)
}

// putState replaces the info of the user in a room. The body is the new info, any JSON value.
func (s *Server) putState(w http.ResponseWriter, r *http.Request) error {
	v, err := s.authorize(r, toJoin)
	if err != nil {
		return err
	}
	if err := s.hub.Overloaded(v.room); err != nil { // before the state is charged
		return err
	}
	audience, _ := s.hub.Sizes(v.room)
	if err := s.limits.costs.take(v.user, memberCost*max(minAudience, audience)); err != nil {
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
	var compactInfo bytes.Buffer
	if err := json.Compact(&compactInfo, info); err != nil {
		return reject(http.StatusBadRequest, "invalid JSON body: %v", err)
	}
	if compactInfo.Len() > input.MaxInfo {
		return reject(http.StatusRequestEntityTooLarge, "info too large (maximum %d bytes)", input.MaxInfo)
	}
	err = s.hub.Update(r.Context(), v.room, room.UserID(v.user.ID), compactInfo.Bytes())
	if errors.Is(err, ErrNotInRoom) {
		return reject(http.StatusConflict, "user not in room %q: open a stream in the room first", v.room)
	}
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// deleteMember removes a user from a room and bans it for a time. If the request has the time, the
// user need not be in the room. The query may contain the id instead of the path, because proxies
// and browsers change a path that contains %2F, . or ..
func (s *Server) deleteMember(w http.ResponseWriter, r *http.Request) error {
	query, err := s.authorizeAdmin(r, "room", "id", "for")
	if err != nil {
		return err
	}
	name, err := roomOf(query)
	if err != nil {
		return err
	}
	ban, remove := defaultBan, s.hub.Kick
	if query.Has("for") {
		remove = s.hub.Ban
		if ban, err = time.ParseDuration(query.Get("for")); err != nil {
			return reject(http.StatusBadRequest, `invalid parameter "for": must be a duration, such as 60s or 24h`)
		}
	}
	user, err := memberID(r, query)
	if err != nil {
		return err
	}
	factsOf(r).room = string(name)
	if err := remove(r.Context(), name, user, ban); err != nil {
		return err
	}
	s.logAction(r, "user removed from room", "removed", redact.Text(string(user)), "for", ban)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// memberID returns the member's id from the path or from the query.
func memberID(r *http.Request, query url.Values) (room.UserID, error) {
	id := chi.URLParam(r, "id")
	switch {
	case id != "" && query.Has("id"):
		return "", reject(http.StatusBadRequest, "member id in both the path and the query")
	case id == "" && query.Get("id") == "":
		return "", reject(http.StatusBadRequest, `missing member id: put it in the path or in the parameter "id"`)
	case id == "":
		return parseUserID(query.Get("id"))
	}
	if r.URL.RawPath != "" { // chi routed by RawPath, so id is still percent-encoded
		decoded, err := url.PathUnescape(id)
		if err != nil {
			return "", reject(http.StatusBadRequest, "invalid percent-encoding in the member id")
		}
		id = decoded
	}
	return parseUserID(id)
}

// Kick removes the user from the room and bans it for a time, 1 s to 24 h. It closes the user's
// connections in that room. The other clients immediately receive the user's leave, with the reason
// removed. The room rejects the user until the ban ends.
//
// The error wraps [ErrNotInRoom], [ErrBan], [ErrUserID], [ErrTooManyBans], [ErrDraining] or
// [room.ErrName], or an error of ctx or of the backplane. [Server.Ban] also bans a user that is not
// in the room.
func (s *Server) Kick(ctx context.Context, roomName, user string, ban time.Duration) error {
	name, id, err := parseNames(roomName, user)
	if err == nil {
		err = s.hub.Kick(ctx, name, id, ban)
	}
	if err != nil {
		return fmt.Errorf("presence: kick %q from room %q: %w", user, roomName, err)
	}
	return nil
}
