package presence

import (
	"example.com/presence/pkg/presence/auth"
	"example.com/presence/pkg/presence/internal/hub"
	"example.com/presence/pkg/presence/internal/stream"
	"example.com/presence/pkg/presence/room"
)

// User is an authenticated user, as an [Authenticator] returns it. Its fields are ID, Name, Info
// (compact JSON), Join and Send (room patterns, in which * matches any run of characters), Admin,
// SID, Expires and Session.
type User = auth.User

// Member is a user in a room. Its fields are ID, Name, Info (compact JSON), Connections (0 during
// the grace period) and Since.
type Member = room.Member

// Ban is a ban of a user from a room. Its fields are ID (of the user) and Until (when the ban ends,
// in UTC, rounded up to a second).
type Ban = hub.Ban

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

// Stats holds the statistics of one node. Gauges are current values. Totals count since the start.
type Stats struct {
	// Stats has the gauges and totals of rooms, users and messages, such as Connections, Users,
	// Rooms, Joins, Leaves, Messages and Counts.
	hub.Stats
	// Streams has the gauges and totals of the delivery to sockets: Deliveries, Bytes, Backlogged,
	// BacklogBytes and Unsent. IOUring and IOUringError are the way of sending.
	Streams stream.Stats

	IdleConnections int    // gauge: connections without a stream; 0 without Harden
	AcceptFailures  uint64 // total: connections that could not be accepted, as at the open-file limit; 0 without Harden
	Draining        bool   // the server is shutting down

	// Refusals has the total of refused requests, streams and connections for each cause.
	Refusals map[string]uint64
	// AuthFailures has the total of failed authentications for each of [auth.Reasons].
	AuthFailures map[string]uint64

	MaxConnections     int // Config.MaxConnections; 0: unlimited
	MaxIdleConnections int // Config.MaxIdleConnections
	MaxRooms           int // Config.MaxRooms
	MaxLogBytes        int // Config.HistoryBytes; 0 with a Backplane of the embedding program
	MaxUnsentTotal     int // Config.MaxUnsentTotal
}

// Refused returns the total of all refusals.
func (s Stats) Refused() (n uint64) {
	for _, of := range s.Refusals {
		n += of
	}
	return n
}
