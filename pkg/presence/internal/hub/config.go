package hub

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/internal/loglimit"
	"example.com/presence/pkg/presence/room"
)

// Config holds the settings of a [Hub]. The caller validates them. Every field is required unless
// its comment names a zero value or nil.
type Config struct {
	Bus     backplane.Bus
	OwnBus  bool    // Close closes the bus
	Streams Streams // Close closes them
	Clock   Clock   // nil: package time
	Log     *slog.Logger
	Warn    *loglimit.Limiter

	// Count returns the user count of a room: the number that its clients receive.
	Count       func(*room.Room) int
	Linger      time.Duration // grace period of a member; 0: none
	Coalesce    time.Duration // shortest flush interval
	Heartbeat   time.Duration // heartbeat interval that sync announces
	MemberLimit int           // above it, a room sends counts only
	RoomAge     time.Duration // time after which an unused room is dropped

	MaxConnections        int // 0: no limit
	MaxConnectionsPerUser int // 0: no limit
	MaxRooms              int // live rooms, used and unused
	MaxReplay             int // bytes of messages that unsent replays hold
	MaxSnapshots          int // bytes of unsent snapshots; 0: 64 MiB

	// Hooks of the host program. Each may be nil.
	OnMessage func(room.Message)
	OnJoin    func(roomName string, m room.Member)
	OnLeave   func(roomName string, m room.Member, reason room.Reason)
}

// maxSnapshots is the default of Config.MaxSnapshots.
const maxSnapshots = 64 << 20

// Errors that the methods of a Hub return or wrap. An error of a limit has the limit in its text.
var (
	// ErrDraining: the hub is shutting down.
	ErrDraining = errors.New("the server is shutting down")
	// ErrNotInRoom: the user is not in the room.
	ErrNotInRoom = errors.New("the user is not in the room")
	// ErrTooManyRooms: there are MaxRooms rooms, all in use.
	ErrTooManyRooms = errors.New("room limit reached")
	// ErrBusy: the clients of the room, or the message log, were slower than the messages for 2 s.
	ErrBusy = errors.New("the room is too busy")
	// ErrTooManyBans: the table of bans is full.
	ErrTooManyBans = errors.New("ban limit reached")
	// ErrBanned: the user was removed from the room, and its ban has not ended.
	ErrBanned = errors.New("the user is banned from the room")
	// ErrFull: there are MaxConnections connections.
	ErrFull = errors.New("connection limit reached")
	// ErrUserFull: the user has MaxConnectionsPerUser connections.
	ErrUserFull = errors.New("connection limit per user reached")
)

// errClosed: the room was dropped after the caller had found it. The caller must find it again.
var errClosed = errors.New("room closed")

// engineError converts an error of the backplane for the caller. Any error that the backplane does
// not name means that it is unavailable.
func engineError(err error) error {
	for _, named := range []error{nil, backplane.ErrClosed, backplane.ErrUnavailable, backplane.ErrKeysFull, backplane.ErrTableFull,
		context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, named) {
			return err
		}
	}
	return fmt.Errorf("%w: %w", backplane.ErrUnavailable, err)
}
