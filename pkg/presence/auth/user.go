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
	// ID is the token's sub: 1 to 256 bytes of UTF-8 without a control character or U+FFFD.
	ID string

	// Name is the display name of the user: at most 128 bytes of UTF-8 without a control character
	// or U+FFFD. It may be empty.
	Name string

	// Info is application data about the user: one compact JSON value, at most 1 KiB. It is {} if
	// the token has none.
	Info json.RawMessage

	// Join and Send are patterns of the rooms that the user may join and send to. * matches any run
	// of characters, including an empty one. Nil allows no room.
	Join, Send []string

	// Admin allows the user to list rooms and to remove users. An admin's messages have no sender,
	// because they are the server's own.
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

// Checked checks the limits of ID, Name and Info, and returns the user with a compacted Info. An
// empty Info becomes {}. The error wraps [ErrBadToken]. It is a [*ClaimError] unless the ID is
// empty. The returned Info shares no memory with u.Info.
func (u User) Checked() (User, error) {
	if u.ID == "" {
		return User{}, badToken(reasonClaim, "sub missing or empty")
	}
	if err := checkText("sub", u.ID, input.MaxUserID); err != nil {
		return User{}, err
	}
	if err := checkText("name", u.Name, input.MaxUserName); err != nil {
		return User{}, err
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

// checkText returns a *ClaimError if text is longer than max bytes, could inject a line into a
// stream, or could be mistaken for another text.
func checkText(claim, text string, max int) error {
	if input.PlainBytes(text, max) && input.Exact(text) {
		return nil
	}
	return &ClaimError{claim, fmt.Sprintf("must be at most %d bytes of UTF-8 without control characters and U+FFFD", max)}
}
