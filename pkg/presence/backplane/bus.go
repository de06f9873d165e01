package backplane

import (
	"context"
	"errors"
	"fmt"
	"time"

	"example.com/presence/pkg/presence/room"
)

// Nodes is the topic that every node subscribes to. Every other topic is the name of a room.
const Nodes room.Name = ""

// KeyAge is how long a bus remembers an idempotency key.
const KeyAge = 2 * time.Minute

// These are the errors of a [Bus] that a caller can act on. An engine may wrap them. Treat any
// other error like ErrUnavailable.
var (
	// ErrClosed is returned after Close by every method that returns an error.
	ErrClosed = errors.New("backplane closed")
	// ErrUnavailable is returned while the engine is not connected. A call that changes data may
	// still have succeeded.
	ErrUnavailable = errors.New("backplane unavailable")
	// ErrNoSubscription is returned by Ask if the topic has no subscription with Handler.Ask. An
	// engine that cannot detect this returns nil when ctx ends.
	ErrNoSubscription = errors.New("no subscription to ask")
	// ErrKeysFull is returned by Append when the engine already remembers the maximum number of
	// keys used within the last KeyAge. The message was not accepted.
	ErrKeysFull = errors.New("idempotency key limit reached")
	// ErrTableFull is returned by Put when the key is new and the table has reached its row limit.
	// The row was not stored. An engine that knows its limit returns a [*TableFullError].
	ErrTableFull = errors.New("table row limit reached")
)

// TableFullError is an ErrTableFull with the limit. Its text is "table row limit reached (100000)".
type TableFullError struct {
	Limit int // Maximum rows in the table.
}

// Error returns the text of ErrTableFull with the limit.
func (e *TableFullError) Error() string { return fmt.Sprintf("%v (%d)", ErrTableFull, e.Limit) }

// Unwrap returns ErrTableFull.
func (e *TableFullError) Unwrap() error { return ErrTableFull }

// Bus is the interface of an engine. It provides the nodes of one server with publish/subscribe, a
// message log per room, a table, and the status of the engine. The package comment describes which
// calls are allowed within a handler or while holding a lock. All methods are safe for concurrent
// use.
//
// A ctx bounds the call. If ctx ends first, the method returns the cause of ctx (Ask returns nil),
// and a call that changes data may still have succeeded. The bus keeps data, request and value
// without copying them, so the caller must not change them afterwards.
//
// After Close, every method that returns an error returns ErrClosed. While the engine is not
// connected, a call may wait or return ErrUnavailable. Append may also return ErrKeysFull, and Put
// may return ErrTableFull.
type Bus interface {
	// Publish sends data to every subscription of the topic that has Handler.Message, including
	// those of this node. Each subscription receives the data at most once. Data published by one
	// goroutine arrives in the order of its calls; there is no order between publishers. If data is
	// lost, Publish returns no error.
	Publish(ctx context.Context, topic room.Name, data []byte) error

	// Subscribe subscribes h to the topic. h receives the entries accepted and the publications
	// sent after Subscribe has returned. To miss no entry, subscribe first and then read the log.
	// If an engine starts the subscription only later, it calls Lost once the subscription has
	// started.
	//
	// The servers of an engine may learn of the subscription at different times. Until the last one
	// has, h may miss entries and publications without a call of Lost, even after a read of the
	// log. Therefore, read the log again a moment later.
	//
	// The bus calls the functions of h one at a time and in order, so they need no lock against
	// each other.
	//
	// cancel ends the subscription without waiting for a running call. It may be called more than
	// once, from within h, and while holding a lock that h takes. A call of h that has begun may
	// continue after cancel has returned, but no other call begins. Therefore h must check, under
	// its own lock, whether its owner has already finished.
	Subscribe(topic room.Name, h Handler) (cancel func(), err error)

	// Ask sends a request to every subscription of the topic that has Handler.Ask, including those
	// of this node. It calls answer with each reply, one at a time, on the caller's goroutine. Each
	// subscription replies at most once. If a request or a reply is lost, Ask returns no error.
	//
	// Ask returns nil when one of these conditions is met:
	//
	//   - answer returns false.
	//   - ctx ends. Some replies may then be missing, which is normal.
	//   - No subscription is left that could reply, if the engine can detect this.
	//
	// If there is no such subscription from the start, Ask may return ErrNoSubscription.
	Ask(ctx context.Context, topic room.Name, request []byte, answer func(data []byte) (more bool)) error

	// Append adds a message to the room's log. It returns the position of the message, which is
	// greater than that of every earlier entry of the room. The bus calls Handler.Entry of every
	// subscription of the room, in log order, before or after Append returns.
	//
	// key is the message's idempotency key in this room; "" means that there is none. If the key
	// was already accepted within KeyAge, Append adds nothing and returns the position of the first
	// message, with duplicate set to true. An engine may forget a key earlier if the log has
	// dropped the entry because of its age or a limit.
	//
	// Append may wait and may fail. After any error except ErrClosed and ErrKeysFull, the message
	// may have been accepted, so retry with the same key. The position belongs to the epoch that
	// Status returned before the call, provided that Status still returns that epoch after the
	// call.
	Append(ctx context.Context, name room.Name, key string, data []byte) (position uint64, duplicate bool, err error)

	// Read returns the entries of the room whose positions are greater than after, in log order, as
	// far as the log still contains them. The slice belongs to the caller; it is nil if there are
	// no entries. No entry is missing between the first and the last one, even if the log removes
	// entries meanwhile.
	//
	// complete is true only if no entry above after is missing:
	//
	//	the entry at after is still in the log    true
	//	after is the position that Last returns   true
	//	an entry above after was removed          false
	//	after is greater than Last                false, without entries
	//	any other case                            true, or false if the engine cannot know
	//
	// The caller may allow several seconds, for many entries over a slow network. If an answer of
	// the engine is lost, Read should therefore fail earlier, so that the caller can repeat it.
	Read(ctx context.Context, name room.Name, after uint64) (entries []Entry, complete bool, err error)

	// Last returns the position of the newest entry, even if that entry is no longer in the log.
	// For a room without entries, it returns a position that no entry has and that is lower than
	// the position of every later entry.
	Last(ctx context.Context, name room.Name) (position uint64, err error)

	// Clear removes the room's entries but keeps its last position and its idempotency keys. A
	// later Read from below that position is not complete. Subscriptions are not notified.
	Clear(ctx context.Context, name room.Name) error

	// Put stores a row for the duration ttl and replaces any row with the same key. It returns an
	// error if ttl is not positive. Engines may round ttl up to a whole second. A key consists of 1
	// to 512 arbitrary bytes.
	Put(ctx context.Context, key string, value []byte, ttl time.Duration) error

	// Delete removes the row with the given key. If there is no such row, it does nothing.
	Delete(ctx context.Context, key string) error

	// Watch calls f with every existing row and then with each change: a row that was put, or a row
	// with Deleted set. It makes one call at a time, and the changes of one key keep their order.
	// After an interruption, f receives the changes that were made meanwhile; for each key, this
	// includes at least the last change.
	//
	// When Watch returns, f has been called with every row that existed. An engine that has never
	// been connected returns immediately instead, and delivers those rows before Status reports
	// Connected.
	//
	// cancel follows the same rules as the cancel function of Subscribe.
	Watch(f func(Row)) (cancel func(), err error)

	// Shared reports whether other nodes may use the engine too. The result never changes. If it is
	// false, the hub neither publishes its presence nor waits for other nodes.
	Shared() bool

	// Status returns the current status of the engine.
	Status() Status

	// Notify calls f with the new status after each change, one call at a time. If several changes
	// follow in quick succession, it may skip all but the last. After Close, Notify does nothing.
	// cancel follows the same rules as the cancel function of Subscribe.
	Notify(f func(Status)) (cancel func())

	// Close ends all subscriptions, watches and notifications, and releases the resources of the
	// bus. It waits for running calls of their functions; no call begins after Close has returned.
	// If several handles share the engine, Close ends only this handle. Calling Close again is a
	// no-op.
	Close()
}

