package room

import (
	"encoding/json"
	"time"
)

// ConnID identifies an open connection. The owner of the room assigns it.
type ConnID uint64

// UserID is the id of a user, from the sub claim of its token.
type UserID string

// User is the identity that a user joins a room with: id, display name and info.
type User struct {
	ID   UserID
	Name string
	Info json.RawMessage // one compact JSON value
}

// Member is a member of a room as clients receive it in JSON.
type Member struct {
	ID          UserID          `json:"id"`
	Name        string          `json:"name"`
	Info        json.RawMessage `json:"info"`
	Connections int             `json:"connections"` // 0 during the grace period
	Since       time.Time       `json:"since"`
}

// Reason states why a member left: the reason for which its last connection closed. In a call of
// OnLeave it is empty if the member stays in the room on other nodes.
type Reason string

// The reasons of a leave.
const (
	Closed  Reason = "closed"  // the client disconnected
	Timeout Reason = "timeout" // the client stopped answering
	Removed Reason = "removed" // an admin removed the user
	Expired Reason = "expired" // the token expired
	Slow    Reason = "slow"    // the client was a slow consumer
	Node    Reason = "node"    // the node that had the connection has died
)
