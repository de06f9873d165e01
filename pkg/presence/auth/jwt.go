// Package auth authenticates requests. It verifies the JSON Web Token (RFC 7519) of a request and
// returns a [User].
//
// The User contains the patterns of the rooms that the user may join and send to. This package does
// not interpret these patterns.
//
// # Claims
//
// Only sub is required. All other claims are optional:
//
//	{
//	  "sub": "alice", "name": "Alice", "sid": "tab-7",
//	  "iss": "https://login.example", "aud": ["presence"],
//	  "nbf": 1767225600, "exp": 1767229200,
//	  "presence": {"join": ["doc-*"], "send": ["doc-1"], "info": {"color": "teal"}, "admin": false}
//	}
//
// These rules apply:
//
//   - A token without presence may join and send to lobby.
//   - A token with presence has only the rights listed there. A missing list means no rooms.
//   - Claim names must match exactly.
//   - A claim that is null counts as absent, also inside presence. A token without exp never
//     expires.
//   - A claim of another type than above makes the token invalid. The error names the claim and the
//     required type.
//   - Other claims are ignored, including iat, because RFC 7519 section 4.1.6 does not use it for
//     validation.
//
// # Security
//
//   - Each [Key], never the token, determines the algorithms that it accepts (RFC 8725 section 3.1).
//     This holds for several keys too: a token with RS256 is never verified with a secret.
//   - A token with a crit header is rejected, because this package supports no extension (RFC 7515
//     section 4.1.11).
//   - No error and no log line contains a token or a part of one.
package auth

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// CookieName is the name of the cookie that holds a token.
const CookieName = "presence_token"

// maxToken is the maximum length of a token, in bytes. It is far below the server's limit for
// headers, and above the limit of browsers for a cookie (RFC 6265 section 6.1).
const maxToken = 8 << 10

// Config holds the settings of a [JWT].
type Config struct {
	// Keys verify the tokens: 1 to 16, of which at most one is a [JWKS]. Several keys allow to
	// replace one while tokens of the old and the new one are in use. Required.
	//
	// A token is verified with the keys that accept its algorithm: first those with its kid, then
	// all others except the rest of a JWK Set, in this order. Each key that is tried costs the CPU
	// time of one verification, also for a forged token.
	Keys []Key

	// Issuer is the required iss claim of a token. Empty accepts any issuer. Default: empty.
	Issuer string

	// Audience is the required aud claim of a token, or one entry of its list. Empty accepts any
	// audience, so the server also accepts a token that the issuer made for another service (RFC
	// 8725 section 3.9). Default: empty.
	Audience string

	// QueryToken also accepts a token in the query parameter access_token. The token then appears
	// in logs and browser histories, which is why RFC 9700 section 4.3.2 forbids it. Default:
	// false.
	QueryToken bool
}

// JWT authenticates requests by their tokens. Create a JWT with [New]. It is safe for concurrent
// use.
type JWT struct {
	config Config // its Keys are those of New
	parser *jwt.Parser
	keys   atomic.Pointer[keyring]
}

// New returns a JWT with the settings c. It returns an error only for invalid c.Keys.
func New(c Config) (*JWT, error) {
	// Validate the claims in this package, not in the parser. The parser has one leeway for all of
	// them, and its conversion of an exp of 1e300 depends on the processor.
	j := &JWT{config: c, parser: jwt.NewParser(jwt.WithStrictDecoding(), jwt.WithoutClaimsValidation())}
	if err := j.Replace(c.Keys...); err != nil {
		return nil, err
	}
	return j, nil
}

// Replace replaces all keys at once. Each later call of Authenticate uses only the new keys. The
// users that Authenticate has returned are not affected: their streams stay open. An error leaves
// the previous keys in use; its conditions are those of [New]. To keep a [JWKS], pass the same Key
// again.
func (j *JWT) Replace(keys ...Key) error {
	ring, err := newKeyring(keys)
	if err == nil {
		j.keys.Store(ring)
	}
	return err
}

// Refresh requests a fetch of the JWK Set, if there is one. It does not wait for the fetch, which
// starts at least 5 s after the previous one.
func (j *JWT) Refresh() {
	if set := j.keys.Load().set; set != nil {
		set.refresh()
	}
}

// Status returns the state of the JWK Set, for metrics.
func (j *JWT) Status() Status {
	if set := j.keys.Load().set; set != nil {
		return set.status()
	}
	return Status{}
}

// Ready waits until all verification keys are available. With a [JWKS] key it waits for the first
// fetch. With other keys only, it returns immediately. The error states why the keys are not
// available, or it wraps the error of ctx. Authenticate does not need Ready; use Ready to check the
// configuration before the start.
func (j *JWT) Ready(ctx context.Context) error {
	set := j.keys.Load().set
	if set == nil {
		return nil
	}
	if err := set.ready(ctx); err != nil {
		return fmt.Errorf("auth: fetch keys: %w", err)
	}
	return nil
}

