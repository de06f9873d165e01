// Package auth says who asks: it turns the JSON Web Token (RFC 7519) of a
// request into a [User] and the patterns of the names that the user may join
// and send to. What those names stand for it does not know.
//
// What is read of a token's claims, only sub being required:
//
//	{
//	  "sub": "alice", "name": "Alice", "sid": "tab-7",
//	  "iss": "https://login.example", "aud": ["presence"],
//	  "nbf": 1767225600, "exp": 1767229200,
//	  "presence": {"join": ["doc-*"], "send": ["doc-1"], "info": {"color": "teal"}, "admin": false}
//	}
//
// A token without presence may join and send to lobby. One with it may do what
// is listed there: a list that is absent is empty. Names of claims are matched
// exactly. A claim that is null, in presence too, is absent: without exp the token
// never expires. A claim of another type than above makes the token invalid, and the
// error names the claim and the type that it must have. Other claims are ignored,
// iat included: RFC 7519 section 4.1.6 gives it no part in validation.
//
// Which algorithms count follows from the [Key], never from the token (RFC 8725
// section 3.1); a header with crit is refused, as none of its extensions is
// known here (RFC 7515 section 4.1.11). No token, nor a part of one, is in an
// error or a log line.
package auth

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// CookieName is the name of the cookie that holds a token.
const CookieName = "presence_token"

// maxToken is the longest token that is looked at, in bytes. A server's limit
// on headers is far above it, one on cookies (RFC 6265 section 6.1) below.
const maxToken = 8 << 10

// Config says which tokens a [JWT] believes.
type Config struct {
	// Key is what tokens are signed with. Required.
	Key Key

	// Issuer, if set, is the iss that a token must have.
	Issuer string

	// Audience, if set, must be a token's aud, or in the list that is its aud.
	// Without it a token that the same issuer made for another service is
	// believed here too (RFC 8725 section 3.9).
	Audience string

	// QueryToken lets a token come in the query, as access_token. It then
	// stands in logs and histories of others, which is why RFC 9700 section
	// 4.3.2 forbids it.
	QueryToken bool
}

// JWT says who a request comes from by the token in it. Make one with [New]; it
// may be used by many goroutines at once.
type JWT struct {
	config Config
	parser *jwt.Parser
}

// New returns a JWT that believes what c says. It fails only without a key.
func New(c Config) (*JWT, error) {
	if c.Key.find == nil {
		return nil, errors.New("auth: a key is required")
	}
	// Claims are checked here, not by the parser: it has one leeway for all of
	// them, takes a null exp for none, and an exp of 1e300 for whatever the
	// processor makes of it.
	return &JWT{c, jwt.NewParser(jwt.WithStrictDecoding(), jwt.WithoutClaimsValidation())}, nil
}

// Ready waits until there is a key to verify tokens with, which takes one fetch with a [JWKS] key
// and no time with any other. The error is the reason why there is none, or that of ctx.
// Authenticate does not need it; it is for a check before the start.
func (j *JWT) Ready(ctx context.Context) error {
	if j.config.Key.ready == nil {
		return nil
	}
	if err := j.config.Key.ready(ctx); err != nil {
		return fmt.Errorf("auth: fetch the keys: %w", err)
	}
	return nil
}

// Authenticate says who r comes from. The token is looked for in the
// Authorization header, then in the cookie, then, if the Config allows it, in
// the query; the first one found decides. A header of another scheme than
// Bearer is somebody else's and is passed over; one that is empty or doubled is
// a bad token. An empty cookie or parameter is none.
//
// The error is [ErrNoToken], wraps [ErrBadToken], or is [ErrUnavailable]. With a
// [JWKS] key, a token whose kid is unknown may take 10 s, or as long as r's
// context allows. Neither r nor its body is touched.
func (j *JWT) Authenticate(r *http.Request) (User, error) {
	token, cookie, err := j.token(r)
	if err != nil {
		return User{}, err
	}
	u, err := j.user(r.Context(), token)
	if err == nil && cookie {
		hash := sha256.Sum256([]byte(token))
		u.Session = base64.RawURLEncoding.EncodeToString(hash[:])
	}
	return u, err
}

// token returns the token of r, and whether it came as the cookie.
func (j *JWT) token(r *http.Request) (token string, cookie bool, err error) {
	if header := r.Header.Values("Authorization"); len(header) > 0 {
		fields := strings.Fields(header[0])
		ours := len(fields) > 0 && strings.EqualFold(fields[0], "Bearer") // RFC 9110 section 11.1
		switch {
		case len(header) > 1 || len(fields) == 0 || ours && len(fields) != 2:
			return "", false, badToken("the Authorization header must be one scheme and one token")
		case ours:
			return fields[1], false, nil
		}
	}
	if c, err := r.Cookie(CookieName); err == nil && c.Value != "" {
		return c.Value, true, nil
	}
	if j.config.QueryToken {
		if tokens := r.URL.Query()["access_token"]; len(tokens) > 1 {
			return "", false, badToken("access_token must be given once") // RFC 6750 section 3.1
		} else if len(tokens) == 1 && tokens[0] != "" {
			return tokens[0], false, nil
		}
	}
	return "", false, ErrNoToken
}

// user returns whom token names, if it is to be believed now.
func (j *JWT) user(ctx context.Context, token string) (User, error) {
	if len(token) > maxToken {
		return User{}, badToken("it is longer than 8 KiB")
	}
	if strings.ContainsAny(token, "\r\n") { // encoding/base64 would skip them
		return User{}, badToken("it is not a JWT")
	}
	var c claims
	var refused error
	_, err := j.parser.ParseWithClaims(token, &c, func(t *jwt.Token) (key any, err error) {
		key, refused = j.key(ctx, t)
		return key, refused
	})
	switch {
	case err == nil:
		return c.user(j.config.Issuer, j.config.Audience, time.Now())
	case refused != nil:
		return User{}, refused
	case errors.Is(err, jwt.ErrTokenMalformed):
		return User{}, badToken("it is not a JWT")
	case errors.Is(err, jwt.ErrTokenUnverifiable):
		return User{}, errAlgorithm
	default:
		return User{}, badToken("its signature does not fit")
	}
}

var errAlgorithm = badToken("its algorithm is not accepted here")

// key returns what t, whose claims are still anybody's, is to be verified with.
func (j *JWT) key(ctx context.Context, t *jwt.Token) (any, error) {
	if _, there := t.Header["crit"]; there {
		return nil, badToken("its header has crit")
	}
	if !slices.Contains(j.config.Key.algorithms, t.Method.Alg()) {
		return nil, errAlgorithm
	}
	kid, there := t.Header["kid"]
	id, ok := kid.(string)
	if there && !ok {
		return nil, badToken("its kid is not a string")
	}
	return j.config.Key.find(ctx, t.Method.Alg(), id)
}
