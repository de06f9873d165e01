package presence

import (
	"example.com/presence/pkg/presence/auth"
	"example.com/presence/pkg/presence/internal/hub"
	"example.com/presence/pkg/presence/room"
)

// User is an authenticated user, as an [Authenticator] returns it. Its fields are ID, Name, Info
// (compact JSON), Join and Send (room patterns, in which * matches any run of characters), Admin,
// SID, Expires and Session.
type User = auth.User

// Member is a user in a room. Its fields are ID, Name, Info (compact JSON), Connections (0 during
// the grace period) and Since.
type Member = room.Member

// Message is a message to a room. Its fields are Room, ID, Event, From (nil if the server sent it),
// Data (compact JSON) and At.
type Message = room.Message

// Sender is the user that sent a message. Its fields are ID and Name.
type Sender = room.Sender

// Reason is the reason why a member's last connection closed. The values are closed, timeout,
// removed, expired, slow and node. It is empty if the member stays in the room on other nodes; see
// [Config.OnLeave].
type Reason = room.Reason

// RoomCount holds the counts of a room in use.
type RoomCount struct {
	Room        string // name of the room
	Connections int
	Users       int // members, including those in their grace period
}

// Stats holds the statistics of one node. Connections, Users, Rooms, Bans, LogBytes, LogKeys,
// SnapshotsUnsent and SnapshotBytesUnsent are current values. Joins, Leaves, Messages, Counts,
// Snapshots and Resets are totals since the start.
type Stats = hub.Stats
