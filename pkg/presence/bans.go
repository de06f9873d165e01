package presence

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"time"

	"example.com/presence/pkg/presence/internal/redact"
	"example.com/presence/pkg/presence/room"
)

// getBans responds to an admin with the bans from a room, one page at a time, sorted by user id:
//
//	{"room":"lobby","bans":[{"id":"mallory","until":"2026-11-30T10:00:00Z"}],"next":"mallory"}
//
// next is present if there are more bans. It is the after parameter of the next page. complete is
// present, and false, if this node is cut off from the backplane.
func (s *Server) getBans(w http.ResponseWriter, r *http.Request) error {
	query, err := s.authorizeAdmin(r, "room", "limit", "after")
	if err != nil {
		return err
	}
	name, err := roomOf(query)
	if err != nil {
		return err
	}
	factsOf(r).room = string(name)
	limit, err := pageLimit(query, defaultPage)
	if err != nil {
		return err
	}
	page := struct {
		Room room.Name   `json:"room"`
		Bans []Ban       `json:"bans"`
		Next room.UserID `json:"next,omitempty"`
		// Complete is nil or points to false.
		Complete *bool `json:"complete,omitempty"`
	}{Room: name}
	var more bool
	page.Bans, more, err = s.hub.Bans(name, room.UserID(query.Get("after")), limit)
	switch {
	case errors.Is(err, ErrIncomplete):
		page.Complete = new(bool)
	case err != nil:
		return err
	}
	if more {
		page.Next = page.Bans[limit-1].ID
	}
	return writeJSON(w, http.StatusOK, page)
}

// deleteBan lifts the ban of a user from a room.
func (s *Server) deleteBan(w http.ResponseWriter, r *http.Request) error {
	query, err := s.authorizeAdmin(r, "room", "id")
	if err != nil {
		return err
	}
	name, err := roomOf(query)
	if err != nil {
		return err
	}
	factsOf(r).room = string(name)
	if query.Get("id") == "" {
		return reject(http.StatusBadRequest, `missing parameter "id"`)
	}
	user, err := parseUserID(query.Get("id"))
	if err != nil {
		return err
	}
	if err := s.hub.Unban(r.Context(), name, user); err != nil {
		return err
	}
	s.logAction(r, "ban lifted", "banned", redact.Text(string(user)))
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// Ban bans the user from the room for a time, 1 s to 24 h. If the user is in the room, Ban also
// removes it, as [Server.Kick] does. A second call replaces the ban, so it ends earlier or later.
// Ban returns when all live nodes have applied it, at the latest after 1 s.
//
// With the Backplane of one node, bans are lost when the process ends. With package nats they
// remain.
//
// The error wraps [ErrBan], [ErrUserID], [ErrTooManyBans], [ErrDraining] or [room.ErrName], or an
// error of ctx or of the backplane. After an error of ctx or of the backplane, the user may be
// banned all the same.
func (s *Server) Ban(ctx context.Context, roomName, user string, d time.Duration) error {
	name, id, err := parseNames(roomName, user)
	if err == nil {
		err = s.hub.Ban(ctx, name, id, d)
	}
	if err != nil {
		return fmt.Errorf("presence: ban %q from room %q: %w", user, roomName, err)
	}
	return nil
}

// Unban lifts the user's ban from the room. It returns when all live nodes admit the user, at the
// latest after 1 s.
//
// The error wraps [ErrNotBanned], [ErrUserID], [ErrDraining] or [room.ErrName], or an error of ctx
// or of the backplane. After an error of ctx or of the backplane, the ban may have been lifted all
// the same.
func (s *Server) Unban(ctx context.Context, roomName, user string) error {
	name, id, err := parseNames(roomName, user)
	if err == nil {
		err = s.hub.Unban(ctx, name, id)
	}
	if err != nil {
		return fmt.Errorf("presence: unban %q from room %q: %w", user, roomName, err)
	}
	return nil
}

// Bans returns the bans from the room that have not ended, sorted by user id: at most as many as
// the table of the Backplane has rows, 100,000 by default. The slice belongs to the caller. It is
// empty and not nil if there are none. The error wraps [ErrDraining] or [room.ErrName]. It wraps
// [ErrIncomplete] if this node has no contact with the backplane, and may lack the last changes;
// the slice has the bans that it knows then.
func (s *Server) Bans(roomName string) (bans []Ban, err error) {
	name, err := room.ParseName(roomName)
	if err == nil {
		if bans, _, err = s.hub.Bans(name, "", math.MaxInt); err == nil {
			return bans, nil
		}
	}
	return bans, fmt.Errorf("presence: list bans from room %q: %w", roomName, err)
}

// parseNames checks the name of a room and the id of a user.
func parseNames(roomName, user string) (name room.Name, id room.UserID, err error) {
	if name, err = room.ParseName(roomName); err == nil {
		id, err = parseUserID(user)
	}
	return name, id, err
}
