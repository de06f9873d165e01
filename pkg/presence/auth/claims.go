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

	"example.com/presence/pkg/presence/internal/input"
	"example.com/presence/pkg/presence/internal/redact"
)

// leeway is the tolerance for nbf, because the issuer's clock may be ahead of ours. exp has no
// tolerance.
const leeway = 30 * time.Second

// claims holds the payload of a token: one valid JSON object in UTF-8. It is empty if the payload
// is null.
type claims struct {
	jwt.Claims // nil, because the parser does not validate the claims
	payload    input.Value
}

// UnmarshalJSON stores b without decoding it, so that the claims of a forged token are never
// decoded. It rejects invalid UTF-8, because encoding/json would replace the invalid bytes with
// U+FFFD, and two different users could become equal.
func (c *claims) UnmarshalJSON(b []byte) error {
	if !utf8.Valid(b) {
		return errors.New("not UTF-8")
	}
	if b[0] != '{' {
		return errors.New("not an object")
	}
	c.payload = input.Value(b)
	return nil
}

// subject returns the sub of the claims, or an empty string if it is not a valid user ID.
func (c claims) subject() (id string) {
	all, _ := c.payload.Object()
	if read(all, "sub", &id, input.Value.Text, "a string") != nil || !input.IsUserID(id) {
		return ""
	}
	return id
}

// user validates the claims at the time now and returns their user. An empty issuer or audience
// accepts any value.
func (c claims) user(issuer, audience string, now time.Time) (User, error) {
	var (
		u                  User
		iss                string
		aud                []string
		expires, notBefore time.Time
		presence           input.Object
		join, send         = []string{"lobby"}, []string{"lobby"}
	)
	const numericDate = "a NumericDate from 1970 to 9999"
	all, _ := c.payload.Object()
	err := cmp.Or(
		read(all, "sub", &u.ID, input.Value.Text, "a string"),
		read(all, "name", &u.Name, input.Value.Text, "a string"),
		read(all, "sid", &u.SID, input.Value.Text, "a string"),
		read(all, "iss", &iss, input.Value.Text, "a string"),
		read(all, "aud", &aud, audiences, "a string or a list of strings"),
		read(all, "exp", &expires, date, numericDate),
		read(all, "nbf", &notBefore, date, numericDate),
		read(all, "presence", &presence, input.Value.Object, "an object"),
	)
	if presence != nil {
		join, send = nil, nil
		err = cmp.Or(err,
			read(presence, "presence.join", &join, input.Value.Texts, "a list of strings"),
			read(presence, "presence.send", &send, input.Value.Texts, "a list of strings"),
			read(presence, "presence.admin", &u.Admin, input.Value.Bool, "true or false"),
		)
	}
	if err != nil {
		return User{}, err
	}
	switch {
	case !expires.IsZero() && !now.Before(expires):
		return User{}, withDetail(badToken(reasonExpired, "expired"), "exp %s is %v ago%s (server time %s)",
			timeText(expires), difference(now, expires), c.issued(), timeText(now))
	case now.Add(leeway).Before(notBefore):
		return User{}, withDetail(badToken(reasonNotYetValid, "not valid yet"), "nbf %s is in %v%s (server time %s)",
			timeText(notBefore), difference(notBefore, now), c.issued(), timeText(now))
	case issuer != "" && iss != issuer:
		return User{}, wrongIssuer(iss, issuer)
	case audience != "" && !slices.Contains(aud, audience):
		return User{}, wrongAudience(aud, audience)
	}
	if info, there := presence.Get("info"); there && !info.Null() {
		u.Info = json.RawMessage(info)
	}
	u.Join, u.Send, u.Expires = join, send, expires
	return u.Checked()
}

// maxClaim is the maximum length of an issuer or audience in the log, in bytes.
const maxClaim = 128

func wrongIssuer(iss, required string) error {
	var given []string
	if iss != "" {
		given = []string{iss}
	}
	return withDetail(badToken(reasonIssuer, "wrong issuer"), "%s (required %s)", redact.List(given, maxClaim), redact.Quote(required, maxClaim))
}

func wrongAudience(aud []string, required string) error {
	return withDetail(badToken(reasonAudience, "wrong audience"), "%s (required %s)", redact.List(aud, maxClaim), redact.Quote(required, maxClaim))
}

// issued returns the iat of the claims for the log. It shows whether a token is old, or whether the
// clock of its issuer is wrong. It returns an empty string if there is no valid iat.
func (c claims) issued() string {
	var at time.Time
	all, _ := c.payload.Object()
	if read(all, "iat", &at, date, "") != nil || at.IsZero() {
		return ""
	}
	return ", iat " + timeText(at)
}

func timeText(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// difference returns the difference of two times as timeText writes them.
func difference(later, earlier time.Time) time.Duration {
	return time.Duration(later.Unix()-earlier.Unix()) * time.Second
}

// read decodes the field that the last part of path names into v. It leaves v unchanged if the
// field is absent or null. The error is a [*ClaimError] with the path and the required type.
func read[T any](o input.Object, path string, v *T, decode func(input.Value) (T, bool), must string) error {
	value, there := o.Get(path[strings.LastIndexByte(path, '.')+1:])
	if !there || value.Null() {
		return nil
	}
	decoded, ok := decode(value)
	if !ok {
		return &ClaimError{path, "must be " + must}
	}
	*v = decoded
	return nil
}

// audiences decodes aud: a string or a list of strings.
func audiences(v input.Value) ([]string, bool) {
	if one, ok := v.Text(); ok {
		return []string{one}, true
	}
	return v.Texts()
}

// date decodes a NumericDate (RFC 7519 section 2) from 1970 to the end of 9999, the range that both
// [time.Time] and RFC 3339 can express.
func date(v input.Value) (time.Time, bool) {
	seconds, err := strconv.ParseFloat(string(v), 64) // v is valid JSON, so ParseFloat accepts only numbers
	if err != nil || seconds < 0 || seconds >= 253402300800 {
		return time.Time{}, false
	}
	whole, part := math.Modf(seconds)
	return time.Unix(int64(whole), int64(part*1e9)), true
}
