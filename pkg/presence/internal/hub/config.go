package hub

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/internal/loglimit"
	"example.com/presence/pkg/presence/internal/rates"
	"example.com/presence/pkg/presence/room"
)

// Config holds the settings of a [Hub]. The hub does not validate them. A field is required unless
// its comment describes the zero value.
type Config struct {
	Bus     backplane.Bus
	OwnBus  bool        // Hub.Close closes the bus
	Streams Streams     // Hub.Close closes them
	Clock   Clock       // nil: package time
	Node    room.NodeID // id of this run of the node, of at most 64 bytes; empty: 128 random bits
	Label   string      // names the node in the logs of all nodes, see [IsLabel]; empty: none
	Log     *slog.Logger
	Warn    *loglimit.Limiter

	// Count returns the user count that the clients of a room receive.
	Count       func(*room.Room) int
	Linger      time.Duration // grace period of members; 0: none
	Coalesce    time.Duration // minimum flush interval
	Heartbeat   time.Duration // heartbeat interval announced in sync
	MemberLimit int           // a room with more members sends only counts
	RoomAge     time.Duration // an unused room is dropped after this time

	// Grace is the time that the operator allows for the shutdown. If the bus is shared, the
	// goodbyes are spread over half of it; see Hub.Close. 0: all at once.
	Grace time.Duration

	MaxConnections        int // maximum number of connections; 0: no limit
	MaxConnectionsPerUser int // maximum number of connections per user; 0: no limit
	MaxRooms              int // maximum number of live rooms, including unused ones
	MaxRoomsPerUser       int // maximum number of live rooms that a user has created; 0: no limit of its own
	MaxReplay             int // size limit of the log, in bytes; see replays
	MaxSnapshots          int // maximum size of all unsent snapshots, in bytes; 0: 64 MiB

	// Costs limits the bytes per second that each user causes. A join that gets a large snapshot
	// costs the size of the snapshot. nil: no limit.
	Costs *rates.Table

	// These limit the log entries that the hub keeps so that clients can resume without a read of
	// the log. They are used only if the bus is shared. If one is 0, the hub keeps no entries.
	RingMessages int           // maximum entries per room; also the messages held back in a repair
	RingAge      time.Duration // maximum age of an entry
	RingBytes    int           // maximum size of the entries of all rooms, in bytes

	// Settings returns the settings that all nodes should have in common. If a node has other
	// values, one of the two logs a warning for each. A value is at most 256 bytes of plain text.
	// The hub calls Settings before each heartbeat, because a value may change. Nil means none.
	Settings func() []Setting

	// RoundTrip receives the time from the publication of a heartbeat of this node until this node
	// has received it, once per second, if the bus is shared. nil: not measured. It must not block.
	RoundTrip func(time.Duration)

	entries      int // maximum number of entries in a frame; 0: maxEntries
	pieceEntries int // maximum number of entries in a piece of a part; 0: maxPieceEntries

	// Hooks of the embedding program. Each may be nil. If the bus is shared, OnJoin and OnLeave are
	// called only while this node serves the room; see the package comment.
	OnMessage func(room.Message)
	OnJoin    func(roomName string, m room.Member)
	OnLeave   func(roomName string, m room.Member, reason room.Reason)
}

// settings returns the settings of the node as they are now.
func (c *Config) settings() []Setting {
	if c.Settings == nil {
		return nil
	}
	return c.Settings()
}

// maxSnapshots is the default of Config.MaxSnapshots.
const maxSnapshots = 64 << 20

// Errors that the methods of a Hub return or wrap. The text of a wrapped limit error includes the
// limit.
var (
	// ErrDraining means that the hub is shutting down.
	ErrDraining = errors.New("server shutting down")
	// ErrIncomplete means that a result may lack the connections of other nodes. A live node has
	// not answered within 1 s, or this node is cut off. The result is valid otherwise.
	ErrIncomplete = errors.New("result incomplete: nodes missing")
	// ErrNotInRoom means that the user is not in the room.
	ErrNotInRoom = errors.New("user not in room")
	// ErrTooManyRooms means that MaxRooms rooms exist, and all of them are in use.
	ErrTooManyRooms = errors.New("room limit reached")
	// ErrUserRooms means that the user owns MaxRoomsPerUser rooms, or more rooms than are free, and
	// all of them are in use.
	ErrUserRooms = errors.New("per-user room limit reached")
	// ErrBusy means that a message was not accepted within 2 s, because the clients of the room or
	// the message log were too slow.
	ErrBusy = errors.New("room too busy")
	// ErrTooManyBans means that the ban table is full, and that the user is not banned yet.
	ErrTooManyBans = errors.New("ban limit reached")
	// ErrNotBanned means that the user is not banned from the room.
	ErrNotBanned = errors.New("user not banned from room")
	// ErrBanned means that the user is banned from the room. It is returned as a [*BannedError].
	ErrBanned = errors.New("user banned from room")
	// ErrFull means that MaxConnections connections are open.
	ErrFull = errors.New("connection limit reached")
	// ErrSnapshots means that the user, or all users together, have too many unsent snapshots.
	ErrSnapshots = errors.New("limit of unsent snapshots reached")
	// ErrReplays means that the user, or all users together, have too many unsent replays.
	ErrReplays = errors.New("limit of unsent replays reached")
	// ErrHistoryReads means that the log was not read for a page of the history within 2 s, because
	// other requests for such pages came first.
	ErrHistoryReads = errors.New("limit of history reads reached")
	// ErrOverloaded means that too many events of the room are unsent, while the limit of all
	// unsent events is reached.
	ErrOverloaded = errors.New("limit of unsent events reached, and room over its share")
	// ErrUserFull means that the user has MaxConnectionsPerUser open connections.
	ErrUserFull = errors.New("per-user connection limit reached")
)

// RateError means that a user has exceeded its cost rate. Wait is the time until it may try again.
type RateError struct{ Wait time.Duration }

func (e *RateError) Error() string { return "cost rate limit of the user exceeded" }

// BannedError is an ErrBanned with the room and the end of the ban.
type BannedError struct {
	Room  room.Name
	Until time.Time
}

func (e *BannedError) Error() string {
	return fmt.Sprintf("user banned from room %q until %s", e.Room, e.End().Format(time.RFC3339))
}

// End returns the end of the ban as it is shown: in UTC, rounded up to a second.
func (e *BannedError) End() time.Time { return shownEnd(e.Until) }

// shownEnd returns the end of a ban as it is shown: in UTC, rounded up to a second.
func shownEnd(t time.Time) time.Time { return t.UTC().Add(time.Second - 1).Truncate(time.Second) }

// Unwrap returns [ErrBanned].
func (e *BannedError) Unwrap() error { return ErrBanned }

// errClosed means that the room was dropped after the caller had found it. The caller must open the
// room again.
var errClosed = errors.New("room closed")

// engineError maps an error of the backplane to an error of the hub. An unknown error is wrapped in
// [backplane.ErrUnavailable].
func engineError(err error) error {
	for _, named := range []error{nil, backplane.ErrClosed, backplane.ErrUnavailable, backplane.ErrKeysFull, backplane.ErrTableFull,
		context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, named) {
			return err
		}
	}
	return fmt.Errorf("%w: %w", backplane.ErrUnavailable, err)
}
