package doctor

import (
	"encoding/base64"
	"encoding/json"
	"path"
	"strings"
	"time"
)

// claims are the claims of a token that the checks use. They are not verified: the server does
// that.
type claims struct {
	Sub      string   `json:"sub"`
	Exp      *float64 `json:"exp"` // seconds since 1970; a hostile value is only compared
	Nbf      *float64 `json:"nbf"`
	Presence *struct {
		Join  []string `json:"join"`
		Send  []string `json:"send"`
		Admin bool     `json:"admin"`
	} `json:"presence"`
}

// claimsOf decodes the claims of a token. known is false if it is not a JWT with a JSON payload.
func claimsOf(token string) (c claims, known bool) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return c, false
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	return c, err == nil && json.Unmarshal(payload, &c) == nil
}

// mayJoin and maySend report whether the token has the right for a room.
func (c claims) mayJoin(room string) bool {
	if c.Presence == nil {
		return room == lobby
	}
	return c.Presence.Admin || matches(c.Presence.Join, room)
}

func (c claims) maySend(room string) bool {
	if c.Presence == nil {
		return room == lobby
	}
	return c.Presence.Admin || matches(c.Presence.Send, room)
}

// expired reports whether exp is before now.
func (c claims) expired(now time.Time) bool { return c.Exp != nil && now.After(at(*c.Exp)) }

// lobby is the default room of the server.
const lobby = "lobby"

// matches reports whether a pattern of rooms matches the room. A room has no slash, so * matches
// any run of characters.
func matches(patterns []string, room string) bool {
	for _, p := range patterns {
		if found, err := path.Match(p, room); err == nil && found {
			return true
		}
	}
	return false
}

// at returns the time of a claim, at most the year 5138, because int64 has no room for each
// float64.
func at(seconds float64) time.Time {
	return time.Unix(int64(max(0, min(seconds, 1e11))), 0)
}

// redact replaces the secret texts in a verdict: tokens, their signatures and cookies.
type redact struct{ old []string }

// add makes apply replace a token.
func (r *redact) add(token string) {
	if len(token) < 8 {
		return
	}
	r.old = append(r.old, token, "[token]")
	if i := strings.LastIndexByte(token, '.'); i >= 0 && len(token)-i > 8 {
		r.old = append(r.old, token[i+1:], "[token]")
	}
}

func (r *redact) apply(text string) string { return strings.NewReplacer(r.old...).Replace(text) }
