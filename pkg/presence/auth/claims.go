package auth

import (
	"cmp"
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/golang-jwt/jwt/v5"
)

// claims is a token's payload, as the parser reads it: one valid JSON object in UTF-8, or nothing
// if it is null.
type claims struct {
	jwt.Claims // nil: the parser is told not to look at them
	payload    string
}

// UnmarshalJSON keeps b for user, so that the claims of a forged token are never decoded. It
// refuses what is not UTF-8, where encoding/json would put U+FFFD and so make two users one.
func (c *claims) UnmarshalJSON(b []byte) error {
	if !utf8.Valid(b) {
		return errors.New("not UTF-8")
	}
	if b[0] != '{' {
		return errors.New("not an object")
	}
	c.payload = string(b)
	return nil
}

// user returns whom c names, at the time now. An issuer or audience of ""
// stands for any.
func (c claims) user(issuer, audience string, now time.Time) (User, error) {
	var (
		u                  User
		iss                string
		aud                []string
		expires, notBefore time.Time
		presence           object
		join, send         = []string{"lobby"}, []string{"lobby"}
	)
	const numericDate = "a NumericDate from 1970 to 9999"
	all, _ := members(c.payload)
	err := cmp.Or(
		read(all, "sub", &u.ID, text, "a string"),
		read(all, "name", &u.Name, text, "a string"),
		read(all, "sid", &u.SID, text, "a string"),
		read(all, "iss", &iss, text, "a string"),
		read(all, "aud", &aud, audiences, "a string or a list of strings"),
		read(all, "exp", &expires, date, numericDate),
		read(all, "nbf", &notBefore, date, numericDate),
		read(all, "presence", &presence, members, "an object"),
	)
	if presence != nil {
		join, send = nil, nil
		err = cmp.Or(err,
			read(presence, "presence.join", &join, texts, "a list of strings"),
			read(presence, "presence.send", &send, texts, "a list of strings"),
			read(presence, "presence.admin", &u.Admin, truth, "true or false"),
		)
	}
	if err != nil {
		return User{}, err
	}
	switch {
	case !expires.IsZero() && !now.Before(expires):
		return User{}, badToken("it has expired")
	case now.Add(leeway).Before(notBefore):
		return User{}, badToken("it is not valid yet")
	case issuer != "" && iss != issuer:
		return User{}, badToken("it is from another issuer")
	case audience != "" && !slices.Contains(aud, audience):
		return User{}, badToken("it is for another audience")
	}
	info, _ := presence.member("info")
	u.Info = json.RawMessage(info)
	u.Join, u.Send, u.Expires = Patterns(join), Patterns(send), expires
	return u.Checked()
}

// object is the members of a JSON object by their exact names; into a struct encoding/json would
// read Sub and SUB for sub as well. Of a name that is there twice the last counts (RFC 7519
// section 4).
type object []struct{ name, value string }

// member returns the value of that name. A member that is null is absent.
func (o object) member(name string) (value string, there bool) {
	for _, m := range slices.Backward(o) {
		if m.name == name {
			if m.value == "null" {
				break
			}
			return m.value, true
		}
	}
	return "", false
}

// read decodes the member that path ends with into v, which stays unchanged if the member is
// absent. The error states the path, and the type that the member must have.
func read[T any](o object, path string, v *T, decode func(value string) (T, bool), must string) error {
	value, there := o.member(path[strings.LastIndexByte(path, '.')+1:])
	if !there {
		return nil
	}
	decoded, ok := decode(value)
	if !ok {
		return &ClaimError{path, "must be " + must}
	}
	*v = decoded
	return nil
}

// The functions below decode one value of a payload, and report whether it has their type. The
// parser has found the payload valid, so they need not look for errors of syntax.

// members decodes an object, which is not nil then.
func members(value string) (object, bool) {
	if !strings.HasPrefix(value, "{") {
		return nil, false
	}
	o := make(object, 0, 8)
	for name, rest := next(value[1 : len(value)-1]); name != ""; name, rest = next(rest) {
		name, _ = unquote(name)
		value, rest = next(rest)
		o = append(o, struct{ name, value string }{name, value})
	}
	return o, true
}

// texts decodes a list of strings, in which null is none.
func texts(value string) (list []string, ok bool) {
	if value[0] != '[' {
		return nil, false
	}
	for value, rest := next(value[1 : len(value)-1]); value != ""; value, rest = next(rest) {
		s, ok := text(value)
		if !ok {
			return nil, false
		}
		list = append(list, s)
	}
	return list, true
}

// audiences decodes what aud may be: a string or a list of strings.
func audiences(value string) ([]string, bool) {
	if one, ok := text(value); ok {
		return []string{one}, true
	}
	return texts(value)
}

// text decodes a string. It copies it, so that a user does not keep the payload in memory.
func text(value string) (string, bool) {
	s, ok := unquote(value)
	return strings.Clone(s), ok
}

// unquote is text without the copy.
func unquote(value string) (s string, ok bool) {
	if value[0] != '"' {
		return "", false
	}
	if strings.IndexByte(value, '\\') < 0 {
		return value[1 : len(value)-1], true
	}
	var decoded string // apart from s, which would be on the heap each time
	err := json.Unmarshal([]byte(value), &decoded)
	return decoded, err == nil
}

// truth decodes true or false.
func truth(value string) (is, ok bool) {
	return value == "true", value == "true" || value == "false"
}

// date decodes a NumericDate (RFC 7519 section 2), from 1970 to the end of 9999:
// beyond, neither [time.Time] nor RFC 3339 goes along.
func date(value string) (time.Time, bool) {
	seconds, err := strconv.ParseFloat(value, 64) // all of its forms that are JSON are numbers
	if err != nil || seconds < 0 || seconds >= 253402300800 {
		return time.Time{}, false
	}
	whole, part := math.Modf(seconds)
	return time.Unix(int64(whole), int64(part*1e9)), true
}

// next cuts the first value off list, a part of valid JSON between two brackets. It skips the
// blanks, commas and colons before that value, and returns "" at the end.
func next(list string) (value, rest string) {
	list = strings.TrimLeft(list, " \t\r\n,:")
	depth := 0
	for i := 0; i < len(list); i++ {
		switch list[i] {
		case '{', '[':
			depth++
			continue
		case '}', ']':
			depth--
		case '"':
			for i++; list[i] != '"'; i++ {
				if list[i] == '\\' {
					i++
				}
			}
		case ' ', '\t', '\r', '\n', ',':
			if depth == 0 { // after a number, true, false or null
				return list[:i], list[i:]
			}
			continue
		default:
			continue
		}
		if depth == 0 {
			return list[:i+1], list[i+1:]
		}
	}
	return list, ""
}
