package auth

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"example.com/presence/pkg/presence/internal/input"
)

var (
	// ErrNoToken: the request has no token in any of the sources.
	ErrNoToken = errors.New("no token")

	// ErrBadToken: the request has a token, and it is invalid. An error that wraps it gives the
	// reason. That text may be shown to the client and contains no part of the token.
	ErrBadToken = errors.New("the token is not valid")

	// ErrUnavailable: the token cannot be verified, because the keys are not available. The same
	// token may be accepted later.
	ErrUnavailable = errors.New("keys unavailable")
)

func badToken(reason string) error { return fmt.Errorf("%w: %s", ErrBadToken, reason) }

// ClaimError is an [ErrBadToken] for a claim of another type or out of its limits. Its text may be
// shown to the client.
type ClaimError struct {
	Claim  string // such as sub or presence.join; presence.info is info
	Reason string // a predicate for the claim, such as "must be a string"
}

// Error returns the text of ErrBadToken, the claim and the reason.
func (e *ClaimError) Error() string {
	return ErrBadToken.Error() + ": its " + e.Claim + " " + e.Reason
}

// Unwrap returns ErrBadToken.
func (e *ClaimError) Unwrap() error { return ErrBadToken }

// User is an authenticated user with its rights. A User that this package returns is within the
// limits of [User.Checked].
type User struct {
	// ID is the token's sub: 1 to 256 bytes of UTF-8 without a control character or U+FFFD.
	ID string

	// Name is the display name of the user: at most 128 bytes of UTF-8 without a control character
	// or U+FFFD. It may be empty.
	Name string

	// Info is application data about the user: one value of compact JSON, at most 1 KiB. It is {}
	// if the token has none.
	Info json.RawMessage

	// Join and Send are patterns of the rooms that the user may join and send to. * matches any run
	// of characters, also the empty one. Nil allows no room.
	Join, Send []string

	// Admin allows the user to list rooms and to remove users. Messages of an admin have no sender:
	// they are the server's own.
	Admin bool

	// SID is the token's sid. It distinguishes two sign-ins of one user. It may be empty.
	SID string

	// Expires is the time at which the token expires. Zero means never.
	Expires time.Time

	// Session identifies the cookie that held the token, so that a sign-out can end every stream
	// opened with it. It is a hash of the token, never the token. Empty if the token was not in the
	// cookie.
	Session string
}

// Checked returns the user with its Info compacted, {} for none. The error wraps [ErrBadToken]. It
// is a [*ClaimError] unless the ID is empty. The returned Info shares no memory with u's.
func (u User) Checked() (User, error) {
	if u.ID == "" {
		return User{}, badToken("its sub is missing or empty")
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
	u.Info = bytes.Clone(info.Bytes()) // the buffer is as large as the input
	return u, nil
}

// checkText returns a *ClaimError if the text is longer than max bytes, could forge a line of a
// stream, or could be mistaken for another text.
func checkText(claim, text string, max int) error {
	if input.PlainBytes(text, max) && input.Exact(text) {
		return nil
	}
	return &ClaimError{claim, fmt.Sprintf("must be at most %d bytes of UTF-8 without control characters and U+FFFD", max)}
}
