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
//   - A token with presence has only the rights listed there. A missing list means no rooms. The
//     lists of an admin have no effect: a presence.Server admits an admin to each room.
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
//   - No error and no log line contains a token or a part of one. Only the result of [LogDetail]
//     contains some of its decoded values.
package auth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

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
//  2. the cookies with the name of [CookieNameFrom]. An empty cookie is ignored. Of several
//     cookies, the first one with a valid token counts. At most 8 are tried.
//  3. the query parameter access_token, if Config.QueryToken is set. An empty parameter is ignored.
//
// The error is [ErrNoToken], or it wraps [ErrUnavailable] or [ErrBadToken]. [FailureReason]
// classifies it, and [LogDetail] returns a text for the log. With a [JWKS] key, a token with an
// unknown kid that no other key verifies may need 10 s, bounded by the context of r. Authenticate
// does not change r and does not read its body.
func (j *JWT) Authenticate(r *http.Request) (User, error) {
	token, err := bearer(r)
	if err != nil {
		return User{}, err
	}
	if token == "" {
		if cookies := cookieTokens(r); len(cookies) > 0 {
			return j.cookieUser(r.Context(), cookies)
		}
		if token, err = j.queryToken(r); err != nil {
			return User{}, err
		}
	}
	return j.user(r.Context(), token)
}

// bearer returns the token of the Authorization header, or an empty string if there is none.
func bearer(r *http.Request) (string, error) {
	header := r.Header.Values("Authorization")
	if len(header) == 0 {
		return "", nil
	}
	fields := strings.Fields(header[0])
	isBearer := len(fields) > 0 && strings.EqualFold(fields[0], "Bearer") // RFC 9110 section 11.1
	switch {
	case len(header) > 1 || len(fields) == 0 || isBearer && len(fields) != 2:
		return "", badToken(reasonMalformed, "Authorization header malformed: expected one scheme and one token")
	case isBearer:
		return fields[1], nil
	}
	return "", nil
}

// queryToken returns the token of the query. The error is ErrNoToken if there is none.
func (j *JWT) queryToken(r *http.Request) (string, error) {
	if j.config.QueryToken {
		if tokens := r.URL.Query()["access_token"]; len(tokens) > 1 {
			return "", badToken(reasonMalformed, "repeated access_token") // RFC 6750 section 3.1
		} else if len(tokens) == 1 && tokens[0] != "" {
			return tokens[0], nil
		}
	}
	return "", ErrNoToken
}

// cookieUser returns the user of the first valid token of the session cookies. There are several if
// another host of the domain has set one too, and a browser may send that one first (RFC 6265
// section 8.6). All tokens are tried with the keys at hand first. If none is valid, one of them
// waits for the next JWK Set, and then the others are tried again. So a false cookie delays no
// request that has a valid one.
//
// If no token is valid, the error is that of the first one, or ErrUnavailable if the next JWK Set
// may verify one.
func (j *JWT) cookieUser(ctx context.Context, tokens []string) (User, error) {
	var first error
	var waiting []attempt
	for _, token := range tokens {
		a := j.attempt(token)
		u, err := j.userOf(a)
		if err == nil {
			return u.withSession(token), nil
		}
		if first == nil {
			first = err
		}
		if a.pending {
			waiting = append(waiting, a)
		}
	}
	for i, a := range waiting {
		if i == 0 {
			a = j.await(ctx, a)
		} else {
			a = j.attempt(a.token)
		}
		switch u, err := j.userOf(a); {
		case err == nil:
			return u.withSession(a.token), nil
		case errors.Is(err, ErrUnavailable):
			return User{}, err
		}
	}
	return User{}, first
}

// user verifies token and returns its user.
func (j *JWT) user(ctx context.Context, token string) (User, error) {
	a := j.attempt(token)
	if a.pending {
		a = j.await(ctx, a)
	}
	return j.userOf(a)
}

// attempt is the result of the verification of a token.
type attempt struct {
	token   string
	ring    *keyring
	claims  claims
	err     error
	pending bool // the next JWK Set may contain the key; err is not nil
}

// attempt verifies token with the keys at hand.
func (j *JWT) attempt(token string) attempt {
	a := attempt{token: token, ring: j.keys.Load()}
	switch {
	case len(token) > maxToken:
		a.err = badToken(reasonTooLong, fmt.Sprintf("too long (%d bytes, maximum %d)", len(token), maxToken))
		return a
	case strings.ContainsAny(token, "\r\n"): // encoding/base64 would ignore them
		a.err = errMalformed
		return a
	}
	var pending bool
	a.claims, a.err = j.verify(token, a.ring, func(alg, kid string) (keys []jwt.VerificationKey, err error) {
		keys, pending, err = a.ring.find(alg, kid)
		return keys, err
	})
	a.pending = pending && a.err != nil
	return a
}

// await verifies the token of a pending attempt with the next JWK Set.
func (j *JWT) await(ctx context.Context, a attempt) attempt {
	claims, err := j.verify(a.token, a.ring, func(alg, kid string) ([]jwt.VerificationKey, error) { return a.ring.set.await(ctx, alg, kid) })
	if errors.Is(err, errUnknownKey) {
		err = a.err
	}
	a.claims, a.err, a.pending = claims, err, false
	return a
}

// userOf returns the user of a verified token.
func (j *JWT) userOf(a attempt) (User, error) {
	if a.err != nil {
		return User{}, a.err
	}
	u, err := a.claims.user(j.config.Issuer, j.config.Audience, time.Now())
	if err != nil {
		return User{}, withUser(err, a.claims.subject())
	}
	return u, nil
}

var errMalformed = badToken(reasonMalformed, "not a JWT")

// verify returns the claims of token if one of the keys of the ring that find returns verifies it.
// Its error wraps an error of find, or errUnknownKey if find returns no key.
func (j *JWT) verify(token string, ring *keyring, find func(alg, kid string) ([]jwt.VerificationKey, error)) (claims, error) {
	var c claims
	var keys []jwt.VerificationKey
	var keyErr error
	t, err := j.parser.ParseWithClaims(token, &c, func(t *jwt.Token) (any, error) {
		if keys, keyErr = j.find(t, find); keyErr != nil {
			return nil, keyErr
		}
		return jwt.VerificationKeySet{Keys: keys}, nil
	})
	switch {
	case err == nil:
		return c, nil
	case keyErr != nil:
		err = keyErr
	case errors.Is(err, jwt.ErrTokenMalformed):
		err = errMalformed
	case errors.Is(err, jwt.ErrTokenUnverifiable):
		err = errAlgorithm
	default:
		err = errSignature
	}
	if t == nil { // not even a header
		return claims{}, err
	}
	return claims{}, ring.explain(err, t.Header, len(keys))
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
