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
	// ErrNoToken: the request holds no token in a place where one is looked
	// for.
	ErrNoToken = errors.New("no token")

	// ErrBadToken: there is a token, and it is not to be believed. Errors that
	// wrap it say why, in words that may be shown to the client and that hold
	// no part of the token.
	ErrBadToken = errors.New("the token is not valid")

	// ErrUnavailable: whether the token is to be believed cannot be said just
	// now, as the keys could not be had. The same token may do in a moment.
	ErrUnavailable = errors.New("keys unavailable")
)

func badToken(why string) error { return fmt.Errorf("%w: %s", ErrBadToken, why) }

// ClaimError is an [ErrBadToken] for a claim that is out of its bounds. Its text may be shown to
// the client.
type ClaimError struct {
	Claim  string // such as sub or presence.join; info for presence.info
	Reason string // continues a sentence that begins with the claim: "must be a string"
}

// Error returns the text of ErrBadToken, the claim and the reason.
func (e *ClaimError) Error() string {
	return ErrBadToken.Error() + ": its " + e.Claim + " " + e.Reason
}

// Unwrap returns ErrBadToken.
func (e *ClaimError) Unwrap() error { return ErrBadToken }

// User is who asks, and what it may do. A User that comes out of this package
// is within the bounds that [User.Checked] states.
type User struct {
	// ID is the token's sub: 1 to 256 bytes of UTF-8 without a control
	// character or U+FFFD.
	ID string

	// Name is what to call the user: at most 128 bytes of UTF-8 without a
	// control character or U+FFFD. It may be empty.
	Name string

	// Info is whatever the application says of the user: one value of compact
	// JSON, at most 1 KiB of it; {} if the token says nothing.
	Info json.RawMessage

	// Join and Send are patterns of the rooms that the user may join, and send to: * stands for any
	// run of characters, the empty one too. Nil allows no room.
	Join, Send []string

	// Admin may list the rooms, remove users, and what it sends is said by the
	// server.
	Admin bool

	// SID is the token's sid, which tells two sign-ins of one user apart; it
	// may be empty.
	SID string

	// Expires is when the token ends; zero means never.
	Expires time.Time

	// Session names the cookie that the token came in, so that all that was
	// opened with it can be ended together: a hash of the token, never the
	// token. Empty if it came in another way.
	Session string
}

// Checked returns the user with its Info made compact, {} for none. The error wraps [ErrBadToken],
// and is a [*ClaimError] unless the ID is empty. The returned Info shares no memory with u's.
func (u User) Checked() (User, error) {
	if u.ID == "" {
		return User{}, badToken("it names no user (sub)")
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
	u.Info = bytes.Clone(info.Bytes()) // the buffer is as large as what was made compact
	return u, nil
}

// checkText returns a *ClaimError if the text is longer than max bytes, or could forge a line of a
// stream or be taken for another text.
func checkText(claim, text string, max int) error {
	if input.PlainBytes(text, max) && input.Exact(text) {
		return nil
	}
	return &ClaimError{claim, fmt.Sprintf("must be at most %d bytes of UTF-8 without control characters and U+FFFD", max)}
}
