package presence

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"example.com/presence/pkg/presence/internal/hub"
)

// Rooms returns the rooms in use, sorted by name. The result is never nil. The counts of one room
// are consistent, but different rooms may be read at different times. The error wraps
// [ErrDraining], or an error of ctx or of the backplane. It wraps [ErrIncomplete] if rooms or
// counts of other nodes may be missing; the slice has the others then.
func (s *Server) Rooms(ctx context.Context) ([]RoomCount, error) {
	all, incomplete := []RoomCount{}, error(nil)
	for after, more := "", true; more; {
		page, next, err := s.hub.Rooms(ctx, after, maxPage)
		switch {
		case errors.Is(err, ErrIncomplete):
			incomplete = fmt.Errorf("presence: list rooms: %w", err)
		case err != nil:
			return nil, fmt.Errorf("presence: list rooms: %w", err)
		}
		for _, count := range page {
			all = append(all, RoomCount(count))
		}
		if more = next; more {
			after = page[len(page)-1].Room
		}
	}
	return all, incomplete
}

// getRooms responds to an admin with the rooms in use, one page at a time, sorted by name:
//
//	{"rooms":[{"room":"lobby","connections":3,"users":2}],"next":"lobby"}
//
// next is present if there are more rooms. It is the after parameter of the next page. complete is
// present, and false, if a node has not answered, or if this node is cut off.
func (s *Server) getRooms(w http.ResponseWriter, r *http.Request) error {
	query, err := s.authorizeAdmin(r, "limit", "after")
	if err != nil {
		return err
	}
	limit, err := pageLimit(query, defaultPage)
	if err != nil {
		return err
	}
	var page struct {
		Rooms []hub.RoomCount `json:"rooms"`
		Next  string          `json:"next,omitempty"`
		// Complete is nil or points to false.
		Complete *bool `json:"complete,omitempty"`
	}
	var more bool
	page.Rooms, more, err = s.hub.Rooms(r.Context(), query.Get("after"), limit)
	switch {
	case errors.Is(err, ErrIncomplete):
		page.Complete = new(bool)
	case err != nil:
		return err
	}
	if more {
		page.Next = page.Rooms[limit-1].Room
	}
	return writeJSON(w, http.StatusOK, page)
}
