package hub

import (
	"context"
	"sync"
	"time"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/room"
)

// HistoryRequest is a request for a page of the history of a room.
type HistoryRequest struct {
	Room room.Name
	// User is the requesting user, or empty for the server itself.
	User room.UserID
	// Before is the position of the oldest message of the page after this one. With the zero
	// Position, the page ends with the newest message.
	Before room.Position
	// Limit is the maximum number of messages, at least 1.
	Limit int
	// Size is the size of the messages in bytes at which the page ends. It has at least one
	// message.
	Size int
}

// History is a page of the history of a room. The messages are those of the log, so their bytes are
// shared.
type History struct {
	// Last is the end of the room's messages: a client that resumes from it receives each message
	// after those of the newest page.
	Last room.Position
	// More reports that older messages are left. They may expire before they are read.
	More bool
	// Size is the size of the messages in bytes.
	Size int
	// Read is the cost of the reads of the log in bytes: the size of all messages that were read,
	// or 64 for each if no other node uses the log.
	Read int

	messages []historic // oldest first
}

// historic is a message of the history.
type historic struct {
	backplane.Entry
	record
}

const (
	// maxHistoryReads is the maximum number of reads at the same time. Each may hold all messages
	// of a room.
	maxHistoryReads = 4
	// historyWait is the maximum time that a request waits for its turn.
	historyWait = 2 * time.Second
)

// historyReads limits the reads of the log for pages of the history, if other nodes use the log. A
// user reads once at a time, however many of its requests wait, so a user alone takes one slot of
// all. Equal requests that wait share one read:
//
//   - those of one user that wait for its turn, and
//   - those of all users of which one has its turn and waits for a slot.
//
// A read that has begun is not shared any more, because it may lack a newer message.
type historyReads struct {
	slots chan struct{}

	mu      sync.Mutex // guards the fields below; no other mutex is acquired while it is held
	users   map[room.UserID]*userReads
	waiting map[HistoryRequest]*waitingRead // the user is empty if requests of all users share it
}

// userReads are the requests of one user.
type userReads struct {
	turn  chan struct{} // has one element while a request of the user has the turn
	count int           // requests that have the turn or wait for it
}

// waitingRead is a read that has not begun.
type waitingRead struct {
	done chan struct{} // closed when the fields below are set
	page *History
	err  error
}

func newHistoryReads() historyReads {
	return historyReads{slots: make(chan struct{}, maxHistoryReads), users: map[room.UserID]*userReads{}, waiting: map[HistoryRequest]*waitingRead{}}
}

// do returns the result of read, or that of an equal request. The error is also [ErrHistoryReads],
// or that of ctx.
func (h *historyReads) do(ctx context.Context, q HistoryRequest, read func(context.Context) (*History, error)) (*History, error) {
	own, first := h.share(q)
	if !first {
		return own.wait(ctx)
	}
	// The read does not end with this request, because others may share it. Its result is returned
	// even if ctx has ended, so that the user is charged for the read.
	own.page, own.err = h.lead(context.WithoutCancel(ctx), q, read)
	close(own.done)
	return own.page, own.err
}

// lead waits for the turn of the user and for a slot, and then reads.
func (h *historyReads) lead(ctx context.Context, q HistoryRequest, read func(context.Context) (*History, error)) (*History, error) {
	limited, cancel := context.WithTimeout(ctx, historyWait)
	defer cancel()
	user := h.enter(q.User)
	defer h.leave(q.User)
	if !take(limited, user.turn) {
		h.begin(q)
		return nil, ErrHistoryReads
	}
	ofAll := q
	ofAll.User = ""
	common, first := h.share(ofAll)
	if !first {
		h.begin(q)
		<-user.turn
		return common.wait(ctx)
	}
	defer func() { <-user.turn }()
	defer close(common.done)
	isFree := take(limited, h.slots)
	h.begin(q)
	h.begin(ofAll)
	if common.err = ErrHistoryReads; isFree {
		common.page, common.err = read(ctx)
		<-h.slots
	}
	return common.page, common.err
}

// wait returns the result of the read.
func (r *waitingRead) wait(ctx context.Context) (*History, error) {
	select {
	case <-r.done:
		return r.page, r.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// take adds an element to c. It returns false if ctx ends first.
func take(ctx context.Context, c chan<- struct{}) bool {
	select {
	case c <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

// share returns the waiting read for equal requests. If there is none, share creates it: first is
// true then, and the caller must call begin and close done.
func (h *historyReads) share(q HistoryRequest) (r *waitingRead, first bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if r := h.waiting[q]; r != nil {
		return r, false
	}
	r = &waitingRead{done: make(chan struct{})}
	h.waiting[q] = r
	return r, true
}

// begin ends the sharing of a read.
func (h *historyReads) begin(q HistoryRequest) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.waiting, q)
}

func (h *historyReads) enter(user room.UserID) *userReads {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := h.users[user]
	if r == nil {
		r = &userReads{turn: make(chan struct{}, 1)}
		h.users[user] = r
	}
	r.count++
	return r
}

func (h *historyReads) leave(user room.UserID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.users[user].count--; h.users[user].count == 0 {
		delete(h.users, user)
	}
}
