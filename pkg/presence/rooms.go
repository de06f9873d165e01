package presence

import (
	"context"
	"fmt"
	"net/http"

	"example.com/presence/pkg/presence/internal/hub"
)

// Rooms returns the rooms in use, sorted by name. The result is never nil. The counts of one room
// are consistent, but different rooms may be read at different times. The error wraps
// [ErrDraining], or an error of ctx or of the backplane.
func (s *Server) Rooms(ctx context.Context) ([]RoomCount, error) {
	all := []RoomCount{}
	for after, more := "", true; more; {
		page, next, err := s.hub.Rooms(ctx, after, maxPage)
		if err != nil {
			return nil, fmt.Errorf("presence: list rooms: %w", err)
		}
		for _, count := range page {
			all = append(all, RoomCount(count))
		}
		if more = next; more {
			after = page[len(page)-1].Room
		}
	}
	return all, nil
}

// getRooms responds to an admin with the rooms in use, one page at a time, sorted by name:
//
//	{"rooms":[{"room":"lobby","connections":3,"users":2}],"next":"lobby"}
//
// next is present if there are more rooms. It is the after parameter of the next page.
func (s *Server) getRooms(w http.ResponseWriter, r *http.Request) error {
	query, err := s.authorizeAdmin(r, "limit", "after")
	if err != nil {
		return err
	}
	limit, err := pageLimit(query)
	if err != nil {
		return err
	}
	var page struct {
		Rooms []hub.RoomCount `json:"rooms"`
		Next  string          `json:"next,omitempty"`
	}
	var more bool
	if page.Rooms, more, err = s.hub.Rooms(r.Context(), query.Get("after"), limit); err != nil {
		return err
	}
	if more {
		page.Next = page.Rooms[limit-1].Room
	}
	return writeJSON(w, http.StatusOK, page)
}
