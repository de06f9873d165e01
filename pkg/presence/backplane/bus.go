package backplane

import (
	"context"
	"errors"
	"time"

	"example.com/presence/pkg/presence/room"
)

// Nodes is the topic to which every node subscribes. Every other topic is a room's.
const Nodes room.Name = ""

// KeyAge is how long a bus remembers an idempotency key.
const KeyAge = 2 * time.Minute

// The errors of a [Bus] that a caller can act on. An engine may wrap them. Any other error has the
// meaning of ErrUnavailable.
var (
	// ErrClosed is returned after Close by every method that returns an error.
	ErrClosed = errors.New("backplane closed")
	// ErrUnavailable is returned while the engine is not connected. A call that changes something
	// may still have succeeded.
	ErrUnavailable = errors.New("backplane unavailable")
	// ErrKeysFull is returned by Append when the engine already remembers as many keys of the last
	// KeyAge as it can. The message was not accepted.
	ErrKeysFull = errors.New("idempotency key limit reached")
	// ErrTableFull is returned by Put at the row limit. The row was not stored.
	ErrTableFull = errors.New("table limit reached")
)

// Bus is the service of an engine for the nodes of one server: publish/subscribe, a log per room, a
// table, and the engine's own status. The package comment lists which calls may be made where. All
// methods are safe for concurrent use.
//
// A ctx bounds the call. When it ends first, the error is its cause (Ask returns nil), and a call
// that changes something may still have succeeded. The bus keeps data, request and value without a
// copy: the caller must not change them afterwards.
//
// After Close every method that returns an error returns ErrClosed. Without a connection a call may
// wait or return ErrUnavailable. Append may also return ErrKeysFull, and Put ErrTableFull.
type Bus interface {
	// Publish sends data to every subscription of the topic that has Handler.Message, on this node
	// too. Each subscription receives it at most once, and in the order in which one goroutine
	// published. Between publishers there is no order. A loss returns no error.
	Publish(ctx context.Context, topic room.Name, data []byte) error

	// Subscribe subscribes h to the topic. h receives the entries that are accepted, and the
	// publications that are sent, after Subscribe has returned. To miss no entry, subscribe first
	// and then read the log. An engine whose subscriptions start later calls Lost when this one has
	// started.
	//
	// All calls of h are made one at a time and in order: h needs no lock against itself.
	//
	// cancel ends the subscription and does not wait. It may be called while holding a lock that h
	// takes, from within h, and more than once. A call of h that has begun may continue after
	// cancel has returned. No other call begins. So h checks, under its own lock, whether its owner
	// is done.
	Subscribe(topic room.Name, h Handler) (cancel func(), err error)

	// Ask sends a request to every subscription of the topic that has Handler.Ask, on this node
	// too. It calls answer with each reply, one at a time, on the caller's goroutine. Each
	// subscription answers at most once. The loss of a request or a reply returns no error.
	//
	// Ask returns nil in these cases:
	//
	//   - answer returns false.
	//   - ctx ends. Not every answer may have arrived, which is normal.
	//   - No subscription is left that could answer, if the engine can know that.
	Ask(ctx context.Context, topic room.Name, request []byte, answer func(data []byte) (more bool)) error

	// Append adds a message to the room's log. It returns the message's position, which is greater
	// than that of every earlier entry of the room. Handler.Entry of every subscription of the room
	// is called, in log order, before or after Append returns.
	//
	// key is the message's idempotency key in this room; "" is none. If Append has accepted the key
	// within KeyAge, it adds nothing and returns the first message's position, with duplicate true.
	// An engine may forget a key earlier if its entry has left the log by age or a limit.
	//
	// Append may wait and may fail. After any error except ErrClosed and ErrKeysFull the message
	// may have been accepted: retry with the same key. The position belongs to the epoch that
	// Status returned before the call, if Status still returns that epoch after it.
	Append(ctx context.Context, name room.Name, key string, data []byte) (position uint64, duplicate bool, err error)

	// Read returns the entries of the room whose positions are greater than after, in log order, as
	// far as the log still has them. The slice belongs to the caller; it is nil without entries.
	//
	// complete promises that no entry above after is missing:
	//
	//	the entry at after is still in the log    true
	//	after is the position that Last returns   true
	//	an entry above after was removed          false
	//	after is greater than Last                false, and no entries
	//	any other case                            true, or false if the engine cannot know
	Read(ctx context.Context, name room.Name, after uint64) (entries []Entry, complete bool, err error)

	// Last returns the position of the newest entry, whether or not the log still has it. For a
	// room without entries it is a position that no entry has and that every later entry exceeds.
	Last(ctx context.Context, name room.Name) (position uint64, err error)

	// Clear removes the room's entries and keeps its last position and its keys. A Read from below
	// that position is then not complete. No subscription is notified.
	Clear(ctx context.Context, name room.Name) error

	// Put stores a row for ttl and replaces the row with the same key. It returns an error if ttl
	// is not positive. Engines may round ttl up to a whole second. A key is 1 to 512 bytes of any
	// kind.
	Put(ctx context.Context, key string, value []byte, ttl time.Duration) error

	// Delete removes the row with the key. Without such a row it does nothing.
	Delete(ctx context.Context, key string) error

	// Watch calls f with every row that exists and then with each change: a row that was put, or a
	// row with Deleted set. Calls are made one at a time. The changes of one key keep their order.
	// Changes during an interruption follow after it: for each key at least the last one.
	//
	// When Watch returns, f has been called with every row that existed. An engine that has never
	// been connected returns at once, and delivers those rows before Status reports Connected.
	//
	// cancel follows the rules of Subscribe's cancel.
	Watch(f func(Row)) (cancel func(), err error)

	// Status returns the current state of the engine.
	Status() Status

	// Notify calls f with the new status after each change, one call at a time. Of changes in quick
	// succession it may skip all but the last. After Close it does nothing. cancel follows the
	// rules of Subscribe's cancel.
	Notify(f func(Status)) (cancel func())

	// Close ends all subscriptions, watches and notifications. It waits for calls of their
	// functions that have begun; no call begins later. It frees the resources of the bus. If other
	// handles share the engine, it ends this handle alone. A second call does nothing.
	Close()
}

