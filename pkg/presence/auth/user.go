package auth

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"
	"unicode/utf8"

	"example.com/presence/pkg/presence/internal/input"
)

// User is an authenticated user and its rights. Each User that this package returns is within the
// limits of [User.Checked].
type User struct {
	// ID is the token's sub: 1 to 256 bytes of UTF-8 without control characters, format characters
	// (category Cf) and U+FFFD. Most format characters are invisible, so two IDs could look alike.
	// The joiners U+200C and U+200D are allowed between two non-ASCII characters, because emoji
	// sequences and words of some languages contain them.
	ID string

	// Name is the display name of the user: at most 128 bytes of UTF-8. It contains none of the
	// characters that an ID must not contain, because Checked removes them. It may be empty.
	Name string

	// Info is application data about the user: one compact JSON value, at most 1 KiB. It is {} if
	// the token has none.
	Info json.RawMessage

	// Join and Send are patterns of the rooms that the user may join and send to. * matches any run
	// of characters, including an empty one. Nil allows no room.
	Join, Send []string

	// Admin allows the user to join, watch and send to each room, also without Join and Send, to
	// list rooms, and to ban users. An admin's messages have no sender, because they are the
	// server's own.
	Admin bool

	// SID is the token's sid. It distinguishes several sign-ins of one user. It may be empty.
	SID string

	// Expires is the time at which the token expires. A zero time means never.
	Expires time.Time

	// Session identifies the cookie that contained the token, so that a sign-out can end every
	// stream opened with that cookie. It is a hash of the token, never the token itself. It is
	// empty if the token was not in the cookie.
	Session string
}

// Checked checks the limits of ID, Name and Info. It returns the user with a cleaned Name and a
// compacted Info. The limit of Name applies after the removal of the characters that a Name must
// not contain. An identity provider may allow them, so they are removed instead of rejected. An
// empty Info becomes {}. The error wraps [ErrBadToken]. It is a [*ClaimError] unless the ID is
// empty. The returned Info shares no memory with u.Info.
func (u User) Checked() (User, error) {
	if u.ID == "" {
		return User{}, badToken(reasonClaim, "sub missing or empty")
	}
	if !input.IsUserID(u.ID) {
		return User{}, &ClaimError{"sub", fmt.Sprintf("must be at most %d bytes of UTF-8 without U+FFFD, control characters and "+
			"format characters (U+200C and U+200D are allowed between non-ASCII characters)", input.MaxUserID)}
	}
	if u.Name = input.Clean(u.Name); len(u.Name) > input.MaxUserName {
		return User{}, &ClaimError{"name", fmt.Sprintf("must be at most %d bytes", input.MaxUserName)}
	}
	if len(u.Info) == 0 || string(u.Info) == "{}" {
		u.Info = json.RawMessage("{}")
		return u, nil
	}
	var info bytes.Buffer
	if !utf8.Valid(u.Info) || json.Compact(&info, u.Info) != nil {
		return User{}, &ClaimError{"info", "must be JSON"}
	}
	if info.Len() > input.MaxInfo {
		return User{}, &ClaimError{"info", "must be at most 1 KiB of JSON"}
	}
	u.Info = bytes.Clone(info.Bytes()) // do not keep the buffer, which is as large as the input
	return u, nil
}
