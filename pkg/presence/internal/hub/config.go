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

// Config holds the settings of a [Hub]. The caller checks them: every field is required unless its
// comment says otherwise.
type Config struct {
	Bus     backplane.Bus
	OwnBus  bool    // the hub closes the bus
	Streams Streams // closed by the hub
	Clock   Clock   // nil: package time
	Log     *slog.Logger
	Warn    *loglimit.Limiter

	// Count returns the user count of a room.
	Count       func(*room.Room) int
	Linger      time.Duration // grace period of a member; 0 is none
	Coalesce    time.Duration // shortest flush interval
	Heartbeat   time.Duration // announced in sync
	MemberLimit int
	RoomAge     time.Duration // how long a room that nobody uses is kept

	MaxConnections        int // 0 is no limit
	MaxConnectionsPerUser int // 0 is no limit
	MaxRooms              int
	MaxReplay             int // bytes of messages that replays under way hold
	MaxSnapshots          int // bytes of snapshots under way; 0: 64 MiB

	// The hooks may be nil.
	OnMessage func(room.Message)
	OnJoin    func(roomName string, m room.Member)
	OnLeave   func(roomName string, m room.Member, reason room.Reason)
}

// maxSnapshots is Config.MaxSnapshots by default.
const maxSnapshots = 64 << 20

// Errors of a hub's methods.
var (
	// ErrDraining: the hub is shutting down.
	ErrDraining = errors.New("the server is shutting down")
	// ErrNotInRoom: the user is not in the room.
	ErrNotInRoom = errors.New("the user is not in the room")
	// ErrTooManyRooms: there are MaxRooms rooms, all in use.
	ErrTooManyRooms = errors.New("there are as many rooms as may be")
	// ErrBusy: the clients of the room, or the message log, were slower than the messages for 2 s.
	ErrBusy = errors.New("the room is too busy")
	// ErrTooManyBans: the table of bans is full.
	ErrTooManyBans = errors.New("too many users are kept out of rooms just now")
	// ErrBanned: the user was removed from the room, and the ban has not ended.
	ErrBanned = errors.New("removed from the room")
	// ErrFull: there are MaxConnections connections.
	ErrFull = errors.New("as many streams are open as may be")
	// ErrUserFull: the user has MaxConnectionsPerUser connections.
	ErrUserFull = errors.New("the user has as many streams open as it may")
)

// errClosed: the room was dropped after the caller had looked it up. The caller looks it up again.
var errClosed = errors.New("room closed")

// engineError returns an error of the backplane as the caller gets it: any that the backplane does
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
