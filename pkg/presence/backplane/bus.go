package backplane

import (
	"context"
	"errors"
	"time"

	"example.com/presence/pkg/presence/room"
)

// Nodes is the topic to which every node subscribes. Every other topic is a room's.
const Nodes room.Name = ""

// KeyAge is how long a bus knows an idempotency key again.
const KeyAge = 2 * time.Minute

// The errors of a [Bus] that a caller can act on; an engine may wrap them. Any other error means
// what ErrUnavailable means.
var (
	// ErrClosed is returned by every call after Close.
	ErrClosed = errors.New("backplane closed")
	// ErrUnavailable is returned while the engine has no contact. A call that changes something may
	// have succeeded all the same.
	ErrUnavailable = errors.New("backplane unavailable")
	// ErrKeysFull is returned by Append if more messages with a key came within KeyAge than the
	// engine can know again. The message was not accepted.
	ErrKeysFull = errors.New("idempotency key limit reached")
	// ErrTableFull is returned by Put. The row was not stored.
	ErrTableFull = errors.New("table limit reached")
)

// Bus is what an engine gives to the nodes of one server: publish/subscribe, a log per room, a
// table and its own status. The package comment lists which calls may be made where.
//
// A ctx bounds the call. When it ends first, the error is its cause, and a call that changes
// something may have succeeded all the same. The bus keeps data, request and value as they are: the
// caller must not change them afterwards.
type Bus interface {
	// Publish sends data to every subscription of the topic that has Handler.Message, those of this
	// node included. Each receives it at most once, and in the order in which one goroutine
	// published; between publishers there is no order. A loss is silent for the publisher.
	Publish(ctx context.Context, topic room.Name, data []byte) error

	// Subscribe has h called for the topic: for entries that are accepted, and publications that
	// are sent, after Subscribe has returned. To miss no entry, subscribe first and read the log
	// then. An engine whose subscriptions take effect later calls Lost once this one has.
	//
	// All calls of h are made one at a time and in order: h needs no lock against itself.
	//
	// cancel ends the subscription and does not wait. It may be called while holding a lock that h
	// takes, from within h, and more than once. A call of h that had begun may go on after cancel
	// has returned; no other begins. So h checks, under its own lock, whether its owner is done.
	Subscribe(topic room.Name, h Handler) (cancel func(), err error)

	// Ask sends a request to every subscription of the topic that has Handler.Ask, those of this
	// node included, and calls answer with each reply, one at a time, on the caller's goroutine. It
	// returns nil when answer returns false, when ctx ends (some answers are normal), and, if the
	// engine can know that, when no subscription is left that could answer. A subscription answers
	// once at most; a lost request or reply is silent.
	Ask(ctx context.Context, topic room.Name, request []byte, answer func(data []byte) (more bool)) error

	// Append adds a message to the room's log and returns its position, which is greater than that
	// of every earlier entry of the room. It calls Handler.Entry of every subscription of the room,
	// in log order, maybe before it returns and maybe after.
	//
	// A key names the message in this room; "" is none. A key that Append has accepted within
	// KeyAge returns the position of that first message and duplicate, and adds nothing. An engine
	// may forget a key earlier if its entry has left the log by age or a limit.
	//
	// Append may wait and may fail. After any error but ErrClosed and ErrKeysFull the message may
	// have been accepted: try again with the same key. The position belongs to the epoch that
	// Status returned before the call, if it still returns the same one after it.
	Append(ctx context.Context, name room.Name, key string, data []byte) (position uint64, duplicate bool, err error)

	// Read returns the entries of the room whose positions are greater than after, in log order, as
	// far as the log still has them. The slice is the caller's own; nil if there are none.
	//
	// complete promises that no entry above after is missing. It is true if the entry at after is
	// still in the log, or if after is what Last returns. It is false if an entry above after was
	// removed, and if after is greater than Last, and then there are no entries either. In
	// between an engine that cannot tell returns false.
	Read(ctx context.Context, name room.Name, after uint64) (entries []Entry, complete bool, err error)

	// Last returns the position of the newest entry, whether or not the log still has it. For a
	// room without entries it is a position that no entry has and that every later entry exceeds.
	Last(ctx context.Context, name room.Name) (position uint64, err error)

	// Clear removes the room's entries and keeps its last position. A Read from below that is not
	// complete afterwards. Keys stay known. No subscription is notified.
	Clear(ctx context.Context, name room.Name) error

	// Put stores a row for ttl, which is positive, in place of the row with the same key. Engines
	// may round ttl up to a whole second. Keys are 1 to 512 bytes of any kind.
	Put(ctx context.Context, key string, value []byte, ttl time.Duration) error

	// Delete removes a row, if there is one.
	Delete(ctx context.Context, key string) error

	// Watch calls f with every row that exists and then with each change: a row that was put, or
	// one with Deleted set. Calls are made one at a time; the changes of one key come in their
	// order. Changes during an interruption follow after it, of each key the last one at least.
	//
	// When Watch returns, f has been called with every row that existed. An engine that has had no
	// contact yet returns at once and delivers those rows before Status reports Connected.
	//
	// cancel is as that of Subscribe.
	Watch(f func(Row)) (cancel func(), err error)

	// Status returns the state of the engine now.
	Status() Status

	// Notify calls f with the new status after each change, one at a time; of changes that follow
	// each other closely it may skip all but the last. cancel is as that of Subscribe.
	Notify(f func(Status)) (cancel func())

	// Close ends all subscriptions, watches and notifications, and waits for calls of their
	// functions that have begun; none begins later. It frees what the bus holds. Of a Bus that
	// other handles share it ends this handle alone. A second call does nothing.
	Close()
}

// Handler holds the functions that a subscription calls; nil leaves one out. See the package
// comment for what they may do.
type Handler struct {
	// Entry receives each new entry of the room's log: in log order, within one epoch with
	// positions that grow, and none twice. If one is left out, Lost is called in its place or
	// later.
	Entry func(Entry)
	// Message receives what is published to the topic. data must not be changed.
	Message func(data []byte)
	// Ask answers a request; nil answers nothing. request must not be changed.
	Ask func(request []byte) (answer []byte)
	// Lost reports that entries and publications may have been lost: after an interruption, because
	// the subscription was slow, or because the epoch has changed. Read the log again. Where the
	// epoch has changed, Status returns the new one by now; the entries before this call are of the
	// old epoch, those after it of the new one.
	Lost func()
}

// Entry is a message of a room's log.
type Entry struct {
	Position uint64
	At       time.Time // when the engine accepted it
	Data     []byte    // as given to Append; shared, and must not be changed
}

// Row is a row of the table, or the end of one.
type Row struct {
	Key     string
	Value   []byte    // as given to Put; shared, and must not be changed; nil if Deleted
	Deleted bool      // the row was deleted, or its time to live has ended
	Expires time.Time // the end of its time to live; zero if Deleted
}

// Status is the state of an engine.
type Status struct {
	// Epoch names the numbering of the log: ten hex digits, lower case. It changes when the log is
	// made anew or went back, so that a position may be given a second time. Empty before the first
	// contact.
	Epoch string
	// Connected reports that the engine has contact. Without it calls fail or wait, and
	// publications are lost.
	Connected bool
}