// SenderLog is an optional interface of an engine. An engine implements it if its log has one limit
// for all rooms and shares the space among the senders. The hub then calls AppendFrom in place of
// Bus.Append, but only if Bus.Shared returns false.
//
// A type that embeds a [Memory] has its AppendFrom too. If such a type replaces Append, it must
// also replace AppendFrom.
type SenderLog interface {
	// AppendFrom is Append of [Bus] with the user id of the sender: at most 256 bytes, or empty for
	// the server. All messages of the server together count as those of one sender. The sender has
	// no effect on the position, on the key or on the delivery. The errors are those of Append.
	AppendFrom(ctx context.Context, name room.Name, sender room.UserID, key string, data []byte) (position uint64, duplicate bool, err error)
}

// Handler holds the functions that a subscription calls. Nil functions are not called. The package
// comment describes which methods these functions may call and which locks they may take.
type Handler struct {
	// Entry receives each new entry of the room's log in log order and at most once, so positions
	// increase within an epoch. If the bus omits an entry, it calls Lost, either immediately or
	// later.
	Entry func(Entry)
	// Message receives each publication of the topic. It must not change data.
	Message func(data []byte)
	// Ask returns the reply to a request, or nil to send no reply. It must not change request.
	Ask func(request []byte) (answer []byte)
	// Lost reports that entries and publications may have been lost, because of an interruption,
	// because the subscription was slow, or because the epoch has changed. The owner of the
	// subscription must then read the log again, on another goroutine, because a handler must not
	// call Read.
	//
	// If the epoch has changed, Status already returns the new epoch when Lost is called. Entries
	// received before this call belong to the old epoch, and entries received after it belong to
	// the new epoch.
	Lost func()
}

// Entry is a message in the log of a room.
type Entry struct {
	Position uint64
	At       time.Time // When the engine accepted it.
	Data     []byte    // The data passed to Append. It is shared and must not be changed.
}

// Row is a row of the table, or the deletion of a row.
type Row struct {
	Key     string
	Value   []byte    // The value passed to Put; nil if Deleted. It is shared and must not be changed.
	Deleted bool      // True if the row was deleted or its time to live has ended.
	Expires time.Time // When the time to live ends, by the clock of this node; zero if Deleted.
}

// Status describes the current state of an engine.
type Status struct {
	// Epoch identifies the numbering of the log, as ten lowercase hexadecimal digits. It changes
	// when the log is recreated or restored to an earlier state, because positions may then be
	// assigned a second time. It is empty before the first connection.
	Epoch string
	// Connected reports whether the engine is connected. While it is not connected, calls fail or
	// wait, and publications are lost.
	Connected bool
}
