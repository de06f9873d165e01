package presence

import (
	"net/http"
	"strconv"

	"example.com/presence/pkg/presence/room"
)

// maxPage and defaultPage are numbers of members.
const maxPage, defaultPage = 1000, 100

// getPresence says who is in a room now, a page at a time, by member id:
//
//	{"room":"lobby","connections":3,"users":2,"members":[{"id":"alice",…}],"next":"alice"}
//
// next is there if members follow; it is the after of their page.
func (s *Server) getPresence(w http.ResponseWriter, r *http.Request) error {
	_, name, err := s.visitor(r, mayJoin)
	if err != nil {
		return err
	}
	limit := defaultPage
	if q := r.URL.Query(); q.Has("limit") {
		if limit, err = strconv.Atoi(q.Get("limit")); err != nil || limit < 1 || limit > maxPage {
			return refuse(http.StatusBadRequest, "limit is 1 to %d", maxPage)
		}
	}
	page := struct {
		Room        room.Name   `json:"room"`
		Connections int         `json:"connections"`
		Users       int         `json:"users"`
		Members     []Member    `json:"members"`
		Next        room.UserID `json:"next,omitempty"`
	}{Room: name, Members: []Member{}}
	if s.draining.Load() {
		return ErrDraining // who is here goes, and where to is not known here
	}
	if c := s.find(name); c != nil {
		more := false
		c.mu.Lock()
		page.Connections, page.Users = c.room.Connections(), c.room.Users()
		page.Members, more = c.room.Members(room.UserID(r.URL.Query().Get("after")), limit)
		c.mu.Unlock()
		if more {
			page.Next = page.Members[limit-1].ID
		}
	}
	return writeJSON(w, http.StatusOK, page)
}
