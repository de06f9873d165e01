package presence

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"

	"example.com/presence/pkg/presence/internal/compact"
	"example.com/presence/pkg/presence/internal/hub"
	"example.com/presence/pkg/presence/room"
)

const (
	// defaultMessages is the default page size of the history, in messages.
	defaultMessages = 50
	// historyPage is the size of the messages in bytes at which a page of the history ends.
	historyPage = 1 << 20
)

// MessagePage is a page of the history of a room.
type MessagePage struct {
	// Messages are the messages, oldest first. The slice belongs to the caller, and is never nil.
	// The bytes of each Data are shared and must not be changed.
	Messages []Message
	// Next is the id before which the next page, with older messages, ends. It is empty if there
	// are no older messages.
	Next string
	// LastEventID is the end of the room's messages. A stream that resumes from it delivers each
	// message that follows the newest page.
	LastEventID string
}

// getMessages responds with the history of a room, one page at a time. The newest message is last:
//
//	{"room":"lobby","messages":[{"id":"4f0c…-7","event":"message","data":1,"at":"…"}],"last_event_id":"4f0c…-7","next":"4f0c…-7"}
//
// next is present if there may be older messages. It is the before parameter of the next page. A
// page has about 1 MiB of messages at most.
func (s *Server) getMessages(w http.ResponseWriter, r *http.Request) error {
	v, err := s.authorize(r, toJoin, "limit", "before")
	if err != nil {
		return err
	}
	limit, err := pageLimit(v.query, defaultMessages)
	if err != nil {
		return err
	}
	before, err := parseMessageID(v.query.Get("before"))
	if err != nil {
		return err
	}
	if err := s.limits.costs.take(v.user, historyCost); err != nil {
		return err
	}
	page, err := s.hub.History(r.Context(), hub.HistoryRequest{Room: v.room, User: room.UserID(v.user.ID), Before: before, Limit: limit, Size: historyPage})
	if err != nil {
		return err
	}
	s.limits.costs.charge(v.user, max(0, max(page.Size, page.Read)-historyCost))
	release, ok := s.pages.hold(v.user.ID, page.Size)
	if !ok {
		return errUnread
	}
	defer release()
	setJSON(w)
	encodeHistory(w, v.room, page)
	return nil
}

// encodeHistory writes the page in pieces. It stops at the first error of w.
func encodeHistory(w io.Writer, name room.Name, page *hub.History) {
	b := append(append([]byte(`{"room":`), compact.Encode(name)...), `,"messages":[`...)
	for i := range page.Len() {
		if i > 0 {
			b = append(b, ',')
		}
		if b = page.AppendJSON(b, i); len(b) >= pagePiece {
			if _, err := w.Write(b); err != nil {
				return // the client disconnected
			}
			b = b[:0]
		}
	}
	b = append(append(b, `],"last_event_id":`...), compact.Encode(page.Last.String())...)
	if next, ok := page.Next(); ok {
		b = append(append(b, `,"next":`...), compact.Encode(next.String())...)
	}
	w.Write(append(b, "}\n"...))
}

// Messages returns a page of the history of the room: the newest messages before the message with
// the id before, or the newest of all if before is empty. limit is the maximum number of messages:
// at most 1,000; 0 means 50. A page has about 1 MiB of messages at most, but at least one message
// if there is one.
//
// If before is an id of another epoch, the page is empty, because the messages before it are lost.
// The error wraps [room.ErrName], [ErrMessageID] or [ErrDraining], or an error of ctx or of the
// backplane. Messages waits until ctx is done, but at most 4 s.
func (s *Server) Messages(ctx context.Context, roomName, before string, limit int) (MessagePage, error) {
	page, err := s.messagePage(ctx, roomName, before, limit)
	if err != nil {
		return MessagePage{}, fmt.Errorf("presence: list messages of room %q: %w", roomName, err)
	}
	return page, nil
}

func (s *Server) messagePage(ctx context.Context, roomName, before string, limit int) (MessagePage, error) {
	name, err := room.ParseName(roomName)
	if err != nil {
		return MessagePage{}, err
	}
	end, err := parseMessageID(before)
	if err != nil {
		return MessagePage{}, err
	}
	if limit <= 0 {
		limit = defaultMessages
	}
	p, err := s.hub.History(ctx, hub.HistoryRequest{Room: name, Before: end, Limit: min(limit, maxPage), Size: historyPage})
	if err != nil {
		return MessagePage{}, err
	}
	page := MessagePage{LastEventID: p.Last.String()}
	if next, ok := p.Next(); ok {
		page.Next = next.String()
	}
	page.Messages, err = p.Messages(name)
	return page, err
}

// parseMessageID returns the position of a message, or the zero Position for an empty id. The error
// is ErrMessageID.
func parseMessageID(id string) (room.Position, error) {
	if id == "" {
		return room.Position{}, nil
	}
	p, ok := room.ParsePosition(id)
	if !ok || len(p.Epoch) != 10 || strings.Trim(p.Epoch, "0123456789abcdef") != "" {
		return room.Position{}, ErrMessageID
	}
	return p, nil
}