// Fingerprint identifies the keys without revealing them, so that the nodes of a cluster can find
// out that they have different keys:
//
//	secret-5f1c0a9e4b7d2c38              a secret: 8 bytes of a hash
//	public-0c9d2be17a43558b              a public key: 8 bytes of a hash
//	https://id.example.com/jwks.json     a JWK Set: its URL, without password and query
//	public-0c9d…+secret-5f1c…            several keys, sorted; the order of the Keys does not matter
//	keys-7be1290aa1c0347d                several keys whose list exceeds 256 bytes: 8 bytes of a hash
func (j *JWT) Fingerprint() string { return j.keys.Load().fingerprint }

// Authenticate returns the user of r. It looks for a token in the following places and uses the
// first one that it finds:
//
//  1. the Authorization header. A scheme other than Bearer is ignored. An empty or repeated header
//     is an invalid token.
//  2. the cookie [CookieName]. An empty cookie is ignored.
//  3. the query parameter access_token, if Config.QueryToken is set. An empty parameter is ignored.
//
// The error is [ErrNoToken] or [ErrUnavailable], or it wraps [ErrBadToken]. [FailureReason]
// classifies it. With a [JWKS] key, a token with an unknown kid that no other key verifies may need
// 10 s, bounded by the context of r. Authenticate does not change r and does not read its body.
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

// token returns the token of r and reports whether it comes from the cookie.
func (j *JWT) token(r *http.Request) (token string, cookie bool, err error) {
	if header := r.Header.Values("Authorization"); len(header) > 0 {
		fields := strings.Fields(header[0])
		isBearer := len(fields) > 0 && strings.EqualFold(fields[0], "Bearer") // RFC 9110 section 11.1
		switch {
		case len(header) > 1 || len(fields) == 0 || isBearer && len(fields) != 2:
			return "", false, badToken(reasonMalformed, "Authorization header malformed: expected one scheme and one token")
		case isBearer:
			return fields[1], false, nil
		}
	}
	if c, err := r.Cookie(CookieName); err == nil && c.Value != "" {
		return c.Value, true, nil
	}
	if j.config.QueryToken {
		if tokens := r.URL.Query()["access_token"]; len(tokens) > 1 {
			return "", false, badToken(reasonMalformed, "repeated access_token") // RFC 6750 section 3.1
		} else if len(tokens) == 1 && tokens[0] != "" {
			return tokens[0], false, nil
		}
	}
	return "", false, ErrNoToken
}

// user verifies token and returns its user.
func (j *JWT) user(ctx context.Context, token string) (User, error) {
	if len(token) > maxToken {
		return User{}, badToken(reasonTooLong, fmt.Sprintf("too long (%d bytes, maximum %d)", len(token), maxToken))
	}
	if strings.ContainsAny(token, "\r\n") { // encoding/base64 would ignore them
		return User{}, errMalformed
	}
	ring := j.keys.Load()
	var pending bool // the next JWK Set may contain the key
	c, err := j.verify(token, func(alg, kid string) (keys []jwt.VerificationKey, err error) {
		keys, pending, err = ring.find(alg, kid)
		return keys, err
	})
	if pending && err != nil {
		tried := err
		c, err = j.verify(token, func(alg, kid string) ([]jwt.VerificationKey, error) { return ring.set.await(ctx, alg, kid) })
		if errors.Is(err, errUnknownKey) {
			err = tried
		}
	}
	if err != nil {
		return User{}, err
	}
	u, err := c.user(j.config.Issuer, j.config.Audience, time.Now())
	if err != nil {
		return User{}, withUser(err, c.subject())
	}
	return u, nil
}

var (
	errMalformed  = badToken(reasonMalformed, "not a JWT")
	errSignature  = badToken(reasonSignature, "signature mismatch")
	errUnknownKey = badToken(reasonUnknownKey, "signed with an unknown key")
)

// verify returns the claims of token if one of the keys that find returns verifies it. It returns
// an error of find unchanged, and errUnknownKey if find returns no key.
func (j *JWT) verify(token string, find func(alg, kid string) ([]jwt.VerificationKey, error)) (c claims, err error) {
	var keyErr error
	_, err = j.parser.ParseWithClaims(token, &c, func(t *jwt.Token) (any, error) {
		var keys []jwt.VerificationKey
		if keys, keyErr = j.find(t, find); keyErr != nil {
			return nil, keyErr
		}
		return jwt.VerificationKeySet{Keys: keys}, nil
	})
	switch {
	case err == nil:
		return c, nil
	case keyErr != nil:
		return claims{}, keyErr
	case errors.Is(err, jwt.ErrTokenMalformed):
		return claims{}, errMalformed
	case errors.Is(err, jwt.ErrTokenUnverifiable):
		return claims{}, errAlgorithm
	default:
		return claims{}, errSignature
	}
}

// find returns the keys that may verify t. The claims of t are not verified yet.
func (j *JWT) find(t *jwt.Token, find func(alg, kid string) ([]jwt.VerificationKey, error)) ([]jwt.VerificationKey, error) {
	if _, there := t.Header["crit"]; there {
		return nil, badToken(reasonMalformed, "crit header not supported")
	}
	kid, there := t.Header["kid"]
	id, ok := kid.(string)
	if there && !ok {
		return nil, badToken(reasonMalformed, "kid not a string")
	}
	keys, err := find(t.Method.Alg(), id)
	if err == nil && len(keys) == 0 {
		err = errUnknownKey
	}
	return keys, err
}
