package presence

import (
	"example.com/presence/pkg/presence/auth"
	"example.com/presence/pkg/presence/internal/hub"
	"example.com/presence/pkg/presence/room"
)

// User is an authenticated user, the answer of an [Authenticator]: ID, Name, Info (compact JSON),
// Join and Send (patterns of rooms, in which * stands for any run of characters), Admin, SID,
// Expires and Session.
type User = auth.User

// Member is a user in a room: ID, Name, Info (compact JSON), Connections (0 during the grace
// period) and Since.
type Member = room.Member

// Message is one message to a room: Room, ID, Event, From (nil if the server sent it), Data
// (compact JSON) and At.
type Message = room.Message

// Sender is the user that sent a message: ID and Name.
type Sender = room.Sender

// Reason is why a member left: the end of its last connection. The values are closed, timeout,
// removed, expired and slow.
type Reason = room.Reason

// RoomCount is a room in use and its numbers.
type RoomCount struct {
	Room        string // its name
	Connections int
	Users       int // members, those in their grace period included
}

// Stats are figures of one node. Connections, Users, Rooms, Bans, LogBytes, LogKeys,
// SnapshotsUnsent and SnapshotBytesUnsent are of now; Joins, Leaves, Messages, Counts, Snapshots
// and Resets are totals since the start.
type Stats = hub.Stats