// Handler holds the functions that a subscription calls. A nil function is not called. The package
// comment lists the calls and locks that these functions may use.
type Handler struct {
	// Entry receives each new entry of the room's log: in log order, none twice, and within one
	// epoch with growing positions. If the bus omits an entry, it calls Lost instead or later.
	Entry func(Entry)
	// Message receives the publications of the topic. data must not be changed.
	Message func(data []byte)
	// Ask returns the answer to a request; nil answers nothing. request must not be changed.
	Ask func(request []byte) (answer []byte)
	// Lost reports that entries and publications may have been lost: after an interruption, because
	// the subscription was slow, or because the epoch has changed. Read the log again.
	//
	// After a change of epoch, Status already returns the new one. Entries before this call belong
	// to the old epoch, entries after it to the new one.
	Lost func()
}

// Entry is a message of a room's log.
type Entry struct {
	Position uint64
	At       time.Time // When the engine accepted it.
	Data     []byte    // The data given to Append. Shared: must not be changed.
}

// Row is a row of the table, or the end of one.
type Row struct {
	Key     string
	Value   []byte    // The value given to Put; nil if Deleted. Shared: must not be changed.
	Deleted bool      // The row was deleted, or its time to live has ended.
	Expires time.Time // When its time to live ends; zero if Deleted.
}

// Status is the state of an engine.
type Status struct {
	// Epoch names the numbering of the log: ten hex digits, lower case. It changes when the log is
	// recreated or goes back to an earlier state, because a position may then be given twice. Empty
	// before the first connection.
	Epoch string
	// Connected reports that the engine is connected. Without a connection, calls fail or wait, and
	// publications are lost.
	Connected bool
}
