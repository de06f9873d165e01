package auth

import (
	"cmp"
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/golang-jwt/jwt/v5"
)

// claims is what a token says, as the parser reads it.
type claims struct {
	jwt.Claims // nil: the parser is told not to look at them
	object
}

// UnmarshalJSON refuses what is not UTF-8, where encoding/json would put U+FFFD
// and so make two users one.
func (c *claims) UnmarshalJSON(b []byte) error {
	if !utf8.Valid(b) {
		return errors.New("not UTF-8")
	}
	return json.Unmarshal(b, &c.object)
}

// user returns whom c names, at the time now. An issuer or audience of ""
// stands for any.
func (c claims) user(issuer, audience string, now time.Time) (User, error) {
	var (
		u                  User
		iss                string
		aud                jwt.ClaimStrings
		expires, notBefore date
		presence           object
		join, send         = texts{"lobby"}, texts{"lobby"}
	)
	const numericDate = "a NumericDate from 1970 to 9999"
	err := cmp.Or(
		c.read("sub", &u.ID, "a string"),
		c.read("name", &u.Name, "a string"),
		c.read("sid", &u.SID, "a string"),
		c.read("iss", &iss, "a string"),
		c.read("aud", &aud, "a string or a list of strings"),
		c.read("exp", &expires, numericDate),
		c.read("nbf", &notBefore, numericDate),
		c.read("presence", &presence, "an object"),
	)
	if presence != nil {
		join, send = nil, nil
		err = cmp.Or(err,
			presence.read("presence.join", &join, "a list of strings"),
			presence.read("presence.send", &send, "a list of strings"),
			presence.read("presence.admin", &u.Admin, "true or false"),
		)
	}
	if err != nil {
		return User{}, err
	}
	switch {
	case !expires.IsZero() && !now.Before(expires.Time):
		return User{}, badToken("it has expired")
	case now.Add(leeway).Before(notBefore.Time):
		return User{}, badToken("it is not valid yet")
	case issuer != "" && iss != issuer:
		return User{}, badToken("it is from another issuer")
	case audience != "" && !slices.Contains(aud, audience):
		return User{}, badToken("it is for another audience")
	}
	u.Info, _ = presence.member("info")
	u.Join, u.Send, u.Expires = Patterns(join), Patterns(send), expires.Time
	return u.Checked()
}

// object is a JSON object by the exact names of its members; into a struct
// encoding/json would read Sub and SUB for sub as well. Of a name that is there
// twice the last counts (RFC 7519 section 4).
type object map[string]json.RawMessage

// member returns the member of that name. A member that is null is absent.
func (o object) member(name string) (raw json.RawMessage, there bool) {
	raw, there = o[name]
	if string(raw) == "null" {
		return nil, false
	}
	return raw, there
}

// read decodes the member that path ends with into v, which stays unchanged if the member is
// absent. The error states the path, and the type that the member must have.
func (o object) read(path string, v any, must string) error {
	raw, there := o.member(path[strings.LastIndexByte(path, '.')+1:])
	if there && json.Unmarshal(raw, v) != nil {
		return badToken("its " + path + " must be " + must)
	}
	return nil
}

// date is a NumericDate (RFC 7519 section 2), from 1970 to the end of 9999:
// beyond, neither [time.Time] nor RFC 3339 goes along.
type date struct{ time.Time }

func (d *date) UnmarshalJSON(b []byte) error {
	var seconds float64
	if err := json.Unmarshal(b, &seconds); err != nil {
		return err
	}
	if seconds < 0 || seconds >= 253402300800 {
		return errors.New("out of range")
	}
	whole, part := math.Modf(seconds)
	d.Time = time.Unix(int64(whole), int64(part*1e9))
	return nil
}

// texts is a list of strings, in which null is none.
type texts []string

func (t *texts) UnmarshalJSON(b []byte) error {
	var list []*string
	if err := json.Unmarshal(b, &list); err != nil {
		return err
	}
	*t = nil
	for _, s := range list {
		if s == nil {
			return errors.New("null in a list of strings")
		}
		*t = append(*t, *s)
	}
	return nil
}
